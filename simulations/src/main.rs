//! `consilium-sim`: simulates a consortium.

use std::process::ExitCode;

fn main() -> ExitCode {
    consilium_simulations::cli::main()
}
