//! Every command: its manual page, its example, its transcript, its completions, its exit codes.
#![allow(clippy::unwrap_used)]

mod cli_common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use cli_common::Desk;

/// The commands, as words, from the manual pages that the program writes.
fn commands(desk: &Desk) -> Vec<(String, String)> {
    let out = desk.ok("man --out pages");
    assert_eq!(out, "pages/consilium.1\n");
    let pages = fs::read_dir(desk.path("pages")).unwrap().map(|page| page.unwrap().path());
    let mut all: Vec<_> = pages
        .map(|page| {
            let name = page.file_stem().unwrap().to_string_lossy().replacen("consilium", "", 1);
            (name.trim_start_matches('-').replace('-', " "), fs::read_to_string(page).unwrap())
        })
        .collect();
    all.sort();
    all
}

fn sources(folder: &Path, into: &mut String) {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_command_has_a_page_an_example_and_a_transcript() {
    let desk = Desk::new();
    let commands = commands(&desk);
    assert!(commands.len() > 35, "{}", commands.len());
    let mut tests = String::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"), &mut tests);
    for (command, page) in &commands {
        let begins = format!("{command} ");
        let is_leaf = !command.is_empty() && !commands.iter().any(|(other, _)| other.starts_with(&begins));
        if !is_leaf {
            continue;
        }
        assert!(page.contains("Example"), "`consilium {command} --help` has no example");
        assert!(
            page.contains(&format!("consilium {command}").replace('-', "\\-")),
            "{command}: its example is another's"
        );
        let tried = [
            format!("\"{command} "),
            format!("\"{command}\""),
            format!(" {command} "),
            format!("'{command} "),
        ];
        // Those on adapter folders are tested beside their code, on folders that the tests make.
        let elsewhere = command.starts_with("adapter ");
        assert!(
            elsewhere || tried.iter().any(|line| tests.contains(line)),
            "no test runs `consilium {command}`"
        );
        let help = desk.run(&format!("{command} --help"));
        assert!(help.code == 0 && help.out.contains("Example"), "{command}: {help:?}");
    }
    // Every table can be had as JSON.
    for table in ["status", "rounds", "round", "members", "why", "logs", "doctor", "watch"] {
        let (_, page) = commands.iter().find(|(command, _)| command == table).unwrap();
        assert!(page.contains("\\-\\-json"), "{table} has no --json");
    }
    // Every command that acts needs a word of consent, can be tried, and says why.
    for acting in
        ["job start", "job pause", "job resume", "job stop", "round abort", "member suspend", "member resume"]
    {
        let (_, page) = commands.iter().find(|(command, _)| command == acting).unwrap();
        for flag in ["yes", "dry\\-run", "reason"] {
            assert!(page.contains(&format!("\\-\\-{flag}")), "{acting} has no --{flag}");
        }
    }
}

#[test]
fn completions_know_the_commands_in_every_shell() {
    let desk = Desk::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = desk.ok(&format!("completions {shell}"));
        for word in ["suspend", "abort", "doctor", "dry-run"] {
            assert!(text.contains(word), "{shell} does not know {word}");
        }
    }
    assert_eq!(desk.run("completions klingon").code, 2);
}

#[test]
fn exit_codes_are_those_of_the_manual() {
    let desk = Desk::new();
    let help = desk.ok("--help");
    for line in [
        "0  done",
        "1  refused or failed",
        "2  the command line is wrong, or an acting command was given without --yes",
    ] {
        assert!(help.contains(line), "{help}");
    }
    assert_eq!(desk.run("no-such-command").code, 2);
    assert_eq!(desk.run("job pause --yes").code, 2, "no reason is given");
    assert_eq!(desk.run("status").code, 1, "nothing says which coordinator");
    assert_eq!(desk.run("round").code, 2, "no number is given");
}
