//! What operators may decide, and what each decision does.
//!
//! An instruction is judged first, then recorded with its signature, then applied; a replay applies it again without judging.
//! None reaches into a running attempt but `round-abort`, which ends it: a suspension, a pause and a stop count from the next
//! attempt on, so that an attempt never has two sets of survivors.

use consilium_proto::{
    action::{Action, What},
    ids::Id,
    wire::{self, AuditedAct, audit_entry::What as Logged},
};

use super::{Effect, Event, Job, Phase, code};

/// Whether operators keep attempts from beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Hold {
    /// They do not.
    #[default]
    No,
    /// Nobody has started the job, and its configuration asks for that.
    NotStarted,
    /// Until it is resumed.
    Paused,
    /// For good: the job ends with the running attempt.
    Stopping,
    /// It has.
    Stopped,
}

impl Hold {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::No => "",
            Self::NotStarted => "not-started",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }
}

/// What operators decided so far.
#[derive(Debug, Default)]
pub(super) struct Control {
    pub(super) hold: Hold,
    /// Instructions carried out.
    pub(super) actions: u64,
}

/// An instruction that was carried out, or would be.
#[derive(Debug)]
pub struct Acted {
    /// Its number.
    pub number: u64,
    /// What it does, for a person.
    pub effect: String,
    /// What to do, in order; empty in a dry run.
    pub effects: Vec<Effect>,
}

/// Why an instruction was not carried out; nothing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActRefused(pub String);

fn refused<T>(why: impl Into<String>) -> Result<T, ActRefused> {
    Err(ActRefused(why.into()))
}

impl Job {
    /// Waits for an operator's `job-start` before the first attempt. To be called before events are replayed.
    pub fn wait_for_start(&mut self) {
        self.control.hold = Hold::NotStarted;
    }

    /// An operator's instruction, whose connection is `caller`'s: signed and to be carried out, or not signed and only to be
    /// judged.
    ///
    /// # Errors
    ///
    /// [`ActRefused`], in words.
    pub fn act(
        &mut self,
        signed: &wire::SignedAction,
        caller: &Id,
        dry_run: bool,
        now_ms: u64,
    ) -> Result<Acted, ActRefused> {
        let plan = self.plan.digest();
        let action =
            if dry_run { Action::read(signed, &plan) } else { Action::verify(signed, &self.roster, &plan) };
        let action = action.map_err(|error| ActRefused(error.to_string()))?;
        if action.operator != *caller {
            return refused(format!(
                "the instruction is {}'s, and this connection is {caller}'s",
                action.operator
            ));
        }
        let next = self.control.actions + 1;
        if action.number != next {
            return refused(format!(
                "it is number {} and the next is {next}: somebody acted meanwhile; look again, and repeat it if it still holds",
                action.number
            ));
        }
        let effect = self.judge(&action.what)?;
        let mut effects = Vec::new();
        if !dry_run {
            let was_finished = self.is_finished();
            let (round, attempt) = self.place();
            effects.push(Effect::Record { round, attempt, event: Event::Acted(signed.clone()) });
            let (act, signature) = (signed.action.clone(), signed.signature.clone());
            let entry = AuditedAct { by: action.operator.to_string(), act, signature };
            effects.push(self.log_entry(Logged::Act(entry), now_ms));
            self.apply(&action.what, now_ms);
            if matches!(action.what, What::RoundAbort { .. }) {
                self.fail(code::ABORTED, now_ms, &mut effects);
            }
            self.advance(now_ms, &mut effects);
            self.farewell(was_finished, &mut effects);
        }
        Ok(Acted { number: next, effect, effects })
    }

    /// Round and attempt that events of no attempt are recorded under.
    fn place(&self) -> (u32, u32) {
        match &self.phase {
            Phase::Waiting { round, attempt, .. } => (*round, *attempt),
            Phase::Running(running) => (running.round, running.attempt),
            Phase::Finished => (self.plan.document().rounds, 0),
        }
    }

    /// What it would do.
    fn judge(&self, what: &What) -> Result<String, ActRefused> {
        if self.is_finished() {
            return refused("the job is finished; there is nothing left to act on");
        }
        let running = match &self.phase {
            Phase::Running(running) => Some((running.round, running.attempt)),
            _ => None,
        };
        match (what, self.control.hold) {
            (_, Hold::Stopping) if !matches!(what, What::RoundAbort { .. }) => refused(
                "the job is stopping: it ends for good with the running attempt; `round abort` ends that now",
            ),
            (What::JobStart, Hold::NotStarted) => {
                let minimum = self.plan.document().cohort.min_survivors;
                Ok(format!("the first attempt begins as soon as {minimum} members are online"))
            }
            (What::JobStart, _) => refused("the job has started already; `job resume` ends a pause"),
            (What::JobPause, Hold::No) => Ok(match running {
                Some((round, attempt)) => {
                    format!(
                        "attempt {attempt} of round {round} goes on to its end; none begins after it until `job resume`"
                    )
                }
                None => "no attempt begins until `job resume`".into(),
            }),
            (What::JobPause, Hold::NotStarted) => refused("the job has not started yet"),
            (What::JobPause, _) => refused("the job is paused already"),
            (What::JobResume, Hold::Paused) => {
                Ok("attempts begin again as soon as enough members are online".into())
            }
            (What::JobResume, Hold::NotStarted) => {
                refused("the job has not started yet; `job start` starts it")
            }
            (What::JobResume, _) => refused("the job is not paused"),
            (What::JobStop, _) => Ok(match running {
                Some((round, attempt)) => format!(
                    "the job ends for good when attempt {attempt} of round {round} has ended; what was released stays"
                ),
                None => "the job ends now, for good; what was released stays".into(),
            }),
            (What::RoundAbort { round, attempt }, _) => self.judge_abort(*round, *attempt),
            (What::MemberSuspend(id), _) => self.judge_suspension(id),
            (What::MemberResume(id), _) => match self.members.is_suspended(id) {
                Some(true) => Ok(format!("{id} is invited again from the next attempt on")),
                Some(false) => refused(format!("{id} is not suspended")),
                None => refused(format!("{id} is no member of this job; `consilium members` lists them")),
            },
        }
    }

    fn judge_abort(&self, round: u32, attempt: u32) -> Result<String, ActRefused> {
        match &self.phase {
            Phase::Running(running) if !running.is(round, attempt) => refused(format!(
                "attempt {} of round {} is running, and not attempt {attempt} of round {round}",
                running.attempt, running.round
            )),
            Phase::Running(running) if running.is_releasing() => {
                refused("all answers are in and its sum is being made; it ends by itself in a moment")
            }
            Phase::Running(running) => {
                let cost = if running.is_debited() {
                    "what it has cost in privacy is lost"
                } else {
                    "it has cost no privacy yet"
                };
                let next = match self.after(round, attempt) {
                    Next::Retry => "and the round is tried again",
                    Next::Round => "and the next round begins",
                    Next::End => "and the job ends with it",
                };
                Ok(format!("attempt {attempt} of round {round} ends without a sum: {cost}, {next}"))
            }
            _ => refused("no attempt is running; `job pause` keeps the next from beginning"),
        }
    }

    fn judge_suspension(&self, id: &Id) -> Result<String, ActRefused> {
        let minimum = self.plan.document().cohort.min_survivors as usize;
        match self.members.is_suspended(id) {
            None => return refused(format!("{id} is no member of this job; `consilium members` lists them")),
            Some(true) => return refused(format!("{id} is suspended already")),
            Some(false) => {}
        }
        let revoked = self.roster.revoked();
        let left = self.members.eligible().filter(|other| *other != id && !revoked.contains(other)).count();
        if left < minimum {
            return refused(format!(
                "without {id} only {left} members could take part, and the plan needs {minimum}; resume another member first, or \
                 pause the job"
            ));
        }
        Ok(format!(
            "{id} is left out from the next attempt on; {left} members stay, and {minimum} are needed"
        ))
    }

    /// Does what was judged and recorded, now or in a replay.
    pub(super) fn apply(&mut self, what: &What, now_ms: u64) {
        self.control.actions += 1;
        match what {
            What::JobStart | What::JobResume => {
                self.control.hold = Hold::No;
                // Nobody was waited for meanwhile.
                if let Phase::Waiting { since_ms, .. } = &mut self.phase {
                    *since_ms = now_ms;
                }
            }
            What::JobPause => self.control.hold = Hold::Paused,
            What::JobStop => {
                self.control.hold = Hold::Stopping;
                if !matches!(self.phase, Phase::Running(_)) {
                    self.finish();
                }
            }
            What::RoundAbort { .. } => {}
            What::MemberSuspend(id) => self.members.suspend(id, true),
            What::MemberResume(id) => self.members.suspend(id, false),
        }
    }

    /// Whether operators keep the next attempt from beginning.
    pub(super) fn is_held(&self) -> bool {
        self.control.hold != Hold::No
    }
}

/// What comes after an attempt without a sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another attempt of the round.
    Retry,
    /// The next round.
    Round,
    /// Nothing.
    End,
}
