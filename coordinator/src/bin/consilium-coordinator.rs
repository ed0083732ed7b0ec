//! `consilium-coordinator`: serves one job.

use std::process::ExitCode;

fn main() -> ExitCode {
    consilium_coordinator::process::main()
}
