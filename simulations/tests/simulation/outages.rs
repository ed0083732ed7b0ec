//! Outages of minutes, in virtual time, and both sides dead at once at every pair of places.

use std::{cell::RefCell, io, rc::Rc};

use consilium_simulations::{Scenario, World, log::Log, scenario::Cut};

use super::{convex, outcomes, run, small};

/// A log that the test can read afterwards.
#[derive(Clone, Default)]
struct Lines(Rc<RefCell<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Five chunks a vector, each of them a second on the line, and minutes of patience in mid-upload.
fn wide(organizations: u32, rounds: u32) -> Scenario {
    let mut wide = convex(organizations, rounds, 300_000);
    (wide.privacy.lot, wide.network.bandwidth_mbit, wide.clients.training_s) = (2.0, 1.6, 1.0);
    wide.deadlines.upload_grace_s = Some(600);
    wide
}

/// Five minutes, from a moment on.
fn cut(organization: usize, from_s: f64) -> Vec<Cut> {
    vec![Cut { from_s, until_s: from_s + CUT_S, organizations: vec![organization], part: 0.0 }]
}

const CUT_S: f64 = 300.0;

#[test]
fn a_cut_of_five_minutes_in_mid_upload_loses_nothing() {
    let (mut resumed, mut tried) = (0, 0);
    for second in 1..=8 {
        let lines = Lines::default();
        let mut scenario = wide(5, 2);
        scenario.network.cuts = cut(2, f64::from(second));
        let mut world = World::new(scenario, Log::to(Box::new(lines.clone()))).unwrap();
        let report = world.run(&mut |_| {}).unwrap();
        let text = String::from_utf8(lines.0.borrow().clone()).unwrap();
        let of: Vec<&str> = text.lines().filter(|line| line.split(' ').nth(1) == Some("org-0003")).collect();
        let chunk = |line: &&str| line.contains(" uploads chunk ");
        let broken = of.iter().position(|line| line.contains("loses its connection"));
        let before = of.iter().take(broken.unwrap_or(0)).copied().filter(chunk).count();
        tried += 1;
        if (1..5).contains(&before) {
            // In mid-upload: everybody's data counts, and no chunk that was acknowledged came twice.
            resumed += 1;
            assert_eq!(
                outcomes(&report),
                [(1, 1, "released", 5), (2, 1, "released", 5)],
                "cut at {second} s"
            );
            let numbers: Vec<_> =
                of.iter().copied().filter(chunk).filter_map(|line| line.split(' ').nth(4)).collect();
            assert_eq!(numbers, ["0", "1", "2", "3", "4", "0", "1", "2", "3", "4"], "cut at {second} s");
            assert!(report.virtual_seconds > CUT_S, "{}", report.virtual_seconds);
        } else {
            // Before its upload or after it: at most that round goes on without it.
            assert_eq!(report.released().count(), 2, "cut at {second} s: {:?}", outcomes(&report));
        }
        for client in world.clients() {
            assert_eq!(client.applied(), Some((2, report.adapter_digest)), "cut at {second} s");
        }
    }
    assert!(resumed >= 3, "{resumed} of {tried} cuts were in mid-upload");
}

#[test]
fn who_is_away_for_rounds_misses_those_and_catches_up_from_the_published_sums() {
    let mut scenario = small(5, 40);
    scenario.network.cuts = cut(3, 40.0);
    let (world, report) = run(&scenario);
    let survivors: Vec<_> = outcomes(&report).iter().map(|it| (it.1, it.2, it.3)).collect();
    assert!(survivors.iter().all(|it| (it.0, it.1) == (1, "released")), "{survivors:?}");
    let missed: Vec<_> = (0..survivors.len()).filter(|round| survivors[*round].2 == 4).collect();
    // One stretch of rounds, as long as the cut, and none before or after.
    assert!(missed.len() > 10, "{survivors:?}");
    assert!(missed.windows(2).all(|pair| pair[1] == pair[0] + 1), "{missed:?}");
    assert_eq!(survivors.last().unwrap().2, 5, "it takes part again");
    assert_eq!(world.clients()[3].applied(), Some((40, report.adapter_digest)));
}

#[test]
fn coordinator_and_client_die_at_every_pair_of_places() {
    let (world, _) = run(&small(5, 1));
    let (events, records) = (world.coordinator().disk().events(), world.clients()[2].records());
    let mut pairs = 0;
    for event in 1..=events {
        for record in 1..=records {
            let mut scenario = small(5, 2);
            scenario.clients.restart_s = 0.3;
            scenario.faults.coordinator = [event].into();
            scenario.faults.clients = [(2, [record].into())].into();
            let (world, report) = run(&scenario);
            // The watch has seen every word, chunk and debit: one of each, and none before its record.
            let released: Vec<_> = report.released().map(|attempt| attempt.round).collect();
            assert_eq!(released, [1, 2], "event {event}, record {record}: {:?}", outcomes(&report));
            assert_eq!(world.watch().sums(), 2);
            assert_eq!(world.clients()[2].applied(), Some((2, report.adapter_digest)));
            pairs += 1;
        }
    }
    assert!(pairs >= 150, "{pairs}");
}
