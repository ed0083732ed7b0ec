//! The hospital's guide, walked through: every shell block of the page, in order, as it stands.

#![allow(clippy::unwrap_used)]

use std::{fs, net::TcpListener, os::unix::fs::symlink, path::Path, process::Command};

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

#[test]
fn the_hospitals_guide_does_what_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = fs::read_to_string(root.join("client/docs/guide.md")).unwrap();
    let blocks = blocks(&page);
    assert!(blocks.len() >= 15, "{} blocks", blocks.len());
    for command in [
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
    ] {
        assert!(blocks.iter().any(|block| block.contains(command)), "the guide does not show {command}");
    }
    let folder = tempfile::tempdir().unwrap();
    let programs = folder.path().join("programs");
    fs::create_dir(&programs).unwrap();
    for (name, program) in [
        ("consilium", env!("CARGO_BIN_EXE_hooked-operator")),
        ("consilium-coordinator", env!("CARGO_BIN_EXE_hooked-coordinator")),
        ("consilium-client", env!("CARGO_BIN_EXE_hooked-client")),
    ] {
        symlink(program, programs.join(name)).unwrap();
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    // Whatever happens, nothing that was begun goes on.
    let script = format!(
        "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{}",
        blocks.join("\n").replace("7400", &port)
    );
    let walk = folder.path().join("walk");
    fs::create_dir(&walk).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let walked = Command::new("bash")
        .args(["-x", "-c", &script])
        .current_dir(&walk)
        .env("PATH", path)
        .env("CONSILIUM", root)
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&walked.stdout), String::from_utf8_lossy(&walked.stderr));
    assert!(walked.status.success(), "{said}");
    for part in [
        "any 2 of the 3 put the keys of site-1 together",
        "approved by Dr Ada Byron",
        "every masked byte was paid for",
        "left by Dr Ada Byron",
        "version 2",
    ] {
        assert!(said.contains(part), "{part:?} is missing in {said}");
    }
    assert!(walk.join("site-1/result/manifest.json").is_file());
}
