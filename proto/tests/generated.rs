//! The generated code is checked in so that a build needs no protoc and a reviewer can read it; this test proves
//! that it is what the `.proto` files say. `UPDATE=1 cargo test -p consilium-proto --test generated` rewrites it.

use std::{fs, path::Path};

#[test]
fn generated_code_follows_from_the_proto_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = ["consilium/v1/aggregation.proto", "consilium/v1/audit.proto", "consilium/v1/operator.proto"];
    let descriptors = protox::compile(files, [root.join("proto")]).expect("the .proto files compile");
    let encoded = prost::Message::encode_to_vec(&descriptors);
    let out = std::env::temp_dir().join(format!("consilium-proto-{}", std::process::id()));
    fs::create_dir_all(&out).unwrap();
    tonic_prost_build::configure().out_dir(&out).compile_fds(descriptors).unwrap();
    let fresh = fs::read_to_string(out.join("consilium.v1.rs")).unwrap();
    fs::remove_dir_all(&out).unwrap();
    let kept = root.join("src/generated/consilium.v1.rs");
    let described = root.join("src/generated/descriptors.bin");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&kept, &fresh).unwrap();
        fs::write(&described, &encoded).unwrap();
    }
    assert!(fs::read(&described).unwrap_or_default() == encoded, "stale: run with UPDATE=1 and commit");
    assert!(fs::read_to_string(&kept).unwrap_or_default() == fresh, "stale: run with UPDATE=1 and commit");
}
