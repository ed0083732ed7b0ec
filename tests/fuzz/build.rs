//! Gives the tests an rpath to libtorch, which they need where they are built together with a client
//! that has its trainer. Alone, this package links none.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-env-changed=LIBTORCH_LIB");
    // The same two variables, in the same order, as `torch-sys` reads them.
    let Ok(libtorch) = env::var("LIBTORCH_LIB").or_else(|_| env::var("LIBTORCH")) else { return };
    println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
}
