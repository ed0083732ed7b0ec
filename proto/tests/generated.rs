//! The generated code is checked in so that a build needs no protoc and a reviewer can read it; this test proves
//! that it is what the `.proto` files say. `UPDATE=1 cargo test -p consilium-proto --test generated` rewrites it.

use std::{fs, path::Path};

#[test]
fn generated_code_follows_from_the_proto_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let check = |kept: &Path, fresh: Vec<u8>| {
        if std::env::var_os("UPDATE").is_some() {
            fs::write(kept, &fresh).unwrap();
        }
        let same = fs::read(kept).unwrap_or_default() == fresh;
        assert!(same, "{} is stale: run with UPDATE=1 and commit", kept.display());
    };
    let served =
        ["consilium/v1/aggregation.proto", "consilium/v1/audit.proto", "consilium/v1/operator.proto"];
    let descriptors = protox::compile(served, [root.join("proto")]).expect("the .proto files compile");
    // What reflection answers with: the coordinator's services only.
    check(&root.join("src/generated/descriptors.bin"), prost::Message::encode_to_vec(&descriptors));

    let files = served.into_iter().chain(["consilium/trainer/v1/trainer.proto"]);
    let descriptors = protox::compile(files, [root.join("proto")]).expect("the .proto files compile");
    let out = std::env::temp_dir().join(format!("consilium-proto-{}", std::process::id()));
    fs::create_dir_all(&out).unwrap();
    tonic_prost_build::configure().out_dir(&out).compile_fds(descriptors).unwrap();
    let packages = ["consilium.v1.rs", "consilium.trainer.v1.rs"];
    let fresh = packages.map(|name| fs::read(out.join(name)).unwrap());
    fs::remove_dir_all(&out).unwrap();
    for (name, fresh) in packages.iter().zip(fresh) {
        check(&root.join("src/generated").join(name), fresh);
    }
}
