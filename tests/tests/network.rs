//! The network matrix: each client behind a line that is slow, lossy, cut, half open or out of order; the job ends with the
//! right adapter, and the audit finds nothing.

#![allow(clippy::unwrap_used)]

use std::{thread::sleep, time::Duration};

use consilium_tests::{
    Shape, Trial,
    line::{Line, Weather},
    shuffle::Shuffle,
    wait_until,
};

fn survivors(audit: &consilium_tests::audit::Audit) -> Vec<usize> {
    audit.released.values().map(|(_, survivors)| survivors.len()).collect()
}

#[test]
fn delay_and_loss_and_connections_that_break_again_and_again() {
    let trial = Trial::start_on_lines(&Shape { rounds: 6, grace_s: 20, ..Shape::default() }, 0);
    for line in &trial.lines {
        let delay = Duration::from_millis(40);
        line.weather(Weather { delay, late_one_in: 10, break_one_in: 60, ..Weather::default() });
    }
    let audit = trial.finish();
    assert_eq!(audit.released.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(audit.failed.len(), 0, "{:?}", audit.failed);
    assert_eq!(survivors(&audit), [5; 6], "a connection that breaks is made again in time");
}

#[test]
fn streams_that_overtake_one_another() {
    let shape = Shape { rounds: 4, labels: 3000, ..Shape::default() };
    let mut trial = Trial::start(&shape, 0);
    let shuffles: Vec<_> = (1..=5).map(|site| Shuffle::of(&trial.consortium, site)).collect();
    for (site, shuffle) in (1..).zip(&shuffles) {
        trial.clients[site - 1].kill();
        trial.consortium.configure_at(site, "plan.toml", shuffle.address());
        trial.restart_client(site, None);
    }
    let audit = trial.finish();
    assert!(audit.released.len() >= 3, "{audit:?}");
    for (site, shuffle) in (1..).zip(&shuffles) {
        assert!(shuffle.overtaken() > 0, "nothing overtook anything on the line of site-{site}");
    }
}

#[test]
fn half_open_lines_are_found_from_both_ends() {
    let shape = Shape { rounds: 6, limits: "keepalive_s = 1", ..Shape::default() };
    let trial = Trial::start_on_lines(&shape, 300);
    let frozen = trial.client(3).wait_for("shared", 2)["round"].as_u64().unwrap();
    trial.lines[2].freeze();
    // The others' round ends without it: nobody told them that it is gone, and nobody waits a whole deadline.
    trial.client(1).wait_for("applied", frozen + 1);
    let refusals = || trial.coordinator.text();
    wait_until("the coordinator to find out", refusals, || {
        refusals().contains("connection-dead").then_some(())
    });
    let lost = || trial.client(3).text();
    wait_until("the client to find out", lost, || {
        lost().contains("\"event\":\"disconnected\"").then_some(())
    });
    let audit = trial.finish();
    assert_eq!(audit.released.len(), 6, "{audit:?}");
    assert!(!audit.released[&(frozen as u32)].1.contains(&"site-3".to_owned()), "{audit:?}");
}

#[test]
fn a_client_away_for_longer_than_a_round_misses_that_and_catches_up() {
    let trial = Trial::start_on_lines(&Shape { rounds: 12, ..Shape::default() }, 300);
    let cut = trial.client(3).wait_for("shared", 2)["round"].as_u64().unwrap();
    trial.lines[2].cut();
    trial.client(1).wait_for("applied", cut + 2);
    trial.lines[2].mend();
    let back = trial.client(3).wait_for("masked", cut + 1)["round"].as_u64().unwrap();
    let audit = trial.finish();
    assert_eq!(audit.released.len(), 12, "{audit:?}");
    assert_eq!(audit.failed.len(), 0, "{audit:?}");
    for (round, (_, survivors)) in &audit.released {
        let away = (cut..back).contains(&u64::from(*round));
        assert_eq!(
            survivors.contains(&"site-3".to_owned()),
            !away,
            "round {round}, away {cut} to {back}: {audit:?}"
        );
    }
}

#[test]
fn a_cut_in_mid_upload_loses_nothing() {
    // A vector of three chunks, over a line that takes some seconds for it.
    let shape = Shape { rounds: 2, labels: 4600, upload_grace_s: Some(60), ..Shape::default() };
    let trial = Trial::start_on_lines(&shape, 0);
    let slow = Weather { bytes_per_s: 150_000, ..Weather::default() };
    trial.lines[2].weather(slow);
    let round = trial.client(3).wait_for("uploads", 1)["round"].as_u64().unwrap();
    let file = trial.consortium.path(&format!("coordinator/inputs/round-{round}-attempt-1/site-3.chunks"));
    let held = || file.metadata().map_or(0, |file| file.len());
    wait_until("a chunk of it to arrive", || trial.coordinator.text(), || (held() > 0).then_some(()));
    trial.lines[2].cut();
    let kept = held();
    // Longer than several tries; the others have all voted by then, or wait for it.
    sleep(Duration::from_secs(5));
    assert_eq!(held(), kept, "what was acknowledged stays");
    trial.lines[2].weather(Weather::default());
    trial.lines[2].mend();
    let audit = trial.finish();
    assert_eq!(audit.failed.len(), 0, "{audit:?}");
    assert_eq!(survivors(&audit), [5, 5], "{audit:?}");
}

#[test]
fn everybody_is_restarted_in_turn_under_load() {
    let mut trial = Trial::start(&Shape { rounds: 14, ..Shape::default() }, 200);
    trial.released(1);
    let status = trial.coordinator.terminate();
    assert_eq!(status.code(), Some(0), "{}", trial.coordinator.text());
    trial.restart_coordinator(None);
    for site in 1..=5 {
        let status = trial.clients[site - 1].terminate();
        assert_eq!(status.code(), Some(0), "{}", trial.client(site).text());
        trial.restart_client(site, None);
        // Back in a round before the next one goes.
        let started = trial.clients[site - 1].news();
        assert!(started.iter().all(|line| line["event"] != "finished"), "the job is too short for this test");
        let log = trial.client(site).text();
        let before = trial.client(site).events_of("masked").len();
        wait_until(
            "it to take part again",
            || log.clone(),
            || (trial.client(site).events_of("masked").len() > before).then_some(()),
        );
    }
    let audit = trial.finish();
    assert_eq!(audit.released.len(), 14, "{audit:?}");
    assert_eq!(audit.failed.len(), 0, "{audit:?}");
    assert!(survivors(&audit).iter().all(|count| *count >= 4), "{audit:?}");
}

/// The line itself: what it is told to do it does.
#[test]
fn a_line_passes_bytes_and_keeps_them_when_it_is_told_to() {
    use std::{io::Read as _, io::Write as _, net::TcpListener, net::TcpStream};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let line = Line::to(&listener.local_addr().unwrap().to_string(), 7);
    let mut near = TcpStream::connect(line.address()).unwrap();
    let (mut far, _) = listener.accept().unwrap();
    near.write_all(b"one").unwrap();
    let mut three = [0; 3];
    far.read_exact(&mut three).unwrap();
    assert_eq!(&three, b"one");
    line.freeze();
    near.write_all(b"two").unwrap();
    far.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(far.read(&mut three).is_err(), "nothing passes, and nothing is closed");
    let mut new = TcpStream::connect(line.address()).unwrap();
    let (mut other, _) = listener.accept().unwrap();
    new.write_all(b"new").unwrap();
    other.read_exact(&mut three).unwrap();
    assert_eq!(&three, b"new");
    line.cut();
    assert!(matches!(other.read(&mut three), Ok(0)) || other.read(&mut three).is_err(), "a cut closes");
}
