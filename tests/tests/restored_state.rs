//! A hospital loses its state folder in the middle of a job: its peers tell it, and it is recovered, by the real programs.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path, process::Command};

use consilium_tests::{Consortium, Process, Shape};
use serde_json::Value;

fn start(consortium: &Consortium, site: usize, log: &str) -> Process {
    let config = consortium.path(&format!("site-{site}.toml"));
    let log = consortium.path(log);
    Process::start(env!("CARGO_BIN_EXE_hooked-client"), &["run", "--config", config.to_str().unwrap()], log)
}

fn command(consortium: &Consortium, line: &str) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_hooked-client"))
        .args(line.split(' '))
        .current_dir(consortium.path("plan.toml").parent().unwrap_or(Path::new(".")))
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_client_whose_state_folder_is_gone_stops_and_takes_part_again_once_it_is_recovered() {
    let consortium = Consortium::found(&Shape { rounds: 40, ..Shape::default() });
    let config = consortium.path("coordinator.toml");
    let log = consortium.path("coordinator.log");
    let mut coordinator = Process::start(
        env!("CARGO_BIN_EXE_hooked-coordinator"),
        &["--config", config.to_str().unwrap()],
        log,
    );
    let mut clients: Vec<_> =
        (1..=5).map(|site| start(&consortium, site, &format!("site-{site}.log"))).collect();
    clients[3].wait_for("masked", 3);
    clients[3].kill();
    fs::remove_dir_all(consortium.path("state-4")).unwrap();

    // It comes back as if it had never been here, and its peers know better.
    let mut lost = start(&consortium, 4, "site-4-lost.log");
    assert_eq!(lost.wait().code(), Some(4), "{}", lost.text());
    assert!(lost.text().contains("older than what its peers hold"), "{}", lost.text());
    assert!(lost.text().contains("state recover"), "{}", lost.text());
    // Started again it says the same, and dials nobody.
    let (code, _, said) = command(&consortium, "run --config site-4.toml");
    assert!(code == 4 && said.contains("older than what its peers hold"), "{said}");

    let (code, shown, said) = command(&consortium, "state recover --config site-4.toml --dry-run --json");
    assert_eq!(code, 0, "{said}");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let charged = shown["debits"]["small"].as_u64().unwrap();
    assert!(charged >= 3, "at least the attempts in which it was masked: {shown}");
    assert_eq!(command(&consortium, "state recover --config site-4.toml").0, 2, "not without --yes");
    let (code, _, said) = command(&consortium, "state recover --config site-4.toml --yes");
    assert_eq!(code, 0, "{said}");
    let (_, ledger, _) = command(&consortium, "ledger show --config site-4.toml --json");
    let ledger: Value = serde_json::from_str(&ledger).unwrap();
    assert_eq!(ledger["length"].as_u64(), Some(charged));

    clients[3] = start(&consortium, 4, "site-4-recovered.log");
    for client in &mut clients {
        assert!(client.wait().success(), "{}", client.text());
    }
    assert!(coordinator.terminate().success(), "{}", coordinator.text());
    assert!(!clients[3].events_of("masked").is_empty(), "it has taken part again: {}", clients[3].text());
}
