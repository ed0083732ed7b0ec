//! How long members, answers and the disk are waited for.

use consilium_proto::release::unpack_sum;

use super::*;

#[test]
fn too_few_online_are_waited_for_by_name_until_the_deadline() {
    let mut bench = Bench::new();
    for index in [0, 2, 3] {
        assert!(bench.comes(index).is_empty());
    }
    assert!(bench.wait(WAIT_MS - 1).is_empty());
    let status = bench.job.status(bench.now);
    assert_eq!((status.state.as_str(), status.round), ("waiting", 1));
    let awaited: Vec<_> = status.members.iter().filter(|it| it.awaited).map(|it| it.id.as_str()).collect();
    assert_eq!(awaited, ["org-1", "org-4"]);
    assert_eq!(bench.job.next_wake_ms(bench.now), Some(bench.now + 1));
    assert_eq!(bench.wait(1), ["failed"]);
    assert_eq!(outcomes(&bench.job), [(1, 1, code::TOO_FEW_ONLINE.to_owned())]);
    let status = bench.job.status(bench.now);
    assert_eq!((status.state.as_str(), status.round, status.attempt), ("waiting", 2, 1));
    // The fourth comes, the fifth has been away for longer than the grace: the second round begins.
    assert_eq!(bench.comes(1), ["opened"]);
    assert_eq!(bench.step(), "advertise");
}

#[test]
fn a_member_that_is_away_is_waited_for_as_long_as_the_grace() {
    let mut bench = Bench::new();
    for index in 0..4 {
        assert!(bench.comes(index).is_empty());
    }
    assert_eq!(bench.job.next_wake_ms(bench.now), Some(bench.now + GRACE_MS));
    assert!(bench.wait(GRACE_MS - 1).is_empty());
    assert_eq!(bench.wait(1), ["opened"]);
    // The step closes without it, as soon as everybody else has spoken.
    for index in 0..3 {
        assert_eq!(bench.speaks(index), ["accepted"]);
    }
    assert_eq!(bench.speaks(3), ["accepted", "closed"]);
    // And a connection that closes in a step ends its wait in the same way.
    for index in 0..2 {
        bench.speaks(index);
    }
    bench.comes(4);
    assert!(bench.goes(3).is_empty());
    bench.speaks(2);
    assert!(bench.wait(GRACE_MS).is_empty(), "three are below the minimum of four: it may come back");
    bench.comes(3);
    assert_eq!(bench.step(), "share");
    assert_eq!(bench.speaks(3), ["accepted", "closed"]);
}

#[test]
fn with_enough_answers_a_closed_connection_costs_the_grace_and_not_the_deadline() {
    let mut bench = Bench::new();
    bench.all_come();
    bench.up_to("vote");
    (0..4).for_each(|index| drop(bench.speaks(index)));
    assert_eq!(bench.step(), "vote", "the fifth is connected");
    bench.goes(4);
    assert!(bench.wait(GRACE_MS - 1).is_empty());
    assert_eq!(bench.wait(1), ["closed"]);
    assert_eq!(bench.step(), "unmask");
}

#[test]
fn a_member_that_is_cut_off_in_mid_upload_is_waited_for_longer_unless_it_declines() {
    for declines in [false, true] {
        let mut bench = Bench::new();
        bench.all_come();
        bench.up_to("input");
        (0..4).for_each(|index| drop(bench.speaks(index)));
        let message = bench.word(4);
        assert_eq!(bench.hand(Input::Protocol { from: name(4), message }), ["accepted"]);
        bench.goes(4);
        assert!(bench.wait(GRACE_MS).is_empty(), "its header is here, and its chunks may follow");
        let left = UPLOAD_GRACE_MS - GRACE_MS;
        assert_eq!(bench.job.next_wake_ms(bench.now), Some(bench.now + left));
        if declines {
            bench.comes(4);
            assert_eq!(
                bench.refuses(4),
                ["declined", "closed"],
                "its process was restarted: no chunk will follow"
            );
        } else {
            assert!(bench.wait(left - 1).is_empty());
            assert_eq!(bench.wait(1), ["closed"]);
        }
        assert_eq!(bench.step(), "vote");
    }
}

#[test]
fn a_quorum_of_answers_ends_the_last_step() {
    let mut bench = Bench::new();
    bench.all_come();
    bench.up_to("unmask");
    for index in 0..3 {
        assert_eq!(bench.speaks(index), ["accepted"]);
    }
    assert_eq!(bench.speaks(4), ["accepted", "closed"]);
    assert_eq!(bench.step(), "release");
    assert_eq!(bench.sums(), ["released", "opened"]);
    let sum = unpack_sum(&bench.plan, &bench.releases[&1].sum).unwrap();
    assert!(sum.iter().all(|value| *value == 1 + 2 + 3 + 4 + 5), "{sum:?}");
}

#[test]
fn refusals_that_put_the_minimum_out_of_reach_end_the_attempt_at_once() {
    let mut bench = Bench::new();
    bench.all_come();
    bench.speaks(0);
    assert_eq!(bench.refuses(1), ["declined"], "four of five are enough");
    assert_eq!(bench.refuses(2), ["declined", "failed", "opened"]);
    assert_eq!(outcomes(&bench.job), [(1, 1, code::TOO_MANY_REFUSALS.to_owned())]);
    // The refusals belonged to that attempt: in the next one all five may speak.
    assert!(bench.job.status(bench.now).members.iter().all(|it| it.awaited && it.refusal.is_empty()));
    let late = wire::Refusal { round: 1, attempt: 1, code: "late".into(), ..Default::default() };
    bench.hand(Input::Refusal { from: name(3), refusal: late });
    assert!(bench.job.status(bench.now).members.iter().all(|it| it.refusal.is_empty()));
}

#[test]
fn a_step_that_too_few_answer_fails_at_its_deadline() {
    let mut bench = Bench::new();
    bench.all_come();
    (0..3).for_each(|index| drop(bench.speaks(index)));
    assert!(bench.wait(STEP_MS - 1).is_empty());
    assert_eq!(bench.wait(1), ["failed", "opened"]);
    assert_eq!(outcomes(&bench.job), [(1, 1, code::TOO_FEW_ANSWERS.to_owned())]);
    assert!(bench.wait(STEP_MS - 1).is_empty());
    // The plan allows two attempts; then it is the next round's turn.
    assert_eq!(bench.wait(1), ["failed", "opened"]);
    let status = bench.job.status(bench.now);
    assert_eq!((status.round, status.attempt), (2, 1));
}

#[test]
fn no_attempt_begins_while_the_disk_has_no_room() {
    let mut bench = Bench::new();
    bench.job.set_room(false);
    bench.all_come();
    assert!(bench.wait(WAIT_MS + 1).is_empty(), "it waits for room, and nobody is late meanwhile");
    assert!(bench.wait(WAIT_MS + 1).is_empty());
    bench.job.set_room(true);
    assert_eq!(bench.wait(1), ["opened"]);
    // An attempt that runs is finished.
    bench.job.set_room(false);
    bench.up_to("release");
    assert_eq!(bench.sums(), ["released"]);
    assert!(bench.wait(1).is_empty());
}

/// A member that claims what was never published holds the others up a few times, and then no more.
#[test]
fn a_claim_that_comes_to_nothing_is_waited_for_a_few_times() {
    let mut bench = Bench::new();
    let claim = |bench: &mut Bench| {
        let hello = wire::Hello {
            protocol_version: PROTOCOL_VERSION,
            roster_digest: bench.roster.digest().0.to_vec(),
            plan_digest: bench.plan.digest().0.to_vec(),
            applied_round: 3,
            ..Default::default()
        };
        bench.hand(Input::Hello { from: name(4), hello })
    };
    assert!(claim(&mut bench).is_empty());
    assert!(matches!(bench.told[&name(4)], Kind::ReleasesWanted(wire::ReleasesWanted { from_round: 1 })));
    (0..4).for_each(|index| assert!(bench.comes(index).is_empty(), "nothing begins meanwhile"));
    for _ in 0..2 {
        bench.goes(4);
        assert!(claim(&mut bench).is_empty());
    }
    // It says nothing for as long as an upload may take: the round begins without.
    assert_eq!(bench.wait(STEP_MS), ["opened"]);
    // What it hands over unasked, or what nobody signed, is not taken.
    let head = wire::SignedReleaseHead { head: vec![1], signature: vec![2; 64] };
    assert_eq!(bench.job.returned(&name(4), head, Vec::new(), bench.now).unwrap_err(), "not-asked");
    bench.goes(4);
    claim(&mut bench);
    assert!(!matches!(bench.told[&name(4)], Kind::ReleasesWanted(_)), "{:?}", bench.told[&name(4)]);
}
