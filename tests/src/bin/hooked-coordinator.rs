//! `consilium-coordinator`, built beside the hooked client.

use std::process::ExitCode;

fn main() -> ExitCode {
    consilium_coordinator::process::main()
}
