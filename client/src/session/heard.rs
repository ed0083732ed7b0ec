//! What the coordinator says, taken in.

use consilium_proto::{
    PROTOCOL_VERSION,
    plan::VerifiedPlan,
    roster::VerifiedRoster,
    wire::{self, client_message::Kind as Say, coordinator_message::Kind as Heard},
};
use rand::CryptoRng;

use super::{Effect, Session, active::Active, check::Check};

impl Session {
    pub(super) fn hello(&self) -> wire::Hello {
        wire::Hello { newest: self.newest.clone(), ..hello(&self.roster, &self.plan, self.applied_round) }
    }

    pub(super) fn heard(&mut self, heard: Heard, rng: &mut impl CryptoRng, effects: &mut Vec<Effect>) {
        match heard {
            Heard::Welcome(welcome) => {
                let same = welcome.roster_digest == self.roster.digest().0
                    && welcome.plan_digest == self.plan.digest().0;
                if !same {
                    effects.push(Effect::Stop(other_documents()));
                    return;
                }
                effects.extend(self.evaluation.map(|again| Effect::Say(Say::Evaluation(again))));
                self.ask(rng, effects);
                self.want(welcome.released_round, effects);
                if !self.fetching {
                    self.maybe_evaluate(effects);
                }
            }
            Heard::StateQueries(queries) => self.asked(&queries, effects),
            Heard::StateStatements(statements) => self.answered(&statements, rng, effects),
            Heard::Announcement(signed) => {
                self.pending = Some(signed);
                if !self.fetching {
                    self.announced(rng, effects);
                }
            }
            Heard::Protocol(message) => self.delivered(message, rng, effects),
            Heard::Receipt(_) => {}
            Heard::ReleasesWanted(wanted) => effects.push(Effect::Return { from_round: wanted.from_round }),
            Heard::UploadWanted(wanted) => {
                let of_ours = |active: &&Active| active.is(wanted.round, wanted.attempt);
                if let Some(chunks) = self.active.as_ref().filter(of_ours).and_then(Active::chunks) {
                    let (round, attempt, from) = (wanted.round, wanted.attempt, wanted.next_chunk);
                    effects.push(Effect::Upload { round, attempt, chunks, from });
                }
            }
            Heard::Released(released) => {
                if self.active.as_ref().is_some_and(|active| active.round <= released.round) {
                    self.leave(effects);
                }
                self.want(released.round, effects);
            }
            Heard::AttemptEnded(ended) => {
                if self.active.as_ref().is_some_and(|active| active.is(ended.round, ended.attempt)) {
                    self.leave(effects);
                }
            }
            Heard::JobEnded(_) => {
                self.job_ended = true;
                self.leave(effects);
                if !self.fetching {
                    self.maybe_evaluate(effects);
                }
                self.maybe_finished(effects);
            }
            Heard::Goodbye(goodbye) => {
                let why = match goodbye.code.as_str() {
                    "other-plan" | "other-roster" => other_documents(),
                    "protocol-version" => {
                        "the coordinator speaks another version; upgrade the older side".into()
                    }
                    _ => "the coordinator closed the session".into(),
                };
                effects.push(Effect::Stop(why));
            }
        }
    }
}

/// The greeting of a connection.
pub(crate) fn hello(roster: &VerifiedRoster, plan: &VerifiedPlan, applied_round: u32) -> wire::Hello {
    wire::Hello {
        protocol_version: PROTOCOL_VERSION,
        roster_digest: roster.digest().0.to_vec(),
        plan_digest: plan.digest().0.to_vec(),
        applied_round,
        software: env!("CARGO_PKG_VERSION").into(),
        newest: None,
        // The session has no clock; whoever sends it does.
        clock_ms: 0,
    }
}

fn other_documents() -> String {
    let why = "the coordinator runs another roster or plan than this client verified; compare fingerprints with the operator";
    Check("other-documents").words(why)
}
