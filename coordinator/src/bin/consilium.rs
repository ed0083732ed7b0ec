//! The operator's binary; see [`consilium_coordinator::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    consilium_coordinator::cli::main()
}
