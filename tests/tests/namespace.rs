//! A client opens one connection, to the coordinator, and no other: counted by the kernel, in a network namespace of its own.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    net::{TcpStream, UdpSocket},
    process::Command,
    time::Duration,
};

use consilium_tests::{Consortium, Process, Shape, wait_until};

const INSIDE: &str = "CONSILIUM_TEST_IN_NAMESPACE";

/// A namespace with a loopback device and nothing else. What goes elsewhere goes there too, so that the kernel counts it.
const ENTER: &str = "ip link set lo up && ip route add default dev lo && exec \"$0\" \"$@\"";

/// Connections opened and datagrams sent by anybody in this namespace.
fn counted() -> (u64, u64) {
    let text = fs::read_to_string("/proc/net/snmp").unwrap();
    let value = |protocol: &str, name: &str| {
        let mut lines = text.lines().filter(|line| line.starts_with(protocol));
        let (head, values) = (lines.next().unwrap(), lines.next().unwrap());
        let at = head.split(' ').position(|word| word == name).unwrap();
        values.split(' ').nth(at).unwrap().parse::<u64>().unwrap()
    };
    (value("Tcp:", "ActiveOpens"), value("Udp:", "OutDatagrams"))
}

#[test]
fn a_client_opens_one_connection_and_no_other() {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    if !Command::new("unshare").args(["-rn", "true"]).status().is_ok_and(|status| status.success()) {
        eprintln!("not tested: this machine lets nobody make a network namespace");
        return;
    }
    let test = "a_client_opens_one_connection_and_no_other";
    let status = Command::new("unshare")
        .args(["-rn", "sh", "-c", ENTER])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success());
}

fn inside() {
    let consortium = Consortium::found(&Shape { rounds: 3, ..Shape::default() });
    let start = |program, words: &[&str], name: &str| {
        let config = consortium.path(&format!("{name}.toml"));
        let words = [words, &["--config", config.to_str().unwrap()]].concat();
        Process::start(program, &words, consortium.path(&format!("{name}.log")))
    };
    let mut coordinator = start(env!("CARGO_BIN_EXE_hooked-coordinator"), &[], "coordinator");
    let port = consortium.address.rsplit(':').next().unwrap().parse::<u16>().unwrap();
    let listening = || {
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        // State 0A: listening.
        table.contains(&format!(":{port:04X} 00000000:0000 0A")).then_some(())
    };
    wait_until("a coordinator that listens", || coordinator.text(), listening);
    let before = counted();
    let names: Vec<_> = (1..=5).map(|site| format!("site-{site}")).collect();
    let mut clients: Vec<_> =
        names.iter().map(|name| start(env!("CARGO_BIN_EXE_hooked-client"), &["run"], name)).collect();
    for client in &mut clients {
        assert!(client.wait().success(), "{}", client.text());
        assert!(client.events_of("disconnected").is_empty(), "{}", client.text());
    }
    let after = counted();
    assert!(coordinator.terminate().success(), "{}", coordinator.text());
    assert_eq!(after.0 - before.0, 5, "five clients, one connection each, for a whole job");
    assert_eq!(after.1, before.1, "not a datagram: no name was looked up, nothing was reported");

    // The counters would have noticed.
    let elsewhere = "192.0.2.1:443".parse().unwrap();
    drop(TcpStream::connect_timeout(&elsewhere, Duration::from_millis(50)));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    drop(UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"?", "192.0.2.1:53"));
    drop(socket);
    let noticed = counted();
    assert_eq!((noticed.0 - after.0, noticed.1 - after.1), (1, 1));
}
