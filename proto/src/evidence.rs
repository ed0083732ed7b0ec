//! Evidence that a member broke the protocol, as a file that anybody can check with the roster and the plan alone.
//!
//! The file says whom it convicts, for people; what counts is what follows from its bytes. The coordinator that exports it
//! can add nothing: every kind of evidence rests on a signature of the accused, or on a secret that only the accused has.

use consilium_crypto::secagg::evidence::{MAX_EVIDENCE_BYTES, NotEvidence, Offence, verify};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    announcement::{Announcement, AnnouncementError},
    ids::Id,
    plan::VerifiedPlan,
    roster::VerifiedRoster,
    text,
    wire::{self, SignedAnnouncement},
};

/// Longest evidence file that is read, bytes.
pub const MAX_FILE_BYTES: usize = 4 * MAX_EVIDENCE_BYTES;

/// Evidence about one member in one attempt. Parsed, not verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Version of this format: 1.
    pub version: u32,
    /// Round.
    pub round: u32,
    /// Attempt.
    pub attempt: u32,
    /// Whom it is said to convict.
    pub culprit: Id,
    /// Which check of the manual's table it is said to have broken.
    pub check: String,
    /// The attempt's announcement, as it was signed.
    #[serde(with = "text::bytes")]
    pub announcement: Vec<u8>,
    /// The coordinator's signature on it.
    #[serde(with = "text::bytes")]
    pub signature: Vec<u8>,
    /// What [`verify`] takes.
    #[serde(with = "text::bytes")]
    pub evidence: Vec<u8>,
}

/// Who is convicted of what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Round.
    pub round: u32,
    /// Attempt.
    pub attempt: u32,
    /// The organization.
    pub culprit: Id,
    /// What it did.
    pub offence: Offence,
}

/// Why evidence convicts nobody.
#[derive(Debug, Error)]
pub enum EvidenceError {
    /// Not TOML of this shape.
    #[error("the evidence does not parse: {0}")]
    Parse(#[from] toml::de::Error),
    /// Longer than [`MAX_FILE_BYTES`].
    #[error("the evidence has {0} bytes; at most {MAX_FILE_BYTES} are read")]
    TooLarge(usize),
    /// Another format.
    #[error("the evidence is of version {0}, and this software reads version 1; upgrade it")]
    Version(u32),
    /// There is no such attempt.
    #[error("the evidence is not about an attempt of this roster and plan: {0}")]
    Announcement(#[from] AnnouncementError),
    /// Nobody is convicted.
    #[error("{0}")]
    Nobody(NotEvidence),
    /// The key that signed may have been in other hands.
    #[error(
        "{0} has revoked the key that the evidence convicts; it may have been stolen, and nobody is convicted"
    )]
    Revoked(Id),
    /// What follows from the bytes is not what the file says.
    #[error(
        "the evidence says {field} {said}, and what follows from it is {found}; somebody altered the file"
    )]
    Altered {
        /// "culprit", "check", "round" or "attempt".
        field: &'static str,
        /// In the file.
        said: String,
        /// From the bytes.
        found: String,
    },
}

impl Evidence {
    /// Reads an evidence file.
    ///
    /// # Errors
    ///
    /// [`EvidenceError::Parse`], [`EvidenceError::TooLarge`], [`EvidenceError::Version`].
    pub fn parse(text: &str) -> Result<Self, EvidenceError> {
        if text.len() > MAX_FILE_BYTES {
            return Err(EvidenceError::TooLarge(text.len()));
        }
        let evidence: Self = toml::from_str(text)?;
        if evidence.version != 1 {
            return Err(EvidenceError::Version(evidence.version));
        }
        Ok(evidence)
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        // Unwrap safety: numbers and strings serialize to TOML.
        toml::to_string(self).unwrap_or_default()
    }

    /// A name for its file: `round-3-attempt-1-site-2-c3.toml`.
    pub fn file_name(&self) -> String {
        let check: String = self.check.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
        let Self { round, attempt, culprit, .. } = self;
        format!("round-{round}-attempt-{attempt}-{culprit}-{}.toml", check.to_lowercase())
    }

    /// Verifies it. Believes neither the file nor whoever exported it.
    ///
    /// # Errors
    ///
    /// [`EvidenceError`]: then nobody is convicted.
    pub fn verify(&self, roster: &VerifiedRoster, plan: &VerifiedPlan) -> Result<Verdict, EvidenceError> {
        let signed =
            SignedAnnouncement { announcement: self.announcement.clone(), signature: self.signature.clone() };
        let announcement = Announcement::verify(&signed, roster, plan)?;
        // A later revocation must not undo what others signed beside the revoked member.
        let facts = announcement.facts_as_announced(roster, plan)?;
        let conviction = verify(&facts, &self.evidence).map_err(EvidenceError::Nobody)?;
        let culprit = announcement.cohort.get(conviction.culprit.index()).ok_or(AnnouncementError::Cohort)?;
        if roster.organization(culprit).is_some_and(|party| roster.is_revoked(party)) {
            return Err(EvidenceError::Revoked(culprit.clone()));
        }
        let (round, attempt, offence) = (announcement.round, announcement.attempt, conviction.offence);
        for (field, said, found) in [
            ("round", self.round.to_string(), round.to_string()),
            ("attempt", self.attempt.to_string(), attempt.to_string()),
            ("culprit", self.culprit.to_string(), culprit.to_string()),
            ("check", self.check.clone(), offence.check().to_owned()),
        ] {
            if said != found {
                return Err(EvidenceError::Altered { field, said, found });
            }
        }
        Ok(Verdict { round, attempt, culprit: culprit.clone(), offence })
    }

    /// The wire's form.
    pub fn to_wire(&self) -> wire::Evidence {
        wire::Evidence {
            round: self.round,
            attempt: self.attempt,
            culprit: self.culprit.to_string(),
            check: self.check.clone(),
            announcement: self.announcement.clone(),
            signature: self.signature.clone(),
            evidence: self.evidence.clone(),
        }
    }

    /// From the wire; `None` when the culprit's id is none.
    pub fn from_wire(told: wire::Evidence) -> Option<Self> {
        Some(Self {
            version: 1,
            round: told.round,
            attempt: told.attempt,
            culprit: told.culprit.parse().ok()?,
            check: told.check.chars().filter(char::is_ascii_alphanumeric).take(8).collect(),
            announcement: told.announcement,
            signature: told.signature,
            evidence: told.evidence,
        })
    }
}
