//! An announcement's answer: every reason to decline it, in order, and joining.

use consilium_crypto::secagg::Step;
use consilium_proto::{
    announcement::Announcement,
    wire::{self, client_message::Kind as Say},
};
use rand::CryptoRng;

use super::{Effect, Event, Session, active::Active, check::Check, stop};

impl Session {
    /// Answers the announcement that waits, if there is one.
    pub(super) fn announced(&mut self, rng: &mut impl CryptoRng, effects: &mut Vec<Effect>) {
        let Some(signed) = self.pending.take() else { return };
        let announcement = match Announcement::verify(&signed, &self.roster, &self.plan) {
            Ok(announcement) => announcement,
            Err(refused) => return effects.push(stop(refused.check(), &refused)),
        };
        let (round, attempt) = (announcement.round, announcement.attempt);
        if let Some(active) = self.active.as_ref().filter(|active| active.is(round, attempt)) {
            // A reconnect. Every later step is delivered again, but nothing delivers the first: its word may be lost.
            return effects.extend(active.opening());
        }
        let decline = |code: &'static str, why: String| {
            let refusal = wire::Refusal { round, attempt, code: code.into(), complaint: Vec::new() };
            let why = Check(code).words(why);
            [Effect::Declined { round, attempt, code: code.into(), why }, Effect::Say(Say::Refusal(refusal))]
        };
        if let Some((code, why)) = &self.halted {
            return effects.extend(decline(code, why.clone()));
        }
        if (round, attempt) < self.recorded.fence {
            let (r, a) = self.recorded.fence;
            let why = format!("attempts only go forward, and round {r} attempt {a} was accepted already");
            return effects.extend(decline("old-attempt", why));
        }
        if (round, attempt) == self.recorded.fence {
            // Before the refusal: a round that is short of one vote must not fail while the vote stands in the journal.
            self.repeat(round, attempt, Step::Vote, effects);
            self.repeat(round, attempt, Step::Unmask, effects);
            let why = "this attempt was accepted before and its secrets are gone; it is sat out".into();
            return effects.extend(decline("restarted", why));
        }
        if self.recorded.answer.is_some() && self.recorded.fence.0 == round {
            let why = "this client has helped to open an attempt of this round already".into();
            return effects.extend(decline("answered-already", why));
        }
        if let Some((code, why)) = &self.barred {
            return effects.extend(decline(code, why.clone()));
        }
        let (adapter, optimizer) = (self.state.adapter_digest(), self.state.optimizer_digest());
        for (code, what, told, own) in [
            ("other-adapter", "adapter", announcement.adapter, adapter),
            ("other-optimizer", "optimizer state", announcement.optimizer, optimizer),
        ] {
            if told != own {
                let why = format!(
                    "round {round} was announced from {what} {told}, and this client computed {own} from the published sums"
                );
                return effects.extend(decline(code, why));
            }
        }
        let budget = self.budget.map(|budget| (budget.epsilon, budget.delta));
        let outlook = match self.ledger.admits(&self.plan, budget) {
            Ok(outlook) => outlook,
            Err(refusal) => return effects.extend(decline("budget", refusal.to_string())),
        };
        if let Some(budget) = self.budget_everybody_else
            && let Err(refusal) = self.ledger.admits_against_everybody_else(&self.plan, budget)
        {
            return effects.extend(decline("budget", refusal.to_string()));
        }
        if self.protocol.carries_ledgers() && !self.proof.is_proven() {
            // Joined as soon as enough peers have said what they hold of this client; never, if that is more than it knows.
            self.pending = Some(signed);
            return self.wait_for_witnesses(round, attempt, rng, effects);
        }
        self.leave(effects);
        effects.push(Effect::Outlook { round, attempt, last_round: outlook.last_round(round), outlook });
        self.join(signed, &announcement, rng, effects);
    }

    fn join(
        &mut self,
        signed: wire::SignedAnnouncement,
        announcement: &Announcement,
        rng: &mut impl CryptoRng,
        effects: &mut Vec<Effect>,
    ) {
        let (round, attempt) = (announcement.round, announcement.attempt);
        let (ledger, protocol) = (self.ledger.head(), &*self.protocol);
        match Active::join(announcement, &self.roster, &self.plan, &self.identity, ledger, protocol, rng) {
            Err(why) => effects.push(Effect::Stop(why)),
            Ok(active) => {
                effects.push(Effect::KeepAnnouncement(signed.clone()));
                self.newest = Some(signed);
                self.record(Event::Joined { round, attempt }, effects);
                effects.extend(active.opening());
                effects.push(Effect::Train { round, attempt, adapter: self.state.clone() });
                self.active = Some(active);
            }
        }
    }
}
