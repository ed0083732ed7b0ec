//! One attempt: carries messages to the protocol's collector, whichever [`Protocol`] it is, and decides when a step has waited long enough.

mod blame;
mod messages;
mod settling;
mod upload;

use std::{collections::BTreeMap, sync::Arc};

use consilium_crypto::{
    protocol::{Collecting, Protocol},
    release::AdapterState,
    secagg::{Params, Position, Step},
};
use consilium_proto::{
    announcement::Announcement,
    identity::Identity,
    ids::Id,
    plan::{Plan, VerifiedPlan},
    roster::VerifiedRoster,
    wire,
};

pub(crate) use settling::Settled;

use super::{
    Aggregation, Event,
    history::{Absent, Summary},
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

    fn params(&self) -> &Params {
        self.collector.attempt().params()
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
