//! libFuzzer over the target that `CONSILIUM_FUZZ_TARGET` names.
#![no_main]

use std::sync::OnceLock;

use consilium_fuzz::{TARGETS, Target, find};
use libfuzzer_sys::fuzz_target;

fn target() -> &'static Target {
    static TARGET: OnceLock<Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let name = std::env::var("CONSILIUM_FUZZ_TARGET").unwrap_or_default();
        find(&name).unwrap_or_else(|| {
            let names = TARGETS.map(|target| target.name).join(", ");
            panic!("CONSILIUM_FUZZ_TARGET = \"{name}\" is not one of {names}")
        })
    })
}

fuzz_target!(|data: &[u8]| (target().run)(data));
