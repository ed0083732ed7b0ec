//! Tells the shared test support where the tiny model lies from here; and gives the tests an rpath to libtorch, which they
//! need where they are built together with a client that has its trainer. Alone, this package links none.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-env-changed=LIBTORCH_LIB");
    let here = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo:rustc-env=CONSILIUM_TINY_MODEL={here}/../vectors/trainer/tiny");
    // The same two variables, in the same order, as `torch-sys` reads them.
    let Ok(libtorch) = env::var("LIBTORCH_LIB").or_else(|_| env::var("LIBTORCH")) else { return };
    println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
}
