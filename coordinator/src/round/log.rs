//! The signed log: what every attempt leaves behind for people who were not in the room.
//!
//! An entry is made in the moment in which its attempt ends, stands in the same recorded event, and so is durable with it
//! or not at all: no release is without its entry, and no entry is written twice.

use consilium_crypto::digest::Digest;
use consilium_proto::{
    ids::Id,
    log::{LogHead, NewEntry},
    wire::{self, SignedAuditEntry, audit_entry::What},
};

use super::{Effect, Event, Job, Phase};

/// As it stands in every entry.
pub(super) const SOFTWARE: &str = concat!("consilium-coordinator ", env!("CARGO_PKG_VERSION"));

impl Job {
    /// Where the signed log stands.
    pub fn log_head(&self) -> LogHead {
        self.log
    }

    /// Records something that belongs to no attempt's end: an operator's act.
    pub fn log_entry(&mut self, what: What, now_ms: u64) -> Effect {
        let (round, attempt) = match &self.phase {
            Phase::Running(running) => (running.round, running.attempt),
            Phase::Waiting { round, attempt, .. } => (*round, *attempt),
            Phase::Finished => (self.plan.document().rounds, 0),
        };
        let event = Event::Logged(self.signed_entry(round, attempt, what, now_ms));
        Effect::Record { round, attempt, event }
    }

    pub(super) fn signed_entry(
        &mut self,
        round: u32,
        attempt: u32,
        what: What,
        at_ms: u64,
    ) -> SignedAuditEntry {
        let (debited, spent) = (self.debited, self.cost(self.debited));
        let entry = NewEntry { at_ms, round, attempt, debited, spent, what };
        self.log.append(entry, SOFTWARE, &self.roster, &self.plan, self.identity.signing_key())
    }

    /// The entry of a release. `announcement` is none where the release came back from a client.
    pub(super) fn logged_release(
        &mut self,
        head: &wire::ReleaseHead,
        encoded: &[u8],
        announcement: Option<wire::SignedAnnouncement>,
        now_ms: u64,
    ) -> SignedAuditEntry {
        let version = |id: &String| {
            let software = self.members.iter().find(|(member, _)| member.as_str() == id)?.1.software.as_str();
            (!software.is_empty()).then(|| format!("{id} {software}"))
        };
        let versions = head.survivors.iter().filter_map(version).collect();
        let what = What::Released(wire::AuditedRelease {
            announcement,
            head_digest: Digest::of(encoded).0.to_vec(),
            evidence_digest: Digest::of(&head.evidence).0.to_vec(),
            sum_digest: head.sum_digest.clone(),
            adapter_before: head.adapter_before.clone(),
            adapter_after: head.adapter_after.clone(),
            optimizer_after: head.optimizer_after.clone(),
            versions,
        });
        self.signed_entry(head.round, head.attempt, what, now_ms)
    }

    /// The entry of an attempt that failed.
    pub(super) fn logged_failure(
        &mut self,
        (round, attempt): (u32, u32),
        code: &str,
        culprits: &[Id],
        announcement: Option<wire::SignedAnnouncement>,
        now_ms: u64,
    ) -> SignedAuditEntry {
        let culprits = culprits.iter().map(Id::to_string).collect();
        let what = What::Failed(wire::AuditedFailure { announcement, code: code.into(), culprits });
        self.signed_entry(round, attempt, what, now_ms)
    }

    /// Goes on behind a recorded entry; the store's own word is not taken for it.
    pub(super) fn relogged(&mut self, signed: Option<&SignedAuditEntry>) -> Result<(), String> {
        let Some(signed) = signed else { return Ok(()) };
        let followed = self.log.follow(signed, &self.roster, &self.plan);
        followed.map(drop).map_err(|error| error.to_string())
    }
}
