//! What every command says of itself.

use std::process::Stdio;

use clap::CommandFactory as _;

use crate::cli_common::{Desk, consortium, said};

#[test]
fn every_command_shows_an_example_and_exit_codes_are_documented() {
    fn walk(command: &clap::Command, path: &str, all: &mut Vec<String>) {
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            let path = format!("{path} {}", sub.get_name());
            // A group's help lists its commands, each with an example of its own.
            if !sub.has_subcommands() {
                all.push(path.trim().to_owned());
            }
            walk(sub, &path, all);
        }
    }
    let mut all = Vec::new();
    walk(&consilium_coordinator::cli::Cli::command(), "", &mut all);
    assert!(all.len() >= 14, "{all:?}");
    let desk = Desk::new();
    for path in all {
        let help = desk.ok(&format!("{path} --help"));
        assert!(help.contains("Example"), "{path}: {help}");
        assert!(help.contains(&format!("consilium {path}")), "{path}: {help}");
    }
    let help = desk.ok("--help");
    for code in 0..=3 {
        assert!(help.contains(&format!("\n  {code}  ")), "{help}");
    }
    assert!(desk.ok("--version").starts_with("consilium "));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let desk = Desk::new();
    consortium(&desk);
    let mut child = desk
        .command("roster show roster.toml")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let said = said(child.wait_with_output().unwrap());
    assert_eq!((said.code, said.err.as_str()), (0, ""));
}
