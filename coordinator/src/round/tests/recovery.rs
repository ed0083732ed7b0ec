//! The machine from its record.

use super::*;

#[test]
fn the_recorded_events_are_the_machine() {
    let mut bench = Bench::new();
    bench.all_come();
    bench.up_to("release");
    bench.sums();
    bench.now += 1;
    bench.up_to("share");
    let seen = |job: &mut Job, now| {
        let status = job.status(now);
        let done: Vec<_> = status.members.iter().map(|it| (it.id.clone(), it.done)).collect();
        let spent = status.spent.map(|it| it.epsilon.to_bits());
        let digest = job.state().adapter_digest();
        (status.state, status.round, status.attempt, status.step, done, spent, job.rounds(), digest)
    };
    let mut rebuilt = bench.rebuilt(bench.recorded.len());
    assert_eq!(seen(&mut rebuilt, bench.now), seen(&mut bench.job, bench.now));
    // Every beginning of the record is a machine as well, and a record with a hole is none.
    for events in 0..bench.recorded.len() {
        bench.rebuilt(events);
    }
    let (id, roster, plan) = (bench.coordinator.clone(), bench.roster.clone(), bench.plan.clone());
    let mut broken = Job::new(id, roster, plan, bench.now).unwrap();
    assert!(broken.replay(bench.recorded[1].clone(), &mut |_| None).is_err());
}

#[test]
fn a_restart_gives_the_step_its_time_again_and_finishes_what_was_begun() {
    let mut bench = Bench::new();
    bench.all_come();
    bench.up_to("vote");
    let later = bench.now + 10 * STEP_MS;
    let mut rebuilt = bench.rebuilt(bench.recorded.len());
    assert!(rebuilt.resume(later).is_empty());
    assert!(
        rebuilt.handle(Input::Tick, later).is_empty(),
        "nobody could vote while the coordinator was away"
    );
    assert!(rebuilt.next_wake_ms(later).is_some_and(|wake| wake > later));
    let status = rebuilt.status(later);
    assert_eq!((status.step.as_str(), status.deadline_seconds), ("vote", STEP_MS as f64 / 1000.0));
    // With all answers recorded and no sum published, it computes the sum.
    bench.up_to("release");
    let mut rebuilt = bench.rebuilt(bench.recorded.len());
    assert!(matches!(rebuilt.resume(later)[..], [Effect::Aggregate(_)]));
}

#[test]
fn every_attempt_leaves_an_entry_of_the_log_and_a_replay_goes_on_behind_it() {
    let mut bench = Bench::new();
    bench.all_come();
    bench.up_to("release");
    bench.sums();
    bench.up_to("input");
    // Two decline: the attempt fails.
    bench.refuses(0);
    bench.refuses(1);
    let logged: Vec<_> = bench.recorded.iter().filter_map(|it| it.event.logged()).cloned().collect();
    let mut head = LogHead::empty(&bench.roster, &bench.plan);
    let entries: Vec<_> =
        logged.iter().map(|entry| head.follow(entry, &bench.roster, &bench.plan).unwrap()).collect();
    assert_eq!(entries.iter().map(|it| (it.round, it.attempt)).collect::<Vec<_>>(), [(1, 1), (2, 1)]);
    assert_eq!(entries.iter().map(|it| it.debited).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(bench.job.log_head(), head);
    assert_eq!(bench.rebuilt(bench.recorded.len()).log_head(), head);
    // A store in which an entry was exchanged is not gone on from.
    let (id, roster, plan) = (bench.coordinator.clone(), bench.roster.clone(), bench.plan.clone());
    let mut job = Job::new(id, roster, plan, bench.now).unwrap();
    let mut release = |round| bench.releases.get(&round).map(|it| (it.head.clone(), it.sum.clone()));
    let replayed = bench.recorded.iter().try_for_each(|recovered| {
        let mut recovered = recovered.clone();
        if let Event::Released { logged, .. } = &mut recovered.event {
            *logged = bench.recorded.iter().rev().find_map(|it| it.event.logged()).cloned();
        }
        job.replay(recovered, &mut release)
    });
    assert!(replayed.unwrap_err().why.contains("log"));
}
