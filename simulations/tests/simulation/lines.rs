//! Lines that break in the middle of a step, and messages that come twice.

use std::time::Duration;

use consilium_crypto::secagg::Step;
use consilium_simulations::{Accident, Faults, Mishap, Scenario};

use super::{outcomes, run, small};

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

#[test]
fn an_upload_goes_on_where_it_broke() {
    // Three chunks a vector, on a line that carries one in a second.
    let wide = Scenario { dimension: 150_000, lot: 2.0, bandwidth: 200_000, ..Scenario::new(3, 1) };
    let mut rough = Scenario { connection_loss: 0.06, ..wide };
    let mut resumed = 0;
    for seed in 1..=6 {
        rough.seed = seed;
        let (world, report) = run(&rough);
        assert_eq!(outcomes(&report).last().map(|it| (it.2, it.3)), Some(("released", 3)), "seed {seed}");
        resumed += world.clients().len();
    }
    assert!(resumed > 0);
}

#[test]
fn a_closed_connection_ends_its_step_after_the_grace() {
    let mut scenario = Scenario { dropout: 0.2, restart: Duration::from_secs(5000), ..small(5, 1) };
    scenario.training = Duration::from_secs(1);
    scenario.deadlines.grace_s = 20;
    let (_, report) = run(&scenario);
    assert_eq!(outcomes(&report), [(1, 1, "released", 4)]);
    let input = report.attempts[0].step_seconds[2];
    // The others need a second or two; then the grace, not the step's 600 seconds.
    assert!((19.0..22.0).contains(&input), "{input}");
    assert!(report.attempts[0].seconds < 30.0, "{:?}", report.attempts[0].step_seconds);
}
