//! Operators' instructions, and whom retries ration.

use consilium_proto::action::{Action, What};

use super::*;

impl Bench {
    fn action(&self, what: What) -> Action {
        let number = self.job.status(self.now).actions + 1;
        Action { number, operator: "ada".parse().unwrap(), at_ms: 7, what, reason: "maintenance".into() }
    }

    fn instruction(&self, what: What) -> wire::SignedAction {
        self.action(what).sign(&self.plan.digest(), self.operator.signing_key())
    }

    /// An operator acts; the kinds of the events that were recorded, or why it was refused.
    fn acts(&mut self, what: What) -> Result<Vec<&'static str>, String> {
        let signed = self.instruction(what);
        let ada = self.operator.id.clone();
        let acted = self.job.act(&signed, &ada, false, self.now).map_err(|refused| refused.0)?;
        Ok(self.execute(acted.effects))
    }

    fn state(&self) -> (String, String, u32, u32) {
        let status = self.job.status(self.now);
        (status.state, status.hold, status.round, status.attempt)
    }

    /// A round to its release by everybody who is asked.
    fn release(&mut self, speakers: &[usize]) {
        for step in ["share", "input", "vote", "unmask", "release"] {
            for index in speakers {
                if self.step() != step {
                    self.speaks(*index);
                }
            }
            // Whoever is silent is waited for.
            if self.step() != step {
                self.wait(STEP_MS);
            }
            assert_eq!(self.step(), step);
        }
        self.sums();
    }

    /// An operator ends the running attempt, which nobody is blamed for.
    fn aborts(&mut self) {
        let (_, _, round, attempt) = self.state();
        self.acts(What::RoundAbort { round, attempt }).unwrap();
    }

    fn member(&self, index: usize) -> wire::MemberStatus {
        self.job.status(self.now).members.swap_remove(index)
    }

    /// The rebuilt machine says the same of what operators decided and who sits out.
    fn same_when_rebuilt(&self) {
        let seen = |job: &Job| {
            let status = job.status(self.now);
            let of = |m: wire::MemberStatus| (m.suspended, m.sits_out, m.absences, m.refusal);
            let members: Vec<_> = status.members.into_iter().map(of).collect();
            let mut rounds = job.rounds().rounds;
            // What is computed beside the rounds is computed again.
            rounds.iter_mut().for_each(|round| (round.spent, round.epsilon_wasted) = (None, None));
            (status.state, status.hold, status.actions, status.reserve_left, members, rounds)
        };
        assert_eq!(seen(&self.rebuilt(self.recorded.len())), seen(&self.job));
    }
}

#[test]
fn a_job_that_waits_for_its_start_begins_when_it_is_told() {
    let mut bench = Bench::new();
    bench.job.wait_for_start();
    bench.all_come();
    assert!(bench.wait(10 * WAIT_MS).is_empty(), "nobody is missed and nothing fails");
    assert_eq!(bench.job.next_wake_ms(bench.now), None);
    assert_eq!(bench.state(), ("held".into(), "not-started".into(), 1, 1));
    assert!(bench.acts(What::JobResume).unwrap_err().contains("`job start` starts it"));
    assert_eq!(bench.acts(What::JobStart), Ok(vec!["acted", "logged", "opened"]));
    assert!(bench.acts(What::JobStart).unwrap_err().contains("started already"));
    // A restart with the same configuration does not hold it again.
    let (id, roster, plan) = (bench.coordinator.clone(), bench.roster.clone(), bench.plan.clone());
    let mut again = Job::new(id, roster, plan, bench.now).unwrap();
    again.wait_for_start();
    for recovered in &bench.recorded {
        again.replay(recovered.clone(), &mut |_| None).unwrap();
    }
    assert_eq!(
        (again.status(bench.now).state.as_str(), again.status(bench.now).hold.as_str()),
        ("running", "")
    );
}

#[test]
fn a_pause_lets_the_running_attempt_end_and_keeps_the_next_from_beginning() {
    let mut bench = Bench::new();
    bench.all_come();
    bench.up_to("vote");
    assert_eq!(bench.acts(What::JobPause), Ok(vec!["acted", "logged"]));
    bench.up_to("release");
    assert_eq!(bench.sums(), ["released"]);
    assert_eq!(bench.state(), ("held".into(), "paused".into(), 2, 1));
    assert!(bench.wait(10 * WAIT_MS).is_empty());
    bench.same_when_rebuilt();
    assert_eq!(bench.acts(What::JobResume), Ok(vec!["acted", "logged", "opened"]));
    assert_eq!(bench.state(), ("running".into(), String::new(), 2, 1));
}

#[test]
fn a_stop_ends_the_job_with_the_attempt_and_for_good() {
    let mut bench = Bench::new();
    bench.all_come();
    bench.up_to("input");
    assert_eq!(bench.acts(What::JobStop), Ok(vec!["acted", "logged"]));
    assert_eq!(bench.state().1, "stopping");
    assert!(bench.acts(What::JobPause).unwrap_err().contains("stopping"));
    bench.up_to("release");
    assert_eq!(bench.sums(), ["released"]);
    assert_eq!((bench.state().0.as_str(), bench.state().1.as_str()), ("finished", "stopped"));
    assert_eq!(bench.told[&name(0)], Kind::JobEnded(wire::JobEnded { releases: 1 }));
    assert!(bench.acts(What::JobResume).unwrap_err().contains("finished"));
    bench.same_when_rebuilt();
}

#[test]
fn an_abort_ends_the_attempt_it_names_and_tells_what_that_costs() {
    let mut bench = Bench::new();
    bench.all_come();
    let abort = |round, attempt| What::RoundAbort { round, attempt };
    assert!(bench.acts(abort(1, 2)).unwrap_err().contains("attempt 1 of round 1 is running"));
    let ada = bench.operator.id.clone();
    let dry = |bench: &mut Bench, what| {
        let action = bench.action(what).encode(&bench.plan.digest());
        let unsigned = wire::SignedAction { action, signature: Vec::new() };
        bench.job.act(&unsigned, &ada, true, bench.now).unwrap()
    };
    let acted = dry(&mut bench, abort(1, 1));
    assert!(acted.effects.is_empty() && acted.effect.contains("no privacy yet"), "{}", acted.effect);
    bench.up_to("input");
    let acted = dry(&mut bench, abort(1, 1));
    assert!(acted.effect.contains("is lost, and the round is tried again"), "{}", acted.effect);
    assert_eq!(bench.state(), ("running".into(), String::new(), 1, 1), "a dry run changes nothing");
    assert_eq!(bench.acts(abort(1, 1)), Ok(vec!["acted", "logged", "failed", "opened"]));
    assert_eq!(outcomes(&bench.job), [(1, 1, code::ABORTED.to_owned())]);
    let round = bench.job.rounds().rounds.remove(0);
    assert!(round.debited && round.absent.is_empty(), "nobody is blamed for what an operator did");
    // Its ε is wasted: what both attempts cost less what one would.
    for attempts in [1, 2] {
        let cost = bench.plan.derived().guarantees(attempts, 1e-5).unwrap();
        bench.job.note_cost(attempts, cost);
    }
    bench.up_to("input");
    let (one, two) = (bench.job.cost(1).unwrap().central, bench.job.cost(2).unwrap().central);
    let status = bench.job.status(bench.now);
    assert_eq!(status.wasted.unwrap().epsilon, two - one);
    assert_eq!(bench.job.rounds().rounds[0].epsilon_wasted, Some(one));
    bench.up_to("release");
    assert!(bench.acts(abort(1, 2)).unwrap_err().contains("its sum is being made"));
    bench.sums();
    bench.same_when_rebuilt();
}

#[test]
fn a_suspended_member_is_left_out_from_the_next_attempt_on_and_never_below_the_minimum() {
    let mut bench = Bench::new();
    bench.all_come();
    bench.up_to("share");
    assert_eq!(bench.acts(What::MemberSuspend(name(4))), Ok(vec!["acted", "logged"]));
    // The running attempt has one set of survivors, and the suspended member is in it.
    bench.up_to("release");
    bench.sums();
    assert_eq!(bench.job.rounds().rounds[0].survivors.len(), 5);
    assert!(bench.acts(What::MemberSuspend(name(3))).unwrap_err().contains("only 3 members could take part"));
    assert!(bench.acts(What::MemberSuspend(name(4))).unwrap_err().contains("suspended already"));
    assert!(bench.acts(What::MemberSuspend("who".parse().unwrap())).unwrap_err().contains("no member"));
    // Its word is refused, the round is complete without it, and nobody waits for it.
    assert_eq!(bench.member(4).refusal, "suspended");
    let begun = bench.now;
    bench.release(&[0, 1, 2, 3]);
    assert_eq!(bench.now, begun, "no deadline was waited for");
    let round = bench.job.rounds().rounds.remove(1);
    assert_eq!(round.survivors.len(), 4);
    assert_eq!((round.absent[0].id.as_str(), round.absent[0].code.as_str()), ("org-4", "suspended"));
    assert_eq!(bench.member(4).absences, 0, "to be suspended is no absence");
    bench.same_when_rebuilt();
    assert_eq!(bench.acts(What::MemberResume(name(4))), Ok(vec!["acted", "logged"]));
    assert_eq!(bench.member(4).refusal, "suspended", "the running attempt goes on without it");
}

#[test]
fn an_instruction_counts_once_in_its_order_and_only_from_whom_it_says() {
    let mut bench = Bench::new();
    bench.all_come();
    let (ada, pause) = (bench.operator.id.clone(), bench.instruction(What::JobPause));
    let bob: Id = "bob".parse().unwrap();
    let act = |bench: &mut Bench, signed: &wire::SignedAction, caller: &Id| {
        bench.job.act(signed, caller, false, bench.now).map(|acted| acted.number).map_err(|refused| refused.0)
    };
    assert!(act(&mut bench, &pause, &bob).unwrap_err().contains("this connection is bob's"));
    let unsigned = wire::SignedAction { signature: Vec::new(), ..pause.clone() };
    assert!(act(&mut bench, &unsigned, &ada).unwrap_err().contains("signature"));
    assert_eq!(act(&mut bench, &pause, &ada), Ok(1));
    let resume = bench.instruction(What::JobResume);
    assert_eq!(act(&mut bench, &resume, &ada), Ok(2));
    assert!(act(&mut bench, &pause, &ada).unwrap_err().contains("number 1 and the next is 3"), "no replay");
}

#[test]
fn who_lets_two_attempts_down_sits_out_longer_each_time_and_is_called_when_needed() {
    let mut bench = Bench::with(|plan| (plan.rounds, plan.retries.reserve) = (20, Some(4)));
    bench.all_come();
    // Once is free.
    bench.release(&[0, 1, 2, 3]);
    let round = bench.job.rounds().rounds.remove(0);
    assert_eq!((round.absent[0].id.as_str(), round.absent[0].step.as_str()), ("org-4", "advertise"));
    assert_eq!(bench.member(4).absences, 0, "it had dealt nothing: that costs nobody anything");
    for (absences, sits_out) in [(1, 0), (2, 1), (3, 2), (4, 4)] {
        bench.all_come();
        let round = bench.job.status(bench.now).round;
        bench.up_to("input");
        for index in 0..4 {
            bench.speaks(index);
        }
        bench.wait(STEP_MS);
        for step in ["unmask", "release"] {
            for index in 0..4 {
                if bench.step() != step {
                    bench.speaks(index);
                }
            }
        }
        bench.sums();
        assert_eq!(bench.member(4).absences, absences);
        assert_eq!(bench.member(4).sits_out, sits_out, "after round {round}");
        bench.same_when_rebuilt();
        for left in (0..sits_out).rev() {
            assert_eq!(bench.member(4).refusal, "sits-out");
            let begun = bench.now;
            bench.release(&[0, 1, 2, 3]);
            assert_eq!(bench.now, begun, "nobody waits for it");
            assert_eq!(bench.member(4).sits_out, left);
        }
    }
    // It sits out again; but another is away now, and the round cannot do without it.
    let mut bench = Bench::with(|plan| plan.rounds = 20);
    bench.all_come();
    bench.job.members.let_down(&name(4), 1);
    bench.job.members.let_down(&name(4), 1);
    assert_eq!(bench.member(4).sits_out, 2);
    bench.release(&[0, 1, 2, 3, 4]);
    // While attempts fail, everybody is invited: those who are left may not be enough.
    assert_eq!(bench.member(4).refusal, "sits-out");
    while bench.step() != "input" {
        for index in 0..4 {
            if bench.step() != "input" {
                bench.speaks(index);
            }
        }
    }
    bench.aborts();
    assert_eq!((bench.member(4).refusal.as_str(), bench.state().3), ("", 2));
    bench.release(&[0, 1, 2, 3, 4]);
    assert!(bench.recorded.iter().all(|it| it.event != Event::Pardoned));
    let mut bench = Bench::with(|plan| plan.rounds = 20);
    for index in 0..5 {
        bench.job.members.let_down(&name(4), 0);
        bench.job.members.let_down(&name(4), 0);
        if index != 2 {
            bench.comes(index);
        }
    }
    assert!(bench.member(4).sits_out > 0);
    assert_eq!(bench.wait(GRACE_MS), ["pardoned", "opened"]);
    assert_eq!(bench.member(4).refusal, "");
}

#[test]
fn the_reserve_rations_retries_that_cost_and_not_those_that_do_not() {
    let shape = |plan: &mut Plan| {
        (plan.rounds, plan.retries.max_attempts, plan.retries.reserve) = (3, 5, Some(2));
    };
    let mut bench = Bench::with(shape);
    bench.all_come();
    assert_eq!(bench.job.status(bench.now).reserve_left, 2);
    // Attempts that end before a masked input could have left are free: all five may fail.
    for _ in 0..2 {
        bench.wait(STEP_MS);
    }
    assert_eq!((bench.state().2, bench.state().3), (1, 3));
    assert_eq!(bench.job.status(bench.now).reserve_left, 2);
    // Those that cost are repeated twice in the whole job.
    for (left, at_deadline, next) in [(2, "retry", (1, 4)), (1, "retry", (1, 5)), (0, "next-round", (2, 1))] {
        bench.up_to("input");
        let status = bench.job.status(bench.now);
        assert_eq!((status.reserve_left, status.at_deadline.as_str()), (left, at_deadline));
        bench.aborts();
        assert_eq!((bench.state().2, bench.state().3), next);
    }
    bench.same_when_rebuilt();
    bench.up_to("input");
    bench.wait(STEP_MS);
    assert_eq!(
        (bench.state().2, bench.state().3),
        (3, 1),
        "no retry is left, and each round has one attempt"
    );
    bench.up_to("input");
    assert_eq!(bench.job.status(bench.now).at_deadline, "job-ends");
    bench.aborts();
    assert!(bench.job.is_finished());
    assert_eq!(bench.job.debited, 5, "rounds and reserve, and no more");
}

#[test]
fn why_a_member_was_absent_is_kept_with_the_attempt() {
    let mut bench = Bench::new();
    bench.all_come();
    assert_eq!(bench.refuses(1), ["declined"]);
    assert!(bench.refuses(1).is_empty(), "its first word stands");
    assert_eq!(bench.refuses(2), ["declined", "failed", "opened"]);
    let round = bench.job.rounds().rounds.remove(0);
    let absent: Vec<_> = round.absent.iter().map(|it| (it.id.as_str(), it.code.as_str())).collect();
    assert!(absent.contains(&("org-1", "test")) && absent.contains(&("org-0", "")), "{absent:?}");
    bench.same_when_rebuilt();
}

#[test]
fn what_is_known_of_a_member_is_when_it_spoke_and_how_far_it_came() {
    let mut bench = Bench::new();
    let hello = wire::Hello { clock_ms: bench.now + 90_000, ..bench.greeting() };
    bench.hand(Input::Hello { from: name(0), hello });
    assert_eq!((bench.member(0).clock_skew_ms, bench.member(1).clock_skew_ms), (Some(90_000), None));
    (1..5).for_each(|index| drop(bench.comes(index)));
    bench.up_to("share");
    bench.now += 1_000;
    bench.speaks(0);
    let (spoke, silent) = (bench.member(0), bench.member(1));
    assert_eq!((spoke.step.as_str(), spoke.last_seen_ms), ("share", bench.now));
    assert_eq!((silent.step.as_str(), silent.last_seen_ms), ("advertise", bench.now - 1_000));
    for _ in 0..3 {
        bench.goes(1);
        bench.comes(1);
    }
    assert_eq!((bench.member(1).disconnects, bench.member(1).disconnects_hour), (3, 3));
    bench.now += 3_600_000;
    assert_eq!((bench.member(1).disconnects, bench.member(1).disconnects_hour), (3, 0));
}
