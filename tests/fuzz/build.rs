//! Tells the shared test support where the tiny model lies from here.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let here = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo:rustc-env=CONSILIUM_TINY_MODEL={here}/../vectors/trainer/tiny");
}
