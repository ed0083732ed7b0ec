//! Going on from what clients hold: a coordinator whose state was restored from an old copy, or is new and empty.
//!
//! Nothing that a client says is believed. It shows what this coordinator signed itself: the newest announcement that it has
//! accepted, and releases, whose sums must lead from the adapter here to the one that the head names. First the releases come
//! back, one client asked at a time; then the job jumps behind the newest attempt that anybody has seen, and counts every attempt
//! that it does not know as debited: the members' own ledgers know better, and none of them counts more.
//!
//! Until that is done no attempt begins. What clients do not show is lost: an attempt that nobody saw cost nothing.

use std::collections::BTreeMap;

use consilium_crypto::secagg::Step;
use consilium_proto::{
    announcement::Announcement,
    ids::Id,
    release::VerifiedHead,
    wire::{self, SignedAnnouncement, SignedReleaseHead, audit_entry::What, coordinator_message::Kind},
};

use super::{Effect, Event, Job, Phase, Publication, Summary, code};

/// What members hold and this coordinator does not.
#[derive(Debug, Default)]
pub(crate) struct Behind {
    /// Members that have applied a round which has no release here, and that round.
    claims: BTreeMap<Id, u32>,
    /// Who was asked for its releases, and when it last moved.
    asked: Option<(Id, u64)>,
    /// The newest attempt that anybody has shown.
    seen: (u32, u32),
    /// How often a member's claim came to nothing since its last release.
    fruitless: BTreeMap<Id, u8>,
}

/// Claims of one member that may come to nothing; then it is not waited for any more by this process.
const FRUITLESS: u8 = 3;

impl Behind {
    /// Whoever is asked at present.
    pub(super) fn slowest(&self) -> Option<Id> {
        self.asked.as_ref().map(|(id, _)| id.clone())
    }
}

impl Job {
    /// The last attempt that this coordinator knows of: none of its number or below will be announced again.
    fn reached(&self) -> (u32, u32) {
        match &self.phase {
            Phase::Running(running) => (running.round, running.attempt),
            Phase::Waiting { round, attempt, .. } => (*round, attempt.saturating_sub(1)),
            Phase::Finished => (self.plan.document().rounds, u32::MAX),
        }
    }

    /// Attempts between the last one known and this one, itself included, at most.
    fn unknown_until(&self, (round, attempt): (u32, u32)) -> u64 {
        let most = u64::from(self.plan.document().retries.max_attempts);
        let (last, known) = self.reached();
        if (round, attempt) <= (last, known) {
            return 0;
        }
        let (known, attempt) = (u64::from(known), u64::from(attempt));
        match u64::from(round.saturating_sub(last)) {
            0 => attempt.saturating_sub(known),
            rounds => most.saturating_sub(known) + (rounds - 1) * most + attempt,
        }
    }

    /// Looks at what a member's greeting shows.
    pub(super) fn greeted(
        &mut self,
        from: &Id,
        newest: Option<&SignedAnnouncement>,
        applied: u32,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(signed) = newest
            && let Ok(told) = Announcement::verify(signed, &self.roster, &self.plan)
        {
            self.behind.seen = self.behind.seen.max((told.round, told.attempt));
            if matches!(self.phase, Phase::Running(_)) && self.behind.seen > self.reached() {
                // Everybody has seen what runs here, and left it behind.
                self.fail(code::RESTORED, now_ms, effects);
            }
        }
        let believed = self.behind.fruitless.get(from).is_none_or(|times| *times < FRUITLESS);
        if applied > self.released_round && applied <= self.plan.document().rounds && believed {
            self.behind.claims.insert(from.clone(), applied);
            self.ask_for_releases(now_ms, effects);
        }
    }

    fn ask_for_releases(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        let released = self.released_round;
        self.behind.claims.retain(|_, applied| *applied > released);
        if self.behind.asked.as_ref().is_some_and(|(id, _)| self.behind.claims.contains_key(id)) {
            return;
        }
        let most = self.behind.claims.iter().max_by_key(|(_, applied)| **applied);
        self.behind.asked = most.map(|(id, _)| (id.clone(), now_ms));
        if let Some((id, _)) = &self.behind.asked {
            let message = Kind::ReleasesWanted(wire::ReleasesWanted { from_round: released + 1 });
            effects.push(Effect::Send { to: id.clone(), message });
        }
    }

    /// A member that has gone, or shown nothing, is not waited for.
    pub(super) fn claims_nothing(&mut self, from: &Id, now_ms: u64, effects: &mut Vec<Effect>) {
        if self.behind.claims.remove(from).is_some() {
            let times = self.behind.fruitless.entry(from.clone()).or_default();
            *times = times.saturating_add(1);
            self.ask_for_releases(now_ms, effects);
        }
    }

    /// When whoever was asked has had its time.
    pub(super) fn patience_ms(&self) -> Option<u64> {
        let (_, since_ms) = self.behind.asked.as_ref()?;
        Some(since_ms + u64::from(self.plan.document().deadlines.input_s) * 1000)
    }

    /// Whether releases are still to come, so that no attempt may begin.
    pub(super) fn is_behind(&self) -> bool {
        !self.behind.claims.is_empty()
    }

    /// Handles a release that a member was asked for.
    ///
    /// # Errors
    ///
    /// A word: `not-asked`, or the number of the check that it does not pass; the member is not asked again then.
    pub fn returned(
        &mut self,
        from: &Id,
        signed: SignedReleaseHead,
        sum: Vec<u8>,
        now_ms: u64,
    ) -> Result<Vec<Effect>, &'static str> {
        let asked = self.behind.asked.as_ref().is_some_and(|(id, _)| id == from);
        if !asked {
            return Err("not-asked");
        }
        let mut effects = Vec::new();
        let verified = VerifiedHead::verify(&signed, &self.roster, &self.plan);
        let taken = match verified {
            Ok(head) if head.round <= self.released_round => Ok(()),
            Ok(head) => self.take_back(head, signed, sum, now_ms, &mut effects),
            Err(refused) => Err(refused.check()),
        };
        match taken {
            Ok(()) => {
                self.behind.fruitless.remove(from);
                self.behind.asked = Some((from.clone(), now_ms));
                self.ask_for_releases(now_ms, &mut effects);
            }
            Err(check) => {
                effects.push(Effect::Refused { from: from.clone(), code: check });
                self.claims_nothing(from, now_ms, &mut effects);
            }
        }
        self.advance(now_ms, &mut effects);
        self.farewell(false, &mut effects);
        Ok(effects)
    }

    /// A member has given back what it had: what is still missing, others are asked for.
    pub fn gave_all(&mut self, from: &Id, now_ms: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.behind.asked.as_ref().is_some_and(|(id, _)| id == from) {
            self.claims_nothing(from, now_ms, &mut effects);
            self.advance(now_ms, &mut effects);
            self.farewell(false, &mut effects);
        }
        effects
    }

    fn take_back(
        &mut self,
        head: VerifiedHead,
        signed: SignedReleaseHead,
        sum: Vec<u8>,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) -> Result<(), &'static str> {
        let mut state = self.state.clone();
        let metrics = head.replay(&self.plan, &mut state, &sum).map_err(|refused| refused.check())?;
        // What runs here has been overtaken: it was announced from an adapter that is not the newest.
        self.fail(code::RESTORED, now_ms, effects);
        self.debited += self.unknown_until((head.round, head.attempt));
        self.state = state;
        let parsed = <wire::ReleaseHead as prost::Message>::decode(signed.head.as_slice());
        let logged = parsed.ok().map(|parsed| self.logged_release(&parsed, &signed.head, None, now_ms));
        let (round, attempt) = (head.round, head.attempt);
        let event = Event::Returned { survivors: head.survivors.to_vec(), debited: self.debited, logged };
        effects.push(Effect::Publish(Box::new(Publication { round, attempt, head: signed, sum, event })));
        self.note_returned(&head, (metrics.loss, metrics.accuracy), now_ms);
        for id in self.plan.cohort() {
            effects.push(Effect::Send { to: id.clone(), message: Kind::Released(wire::Released { round }) });
        }
        Ok(())
    }

    /// Moves on behind a release that came back, now or in a replay; `self.state` is the new one already.
    pub(super) fn note_returned(&mut self, head: &VerifiedHead, metrics: (f64, f64), now_ms: u64) {
        self.history.push(Summary {
            round: head.round,
            attempt: head.attempt,
            started_ms: now_ms,
            ended_ms: now_ms,
            outcome: "released".into(),
            survivors: head.survivors.to_vec(),
            train_loss: Some(metrics.0),
            train_accuracy: Some(metrics.1),
            adapter: Some(self.state.adapter_digest().0),
            debited: self.debited,
            ..Summary::default()
        });
        self.released_round = head.round;
        self.releases += 1;
        // Never back to an attempt that was jumped over.
        if self.reached().0 <= head.round {
            self.next_round(head.round, now_ms);
        }
    }

    /// What runs when it turns out that members are further has cost what it would have cost: whether they saw it end is not known.
    pub(super) fn count_overtaken(&mut self, code: &str) {
        if let Phase::Running(running) = &self.phase
            && code == code::RESTORED
            && (running.step() as u8) < Step::Input as u8
        {
            self.debited += 1;
        }
    }

    /// Jumps behind the newest attempt that a member has shown, before another one begins; whether there was one.
    pub(super) fn jump(&mut self, now_ms: u64, effects: &mut Vec<Effect>) -> bool {
        let (seen, kept) = (self.behind.seen, self.reached());
        if seen <= kept || self.is_finished() {
            return false;
        }
        self.debited += self.unknown_until(seen);
        let what = What::Resumed(wire::AuditedResumption {
            kept_round: kept.0,
            kept_attempt: kept.1,
            released_round: self.released_round,
            seen_round: seen.0,
            seen_attempt: seen.1,
        });
        let logged = Some(self.signed_entry(seen.0, seen.1, what, now_ms));
        let event = Event::Seen { debited: self.debited, logged };
        effects.push(Effect::Record { round: seen.0, attempt: seen.1, event });
        self.after_failure(seen.0, seen.1, now_ms);
        true
    }
}
