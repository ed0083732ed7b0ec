//! `consilium-client`: the process an organization runs beside its data, and the commands around it.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
