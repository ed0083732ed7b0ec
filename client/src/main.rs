//! `consilium-client`: the process an organization runs beside its data, and the commands around it.

use std::process::ExitCode;

fn main() -> ExitCode {
    consilium_client::cli::main()
}
