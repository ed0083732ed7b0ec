//! `consilium completions` and `consilium man`: what a shell and a manual reader want.

use std::{io::Write, path::PathBuf};

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, Failure};

/// Prints completions for a shell.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  consilium completions bash > /etc/bash_completion.d/consilium
  consilium completions zsh > ~/.zfunc/_consilium")]
pub(super) struct Completions {
    /// For which shell.
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "consilium", &mut text);
        out.write_all(&text)?;
        Ok(())
    }
}

/// Writes the manual pages, one for each command.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  consilium man --out /usr/local/share/man/man1
  man consilium-why")]
pub(super) struct Man {
    /// Folder for the pages; made if it is not there. Pages that are there already are written anew.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Man {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let wrong =
            |e: std::io::Error| Failure::in_file(&self.out, format!("the pages cannot be written: {e}"));
        std::fs::create_dir_all(&self.out).map_err(wrong)?;
        clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), &self.out).map_err(wrong)?;
        writeln!(out, "{}", self.out.join("consilium.1").display())?;
        Ok(())
    }
}
