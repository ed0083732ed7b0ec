//! What is said to members and what they say, except for uploads.

use consilium_crypto::secagg::{Position, Step};
use consilium_proto::{
    ids::Id,
    wire::{self, coordinator_message::Kind},
};

use super::{Refused, Running};
use crate::round::{Effect, Event};

impl Running {
    /// What a member that just came (back) needs to take part: the invitation, and the current step if it has not
    /// answered it yet.
    pub(crate) fn greet(&self, id: &Id, effects: &mut Vec<Effect>) {
        let Some(position) = self.position(id) else { return };
        let message = Kind::Announcement(self.announcement.clone());
        effects.push(Effect::Send { to: id.clone(), message });
        if self.aggregating {
            return;
        }
        if self.collector.received().contains(&position) {
            effects.push(self.receipt(id, self.step()));
        } else if self.step() == Step::Input && self.collector.chunk_digest(position, 0).is_some() {
            let (round, attempt) = (self.round, self.attempt);
            effects.push(Effect::AskUpload { from: id.clone(), round, attempt });
        } else {
            self.deliver(position, effects);
        }
    }

    pub(super) fn deliver(&self, position: Position, effects: &mut Vec<Effect>) {
        let (Some(body), Some(id)) = (self.collector.delivery(position), self.id(position)) else { return };
        let (round, attempt, step) = (self.round, self.attempt, self.step() as u32);
        let message = Kind::Protocol(wire::ProtocolMessage { round, attempt, step, body });
        effects.push(Effect::Send { to: id.clone(), message });
    }

    pub(super) fn receipt(&self, to: &Id, step: Step) -> Effect {
        let (round, attempt, step) = (self.round, self.attempt, step as u32);
        Effect::Send { to: to.clone(), message: Kind::Receipt(wire::Receipt { round, attempt, step }) }
    }

    pub(super) fn record(&self, event: Event) -> Effect {
        Effect::Record { round: self.round, attempt: self.attempt, event }
    }

    /// A member's message. What the collector refuses is counted against its sender there, and dropped here; what proves a
    /// fault is recorded.
    ///
    /// # Errors
    ///
    /// Why it was dropped.
    pub(crate) fn protocol(
        &mut self,
        from: &Id,
        message: wire::ProtocolMessage,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refused> {
        if !self.is(message.round, message.attempt) {
            return Err(Refused::late("other-attempt"));
        }
        if self.aggregating || message.step != self.step() as u32 {
            return Err(Refused::late("other-step"));
        }
        let (step, body) = (self.step(), message.body);
        let position = self.position(from).ok_or(Refused::late("not-in-cohort"))?;
        let known = self.holds(position);
        if let Err(refused) = self.collector.accept(position, step, &body) {
            self.blame(effects);
            return Err(Refused { code: refused.check, misbehaviour: refused.misbehaved });
        }
        // What is accepted again is the same, byte for byte: its sender lost the receipt.
        if !known {
            effects.push(self.record(Event::Accepted { from: from.clone(), step: step as u32, body }));
        }
        if step == Step::Input && !self.collector.received().contains(&position) {
            let (round, attempt) = (self.round, self.attempt);
            effects.push(Effect::AskUpload { from: from.clone(), round, attempt });
        } else {
            effects.push(self.receipt(from, step));
        }
        Ok(())
    }
}
