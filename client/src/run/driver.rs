//! The loop of a running client: what happened goes into the session, what it says is done in order, and what people here decide
//! comes before everything else.

use std::{path::PathBuf, sync::Arc, time::Duration};

use consilium_proto::plan::VerifiedPlan;
use jiff::Timestamp;
use rand::{rand_core::UnwrapErr, rngs::SysRng};
use tokio::{sync::mpsc, time::MissedTickBehavior};

use super::{Client, KEPT, Outcome, PEERS, RunError, Traces, hook, unix_s, worker::Worker};
use crate::{
    decisions::{Act, Decided, Leave, Watch},
    egress::Egress,
    files,
    journal::Journal,
    kept,
    ledger::LedgerFile,
    link::{Link, LinkEvent},
    live::LiveFile,
    policy::Policy,
    session::{Effect, Event, Input, Session},
    threads::Threads,
};

/// How often a running client looks for decisions.
const LOOK: Duration = Duration::from_millis(100);

impl Client {
    /// Takes part until the job is over, `shutdown` completes, a person here ends it, or something cannot be recorded.
    ///
    /// # Errors
    ///
    /// [`RunError`]. Whatever it is, what was recorded stays true and a later start goes on from there.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<Outcome, RunError> {
        let (worker, mut reports) = Worker::start(
            self.plan.clone(),
            self.trainer,
            #[cfg(feature = "test-hooks")]
            self.state.clone(),
        )
        .map_err(RunError::Thread)?;
        let mut running = Running {
            link: Link::start(self.target, self.egress.clone()),
            session: self.session.with_threads(Threads::of_this_machine()),
            sum_bytes: self.plan.derived().ring.packed_len(self.plan.derived().vector_len),
            worker,
            plan: self.plan,
            policy: self.policy,
            journal: self.journal,
            ledger: self.ledger,
            egress: self.egress,
            decisions: self.decisions,
            live: self.live,
            traces: self.traces,
            state: self.state,
        };
        let ended = running.run(&mut reports, shutdown).await;
        running.live.live.turn("ended");
        let written = running.live.flush();
        let outcome = ended?;
        if let Outcome::Ended(_) = outcome {
            // Its last word is a refusal, and it is to arrive.
            running.link.close().await;
        }
        written?;
        Ok(outcome)
    }
}

/// A client that runs.
struct Running {
    link: Link,
    session: Session,
    worker: Worker,
    plan: Arc<VerifiedPlan>,
    policy: Policy,
    journal: Journal<Event>,
    ledger: LedgerFile,
    egress: Egress,
    decisions: Watch,
    live: LiveFile,
    traces: Option<Traces>,
    state: PathBuf,
    sum_bytes: usize,
}

impl Running {
    async fn run(
        &mut self,
        reports: &mut mpsc::UnboundedReceiver<Input>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<Outcome, RunError> {
        tokio::pin!(shutdown);
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.live.live.turn("dialling");
        self.live.live.applied_round = self.session.applied().0;
        loop {
            self.live.flush()?;
            let input = tokio::select! {
                biased;
                () = &mut shutdown => {
                    tracing::info!(event = "interrupted");
                    return Ok(Outcome::Interrupted);
                }
                // What people decided comes before everything else that has happened.
                _ = look.tick() => {
                    if let Some(outcome) = self.look().await? {
                        return Ok(outcome);
                    }
                    continue;
                }
                Some(report) = reports.recv() => report,
                event = self.link.next() => match self.heard(event)? {
                    Some(input) => input,
                    None => return Err(RunError::Stopped("the link ended".into())),
                },
            };
            self.session.bar(self.policy.allows_at(unix_s()).err().map(|line| ("hours", line.to_string())));
            let effects = self.session.handle(input, &mut UnwrapErr(SysRng));
            if let Some(outcome) = self.execute(effects).await? {
                return Ok(outcome);
            }
        }
    }

    /// Acts on what people here decided since the last look.
    async fn look(&mut self) -> Result<Option<Outcome>, RunError> {
        let Some(leave) = self.decisions.look()? else { return Ok(None) };
        let halt = match &leave {
            Leave::Go => None,
            // An approval is never taken back but by a rejection; without one, the client would not have been started.
            Leave::Wait => Some((Act::Reject.code(), "the plan is not approved".to_owned())),
            Leave::Pause(decided) | Leave::End(decided) => {
                let Decided { act, by, reason, .. } = decided;
                Some((act.code(), format!("{by} decided so here: {reason}")))
            }
        };
        if let Some((code, why)) = &halt {
            tracing::warn!(event = "halted", code, why);
            self.link.stop_uploads().await;
        } else {
            tracing::info!(event = "allowed");
        }
        let effects = self.session.halt(halt, &mut UnwrapErr(SysRng));
        if let Some(outcome) = self.execute(effects).await? {
            return Ok(Some(outcome));
        }
        if let Leave::End(decided) = leave {
            return Ok(Some(Outcome::Ended(decided)));
        }
        match leave {
            Leave::Pause(_) => self.live.live.turn("paused"),
            _ if self.live.live.phase == "paused" => self.live.live.turn("connected"),
            _ => {}
        }
        Ok(None)
    }

    /// An input for the session; `None` when the link has ended.
    fn heard(&mut self, event: Option<LinkEvent>) -> Result<Option<Input>, RunError> {
        let live = &mut self.live.live;
        Ok(Some(match event {
            Some(LinkEvent::Connected) => Input::Connected,
            Some(LinkEvent::Heard(heard)) => {
                let now = Timestamp::now();
                // Not at every word: this is for people, and each change is a write.
                if live.heard.is_none_or(|before| now.as_second() - before.as_second() >= 5) {
                    live.heard = Some(now);
                }
                if live.phase == "dialling" {
                    live.turn("connected");
                }
                Input::Heard(heard)
            }
            Some(LinkEvent::Release { head, sum }) => Input::Release { head, sum },
            Some(LinkEvent::ReleasesEnded) => Input::ReleasesEnded,
            Some(LinkEvent::Disconnected { why, retry }) => {
                if let Some(failed) = self.egress.take_failure() {
                    return Err(failed.into());
                }
                tracing::warn!(event = "disconnected", why, retry_ms = retry.as_millis() as u64);
                (live.disconnects, live.last_error) = (live.disconnects + 1, Some(why));
                if live.phase == "connected" {
                    live.turn("dialling");
                }
                Input::Disconnected
            }
            None => return Ok(None),
        }))
    }

    /// Does what the session says, in order.
    async fn execute(&mut self, effects: Vec<Effect>) -> Result<Option<Outcome>, RunError> {
        for effect in effects {
            if let Some(traces) = &mut self.traces {
                traces.note(&effect);
            }
            match effect {
                Effect::Record(event) => {
                    hook::durable(event.kind(), || self.journal.append(&[event]))?;
                }
                Effect::Debit(debit) => {
                    hook::durable("debit", || self.ledger.append(&debit))?;
                    self.egress.paid(debit.round, debit.attempt, self.session.ledger().length());
                }
                Effect::KeepAnnouncement(signed) => {
                    hook::durable("announcement", || kept::announcement(&self.state, &signed))?;
                }
                Effect::KeepRelease { round, head, sum } => {
                    hook::durable("release", || kept::release(&self.state, round, &head, &sum))?;
                }
                Effect::Return { from_round } => {
                    let releases = kept::releases_from(&self.state, from_round)?;
                    tracing::info!(event = "returning", from_round, releases = releases.len());
                    self.link.give_back(releases).await;
                }
                Effect::KeepPeers(bytes) => {
                    hook::durable("peers", || files::write_atomic(&self.state.join(PEERS), &bytes))?;
                }
                Effect::Say(say) => {
                    #[cfg(feature = "test-hooks")]
                    hook::says(&say);
                    self.link.say(say).await;
                }
                Effect::Train { round, attempt, adapter } => {
                    tracing::info!(event = "joined", round, attempt);
                    let live = &mut self.live.live;
                    (live.round, live.attempt, live.joined) = (round, attempt, live.joined + 1);
                    live.reached = "advertised".to_owned();
                    self.worker.train(round, attempt, adapter);
                }
                Effect::StopTraining => self.worker.stop_training(),
                Effect::Upload { round, attempt, chunks, from } => {
                    #[cfg(feature = "test-hooks")]
                    hook::uploads(round, attempt, &chunks);
                    self.link.upload(round, attempt, chunks, from).await
                }
                Effect::Fetch { from_round } => self.link.fetch(from_round, self.sum_bytes).await,
                Effect::Applied { round, adapter, metrics, survivors } => {
                    let mut bytes = round.to_le_bytes().to_vec();
                    bytes.extend(adapter.to_bytes());
                    hook::durable("kept", || files::write_atomic(&self.state.join(KEPT), &bytes))?;
                    self.live.live.applied_round = round;
                    tracing::info!(
                        event = "applied",
                        round,
                        survivors,
                        train_loss = metrics.loss,
                        train_accuracy = metrics.accuracy,
                        adapter = %adapter.adapter_digest(),
                    );
                }
                Effect::Evaluate { round, adapter } => self.worker.evaluate(round, adapter),
                Effect::Declined { round, attempt, code, why } => {
                    tracing::warn!(event = "declined", round, attempt, code, why);
                    self.live.live.decline(&code);
                }
                Effect::Outlook { round, attempt, last_round, outlook } => tracing::info!(
                    event = "budget",
                    round,
                    attempt,
                    epsilon_after = outlook.epsilon_after,
                    total_after = outlook.total_after,
                    last_round = last_round.min(self.plan.document().rounds.into()),
                ),
                Effect::Reached { round, attempt, what } => {
                    tracing::info!(event = what, round, attempt);
                    self.live.live.reached = what.to_owned();
                }
                Effect::Finished => {
                    tracing::info!(event = "finished");
                    return Ok(Some(Outcome::Finished));
                }
                Effect::Stop(why) if self.session.is_restored() => return Err(RunError::Restored(why)),
                Effect::Stop(why) => return Err(RunError::Stopped(why)),
            }
        }
        Ok(None)
    }
}
