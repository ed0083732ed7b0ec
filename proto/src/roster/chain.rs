//! The chain of a roster's versions, from the pinned first to the newest.

use std::collections::BTreeMap;

use consilium_crypto::{digest::Digest, sign::VerifyingKey};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::{Party, Roster, RosterError, VerifiedRoster, revocation::Revocations};
use crate::{
    ids::Id,
    signed::{Kind, Signatures, fingerprint},
    text,
};

/// One version's text and the signatures beside it. Nothing about it is believed yet.
#[derive(Clone, Debug)]
pub struct Version {
    /// The document.
    pub text: String,
    /// Its signatures.
    pub signatures: Signatures,
}

/// Verifies a deployment's chain, oldest version first: the first has the pinned fingerprint and the signature of every organization it
/// lists; every later one names the fingerprint of the one before and carries the signatures that it [needs](needed) of that one's
/// organizations. A revoked key signs no version after the one that its revocation names.
///
/// # Errors
///
/// [`RosterError`] of the first version that does not hold, or of a revocation; and for a simulation's roster.
pub fn verify(
    versions: &[Version],
    pinned: &Digest,
    revocations: &Revocations,
) -> Result<VerifiedRoster, RosterError> {
    let verified = verify_any(versions, pinned, revocations)?;
    if verified.document().simulated {
        return Err(RosterError::Rule {
            field: "simulated",
            value: "true".to_owned(),
            rule: "this roster was drawn up for a simulation; only the simulator takes it",
        });
    }
    Ok(verified)
}

/// As [`verify`], simulated or not.
pub(super) fn verify_any(
    versions: &[Version],
    pinned: &Digest,
    revocations: &Revocations,
) -> Result<VerifiedRoster, RosterError> {
    let [first, later @ ..] = versions else {
        return Err(RosterError::Rule {
            field: "version",
            value: "absent".to_owned(),
            rule: "a chain begins with version 1",
        });
    };
    let mut newest = Roster::parse(&first.text)?;
    let mut digest = fingerprint(Kind::Roster, &first.text);
    if digest != *pinned {
        return Err(RosterError::Pin { got: digest, pinned: *pinned });
    }
    follows(&newest, 1, None, &newest.consortium)?;
    let everyone = keys(&newest.organizations);
    first.signatures.verify(Kind::Roster, &first.text, "its organizations", &everyone, everyone.len())?;
    let (mut history, mut documents) = (vec![digest], vec![newest.clone()]);
    for (version, signed) in (2..).zip(later) {
        let refused = |source| RosterError::Later { version, source: Box::new(source) };
        let next = Roster::parse(&signed.text).map_err(refused)?;
        follows(&next, version, Some(digest), &newest.consortium)?;
        let mut voters = keys(&newest.organizations);
        voters.retain(|_, key| !revocations.bars(key, version));
        let (whom, needed) = ("the version before's organizations", needed(&newest, voters.len()));
        signed
            .signatures
            .verify(Kind::Roster, &signed.text, whom, &voters, needed)
            .map_err(|source| refused(source.into()))?;
        digest = fingerprint(Kind::Roster, &signed.text);
        history.push(digest);
        documents.push(next.clone());
        newest = next;
    }
    let revoked = revocations.verify(pinned, &documents)?;
    Ok(VerifiedRoster::new(newest, history, revoked))
}

/// Signatures that the version after `roster` needs when so many of its organizations have not revoked their keys: its quorum; or
/// all that are left, if they are fewer but still more than half. Without this, three organizations could never replace the key
/// of one.
pub fn needed(roster: &Roster, left: usize) -> usize {
    if left > roster.organizations.len() / 2 { roster.quorum.min(left) } else { roster.quorum }
}

fn keys(parties: &[Party]) -> BTreeMap<Id, VerifyingKey> {
    parties.iter().map(|party| (party.id.clone(), party.signing_key)).collect()
}

fn follows(
    next: &Roster,
    version: u32,
    previous: Option<Digest>,
    consortium: &Id,
) -> Result<(), RosterError> {
    let broken = |field, got: String, expected: String| {
        if got == expected { Ok(()) } else { Err(RosterError::Chain { version, field, got, expected }) }
    };
    let words = |digest: Option<Digest>| digest.map_or_else(|| "absent".to_owned(), |it| it.to_string());
    broken("version", next.version.to_string(), version.to_string())?;
    broken("previous", words(next.previous), words(previous))?;
    broken("consortium", next.consortium.to_string(), consortium.to_string())
}

/// The newest version of a chain that was accepted, as it is kept on disk: what is older is refused from then on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// Its version.
    pub version: u32,
    /// Its fingerprint.
    #[serde(with = "text::digest")]
    pub fingerprint: Digest,
}

impl Seen {
    /// What accepting this roster leaves behind.
    pub fn of(roster: &VerifiedRoster) -> Self {
        Self { version: roster.version(), fingerprint: roster.digest() }
    }

    /// Checks that a chain holds the version seen before.
    ///
    /// # Errors
    ///
    /// [`RosterError::RolledBack`] when it ends earlier, or has another version in that place.
    pub fn check(&self, roster: &VerifiedRoster) -> Result<(), RosterError> {
        if roster.at(self.version) == Some(self.fingerprint) {
            return Ok(());
        }
        Err(RosterError::RolledBack {
            got: roster.version(),
            got_digest: roster.digest(),
            seen: self.version,
            seen_digest: self.fingerprint,
        })
    }
}

/// What the next version changes.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Organizations to take in, or whose entry is replaced: the one of the same id goes.
    pub organizations: Vec<Party>,
    /// Organizations to leave out.
    pub removed: Vec<Id>,
    /// The coordinator's new entry.
    pub coordinator: Option<Party>,
    /// The keys that the coordinator may change to. A new entry for the coordinator that is the old `coordinator_next` leaves
    /// none behind.
    pub coordinator_next: Option<Party>,
    /// Operators to take in or replace.
    pub operators: Vec<Party>,
    /// Another quorum; by default it is recomputed if the number of organizations changes.
    pub quorum: Option<usize>,
    /// Another last day for the entries of those named, without new keys.
    pub extended: Vec<(Id, Date)>,
}

/// Draws up the version that follows from the newest. It counts once a quorum of the newest has signed it.
///
/// # Errors
///
/// [`RosterError::Rule`] when a party to be removed or extended is not there, or the result breaks a rule.
pub fn propose(newest: &VerifiedRoster, changes: Changes) -> Result<Roster, RosterError> {
    let unknown = |id: &Id| RosterError::Rule {
        field: "organization",
        value: id.to_string(),
        rule: "the newest version does not list it; check the id with `consilium roster show`",
    };
    let mut next = newest.document().clone();
    let before = next.organizations.len();
    next.version = next.version.saturating_add(1);
    next.previous = Some(newest.digest());
    for id in &changes.removed {
        let at = next.organizations.iter().position(|party| party.id == *id).ok_or_else(|| unknown(id))?;
        next.organizations.remove(at);
    }
    let put = |list: &mut Vec<Party>, party: Party| {
        list.retain(|listed| listed.id != party.id);
        list.push(party);
        list.sort_by(|a, b| a.id.cmp(&b.id));
    };
    changes.organizations.into_iter().for_each(|party| put(&mut next.organizations, party));
    changes.operators.into_iter().for_each(|party| put(&mut next.operators, party));
    next.coordinator = changes.coordinator.unwrap_or(next.coordinator);
    next.coordinator_next = changes.coordinator_next.or(next.coordinator_next);
    if next.coordinator_next.as_ref().is_some_and(|party| party.tls_key == next.coordinator.tls_key) {
        next.coordinator_next = None;
    }
    for (id, day) in changes.extended {
        let mut parties = next.organizations.iter_mut().chain(&mut next.operators);
        let found = parties.find(|party| party.id == id);
        match found {
            Some(party) => party.valid_until = day,
            None if next.coordinator.id == id => next.coordinator.valid_until = day,
            None => return Err(unknown(&id)),
        }
    }
    let n = next.organizations.len();
    next.quorum = match changes.quorum {
        Some(quorum) => quorum,
        None if n == before => next.quorum,
        None => 2 * n / 3 + 1,
    };
    next.to_text().map(|_| next)
}
