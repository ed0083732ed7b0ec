//! The roster: who belongs to the consortium, under which keys.
//!
//! Version 1 is signed by every organization it lists, and its fingerprint is compared out of band and pinned in each
//! configuration; the coordinator can therefore not invent a member. Later versions (signed by a quorum of the version
//! before) have their field in the format and are refused until they are understood.

use std::collections::BTreeSet;

use consilium_crypto::{digest::Digest, sign::VerifyingKey};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    ids::Id,
    signed::{Kind, MAX_DOCUMENT_BYTES, SignatureError, Signatures, fingerprint},
    text,
};

/// The roster's text, parsed. Nothing about it is believed yet; [`Roster::verify`] makes it so.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roster {
    /// Version of this document, from 1.
    pub version: u32,
    /// Name of the consortium.
    pub consortium: Id,
    /// Signatures that a plan or the next roster needs; `⌊2N/3⌋+1` unless the consortium chose more.
    pub quorum: usize,
    /// The coordinator's keys.
    pub coordinator: Party,
    /// The member organizations.
    #[serde(rename = "organization")]
    pub organizations: Vec<Party>,
    /// People and services that may ask the coordinator for its status.
    #[serde(rename = "operator", default)]
    pub operators: Vec<Party>,
    /// Who may sign plans instead of a quorum of organizations; empty: the quorum signs.
    #[serde(rename = "plan_signer", default)]
    pub plan_signers: Vec<PlanSigner>,
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

/// Why a roster was refused.
#[derive(Debug, Error)]
pub enum RosterError {
    /// Not TOML of this shape.
    #[error("the roster does not parse: {0}")]
    Parse(#[from] toml::de::Error),
    /// Larger than [`MAX_DOCUMENT_BYTES`].
    #[error("the roster has {0} bytes; at most {MAX_DOCUMENT_BYTES} are read")]
    TooLarge(usize),
    /// A rule does not hold.
    #[error("the roster's {field} is {value}: {rule}")]
    Rule {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: String,
        /// What it must hold.
        rule: &'static str,
    },
    /// The fingerprint is not the pinned one.
    #[error(
        "the roster's fingerprint is {got}, and the configuration pins {pinned}; compare fingerprints with the other \
         organizations by telephone before changing the pin"
    )]
    Pin {
        /// Of the text at hand.
        got: Digest,
        /// In the configuration.
        pinned: Digest,
    },
    /// Signatures are missing or bad.
    #[error(transparent)]
    Signature(#[from] SignatureError),
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
        if self.version != 1 {
            return rule(
                "version",
                &self.version,
                "this software reads version 1; upgrade to read later ones",
            );
        }
        let n = self.organizations.len();
        if !(3..=1000).contains(&n) {
            return rule("organization count", &n, "a consortium has 3 to 1000 organizations");
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
        for signer in &self.plan_signers {
            if !ids.insert(&signer.id) || !keys.insert(signer.signing_key) {
                return rule("plan_signer", &signer.id, "its id or key is another party's; it needs its own");
            }
        }
        Ok(())
    }

    fn parties(&self) -> impl Iterator<Item = &Party> {
        self.organizations.iter().chain(&self.operators).chain([&self.coordinator])
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

    /// Verifies version 1: the pinned fingerprint, and the signature of every organization it lists.
    ///
    /// # Errors
    ///
    /// [`RosterError::Pin`], [`RosterError::Signature`], or as [`Roster::parse`].
    pub fn verify(
        text: &str,
        signatures: &Signatures,
        pinned: &Digest,
    ) -> Result<VerifiedRoster, RosterError> {
        let roster = Self::parse(text)?;
        let digest = fingerprint(Kind::Roster, text);
        if digest != *pinned {
            return Err(RosterError::Pin { got: digest, pinned: *pinned });
        }
        let keys = roster.organizations.iter().map(|party| (party.id.clone(), party.signing_key)).collect();
        signatures.verify(Kind::Roster, text, "its organizations", &keys, keys.len())?;
        Ok(VerifiedRoster { roster, digest })
    }
}

/// A roster whose fingerprint and signatures hold.
#[derive(Clone, Debug)]
pub struct VerifiedRoster {
    roster: Roster,
    digest: Digest,
}

/// Whose TLS key a connection showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A member organization.
    Organization(Id),
    /// An operator.
    Operator(Id),
}

/// A key that the roster lists but that has expired, or that it does not list.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Unlisted {
    /// No party has this TLS key.
    #[error("TLS key {0} is not in the roster; use the identity whose key the roster lists")]
    Unknown(Digest),
    /// Its validity has ended.
    #[error(
        "the roster's entry for {id} ended on {valid_until}; the consortium must sign a roster with a later date"
    )]
    Expired {
        /// Whose.
        id: Id,
        /// Last valid day.
        valid_until: Date,
    },
}

impl VerifiedRoster {
    /// Digest of the text, part of every round's context.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The document.
    pub fn document(&self) -> &Roster {
        &self.roster
    }

    /// The coordinator's entry.
    pub fn coordinator(&self) -> &Party {
        &self.roster.coordinator
    }

    /// An organization's entry.
    pub fn organization(&self, id: &Id) -> Option<&Party> {
        self.roster.organizations.iter().find(|party| party.id == *id)
    }

    /// Ids of all organizations, sorted: the default cohort.
    pub fn cohort(&self) -> Vec<Id> {
        let mut ids: Vec<_> = self.roster.organizations.iter().map(|party| party.id.clone()).collect();
        ids.sort();
        ids
    }

    /// Whose TLS key this is.
    ///
    /// # Errors
    ///
    /// [`Unlisted`] when nobody's, or when the entry has expired on `today`.
    pub fn caller(&self, tls_key: &Digest, today: Date) -> Result<Caller, Unlisted> {
        let with = |party: &&Party| party.tls_key == *tls_key;
        let (party, caller) = if let Some(party) = self.roster.organizations.iter().find(with) {
            (party, Caller::Organization(party.id.clone()))
        } else if let Some(party) = self.roster.operators.iter().find(with) {
            (party, Caller::Operator(party.id.clone()))
        } else {
            return Err(Unlisted::Unknown(*tls_key));
        };
        party.valid_on(today)?;
        Ok(caller)
    }
}

impl Party {
    /// Whether the entry still counts.
    ///
    /// # Errors
    ///
    /// [`Unlisted::Expired`] after its last day.
    pub fn valid_on(&self, today: Date) -> Result<(), Unlisted> {
        if today > self.valid_until {
            return Err(Unlisted::Expired { id: self.id.clone(), valid_until: self.valid_until });
        }
        Ok(())
    }
}
