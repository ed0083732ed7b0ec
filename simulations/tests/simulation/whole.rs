//! Jobs with dropouts, and the promise that the seed decides everything.

use consilium_simulations::Scenario;

use super::{convex, outcomes, run, small};

#[test]
fn fifty_organizations_of_whom_five_drop_out_of_each_round() {
    let mut scenario = convex(50, 3, 500);
    scenario.clients.dropout = 0.1;
    let (world, report) = run(&scenario);
    // One dropped out twice, after it had dealt its shares, and sits the third round out.
    let expected = [(1, 1, "released", 45), (2, 1, "released", 45), (3, 1, "released", 44)];
    assert_eq!(outcomes(&report), expected);
    // Compared with the plain sum of what exactly these survivors encoded.
    assert_eq!(world.watch().sums(), 3);
    // Whoever died came back and caught up: everybody ends with the same adapter.
    assert!(world.clients().iter().all(|client| client.applied() == Some((3, report.adapter_digest))));
    assert_eq!(world.clients().iter().map(|client| client.starts() - 1).sum::<u64>(), 15);
}

#[test]
fn the_seed_decides_everything() {
    let mut rough = small(12, 3);
    (rough.clients.dropout, rough.clients.stragglers, rough.network.loss) = (0.1, 0.2, 0.01);
    rough.cohort.min_survivors = Some(8);
    rough.faults.coordinator = [9, 60].into();
    let (_, one) = run(&rough);
    let (_, two) = run(&rough);
    assert_eq!(one.adapter_digest, two.adapter_digest);
    assert_eq!(one.log_digest, two.log_digest);
    assert_eq!(one.virtual_seconds, two.virtual_seconds);
    let (_, other) = run(&Scenario { seed: 2, ..rough.clone() });
    assert_ne!(one.adapter_digest, other.adapter_digest);
    assert_ne!(one.log_digest, other.log_digest);
    // Another network alone leaves the data, the keys and the first lots as they are, and still changes the log.
    let mut slower = rough;
    slower.network.latency_ms = (6.0, 121.0);
    assert_ne!(run(&slower).1.log_digest, one.log_digest);
}

#[test]
fn what_the_noise_leaves_is_learned() {
    let mut scenario = convex(20, 8, 200);
    scenario.privacy.lot = 60.0;
    let (_, report) = run(&scenario);
    let accuracy =
        |attempt: Option<&consilium_proto::wire::RoundSummary>| attempt.unwrap().test_accuracy.unwrap();
    let (first, last) = (accuracy(report.attempts.first()), accuracy(report.attempts.last()));
    assert!(last > 0.4 && last > first, "{first} to {last}");
}

#[test]
fn rough_lines_and_crashes_everywhere_still_end_in_one_adapter() {
    for seed in 1..=10 {
        let mut scenario = Scenario { seed, ..small(12, 3) };
        (scenario.network.loss, scenario.clients.dropout) = (0.03, 0.05);
        scenario.faults.coordinator = [20 + seed, 70 + 2 * seed].into();
        scenario.faults.clients = [(1, [2, 9].into()), (2, [4].into())].into();
        let (world, report) = run(&scenario);
        let released = report.released().count();
        assert!(released >= 2, "seed {seed}: {:?}", outcomes(&report));
        assert_eq!(world.watch().sums() as usize, released, "seed {seed}");
    }
}
