//! Lines that break in the middle of a step, and messages that come twice.

use std::{
    cell::RefCell,
    io::{self, Write},
    rc::Rc,
};

use consilium_crypto::secagg::Step;
use consilium_simulations::{Accident, Faults, Mishap, Scenario, World, log::Log};

use super::{convex, outcomes, run, small};

#[test]
fn a_lost_word_a_lost_receipt_and_a_second_delivery_change_nothing() {
    // Of three organizations nobody may be silent: whatever is lost must come again.
    let (world, _) = run(&small(3, 1));
    let quiet: Vec<_> = world.coordinator().disk().kinds().map(|(_, _, kind)| kind).collect();
    let mut tried = 0;
    for step in Step::ALL {
        for up in [true, false] {
            if !up && step == Step::Advertise {
                continue;
            }
            for what in [Accident::Lost, Accident::LostAfter, Accident::Twice] {
                let mishap = Mishap { organization: 1, round: 1, step, up, what };
                let scenario =
                    Scenario { faults: Faults { mishaps: vec![mishap], ..Faults::default() }, ..small(3, 1) };
                let (world, report) = run(&scenario);
                assert_eq!(outcomes(&report), [(1, 1, "released", 3)], "{mishap:?}");
                let mut kinds: Vec<_> = world.coordinator().disk().kinds().map(|(_, _, kind)| kind).collect();
                let mut quiet = quiet.clone();
                // The order in which members speak may differ, what is recorded may not.
                kinds.sort_unstable();
                quiet.sort_unstable();
                assert_eq!(kinds, quiet, "{mishap:?}");
                tried += 1;
            }
        }
    }
    assert_eq!(tried, 27);
}

/// A log that the test can read afterwards.
#[derive(Clone, Default)]
struct Lines(Rc<RefCell<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_upload_goes_on_where_it_broke() {
    // Five chunks a vector, each of them a second on the line.
    let mut wide = convex(3, 1, 300_000);
    (wide.privacy.lot, wide.network.bandwidth_mbit, wide.network.loss) = (2.0, 1.6, 0.06);
    let mut broken = 0;
    for seed in 1..=8 {
        let lines = Lines::default();
        let scenario = Scenario { seed, ..wide.clone() };
        let mut world = World::new(scenario, Log::to(Box::new(lines.clone()))).unwrap();
        let report = world.run(&mut |_| {}).unwrap();
        assert_eq!(outcomes(&report), [(1, 1, "released", 3)], "seed {seed}");
        let text = String::from_utf8(lines.0.borrow().clone()).unwrap();
        for organization in ["org-0001", "org-0002", "org-0003"] {
            let of: Vec<&str> =
                text.lines().filter(|line| line.split(' ').nth(1) == Some(organization)).collect();
            let chunks: Vec<_> = (0..of.len()).filter(|at| of[*at].contains(" uploads chunk ")).collect();
            let numbers: Vec<_> = chunks.iter().filter_map(|at| of[*at].split(' ').nth(4)).collect();
            // Each chunk arrives once, in order, however often the line breaks in between.
            assert_eq!(numbers, ["0", "1", "2", "3", "4"], "seed {seed}, {organization}");
            let during = &of[chunks[0]..chunks[4]];
            broken += during.iter().filter(|line| line.contains("loses its connection")).count();
        }
    }
    assert!(broken > 0, "no line broke in the middle of an upload: the test shows nothing");
}

#[test]
fn a_closed_connection_ends_its_step_after_the_grace() {
    let mut scenario = small(5, 1);
    let clients = &mut scenario.clients;
    (clients.dropout, clients.restart_s, clients.training_s) = (0.2, 5000.0, 1.0);
    scenario.deadlines.grace_s = 20;
    let (_, report) = run(&scenario);
    assert_eq!(outcomes(&report), [(1, 1, "released", 4)]);
    let input = report.attempts[0].step_seconds[2];
    // The others need a second or two; then the grace, not the step's 600 seconds.
    assert!((19.0..22.0).contains(&input), "{input}");
    assert!(report.attempts[0].seconds < 30.0, "{:?}", report.attempts[0].step_seconds);
}
