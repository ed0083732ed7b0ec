//! The operator's `consilium`, so that a guide can be walked through.

use std::process::ExitCode;

fn main() -> ExitCode {
    consilium_coordinator::cli::main()
}
