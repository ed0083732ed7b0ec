//! Death after every single record, on both sides.

use consilium_crypto::secagg::Step;

use super::{outcomes, run, small};

/// Of five organizations one may be silent.
const SPARE: (u32, usize) = (5, 2);
/// Of three none may.
const TIGHT: (u32, usize) = (3, 1);

#[test]
fn the_coordinator_dies_after_every_event() {
    for (organizations, _) in [SPARE, TIGHT] {
        let (world, _) = run(&small(organizations, 2));
        let kinds: Vec<_> = world.coordinator().disk().kinds().collect();
        assert!(kinds.len() > 2 * 5 * organizations as usize, "{kinds:?}");
        for event in 1..=kinds.len() as u64 {
            let mut scenario = small(organizations, 2);
            scenario.faults.coordinator = [event].into();
            let (world, report) = run(&scenario);
            let context =
                format!("{organizations} organizations, event {event}, {:?}", kinds[event as usize - 1]);
            let released: Vec<_> = report.released().map(|attempt| attempt.round).collect();
            assert_eq!(released, [1, 2], "{context}: {:?}", outcomes(&report));
            assert_eq!(world.watch().sums(), 2, "{context}");
            // Nothing is lost by a restart, so nothing has to be tried again.
            assert_eq!(report.attempts.len(), 2, "{context}: {:?}", outcomes(&report));
        }
    }
}

#[test]
fn the_coordinator_dies_again_and_again() {
    let mut scenario = small(5, 2);
    scenario.faults.coordinator = (1..200).collect();
    let (world, report) = run(&scenario);
    assert_eq!(report.released().count(), 2, "{:?}", outcomes(&report));
    assert_eq!(world.watch().sums(), 2);
}

#[test]
fn the_coordinator_stays_away_for_longer_than_a_step() {
    let (world, _) = run(&small(5, 1));
    for event in 1..=world.coordinator().disk().events() {
        let mut scenario = small(5, 1);
        scenario.clients.restart_s = 3600.0;
        scenario.faults.coordinator = [event].into();
        let (_, report) = run(&scenario);
        assert_eq!(
            outcomes(&report).iter().map(|it| (it.0, it.1, it.2)).collect::<Vec<_>>(),
            [(1, 1, "released")]
        );
    }
}

/// What a client records in a round, in order, and the steps of which it has said the word by then.
const RECORDS: [(&str, &[Step]); 5] = [
    ("joined", &[]),
    ("debited", &[Step::Advertise, Step::Share]),
    ("header", &[Step::Advertise, Step::Share]),
    ("voted", &[Step::Advertise, Step::Share, Step::Input]),
    ("answered", &[Step::Advertise, Step::Share, Step::Input, Step::Vote]),
];

#[test]
fn a_client_dies_after_every_record() {
    for ((organizations, who), forgetful) in [(SPARE, false), (SPARE, true), (TIGHT, false)] {
        let (world, _) = run(&small(organizations, 1));
        assert_eq!(world.clients()[who].records(), RECORDS.len() as u64);
        for (record, (name, said)) in (1..).zip(RECORDS) {
            let context = format!("{organizations} organizations, after \"{name}\", forgetful: {forgetful}");
            let mut scenario = small(organizations, 3);
            // Back before the next round begins.
            scenario.clients.restart_s = 0.3;
            scenario.faults.clients = [(who, [record].into())].into();
            if forgetful {
                scenario.faults.forgetful = [who].into();
            }
            let (world, report) = run(&scenario);
            let client = &world.clients()[who];
            assert_eq!(client.starts(), 2, "{context}");
            let outcomes = outcomes(&report);
            let released: Vec<_> = report.released().map(|attempt| attempt.round).collect();
            // Of three, each one's answer is needed, and who dies between vote and answer has none any more.
            let lost = organizations == TIGHT.0 && name == "voted";
            assert_eq!(released, if lost { &[2, 3][..] } else { &[1, 2, 3] }, "{context}: {outcomes:?}");
            // It sits the attempt out: of what it had not said, it says at most what it had recorded.
            for step in Step::ALL {
                let may_repeat = matches!((name, step), ("voted", Step::Vote) | ("answered", Step::Unmask));
                if !may_repeat {
                    let has = world.watch().said(who, 1, 1, step.number().into());
                    assert_eq!(has, said.contains(&step), "{context}: {step}");
                }
            }
            // And it takes part in the next round, from the same adapter as everybody.
            assert_eq!(client.applied(), Some((3, report.adapter_digest)), "{context}");
            for round in 2..=3 {
                let whole = outcomes.contains(&(round, 1, "released", organizations as usize));
                assert!(whole, "{context}: {outcomes:?}");
            }
        }
    }
}

#[test]
fn where_no_vote_is_to_spare_the_recorded_one_saves_the_attempt() {
    let (organizations, who) = TIGHT;
    for (record, attempts) in [(1, 2), (2, 2), (3, 2), (4, 1), (5, 1)] {
        let mut scenario = small(organizations, 1);
        scenario.faults.clients = [(who, [record].into())].into();
        let (world, report) = run(&scenario);
        let outcomes = outcomes(&report);
        if record < 4 {
            let refused = (1, 1, "too-many-refusals", 0);
            assert_eq!(
                outcomes.first().map(|it| (it.0, it.1, it.2, 0)),
                Some(refused),
                "record {record}: {outcomes:?}"
            );
            assert_eq!(world.clients()[who].declined(), [(1, 1, "restarted".to_owned())]);
        }
        if record == 4 {
            // It votes, but its shares are gone, and the third answer with them.
            assert!(world.watch().said(who, 1, 1, 4));
            continue;
        }
        assert_eq!(outcomes.last(), Some(&(1, attempts, "released", 3)), "record {record}: {outcomes:?}");
    }
}

#[test]
fn everybody_dies_somewhere() {
    for seed in 1..=5 {
        let mut scenario = small(7, 4);
        scenario.seed = seed;
        scenario.faults.clients =
            (0..7).map(|who| (who, [1 + (who as u64 * 5 + seed) % 13].into())).collect();
        scenario.faults.coordinator = [11 * seed, 40 + 7 * seed].into();
        let (world, report) = run(&scenario);
        assert!(report.released().count() >= 2, "seed {seed}: {:?}", outcomes(&report));
        assert_eq!(world.watch().sums() as usize, report.released().count());
    }
}
