//! A hospital whose own box opens TLS takes part, and everybody else as ever.

#![allow(clippy::unwrap_used)]

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _, process::Command};

use consilium_tests::{Shape, Trial, inspector, wait_until};

#[test]
fn one_site_behind_a_box_that_opens_tls_and_four_that_are_not() {
    let mut trial = Trial::start(&Shape { rounds: 5, ..Shape::default() }, 100);
    trial.coordinator.kill();
    let folder = trial.consortium.path("");
    let (certificate, key, trusted) = inspector::certificate();
    trial.consortium.write("inspected.pem", &certificate);
    trial.consortium.write("inspected.key", &key);
    fs::set_permissions(folder.join("inspected.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let config = fs::read_to_string(folder.join("coordinator.toml")).unwrap();
    let table = format!(
        "[inspected]\nlisten = \"{port}\"\ncertificate = \"inspected.pem\"\nkey = \"inspected.key\"\n"
    );
    trial.consortium.write("coordinator.toml", &(config + &table));
    let hospitals_box = inspector::Inspector::before(&port, trusted);

    trial.clients[1].kill();
    trial.consortium.write("hospital-ca.pem", hospitals_box.authority());
    trial.consortium.configure_at(2, "plan.toml", hospitals_box.address());
    // Without being told, it refuses the box, and doctor says whose certificate that is.
    let doctor = |words: &str| {
        let site = folder.join("site-2.toml").display().to_string();
        let output =
            Command::new(env!("CARGO_BIN_EXE_hooked-client")).args(["doctor", "--config", &site]).output();
        let said = String::from_utf8(output.unwrap().stdout).unwrap();
        assert!(said.contains(words), "{said}");
    };
    trial.restart_client(2, None);
    trial.restart_coordinator(None);
    let refused = || (!trial.client(2).events_of("disconnected").is_empty()).then_some(());
    wait_until("the client to find the box", || trial.client(2).text(), refused);
    assert!(
        trial.client(2).text().contains("does not show the coordinator's key"),
        "{}",
        trial.client(2).text()
    );
    doctor("not the coordinator's, whose key the roster lists");
    trial.clients[1].kill();

    let site = fs::read_to_string(folder.join("site-2.toml")).unwrap();
    let inspected = "transport = \"inspected\"\ninspection_ca = \"hospital-ca.pem\"\n";
    trial.consortium.write("site-2.toml", &format!("{inspected}{site}"));
    doctor("what is sent can be read there");
    let before = hospitals_box.read();
    trial.restart_client(2, None);
    let mut last = Vec::new();
    let state = folder.join("state-2/egress.journal");
    let audit = trial.finish_keeping(|| last = fs::read(state).unwrap());
    assert_eq!(audit.released.len(), 5, "{audit:?}");
    let (_, survivors) = audit.released.values().next_back().unwrap();
    assert_eq!(survivors.len(), 5, "{audit:?}");
    // The box reads HTTP/2 in the clear, the masked vectors among it; and the question for the challenge has its line, too.
    assert!(hospitals_box.read() > before + 3_000, "{}", hospitals_box.read());
    assert!(hospitals_box.first().starts_with(b"PRI * HTTP/2.0"));
    assert!(String::from_utf8_lossy(&last).contains("\"step\":\"challenge\""));
}
