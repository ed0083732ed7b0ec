//! The coordinator as a process: machine and disk, persist, then speak. It can die after any recorded event.
//!
//! Executes effects as the deployed engine does: within a batch, everything that must be durable first, then what is
//! said, then what comes back as further input.

use std::{collections::BTreeSet, sync::Arc};

use consilium_coordinator::round::{ChunkRefused, Effect, Event, Input, Job, RecoveryError};
use consilium_crypto::{digest::Digest, protocol::Protocol};
use consilium_proto::{
    identity::Identity,
    ids::Id,
    plan::VerifiedPlan,
    release::VerifiedHead,
    roster::VerifiedRoster,
    wire::{self, SignedReleaseHead, coordinator_message::Kind},
};

use crate::{
    attack::Attacking,
    consortium::Consortium,
    disk::{Disk, unix_ms},
    log::Log,
    network::Micros,
    plain::protocol,
    scenario::Scenario,
    watch::Watch,
};

const WHO: &str = "coordinator";

/// What a turn leads to.
#[derive(Default)]
pub(crate) struct Turn {
    /// What is said, in order.
    pub(crate) spoken: Vec<Spoken>,
    /// An attempt of this round began.
    pub(crate) opened: Option<u32>,
    /// An attempt ended, either way.
    pub(crate) ended: bool,
    /// The process died in this turn; nothing of it was said.
    pub(crate) died: bool,
}

/// Something for a member's session.
pub(crate) enum Spoken {
    Say { to: Id, message: Kind },
    Close { to: Id },
}

/// The coordinator's process and its disk.
pub struct CoordinatorHost {
    identity: Arc<Identity>,
    roster: Arc<VerifiedRoster>,
    plan: Arc<VerifiedPlan>,
    protocol: Arc<dyn Protocol>,
    job: Option<Job>,
    disk: Disk,
    deaths: BTreeSet<u64>,
}

/// Where a turn's effects go.
pub(crate) struct Surroundings<'a> {
    pub(crate) now: Micros,
    pub(crate) log: &'a mut Log,
    pub(crate) watch: &'a mut Watch,
}

impl CoordinatorHost {
    pub(crate) fn new(consortium: &Consortium, scenario: &Scenario) -> Self {
        Self {
            identity: consortium.coordinator.clone(),
            roster: consortium.roster.clone(),
            plan: consortium.plan.clone(),
            protocol: protocol(scenario),
            job: None,
            disk: Disk::default(),
            deaths: scenario.faults.coordinator.clone(),
        }
    }

    /// Makes it what an attack needs it to be.
    pub(crate) fn corrupted(mut self, attacking: &Attacking) -> Self {
        self.protocol = attacking.of_coordinator(self.protocol.clone());
        self
    }

    /// The machine, while the process lives.
    pub fn job(&self) -> Option<&Job> {
        self.job.as_ref()
    }

    /// The operator's view, while the process lives.
    pub fn status(&mut self, now: Micros) -> Option<wire::JobStatus> {
        self.job.as_mut().map(|job| job.status(unix_ms(now)))
    }

    /// What survives a crash.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Starts the process: the machine is what the recorded events make it.
    pub(crate) fn start(&mut self, around: &mut Surroundings<'_>) -> Result<Turn, RecoveryError> {
        let now_ms = unix_ms(around.now);
        let mut job = Job::new(self.identity.clone(), self.roster.clone(), self.plan.clone(), now_ms)?
            .with_protocol(self.protocol.clone());
        let disk = &self.disk;
        for recovered in disk.recovered() {
            let broken = |why: String| RecoveryError { round: 0, attempt: 0, why };
            let recovered = recovered.map_err(|error| broken(error.to_string()))?;
            job.replay(recovered, &mut |round| disk.release(round))?;
        }
        around.log.line(around.now, WHO, &format!("starts with {} events", disk.events()), &[]);
        let effects = job.resume(now_ms);
        self.job = Some(job);
        Ok(self.execute(effects, around))
    }

    pub(crate) fn handle(&mut self, input: Input, around: &mut Surroundings<'_>) -> Turn {
        let Some(job) = &mut self.job else { return Turn::default() };
        let effects = job.handle(input, unix_ms(around.now));
        self.execute(effects, around)
    }

    pub(crate) fn chunk(
        &mut self,
        from: &Id,
        part: wire::UploadPart,
        around: &mut Surroundings<'_>,
    ) -> Result<Turn, ChunkRefused> {
        let Some(job) = &mut self.job else { return Ok(Turn::default()) };
        let effects = job.handle_chunk(from, part, unix_ms(around.now))?;
        Ok(self.execute(effects, around))
    }

    /// When the machine wants to be woken.
    pub(crate) fn wake(&self, now: Micros) -> Option<Micros> {
        let at_ms = self.job.as_ref()?.next_wake_ms(unix_ms(now))?;
        let wait = at_ms.saturating_sub(unix_ms(now)).max(1);
        Some(now - now % 1000 + wait * 1000)
    }

    pub(crate) fn die(&mut self, around: &mut Surroundings<'_>) {
        around.log.line(around.now, WHO, "dies", &[]);
        self.job = None;
        self.disk.crash();
    }

    pub(crate) fn releases_from(&self, round: u32) -> Vec<Arc<(SignedReleaseHead, Vec<u8>)>> {
        self.disk.releases_from(round)
    }

    fn execute(&mut self, effects: Vec<Effect>, around: &mut Surroundings<'_>) -> Turn {
        let (mut turn, mut todo) = (Turn::default(), effects);
        while !todo.is_empty() {
            let (mut spoken, mut later) = (Vec::new(), Vec::new());
            for effect in todo {
                match effect {
                    Effect::Record { round, attempt, event } => {
                        turn.opened = turn.opened.or(matches!(event, Event::Opened(_)).then_some(round));
                        turn.ended |= matches!(event, Event::Failed { .. });
                        if matches!(event, Event::Failed { .. }) {
                            around.watch.failed(round, attempt);
                        }
                        if self.record(round, attempt, &event, around) {
                            return Turn { died: true, spoken: Vec::new(), ..turn };
                        }
                    }
                    Effect::Publish(publication) => {
                        turn.ended = true;
                        let round = publication.round;
                        self.compare(round, &publication.head, &publication.sum, around.watch);
                        self.disk.publish(round, publication.head, publication.sum);
                        if self.record(round, publication.attempt, &publication.event, around) {
                            return Turn { died: true, spoken: Vec::new(), ..turn };
                        }
                    }
                    Effect::PutChunk { round, attempt, from, index, bytes } => {
                        self.disk.put_chunk((round, attempt, from), index, bytes);
                    }
                    Effect::SyncInput { round, attempt, from } => self.disk.sync(&(round, attempt, from)),
                    Effect::Refused { .. } => {}
                    Effect::Send { to, message } => spoken.push(Spoken::Say { to, message }),
                    Effect::Close { to } => spoken.push(Spoken::Close { to }),
                    Effect::AskUpload { .. } | Effect::Aggregate(_) | Effect::DropInputs { .. } => {
                        later.push(effect)
                    }
                }
            }
            turn.spoken.append(&mut spoken);
            todo = Vec::new();
            for effect in later {
                todo.extend(self.come_back(effect, around.now));
            }
        }
        turn
    }

    /// Makes an event durable; whether the process dies of it.
    fn record(&mut self, round: u32, attempt: u32, event: &Event, around: &mut Surroundings<'_>) -> bool {
        self.disk.append(round, attempt, event, unix_ms(around.now));
        around.log.line(
            around.now,
            WHO,
            &format!("records {} {round}.{attempt}", event.kind()),
            &event.encode(),
        );
        if self.deaths.remove(&self.disk.events()) {
            self.die(around);
            return true;
        }
        false
    }

    fn compare(&self, round: u32, head: &SignedReleaseHead, sum: &[u8], watch: &mut Watch) {
        match VerifiedHead::verify(head, &self.roster, &self.plan) {
            Ok(verified) if verified.sum == Digest::of(sum) => {
                watch.released(&self.plan, self.plan.cohort(), &verified, sum);
            }
            Ok(_) => watch.bad_release(round, "the sum has another digest".into()),
            Err(why) => watch.bad_release(round, why.to_string()),
        }
    }

    fn come_back(&mut self, effect: Effect, now: Micros) -> Vec<Effect> {
        let Some(job) = &mut self.job else { return Vec::new() };
        let input = match effect {
            Effect::AskUpload { from, round, attempt } => {
                let chunks = self.disk.held(&(round, attempt, from.clone()));
                Input::Held { from, round, attempt, chunks }
            }
            Effect::Aggregate(work) => {
                let (round, attempt) = (work.round, work.attempt);
                Input::Summed { round, attempt, sum: self.disk.aggregate(&work) }
            }
            Effect::DropInputs { round, attempt } => {
                self.disk.drop_inputs(round, attempt);
                return Vec::new();
            }
            _ => return Vec::new(),
        };
        job.handle(input, unix_ms(now))
    }
}
