//! `consilium-client` with test hooks: it keeps what it encoded, for comparison with the released sum.

use std::process::ExitCode;

fn main() -> ExitCode {
    consilium_client::cli::main()
}
