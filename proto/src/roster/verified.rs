//! A roster that has been verified, and what it answers.

use std::collections::{BTreeMap, BTreeSet};

use consilium_crypto::{
    digest::Digest,
    sign::{BadSignature, Signature, VerifyingKey, verify_digest},
};
use jiff::civil::Date;
use thiserror::Error;

use super::{Party, Roster};
use crate::ids::Id;

/// The newest version of a roster whose whole chain holds.
#[derive(Clone, Debug)]
pub struct VerifiedRoster {
    roster: Roster,
    /// Fingerprints of all versions, oldest first; never empty.
    history: Vec<Digest>,
    revoked: BTreeSet<VerifyingKey>,
    /// Where each organization stands in the list.
    places: BTreeMap<Id, usize>,
}

/// Whose TLS key a connection showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A member organization.
    Organization(Id),
    /// An operator: looks and acts.
    Operator(Id),
    /// A viewer: looks.
    Viewer(Id),
}

impl Caller {
    /// Whose connection it is.
    pub fn id(&self) -> &Id {
        match self {
            Self::Organization(id) | Self::Operator(id) | Self::Viewer(id) => id,
        }
    }

    /// "organization", "operator" or "viewer".
    pub fn role(&self) -> &'static str {
        match self {
            Self::Organization(_) => "organization",
            Self::Operator(_) => "operator",
            Self::Viewer(_) => "viewer",
        }
    }
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
    /// Its organization has revoked the key.
    #[error(
        "{id} has revoked the signing key that the roster lists; it comes back with a new one in the roster's next version"
    )]
    Revoked {
        /// Whose.
        id: Id,
    },
}

impl Unlisted {
    /// The number of the check in the manual's table.
    pub const fn check(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "R9",
            Self::Expired { .. } => "R10",
            Self::Revoked { .. } => "R11",
        }
    }
}

impl VerifiedRoster {
    pub(super) fn new(roster: Roster, history: Vec<Digest>, revoked: BTreeSet<VerifyingKey>) -> Self {
        let ids = roster.organizations.iter().map(|party| party.id.clone());
        let places = ids.zip(0..).collect();
        Self { roster, history, revoked, places }
    }

    /// Digest of the newest text, part of every round's context.
    pub fn digest(&self) -> Digest {
        // A chain has a version by its type's constructor.
        self.history.last().copied().unwrap_or(Digest([0; 32]))
    }

    /// The newest version.
    pub fn version(&self) -> u32 {
        self.roster.version
    }

    /// Fingerprint of the first version: what is pinned.
    pub fn genesis(&self) -> Digest {
        self.history.first().copied().unwrap_or(Digest([0; 32]))
    }

    /// Fingerprint of a version of the chain.
    pub fn at(&self, version: u32) -> Option<Digest> {
        self.history.get(usize::try_from(version).ok()?.checked_sub(1)?).copied()
    }

    /// Which version has this fingerprint.
    pub fn version_of(&self, fingerprint: &Digest) -> Option<u32> {
        (1..).zip(&self.history).find(|(_, known)| *known == fingerprint).map(|(version, _)| version)
    }

    /// Whether an organization's listed key has been revoked by itself.
    pub fn is_revoked(&self, party: &Party) -> bool {
        self.revoked.contains(&party.signing_key)
    }

    /// Organizations whose listed key has been revoked.
    pub fn revoked(&self) -> Vec<Id> {
        if self.revoked.is_empty() {
            return Vec::new();
        }
        let revoked = self.roster.organizations.iter().filter(|party| self.is_revoked(party));
        revoked.map(|party| party.id.clone()).collect()
    }

    /// The document.
    pub fn document(&self) -> &Roster {
        &self.roster
    }

    /// The coordinator's entry.
    pub fn coordinator(&self) -> &Party {
        &self.roster.coordinator
    }

    /// The coordinator's entry, and that of the keys it may change to.
    pub fn coordinator_keys(&self) -> impl Iterator<Item = &Party> {
        [&self.roster.coordinator].into_iter().chain(&self.roster.coordinator_next)
    }

    /// Checks that the coordinator signed a body, with its present or its next key.
    ///
    /// # Errors
    ///
    /// [`BadSignature`].
    pub fn coordinator_signed(
        &self,
        what: &'static str,
        ctx: &Digest,
        body: &[u8],
        signature: &Signature,
    ) -> Result<(), BadSignature> {
        let body = Digest::of(body);
        let by = |party: &Party| {
            verify_digest(&party.signing_key, what, ctx, party.id.as_str(), &body, signature).is_ok()
        };
        if self.coordinator_keys().any(by) { Ok(()) } else { Err(BadSignature { what }) }
    }

    /// An organization's entry.
    pub fn organization(&self, id: &Id) -> Option<&Party> {
        self.roster.organizations.get(*self.places.get(id)?)
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
    /// [`Unlisted`] when nobody's, when the entry has expired on `today`, or when its organization has revoked it.
    pub fn caller(&self, tls_key: &Digest, today: Date) -> Result<Caller, Unlisted> {
        let with = |party: &&Party| party.tls_key == *tls_key;
        let (party, caller) = if let Some(party) = self.roster.organizations.iter().find(with) {
            (party, Caller::Organization(party.id.clone()))
        } else if let Some(party) = self.roster.operators.iter().find(with) {
            (party, Caller::Operator(party.id.clone()))
        } else if let Some(party) = self.roster.viewers.iter().find(with) {
            (party, Caller::Viewer(party.id.clone()))
        } else {
            return Err(Unlisted::Unknown(*tls_key));
        };
        party.valid_on(today)?;
        if self.is_revoked(party) {
            return Err(Unlisted::Revoked { id: party.id.clone() });
        }
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
