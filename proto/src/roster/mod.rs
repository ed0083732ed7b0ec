//! The roster: who belongs to the consortium, under which keys.
//!
//! Version 1 is signed by every organization it lists, and its fingerprint is compared out of band and pinned in each
//! configuration; version k+1 names version k's fingerprint and is signed by a quorum of version k's organizations. Whoever holds
//! the pin verifies the whole [chain], so the coordinator can invent no member and nobody's pin ever changes. An organization whose
//! key is stolen does not wait for a new version: it [revokes](revocation) the key alone.
//!
//! On disk the chain is `roster.toml`, `roster.2.toml`, `roster.3.toml` …, each with its `.sig` beside it, and
//! `roster.toml.revoked` with the revocations: see [`successor`] and [`revocation_file`].

pub mod chain;
mod error;
pub mod revocation;
mod verified;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use consilium_crypto::{digest::Digest, secagg::Params, sign::VerifyingKey};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

pub use error::RosterError;
pub use verified::{Caller, Unlisted, VerifiedRoster};

use crate::{
    ids::Id,
    signed::{MAX_DOCUMENT_BYTES, Signatures},
    text,
};

/// Most organizations of a consortium that is not simulated: what [message sizes](crate::MAX_MESSAGE_BYTES) and a coordinator's memory are
/// made for.
pub const DEPLOYED_COHORT: u16 = 1000;

/// The roster's text, parsed. Nothing about it is believed yet; [`Roster::verify`] makes it so.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roster {
    /// Version of this document, from 1.
    pub version: u32,
    /// Name of the consortium; the same in every version.
    pub consortium: Id,
    /// Fingerprint of the version before; absent in version 1.
    #[serde(default, with = "text::optional_digest", skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// Signatures that a plan or the next roster needs; `⌊2N/3⌋+1` unless the consortium chose more.
    pub quorum: usize,
    /// The coordinator's keys.
    pub coordinator: Party,
    /// Keys that the coordinator changes to without a new version, should the present ones be lost with its machine. They are
    /// kept elsewhere until then, and count from the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coordinator_next: Option<Party>,
    /// The member organizations.
    #[serde(rename = "organization")]
    pub organizations: Vec<Party>,
    /// People and services that may look at the job and act on it.
    #[serde(rename = "operator", default)]
    pub operators: Vec<Party>,
    /// People and services that may look, and nothing else.
    #[serde(rename = "viewer", default, skip_serializing_if = "Vec::is_empty")]
    pub viewers: Vec<Party>,
    /// Who may sign plans instead of a quorum of organizations; empty: the quorum signs.
    #[serde(rename = "plan_signer", default)]
    pub plan_signers: Vec<PlanSigner>,
    /// A simulation's roster: it may list [ten times](Params::MAX_COHORT) as many organizations, and [no program that is
    /// deployed](chain::verify) takes it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub simulated: bool,
}

/// One party and its keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Party {
    /// Its id.
    pub id: Id,
    /// Ed25519 key that signs protocol messages and documents.
    #[serde(with = "text::key")]
    pub signing_key: VerifyingKey,
    /// SHA-256 of the SubjectPublicKeyInfo of its TLS key.
    #[serde(with = "text::digest")]
    pub tls_key: Digest,
    /// Last day (UTC) on which its keys count.
    #[serde(with = "text::day")]
    pub valid_until: Date,
}

/// Someone who may sign plans.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanSigner {
    /// Id, distinct from every organization's.
    pub id: Id,
    /// Ed25519 key.
    #[serde(with = "text::key")]
    pub signing_key: VerifyingKey,
}

impl Roster {
    /// Parses the text.
    ///
    /// # Errors
    ///
    /// [`RosterError::Parse`] with line and column, [`RosterError::TooLarge`], or the [`RosterError::Rule`] broken.
    pub fn parse(text: &str) -> Result<Self, RosterError> {
        if text.len() > MAX_DOCUMENT_BYTES {
            return Err(RosterError::TooLarge(text.len()));
        }
        let roster: Self = toml::from_str(text)?;
        roster.check()?;
        Ok(roster)
    }

    fn check(&self) -> Result<(), RosterError> {
        let rule = |field, value: &dyn ToString, rule| {
            Err(RosterError::Rule { field, value: value.to_string(), rule })
        };
        if self.version == 0 {
            return rule("version", &self.version, "versions count from 1");
        }
        if self.previous.is_some() != (self.version > 1) {
            return rule(
                "previous",
                &self.previous.map_or_else(|| "absent".to_owned(), |previous| previous.to_string()),
                "version 1 has none, and every later version names the fingerprint of the one before",
            );
        }
        let n = self.organizations.len();
        if !(3..=usize::from(DEPLOYED_COHORT)).contains(&n) && !self.simulated {
            return rule("organization count", &n, "a consortium has 3 to 1000 organizations");
        }
        if !(3..=usize::from(Params::MAX_COHORT)).contains(&n) {
            return rule("organization count", &n, "a simulated consortium has 3 to 10000 organizations");
        }
        if self.quorum < 2 * n / 3 + 1 || self.quorum > n {
            return rule(
                "quorum",
                &self.quorum,
                "it must be at least two thirds of the organizations plus one, and at most all",
            );
        }
        let mut ids = BTreeSet::new();
        let mut keys = BTreeSet::new();
        let mut tls = BTreeSet::new();
        for party in self.parties() {
            if !ids.insert(&party.id) {
                return rule("id", &party.id, "it is listed twice; every party needs its own");
            }
            if !keys.insert(party.signing_key) {
                return rule(
                    "signing_key",
                    &party.id,
                    "another party lists the same key; every party needs its own",
                );
            }
            if !tls.insert(party.tls_key) {
                return rule(
                    "tls_key",
                    &party.id,
                    "another party lists the same key; every party needs its own",
                );
            }
        }
        if let Some(next) = &self.coordinator_next {
            if next.id != self.coordinator.id {
                return rule(
                    "coordinator_next",
                    &next.id,
                    "it must be the coordinator's id; make the keys with `consilium keygen --id` and that id",
                );
            }
            if !keys.insert(next.signing_key) || !tls.insert(next.tls_key) {
                return rule(
                    "coordinator_next",
                    &next.id,
                    "a key is listed twice; the next keys must be new ones",
                );
            }
        }
        for signer in &self.plan_signers {
            if !ids.insert(&signer.id) || !keys.insert(signer.signing_key) {
                return rule("plan_signer", &signer.id, "its id or key is another party's; it needs its own");
            }
        }
        Ok(())
    }

    fn parties(&self) -> impl Iterator<Item = &Party> {
        self.organizations.iter().chain(&self.operators).chain(&self.viewers).chain([&self.coordinator])
    }

    /// The text to sign: canonical only in that it is what this function writes.
    ///
    /// # Errors
    ///
    /// As [`Roster::parse`]: nothing is written that would not be read.
    pub fn to_text(&self) -> Result<String, RosterError> {
        self.check()?;
        // Unwrap safety: every field serializes to plain TOML.
        Ok(toml::to_string_pretty(self).unwrap_or_default())
    }

    /// Verifies version 1 alone, a simulation's, too: the pinned fingerprint, and the signature of every organization it lists.
    ///
    /// # Errors
    ///
    /// As [`chain::verify`].
    pub fn verify(
        text: &str,
        signatures: &Signatures,
        pinned: &Digest,
    ) -> Result<VerifiedRoster, RosterError> {
        let only = chain::Version { text: text.to_owned(), signatures: signatures.clone() };
        chain::verify_any(&[only], pinned, &revocation::Revocations::default())
    }
}

/// Where version `version` of the chain that begins at `first` stands: `roster.toml`, `roster.2.toml`, `roster.3.toml` …
pub fn successor(first: &Path, version: u32) -> PathBuf {
    if version <= 1 {
        return first.to_owned();
    }
    let extension = first.extension().map(|it| format!(".{}", it.to_string_lossy())).unwrap_or_default();
    let stem = first.file_stem().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
    first.with_file_name(format!("{stem}.{version}{extension}"))
}

/// Where the version before `version` stands, given where `version` does; `None` for version 1 and for a file that is not named
/// as [`successor`] names it.
pub fn predecessor(file: &Path, version: u32) -> Option<PathBuf> {
    let extension = file.extension().map(|it| format!(".{}", it.to_string_lossy())).unwrap_or_default();
    let stem = file.file_stem()?.to_string_lossy().into_owned();
    let first = stem.strip_suffix(&format!(".{version}"))?;
    if version < 2 {
        None
    } else {
        Some(successor(&file.with_file_name(format!("{first}{extension}")), version - 1))
    }
}

/// Where the revocations of the chain that begins at `first` stand: `roster.toml.revoked`.
pub fn revocation_file(first: &Path) -> PathBuf {
    let mut name = first.as_os_str().to_owned();
    name.push(".revoked");
    name.into()
}

#[cfg(test)]
mod tests;
