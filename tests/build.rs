//! Gives this package's binaries and tests an rpath to libtorch, so that they start without `LD_LIBRARY_PATH`.
//! (`RUSTFLAGS` would do too, but rebuilds everything, `torch-sys` with its minutes of C++ included.)

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-env-changed=LIBTORCH_LIB");
    // The same two variables, in the same order, as `torch-sys` reads them.
    let Ok(libtorch) = env::var("LIBTORCH_LIB").or_else(|_| env::var("LIBTORCH")) else { return };
    println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
}
