//! One attempt: carries messages to the protocol's collector, whichever [`Protocol`] it is, and decides when a step has waited long enough.

use std::{collections::BTreeMap, sync::Arc};

use consilium_crypto::{
    protocol::{Collecting, Protocol},
    release::AdapterState,
    secagg::{Params, Position, Step},
};
use consilium_proto::{
    announcement::Announcement,
    evidence::Evidence,
    identity::Identity,
    ids::Id,
    plan::{Plan, VerifiedPlan},
    roster::VerifiedRoster,
    wire::{self, coordinator_message::Kind},
};

use super::{
    Aggregation, ChunkRefused, Effect, Event, HashedPart, code,
    history::{Absent, Summary},
    members::Members,
};

/// An attempt between its announcement and its end.
pub(crate) struct Running {
    pub(crate) round: u32,
    pub(crate) attempt: u32,
    announcement: wire::SignedAnnouncement,
    ids: Arc<[Id]>,
    collector: Box<dyn Collecting>,
    /// Next chunk wanted from each member whose header was accepted.
    next_chunk: BTreeMap<Position, u32>,
    uploaded: u64,
    started_ms: u64,
    /// When the coordinator's process last came back; 0 if it never did.
    resumed_ms: u64,
    step_ends_ms: Vec<u64>,
    debit_pending: bool,
    /// Masked inputs were asked for: it costs ε.
    debited: bool,
    aggregating: bool,
    /// Who had not answered a step when it closed; not of the last, which a quorum ends.
    absent: Vec<Absent>,
    /// Whom recorded evidence convicts, and of which check.
    blamed: Vec<(Id, String)>,
}

/// Why a member's message was dropped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused {
    /// A word, or the number of the check.
    pub(crate) code: &'static str,
    /// Whether its sender is to blame; who is only late is not.
    pub(crate) misbehaviour: bool,
}

impl Refused {
    fn late(code: &'static str) -> Self {
        Self { code, misbehaviour: false }
    }
}

/// What came of looking at the step.
pub(crate) enum Settled {
    /// Nothing: the round waits.
    Wait,
    /// A step ended.
    Moved,
    /// The attempt ended.
    Failed { code: &'static str },
}

impl Running {
    /// The signed invitation to an attempt.
    pub(crate) fn announce(
        identity: &Identity,
        roster: &VerifiedRoster,
        plan: &VerifiedPlan,
        state: &AdapterState,
        round: u32,
        attempt: u32,
    ) -> wire::SignedAnnouncement {
        let announcement = Announcement {
            round,
            attempt,
            cohort: plan.whole_cohort(),
            adapter: state.adapter_digest(),
            optimizer: state.optimizer_digest(),
        };
        announcement.sign(roster, plan, identity.signing_key())
    }

    /// The attempt that a signed announcement opens.
    ///
    /// # Errors
    ///
    /// In words, when it does not follow from roster and plan.
    pub(crate) fn open(
        signed: &wire::SignedAnnouncement,
        roster: &VerifiedRoster,
        plan: &VerifiedPlan,
        protocol: &dyn Protocol,
        now_ms: u64,
    ) -> Result<Self, String> {
        let announcement = Announcement::verify(signed, roster, plan).map_err(|e| e.to_string())?;
        let attempt = announcement.facts(roster, plan).map_err(|e| e.to_string())?;
        let collector = protocol.collect(Arc::new(attempt));
        // A protocol that begins with the masked inputs costs from its beginning.
        let debit_pending = collector.step() == Step::Input;
        Ok(Self {
            round: announcement.round,
            attempt: announcement.attempt,
            announcement: signed.clone(),
            ids: announcement.cohort,
            collector,
            next_chunk: BTreeMap::new(),
            uploaded: 0,
            started_ms: now_ms,
            resumed_ms: 0,
            step_ends_ms: Vec::new(),
            debit_pending,
            debited: debit_pending,
            aggregating: false,
            absent: Vec::new(),
            blamed: Vec::new(),
        })
    }

    pub(crate) fn is(&self, round: u32, attempt: u32) -> bool {
        self.round == round && self.attempt == attempt
    }

    pub(crate) fn announcement(&self) -> &wire::SignedAnnouncement {
        &self.announcement
    }

    pub(crate) fn step(&self) -> Step {
        self.collector.step()
    }

    pub(crate) fn is_releasing(&self) -> bool {
        self.aggregating
    }

    pub(crate) fn step_started_ms(&self) -> u64 {
        self.step_ends_ms.last().copied().unwrap_or(self.started_ms).max(self.resumed_ms)
    }

    /// The coordinator is back: nobody could answer while it was away, so the step has its whole time again.
    pub(crate) fn resume(&mut self, now_ms: u64) {
        self.resumed_ms = now_ms;
    }

    pub(crate) fn deadline_ms(&self, plan: &Plan) -> u64 {
        let deadlines = &plan.deadlines;
        let seconds = match self.step() {
            Step::Advertise => deadlines.advertise_s,
            Step::Share => deadlines.share_s,
            Step::Input => deadlines.input_s,
            Step::Vote => deadlines.vote_s,
            Step::Unmask => deadlines.unmask_s,
        };
        self.step_started_ms() + u64::from(seconds) * 1000
    }

    fn position(&self, id: &Id) -> Option<Position> {
        let index = self.ids.binary_search(id).ok()?;
        u16::try_from(index).ok().map(Position)
    }

    /// The member's message of this step is accepted; in the input step, its header.
    fn holds(&self, position: Position) -> bool {
        let header = self.step() == Step::Input && self.collector.chunk_digest(position, 0).is_some();
        header || self.collector.received().contains(&position)
    }

    fn id(&self, position: Position) -> Option<&Id> {
        self.ids.get(position.index())
    }

    pub(crate) fn has_answered(&self, id: &Id) -> bool {
        self.position(id).is_some_and(|position| self.collector.received().contains(&position))
    }

    /// It may still speak in this step.
    pub(crate) fn is_missing(&self, id: &Id) -> bool {
        self.position(id).is_some_and(|position| {
            self.collector.expected().contains(&position) && !self.collector.received().contains(&position)
        })
    }

    /// How many may still speak in this step.
    fn unheard(&self) -> usize {
        self.collector.expected().len().saturating_sub(self.collector.received().len())
    }

    /// Who may still speak in this step.
    pub(crate) fn missing(&self) -> impl Iterator<Item = &Id> {
        let missing = self.collector.expected().difference(self.collector.received());
        missing.filter_map(|&position| self.id(position))
    }

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

    fn deliver(&self, position: Position, effects: &mut Vec<Effect>) {
        let (Some(body), Some(id)) = (self.collector.delivery(position), self.id(position)) else { return };
        let (round, attempt, step) = (self.round, self.attempt, self.step() as u32);
        let message = Kind::Protocol(wire::ProtocolMessage { round, attempt, step, body });
        effects.push(Effect::Send { to: id.clone(), message });
    }

    fn receipt(&self, to: &Id, step: Step) -> Effect {
        let (round, attempt, step) = (self.round, self.attempt, step as u32);
        Effect::Send { to: to.clone(), message: Kind::Receipt(wire::Receipt { round, attempt, step }) }
    }

    fn record(&self, event: Event) -> Effect {
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

    /// A member says that a box dealt to it is bad; the collector judges.
    pub(crate) fn complaint(&mut self, from: &Id, complaint: &[u8], effects: &mut Vec<Effect>) {
        if let Some(position) = self.position(from)
            && self.collector.complain(position, complaint)
        {
            self.blame(effects);
        }
    }

    /// Records what the collector can prove and what is not recorded yet.
    fn blame(&mut self, effects: &mut Vec<Effect>) {
        for proof in self.collector.proofs() {
            let check = proof.check.to_owned();
            let Some(culprit) = self.id(proof.culprit).cloned() else { continue };
            if !self.blamed.contains(&(culprit.clone(), check.clone())) {
                self.blamed.push((culprit.clone(), check.clone()));
                let evidence = proof.evidence.to_vec();
                effects.push(self.record(Event::Blamed { culprit, check, evidence }));
            }
        }
    }

    /// Evidence about this attempt, in the form in which it is handed on.
    pub(crate) fn exhibit(&self, culprit: &Id, check: &str, evidence: &[u8]) -> Evidence {
        Evidence {
            version: 1,
            round: self.round,
            attempt: self.attempt,
            culprit: culprit.clone(),
            check: check.to_owned(),
            announcement: self.announcement.announcement.clone(),
            signature: self.announcement.signature.clone(),
            evidence: evidence.to_vec(),
        }
    }

    /// The store's word on how many chunks of a masked input it holds: the upload goes on from there.
    pub(crate) fn held(&mut self, from: &Id, chunks: u32, effects: &mut Vec<Effect>) {
        let Some(position) = self.position(from) else { return };
        if self.collector.chunk_digest(position, 0).is_none() || self.collector.received().contains(&position)
        {
            return;
        }
        self.next_chunk.insert(position, chunks);
        if chunks >= self.params().chunk_count() {
            self.stored(from, position, effects);
        } else {
            let (round, attempt) = (self.round, self.attempt);
            let wanted = wire::UploadWanted { round, attempt, next_chunk: chunks };
            effects.push(Effect::Send { to: from.clone(), message: Kind::UploadWanted(wanted) });
        }
    }

    pub(crate) fn chunk(
        &mut self,
        from: &Id,
        HashedPart { part, digest }: HashedPart,
        effects: &mut Vec<Effect>,
    ) -> Result<(), ChunkRefused> {
        if !self.is(part.round, part.attempt) || self.step() != Step::Input {
            return Err(ChunkRefused("no-attempt"));
        }
        let position = self.position(from).ok_or(ChunkRefused("not-in-cohort"))?;
        let next = *self.next_chunk.get(&position).ok_or(ChunkRefused("header-first"))?;
        if part.index < next {
            return Ok(());
        }
        if part.index > next {
            return Err(ChunkRefused("out-of-order"));
        }
        let expected =
            self.collector.chunk_digest(position, part.index).ok_or(ChunkRefused("past-the-end"))?;
        if part.chunk.len() != self.params().chunk_len(part.index) {
            return Err(ChunkRefused("wrong-length"));
        }
        if digest != expected {
            return Err(ChunkRefused("not-as-announced"));
        }
        let (round, attempt) = (self.round, self.attempt);
        effects.push(Effect::PutChunk { round, attempt, from: from.clone(), index: next, bytes: part.chunk });
        self.next_chunk.insert(position, next + 1);
        if next + 1 == self.params().chunk_count() {
            self.stored(from, position, effects);
        }
        Ok(())
    }

    fn stored(&mut self, from: &Id, position: Position, effects: &mut Vec<Effect>) {
        let bytes = self.input_bytes();
        let (round, attempt) = (self.round, self.attempt);
        effects.push(Effect::SyncInput { round, attempt, from: from.clone() });
        effects.push(self.record(Event::Stored { from: from.clone(), bytes }));
        effects.push(self.receipt(from, Step::Input));
        self.collector.input_complete(position);
        self.uploaded += bytes;
    }

    fn input_bytes(&self) -> u64 {
        (0..self.params().chunk_count()).map(|index| self.params().chunk_len(index) as u64).sum()
    }

    fn params(&self) -> &Params {
        self.collector.attempt().params()
    }

    /// Bytes of masked inputs that were received whole.
    pub(crate) fn uploaded(&self) -> u64 {
        self.uploaded
    }

    /// Ends the step if everybody answered, or if enough did and nothing will come from the rest; fails the attempt if
    /// the minimum is out of reach.
    pub(crate) fn settle(
        &mut self,
        members: &Members,
        plan: &Plan,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) -> Settled {
        if self.aggregating {
            return Settled::Wait;
        }
        let failed = |code| Settled::Failed { code };
        let late = now_ms >= self.deadline_ms(plan);
        let (received, needed) = (self.collector.received().len(), self.collector.needed());
        if received < needed {
            // Whoever is away may come back with its secrets; whoever declined will not speak again.
            let declined = members.unwilling().filter(|id| self.is_missing(id)).count();
            let possible = self.unheard().saturating_sub(declined);
            let hopeless = received + possible < needed;
            return match (late, hopeless) {
                (_, true) => failed(code::TOO_MANY_REFUSALS),
                (true, false) => failed(code::TOO_FEW_ANSWERS),
                (false, false) => Settled::Wait,
            };
        }
        // A quorum of answers is all that unmasking takes: each was checked when it came.
        let answered = self.step() == Step::Unmask;
        let gone = |id: &Id| {
            let begun = self.position(id).is_some_and(|position| self.holds(position));
            if begun { members.is_gone_uploading(id, now_ms) } else { members.is_gone(id, now_ms) }
        };
        // Counted first: to go through all who are missing at every message would cost the square of their number.
        let all_gone = || self.unheard() <= members.perhaps_gone() && self.missing().all(gone);
        let over = answered || late || all_gone();
        if over { self.close(now_ms, effects) } else { Settled::Wait }
    }

    fn close(&mut self, now_ms: u64, effects: &mut Vec<Effect>) -> Settled {
        let step = self.step();
        effects.push(self.record(Event::Closed { step: step as u32 }));
        if let Some(failed) = self.closed(step, now_ms) {
            self.blame(effects);
            return failed;
        }
        if self.aggregating {
            effects.extend(self.aggregation().map(Effect::Aggregate));
            return Settled::Wait;
        }
        let expected: Vec<_> = self.collector.expected().iter().copied().collect();
        for position in expected {
            self.deliver(position, effects);
        }
        Settled::Moved
    }

    /// Freezes the step's set, now or in a replay.
    fn closed(&mut self, step: Step, now_ms: u64) -> Option<Settled> {
        if step != Step::Unmask {
            let absent: Vec<_> = self.missing().map(|id| Absent::new(id.clone(), step)).collect();
            self.absent.extend(absent);
        }
        if self.collector.close().is_err() {
            return Some(Settled::Failed { code: code::MISBEHAVIOUR });
        }
        self.step_ends_ms.push(now_ms);
        self.debit_pending |= step != Step::Input && self.step() == Step::Input;
        self.debited |= self.debit_pending;
        self.aggregating = self.collector.sum().is_some();
        None
    }

    /// 1 once, when masked inputs were first asked for: from then on the attempt costs ε.
    pub(crate) fn newly_debited(&mut self) -> u64 {
        u64::from(std::mem::take(&mut self.debit_pending))
    }

    /// Whether it costs ε already.
    pub(crate) fn is_debited(&self) -> bool {
        self.debited
    }

    /// Members whose answer of this step is held, and how many it needs.
    pub(crate) fn answers(&self) -> (usize, usize) {
        (self.collector.received().len(), self.collector.needed())
    }

    /// The last step that a member answered.
    pub(crate) fn reached(&self, id: &Id) -> Option<Step> {
        let before = |step: Step| Step::from_number((step as u8).checked_sub(1)?);
        match self.absent.iter().find(|absent| absent.id == *id) {
            Some(absent) => before(absent.step),
            None if self.has_answered(id) => Some(self.step()),
            None => before(self.step()),
        }
    }

    /// The work that is left when all shares are in.
    pub(crate) fn aggregation(&self) -> Option<Aggregation> {
        let revealed = self.collector.sum()?;
        Some(Aggregation {
            round: self.round,
            attempt: self.attempt,
            revealed,
            chunks: self.params().chunk_count(),
            ids: self.ids.clone(),
        })
    }

    pub(crate) fn survivors(&self) -> Vec<Id> {
        self.collector.survivors().iter().filter_map(|&position| self.id(position).cloned()).collect()
    }

    /// Members whom recorded evidence convicts, once each, in the order in which it came.
    pub(crate) fn culprits(&self) -> Vec<Id> {
        let mut culprits: Vec<Id> = Vec::new();
        for (id, _) in &self.blamed {
            if !culprits.contains(id) {
                culprits.push(id.clone());
            }
        }
        culprits
    }

    pub(crate) fn evidence(&self) -> Vec<u8> {
        self.collector.sum().map(|sum| sum.public_record()).unwrap_or_default()
    }

    pub(crate) fn summary(&self) -> Summary {
        Summary {
            round: self.round,
            attempt: self.attempt,
            started_ms: self.started_ms,
            step_ends_ms: self.step_ends_ms.clone(),
            survivors: self.survivors(),
            culprits: self.culprits(),
            upload_bytes: self.uploaded,
            absent: self.absent.clone(),
            ..Summary::default()
        }
    }

    /// Applies a recorded event of this attempt; the collector accepts again what it accepted before.
    ///
    /// # Errors
    ///
    /// In words, when the record does not fit: the store was altered.
    pub(crate) fn replay(&mut self, event: &Event, at_ms: u64) -> Result<(), String> {
        match event {
            Event::Accepted { from, step, body } => {
                let position = self.position(from).ok_or("a message from outside the cohort")?;
                if *step != self.step() as u32 {
                    return Err(format!("a message of step {step} in step {}", self.step() as u32));
                }
                let step = self.step();
                self.collector.accept(position, step, body).map_err(|refused| format!("{refused:?}"))
            }
            Event::Stored { from, bytes } => {
                let position = self.position(from).ok_or("an input from outside the cohort")?;
                self.collector.input_complete(position);
                self.uploaded += bytes;
                Ok(())
            }
            Event::Blamed { culprit, check, .. } => {
                self.blamed.push((culprit.clone(), check.clone()));
                Ok(())
            }
            Event::Closed { step } if *step == self.step() as u32 => {
                // A failure here is recorded as the next event.
                self.closed(self.step(), at_ms);
                Ok(())
            }
            _ => Err(format!("event \"{}\" out of place", event.kind())),
        }
    }
}
