//! The guides, walked through: every shell block of a page, in order, as it stands.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

/// The contents of a page's shell blocks.
fn blocks(page: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if line == "```sh" {
            all.push(
                lines
                    .by_ref()
                    .take_while(|line| *line != "```")
                    .fold(String::new(), |text, line| text + line + "\n"),
            );
        }
    }
    all
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The shell blocks of a page, which has to show all of these commands.
fn page(path: &str, commands: &[&str]) -> Vec<String> {
    let blocks = blocks(&fs::read_to_string(root().join(path)).unwrap());
    for command in commands {
        assert!(blocks.iter().any(|block| block.contains(command)), "{path} does not show {command}");
    }
    blocks
}

/// Runs `script` in a folder, with the three programs on the path and a port of its own in the place of `port`; what it said.
fn walk(script: &str, port: &str, programs: &Path, from: &Path) -> String {
    fs::create_dir(programs).unwrap();
    for (name, program) in [
        ("consilium", env!("CARGO_BIN_EXE_hooked-operator")),
        ("consilium-coordinator", env!("CARGO_BIN_EXE_hooked-coordinator")),
        ("consilium-client", env!("CARGO_BIN_EXE_hooked-client")),
    ] {
        symlink(program, programs.join(name)).unwrap();
    }
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    // Whatever happens, nothing that was begun goes on.
    let script = format!(
        "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{}",
        script.replace(port, &free)
    );
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let walked = Command::new("bash")
        .args(["-x", "-c", &script])
        .current_dir(from)
        .env("PATH", path)
        .env("CONSILIUM", root())
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&walked.stdout), String::from_utf8_lossy(&walked.stderr));
    assert!(walked.status.success(), "{said}");
    said
}

#[test]
fn the_hospitals_guide_does_what_it_says() {
    let blocks = page(
        "client/docs/guide.md",
        &[
            "org init",
            "org restore",
            "roster sign",
            "roster verify",
            "roster revoke",
            "roster propose",
            "plan explain",
            "plan rehearse",
            "plan approve",
            "client run",
            "client status",
            "client doctor",
            "egress verify",
            "ledger verify",
            "client export",
            "client pause",
            "client leave",
        ],
    );
    assert!(blocks.len() >= 15, "{} blocks", blocks.len());
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("walk");
    fs::create_dir(&there).unwrap();
    let said = walk(&blocks.join("\n"), "7400", &folder.path().join("programs"), &there);
    for part in [
        "any 2 of the 3 put the keys of site-1 together",
        "approved by Dr Ada Byron",
        "every masked byte was paid for",
        "left by Dr Ada Byron",
        "version 2",
    ] {
        assert!(said.contains(part), "{part:?} is missing in {said}");
    }
    assert!(there.join("site-1/result/manifest.json").is_file());
}

/// All of it but the bundle, which `make bundle` installs in an empty namespace by itself: real titles, the real encoder.
#[test]
fn the_operators_guide_does_what_it_says() {
    let blocks = page(
        "coordinator/docs/operator.md",
        &[
            "make setup bundle",
            "install.sh",
            "keygen",
            "roster build",
            "plan new",
            "plan check",
            "coordinator --config coordinator.toml --check",
            "consilium status",
            "consilium members",
            "consilium why",
            "consilium doctor",
            "job pause",
            "backup create",
            "backup restore",
            "kill -9",
            "consilium watch",
            "coordinator record",
            "consilium verify",
        ],
    );
    let install = blocks.iter().rposition(|block| block.contains("install.sh")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("rehearsal");
    fs::create_dir(&there).unwrap();
    let script = blocks[install + 1..].join("\n").replace("/tmp/rehearsal", there.to_str().unwrap());
    let said = walk(&script, "7433", &folder.path().join("programs"), &root());
    for part in [
        "ended with 0",
        "job-pause, number 1",
        "job-resume, number 2",
        "holds: job rehearsal",
        "30 released",
        "handed on by site-1 after round 30",
    ] {
        assert!(said.contains(part), "{part:?} is missing in {said}");
    }
    assert!(there.join("record/manifest.json").is_file());
}
