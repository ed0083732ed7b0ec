//! Rounds that wait for members, and rounds that wait in vain.

use std::time::Duration;

use consilium_simulations::{World, log::Log, scenario::End};

use super::{outcomes, run, small};

#[test]
fn too_few_are_waited_for_by_name_and_then_the_next_round_begins() {
    let mut scenario = small(5, 3);
    let late = Duration::from_secs(200);
    scenario.faults.late = [(3, late), (4, late)].into();
    let mut world = World::new(scenario.clone(), Log::default()).unwrap();
    world.run_until(Duration::from_secs(60)).unwrap();
    let status = world.status().unwrap();
    assert_eq!((status.state.as_str(), status.step.as_str(), status.round), ("waiting", "wait", 1));
    let awaited: Vec<_> =
        status.members.iter().filter(|member| member.awaited).map(|member| member.id.as_str()).collect();
    assert_eq!(awaited, ["org-0004", "org-0005"]);
    assert_eq!(status.deadline_seconds, 60.0);
    let report = world.run(&mut |_| {}).unwrap();
    assert_eq!(
        outcomes(&report),
        [(1, 1, "too-few-online", 0), (2, 1, "released", 5), (3, 1, "released", 5)]
    );
}

#[test]
fn who_never_comes_is_not_waited_for_longer_than_the_grace() {
    let mut scenario = small(5, 2);
    scenario.faults.late = [(4, Duration::MAX)].into();
    let (_, report) = run(&scenario);
    assert_eq!(outcomes(&report), [(1, 1, "released", 4), (2, 1, "released", 4)]);
    // Two seconds of grace before the first round, about twelve of training in each.
    assert!(report.virtual_seconds < 40.0, "{}", report.virtual_seconds);
}

#[test]
fn a_job_for_which_nobody_comes_ends_without_a_sum() {
    let mut scenario = small(3, 2);
    scenario.faults.late = [(1, Duration::MAX), (2, Duration::MAX)].into();
    scenario.expect.end = End::GaveUp;
    let (world, report) = run(&scenario);
    assert_eq!(outcomes(&report), [(1, 1, "too-few-online", 0), (2, 1, "too-few-online", 0)]);
    assert_eq!(world.watch().sums(), 0);
    assert_eq!(world.clients()[0].applied().unwrap().0, 0);
}

#[test]
fn a_step_that_too_few_answer_fails_at_its_deadline() {
    // One of three dies with its header recorded and stays away for long; nobody is to spare.
    let mut scenario = small(3, 4);
    scenario.clients.restart_s = 1000.0;
    scenario.faults.clients = [(1, [3].into())].into();
    let (_, report) = run(&scenario);
    let named: Vec<_> = outcomes(&report).iter().map(|it| (it.0, it.1, it.2)).collect();
    let waited = "too-few-online";
    assert_eq!(
        named,
        [(1, 1, "too-few-answers"), (1, 2, waited), (2, 1, waited), (3, 1, waited), (4, 1, "released")]
    );
    let input = report.attempts[0].step_seconds[2];
    assert!((600.0..601.0).contains(&input), "{input}");
}
