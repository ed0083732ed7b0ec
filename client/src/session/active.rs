//! One attempt that this client takes part in.

use std::{collections::BTreeMap, sync::Arc};

use consilium_crypto::{
    digest::Digest,
    protocol::{Declined, Joined, Participating, Protocol},
    ring::RingVector,
    secagg::{LedgerHead, Position, Step, client::Reply},
};
use consilium_proto::{
    announcement::Announcement,
    identity::Identity,
    plan::VerifiedPlan,
    roster::VerifiedRoster,
    wire::{self, client_message::Kind as Say},
};
use rand::CryptoRng;

use super::{Effect, Event, Session, check::Check};
use crate::ledger::Debit;

/// The protocol's client, and what was said so far: what is said again is byte-identical.
pub(super) struct Active {
    pub(super) round: u32,
    attempt: u32,
    announcement: Announcement,
    context: Digest,
    /// The step of the word that no delivery asks for, if the protocol begins with one.
    opening: Option<Step>,
    participant: Box<dyn Participating>,
    said: BTreeMap<u32, Vec<u8>>,
    /// The trained update, until the shares are there to mask it with.
    update: Option<RingVector>,
    chunks: Option<Arc<Vec<Vec<u8>>>>,
}

impl Active {
    pub(super) fn join(
        announcement: &Announcement,
        roster: &VerifiedRoster,
        plan: &VerifiedPlan,
        identity: &Identity,
        ledger: LedgerHead,
        protocol: &dyn Protocol,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, String> {
        let facts = announcement.facts(roster, plan).map_err(|e| e.to_string())?;
        let index = announcement
            .cohort
            .binary_search(&identity.id)
            .map_err(|_| "this organization is not invited")?;
        let me = Position(u16::try_from(index).map_err(|e| e.to_string())?);
        let context = *facts.ctx();
        let joined = protocol.join(Arc::new(facts), me, identity.signing_key(), ledger, rng);
        let Joined { participant, word } = joined.map_err(|e| e.to_string())?;
        let opening = word.as_ref().map(|(step, _)| *step);
        let said = word.into_iter().map(|(step, body)| (step as u32, body)).collect();
        let (round, attempt) = (announcement.round, announcement.attempt);
        let (announcement, update, chunks) = (announcement.clone(), None, None);
        Ok(Self { round, attempt, announcement, context, opening, participant, said, update, chunks })
    }

    pub(super) fn is(&self, round: u32, attempt: u32) -> bool {
        self.round == round && self.attempt == attempt
    }

    pub(super) fn attempt(&self) -> u32 {
        self.attempt
    }

    pub(super) fn chunks(&self) -> Option<Arc<Vec<Vec<u8>>>> {
        self.chunks.clone()
    }

    /// The first word, if the protocol begins with one.
    pub(super) fn opening(&self) -> Option<Effect> {
        self.again(self.opening?)
    }

    /// What was said in a step, byte for byte.
    pub(super) fn again(&self, step: Step) -> Option<Effect> {
        let step = step as u32;
        self.said.get(&step).map(|said| Effect::Say(self.message(step, said.clone())))
    }

    pub(super) fn message(&self, step: u32, body: Vec<u8>) -> Say {
        Say::Protocol(wire::ProtocolMessage { round: self.round, attempt: self.attempt, step, body })
    }
}

impl Session {
    /// The message that opens a step.
    pub(super) fn delivered(
        &mut self,
        message: wire::ProtocolMessage,
        rng: &mut impl CryptoRng,
        effects: &mut Vec<Effect>,
    ) {
        let (round, attempt) = (message.round, message.attempt);
        let Some(step) = u8::try_from(message.step).ok().and_then(Step::from_number) else { return };
        if self.halted.is_some() {
            return;
        }
        let Some(active) = self.active.as_mut().filter(|active| active.is(round, attempt)) else {
            return self.repeat(round, attempt, step, effects);
        };
        if let Some(again) = active.again(step) {
            return effects.push(again);
        }
        match active.participant.deliver(step, &message.body, self.identity.signing_key(), rng) {
            Ok(Reply::Send(body)) => {
                active.said.insert(step as u32, body.clone());
                let say = active.message(step as u32, body.clone());
                let body = hex::encode(body);
                let what = match step {
                    Step::Vote => {
                        self.record(Event::Voted { round, attempt, body }, effects);
                        "voted"
                    }
                    Step::Unmask => {
                        self.record(Event::Answered { round, attempt, body }, effects);
                        "answered"
                    }
                    _ => {
                        // Before the deal: who reaches step 3 is held by all who dealt.
                        let (plan, own) = (&self.plan, &self.identity.id);
                        self.held.keep(&active.announcement, plan, &active.context, own, &message.body);
                        effects.push(Effect::KeepPeers(self.held.to_bytes(&plan.digest())));
                        "shared"
                    }
                };
                effects.push(Effect::Say(say));
                effects.push(Effect::Reached { round, attempt, what });
                if step == Step::Unmask {
                    // Whether or not this client's vector is in the sum: no other will be.
                    effects.push(Effect::StopTraining);
                }
            }
            Ok(Reply::UpdateWanted) => self.mask(effects),
            // Said again after a reconnect; what was said before is what holds.
            Err(Declined::OutOfTurn) => {}
            Err(refused) => self.refuse(round, attempt, refused, effects),
        }
    }

    /// After a restart: the recorded vote or answer of the last attempt may be said again, nothing else.
    pub(super) fn repeat(&self, round: u32, attempt: u32, step: Step, effects: &mut Vec<Effect>) {
        if (round, attempt) != self.recorded.fence {
            return;
        }
        let recorded = match step {
            Step::Vote => &self.recorded.vote,
            Step::Unmask => &self.recorded.answer,
            _ => &None,
        };
        if let Some(body) = recorded.clone() {
            let step = step as u32;
            effects.push(Effect::Say(Say::Protocol(wire::ProtocolMessage { round, attempt, step, body })));
        }
    }

    pub(super) fn trained(
        &mut self,
        round: u32,
        attempt: u32,
        update: Result<RingVector, &'static str>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(active) = self.active.as_mut().filter(|active| active.is(round, attempt)) else { return };
        match update {
            Ok(update) => {
                active.update = Some(update);
                self.mask(effects);
            }
            Err(code) => {
                self.decline(round, attempt, code.into(), "training failed; see above".into(), effects)
            }
        }
    }

    /// Once both the shares and the update are there: debit, fix the vector, say its header.
    fn mask(&mut self, effects: &mut Vec<Effect>) {
        let Some(active) = self.active.as_mut() else { return };
        let (round, attempt) = (active.round, active.attempt);
        if !active.participant.wants_update() {
            return;
        }
        let Some(update) = active.update.take() else { return };
        let debit = Debit::of(&self.plan, round, attempt);
        if let Err(refusal) = self.ledger.debit(debit.clone()) {
            return self.decline(round, attempt, "budget".into(), refusal.to_string(), effects);
        }
        effects.push(Effect::Debit(Box::new(debit)));
        match active.participant.mask(update, self.identity.signing_key(), &self.threads) {
            Err(refused) => self.refuse(round, attempt, refused, effects),
            Ok(masked) => {
                let step = Step::Input as u32;
                let digest = Digest::of(&masked.header).to_string();
                active.said.insert(step, masked.header.clone());
                active.chunks = Some(Arc::new(masked.chunks));
                let say = active.message(step, masked.header);
                self.record(Event::Header { round, attempt, digest }, effects);
                effects.push(Effect::Say(say));
                effects.push(Effect::Reached { round, attempt, what: "masked" });
            }
        }
    }

    /// A check of the protocol failed: its number in the manual's table is what the coordinator is told, and the complaint that
    /// convicts a dealer, if there is one.
    fn refuse(&mut self, round: u32, attempt: u32, refused: Declined, effects: &mut Vec<Effect>) {
        let Declined::Refused { check, why, complaint } = refused else { return };
        let code = format!("check-{}", check.to_lowercase());
        effects.push(Effect::Declined { round, attempt, code: code.clone(), why });
        effects.push(Effect::Say(Say::Refusal(wire::Refusal { round, attempt, code, complaint })));
        self.leave(effects);
    }

    pub(super) fn decline(
        &mut self,
        round: u32,
        attempt: u32,
        code: String,
        why: String,
        effects: &mut Vec<Effect>,
    ) {
        let why = Check(&code).words(why);
        effects.push(Effect::Declined { round, attempt, code: code.clone(), why });
        let complaint = Vec::new();
        effects.push(Effect::Say(Say::Refusal(wire::Refusal { round, attempt, code, complaint })));
        self.leave(effects);
    }
}
