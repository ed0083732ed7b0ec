//! `consilium adapter`: looks at PEFT adapters, compares them, and writes them in other words. No network, no libtorch.

mod convert;
mod diff;
mod folder;
mod inspect;
#[cfg(test)]
mod tests;

use std::io::Write;

use clap::Subcommand;

pub(super) use folder::{Folder, encode, read_head};

use super::Failure;

/// Looks at adapters, compares and converts them.
#[derive(Debug, Subcommand)]
pub(super) enum Adapter {
    Inspect(inspect::Inspect),
    Diff(diff::Diff),
    Convert(convert::Convert),
}

impl Adapter {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        match self {
            Self::Inspect(command) => command.run(out),
            Self::Diff(command) => command.run(out),
            Self::Convert(command) => command.run(out),
        }
    }
}
