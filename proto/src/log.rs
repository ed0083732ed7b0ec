//! The signed log of a job: who may write it, how its entries follow each other, and what an auditor accepts.
//!
//! Each entry names the hash of the one before (its signature included) and is signed by the roster's coordinator, so
//! nobody can change, move or remove one without signing everything after it again. What members signed is not only the
//! coordinator's word: a release's entry names the digest of its evidence, and that holds signatures of a quorum.

use consilium_crypto::{
    digest::{Digest, Transcript},
    sign::{Signature, SigningKey, sign},
};
use prost::Message;
use thiserror::Error;

use crate::{
    ids::Id,
    plan::{Guarantees, VerifiedPlan},
    roster::VerifiedRoster,
    wire::{self, SignedAuditEntry, audit_entry::What as Wire},
};

const WHAT: &str = "log";

/// Most bytes of a signed entry: an announcement to a thousand members.
pub const MAX_ENTRY_BYTES: usize = 1 << 20;

/// Where a log stands: how many entries it has, and the hash of the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogHead {
    /// Entries so far.
    pub sequence: u64,
    /// Hash of the last; without one, of roster and plan.
    pub digest: Digest,
}

/// What a new entry says, but for its place and signature.
#[derive(Clone, Debug)]
pub struct NewEntry {
    /// When, Unix milliseconds.
    pub at_ms: u64,
    /// Round, or 0.
    pub round: u32,
    /// Attempt, or 0.
    pub attempt: u32,
    /// Attempts debited so far.
    pub debited: u64,
    /// What they cost, if that is known.
    pub spent: Option<Guarantees>,
    /// What happened.
    pub what: Wire,
}

/// An entry that follows from the ones before.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its place, from 1.
    pub sequence: u64,
    /// When it was written, by the coordinator's clock, Unix milliseconds.
    pub at_ms: u64,
    /// Round, or 0.
    pub round: u32,
    /// Attempt, or 0.
    pub attempt: u32,
    /// Attempts debited so far.
    pub debited: u64,
    /// ε against the coordinator, and against everybody else, if it was known.
    pub epsilon: Option<(f64, f64)>,
    /// What wrote it.
    pub software: String,
    /// What happened.
    pub what: What,
}

/// What an entry says, with its fields of the right shape.
#[derive(Clone, Debug)]
pub enum What {
    /// A sum was published.
    Released(Released),
    /// An attempt ended without one.
    Failed {
        /// Its invitation, if it came to one.
        announcement: Option<wire::SignedAnnouncement>,
        /// Why.
        code: String,
        /// Whom evidence convicts.
        culprits: Vec<Id>,
    },
    /// An operator acted.
    Act(wire::AuditedAct),
    /// A coordinator went on from what its clients held.
    Resumed(wire::AuditedResumption),
}

/// The digests of a release.
#[derive(Clone, Debug)]
pub struct Released {
    /// The attempt's invitation; none where the release came back from a client.
    pub announcement: Option<wire::SignedAnnouncement>,
    /// Of the encoded head.
    pub head: Digest,
    /// Of the head's evidence.
    pub evidence: Digest,
    /// Of the sum.
    pub sum: Digest,
    /// Of the adapter before.
    pub before: Digest,
    /// Of the adapter after.
    pub after: Digest,
    /// Of the optimizer's state after.
    pub optimizer_after: Digest,
    /// What each organization in the sum ran, as it said it: "id version".
    pub versions: Vec<String>,
}

/// Why an entry does not stand.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LogRefused {
    /// Its fields do not parse.
    #[error("entry {0} of the log is not well formed: {1}")]
    Malformed(u64, &'static str),
    /// Not signed by the roster's coordinator.
    #[error("entry {0} of the log is not signed by the roster's coordinator")]
    Signature(u64),
    /// Its place is another.
    #[error("entry {expected} of the log says that it is entry {got}: one was removed, moved or put in")]
    Place {
        /// The place it stands in.
        expected: u64,
        /// The place it names.
        got: u64,
    },
    /// It does not follow the entry before.
    #[error(
        "entry {0} of the log does not follow the one before it: one of the two was changed or exchanged"
    )]
    Broken(u64),
    /// It was written under another roster or plan.
    #[error("entry {sequence} of the log was written under another {what}")]
    Other {
        /// Which entry.
        sequence: u64,
        /// "roster" or "plan".
        what: &'static str,
    },
}

impl LogHead {
    /// The log of a job before its first entry: another job's entries do not follow it.
    pub fn empty(roster: &VerifiedRoster, plan: &VerifiedPlan) -> Self {
        let digest = Transcript::new("consilium/1/log").digest(&roster.digest()).digest(&plan.digest());
        Self { sequence: 0, digest: digest.finish() }
    }

    fn after(&self, signed: &SignedAuditEntry) -> Self {
        let digest = Transcript::new("consilium/1/log-entry").bytes(&signed.entry).bytes(&signed.signature);
        Self { sequence: self.sequence.saturating_add(1), digest: digest.finish() }
    }

    /// Writes and signs the next entry as the roster's coordinator; the log goes on behind it.
    pub fn append(
        &mut self,
        entry: NewEntry,
        software: &str,
        roster: &VerifiedRoster,
        plan: &VerifiedPlan,
        key: &SigningKey,
    ) -> SignedAuditEntry {
        let NewEntry { at_ms, round, attempt, debited, spent, what } = entry;
        let entry = wire::AuditEntry {
            sequence: self.sequence.saturating_add(1),
            before: self.digest.0.to_vec(),
            at_ms,
            roster_version: roster.version(),
            roster_digest: roster.digest().0.to_vec(),
            plan_digest: plan.digest().0.to_vec(),
            round,
            attempt,
            debited,
            epsilon: spent.map(|spent| spent.central),
            epsilon_local: spent.map(|spent| spent.local),
            software: software.to_owned(),
            what: Some(what),
        }
        .encode_to_vec();
        let sender = roster.coordinator().id.as_str();
        let signature = sign(key, WHAT, &plan.digest(), sender, &entry).0.to_vec();
        let signed = SignedAuditEntry { entry, signature };
        *self = self.after(&signed);
        signed
    }

    /// Takes the next entry if it follows, and goes on behind it. On an error the head is as it was.
    ///
    /// # Errors
    ///
    /// [`LogRefused`] names the entry.
    pub fn follow(
        &mut self,
        signed: &SignedAuditEntry,
        roster: &VerifiedRoster,
        plan: &VerifiedPlan,
    ) -> Result<Entry, LogRefused> {
        let sequence = self.sequence.saturating_add(1);
        let malformed = |why| LogRefused::Malformed(sequence, why);
        let signature =
            signed.signature.as_slice().try_into().map_err(|_| LogRefused::Signature(sequence))?;
        roster
            .coordinator_signed(WHAT, &plan.digest(), &signed.entry, &Signature(signature))
            .map_err(|_| LogRefused::Signature(sequence))?;
        let told = wire::AuditEntry::decode(signed.entry.as_slice())
            .map_err(|_| malformed("its fields do not parse"))?;
        if told.sequence != sequence {
            return Err(LogRefused::Place { expected: sequence, got: told.sequence });
        }
        if told.before != self.digest.0 {
            return Err(LogRefused::Broken(sequence));
        }
        if told.roster_digest != roster.digest().0 || told.roster_version != roster.version() {
            return Err(LogRefused::Other { sequence, what: "roster" });
        }
        if told.plan_digest != plan.digest().0 {
            return Err(LogRefused::Other { sequence, what: "plan" });
        }
        let what = told.what.ok_or(malformed("it is of a kind that this software does not know"))?;
        let what = what_of(what).map_err(malformed)?;
        let epsilon = told.epsilon.zip(told.epsilon_local);
        *self = self.after(signed);
        Ok(Entry {
            sequence,
            at_ms: told.at_ms,
            round: told.round,
            attempt: told.attempt,
            debited: told.debited,
            epsilon,
            software: told.software,
            what,
        })
    }
}

fn what_of(what: Wire) -> Result<What, &'static str> {
    let digest = |bytes: Vec<u8>| bytes.try_into().map(Digest).map_err(|_| "a digest is not 32 bytes");
    Ok(match what {
        Wire::Released(told) => What::Released(Released {
            announcement: told.announcement,
            head: digest(told.head_digest)?,
            evidence: digest(told.evidence_digest)?,
            sum: digest(told.sum_digest)?,
            before: digest(told.adapter_before)?,
            after: digest(told.adapter_after)?,
            optimizer_after: digest(told.optimizer_after)?,
            versions: told.versions,
        }),
        Wire::Failed(told) => What::Failed {
            announcement: told.announcement,
            code: told.code,
            culprits: told
                .culprits
                .iter()
                .map(|id| id.parse().map_err(|_| "a culprit's id"))
                .collect::<Result<_, _>>()?,
        },
        Wire::Act(act) => What::Act(act),
        Wire::Resumed(resumed) => What::Resumed(resumed),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{plan::Plan, signed::Kind, testing};

    fn world() -> (VerifiedRoster, VerifiedPlan) {
        let first = testing::version(&testing::roster(), &testing::ALL);
        let roster = crate::roster::Roster::verify(&first.text, &first.signatures, &testing::pin(&first));
        let roster = roster.unwrap();
        let text = testing::plan(roster.digest(), 5).to_text().unwrap();
        let plan = Plan::verify(&text, &testing::signed(Kind::Plan, &text, &testing::ALL), &roster);
        (roster, plan.unwrap())
    }

    fn failure(round: u32) -> NewEntry {
        let what = Wire::Failed(wire::AuditedFailure { code: "store".into(), ..Default::default() });
        NewEntry { at_ms: 7, round, attempt: 1, debited: round.into(), spent: None, what }
    }

    #[test]
    fn a_log_is_read_as_it_was_written_and_any_flipped_bit_ends_it_there() {
        let (roster, plan) = world();
        let mut head = LogHead::empty(&roster, &plan);
        let key = testing::key(99);
        let all: Vec<_> =
            (1..=3).map(|round| head.append(failure(round), "test", &roster, &plan, &key)).collect();
        let read = |all: &[SignedAuditEntry]| {
            let mut head = LogHead::empty(&roster, &plan);
            let entries: Result<Vec<_>, _> =
                all.iter().map(|signed| head.follow(signed, &roster, &plan)).collect();
            entries.map(|entries| (entries, head))
        };
        let (entries, end) = read(&all).unwrap();
        assert_eq!(end, head);
        assert_eq!(entries.iter().map(|entry| entry.round).collect::<Vec<_>>(), [1, 2, 3]);
        for at in 0..all[1].entry.len() * 8 {
            let mut bent = all.clone();
            bent[1].entry[at / 8] ^= 1 << (at % 8);
            assert_eq!(read(&bent).unwrap_err(), LogRefused::Signature(2), "bit {at}");
        }
        // Without a key, entries cannot be left out or exchanged either.
        let place = LogRefused::Place { expected: 2, got: 3 };
        assert_eq!(read(&[all[0].clone(), all[2].clone()]).unwrap_err(), place);
        let mut other = LogHead::empty(&roster, &plan);
        let again = other.append(failure(9), "test", &roster, &plan, &key);
        assert_eq!(read(&[again, all[1].clone()]).unwrap_err(), LogRefused::Broken(2));
        let stranger =
            LogHead::empty(&roster, &plan).append(failure(1), "", &roster, &plan, &testing::key(1));
        assert_eq!(read(&[stranger]).unwrap_err(), LogRefused::Signature(1));
    }
}
