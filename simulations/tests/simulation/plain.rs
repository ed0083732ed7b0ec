//! The same jobs without masking, and lines that are cut.

use consilium_simulations::{
    Scenario,
    scenario::{Cut, Profile, Protocol},
};

use super::{convex, outcomes, run, small};

#[test]
fn a_plain_round_gives_the_same_adapter_as_a_secure_one() {
    // Seven organizations: what was lost is lost from both sums, and lots do not depend on the protocol.
    let secure = small(7, 3);
    let plain = Scenario { protocol: Protocol::Plain, ..secure.clone() };
    let ((_, one), (world, two)) = (run(&secure), run(&plain));
    assert_eq!(outcomes(&two), [(1, 1, "released", 7), (2, 1, "released", 7), (3, 1, "released", 7)]);
    assert_eq!(world.watch().sums(), 3);
    assert_eq!(one.adapter_digest, two.adapter_digest);
    assert_ne!(one.log_digest, two.log_digest);
}

#[test]
fn who_drops_out_of_a_plain_round_is_not_in_its_sum() {
    let mut scenario = Scenario { protocol: Protocol::Plain, ..small(10, 3) };
    scenario.clients.dropout = 0.2;
    let (world, report) = run(&scenario);
    let survivors: Vec<_> = outcomes(&report).iter().map(|it| (it.2, it.3)).collect();
    assert_eq!(survivors, [("released", 8); 3]);
    assert_eq!(world.clients().iter().map(|client| client.starts() - 1).sum::<u64>(), 6);
}

#[test]
fn who_is_cut_off_comes_back_and_catches_up() {
    let mut scenario = small(6, 8);
    // From the middle of the first round on; who is cut off tries again every half minute at most.
    scenario.network.cuts = vec![Cut { from_s: 4.0, until_s: 40.0, organizations: vec![2], part: 0.0 }];
    let (world, report) = run(&scenario);
    let survivors: Vec<_> = outcomes(&report).iter().map(|it| it.3).collect();
    assert_eq!((survivors[0], survivors[7]), (5, 6), "{survivors:?}");
    assert_eq!(world.clients()[2].starts(), 1, "its process never died");
    assert!(world.clients().iter().all(|client| client.applied() == Some((8, report.adapter_digest))));
}

#[test]
fn a_profile_changes_who_is_slow_and_far() {
    let mut scenario = convex(8, 2, 60);
    let (_, quick) = run(&scenario);
    scenario.profiles = vec![Profile {
        organizations: vec![1],
        training_s: Some(100.0),
        latency_ms: Some((200.0, 200.0)),
        ..Profile::default()
    }];
    let (_, slow) = run(&scenario);
    assert_eq!(quick.adapter_digest, slow.adapter_digest, "time changes no update");
    assert!(slow.virtual_seconds > quick.virtual_seconds + 150.0, "{}", slow.virtual_seconds);
}
