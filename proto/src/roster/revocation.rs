//! Revocations: an organization takes its own signing key out of service, alone and at once.
//!
//! Whoever holds the key can revoke it, its thief too, and it is right either way. A revoked key opens no connection, speaks in no
//! step of any attempt, and signs no roster after the version that the statement names. What it had signed before stands,
//! because nobody can date a signature; one key is no quorum. The organization comes back with a new key in the next version of the
//! roster.
//!
//! The file `roster.toml.revoked` holds a line each, `<organization> <version> <signing key> <signature>`, the last two
//! hexadecimal. Lines are simply put together.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use consilium_crypto::{
    digest::Digest,
    sign::{Signature, SigningKey, VerifyingKey, sign, verify},
};

use super::{Roster, RosterError};
use crate::ids::Id;

const WHAT: &str = "revocation";

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    id: Id,
    /// Newest version that the key may still have signed.
    version: u32,
    signature: Signature,
}

/// Statements by which keys were revoked. Parsed, not verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocations(BTreeMap<VerifyingKey, Line>);

/// What is signed: the version and the key, in the context of the chain's first fingerprint.
fn body(version: u32, key: &VerifyingKey) -> [u8; 36] {
    let mut body = [0; 36];
    let (head, rest) = body.split_at_mut(4);
    head.copy_from_slice(&version.to_le_bytes());
    rest.copy_from_slice(key.as_bytes());
    body
}

impl Revocations {
    /// Reads the lines of a `.revoked` file. Empty lines and lines that begin with `#` are skipped.
    ///
    /// # Errors
    ///
    /// [`RosterError::RevocationLine`] names the first line that does not parse.
    pub fn parse(text: &str) -> Result<Self, RosterError> {
        let mut all = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let parsed = parse_line(line).ok_or(RosterError::RevocationLine { line: index + 1 });
            let (key, line) = parsed?;
            all.insert(key, line);
        }
        Ok(Self(all))
    }

    /// Adds the statement of the key's holder: it signs no version after `version`, and nothing else from now on.
    pub fn add(&mut self, genesis: &Digest, id: &Id, version: u32, key: &SigningKey) {
        let public = key.verifying_key();
        let signature = sign(key, WHAT, genesis, id.as_str(), &body(version, &public));
        self.0.insert(public, Line { id: id.clone(), version, signature });
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (key, Line { id, version, signature }) in &self.0 {
            // Unwrap safety: writing to a String does not fail.
            let _ = writeln!(text, "{id} {version} {key} {}", hex::encode(signature.0));
        }
        text
    }

    /// Whether a key may not sign version `version` of the roster.
    pub(super) fn bars(&self, key: &VerifyingKey, version: u32) -> bool {
        self.0.get(key).is_some_and(|line| version > line.version)
    }

    /// The revoked keys, each by its own signature and listed under that name in some version.
    pub(super) fn verify(
        &self,
        genesis: &Digest,
        versions: &[Roster],
    ) -> Result<BTreeSet<VerifyingKey>, RosterError> {
        for (key, line) in &self.0 {
            let refused = |why| Err(RosterError::Revocation { organization: line.id.clone(), why });
            let mut parties = versions.iter().flat_map(|roster| &roster.organizations);
            if !parties.any(|party| party.id == line.id && party.signing_key == *key) {
                return refused("no version of the roster lists this key under this name");
            }
            let body = body(line.version, key);
            if verify(key, WHAT, genesis, line.id.as_str(), &body, &line.signature).is_err() {
                return refused("the key did not sign it");
            }
        }
        Ok(self.0.keys().copied().collect())
    }
}

fn parse_line(line: &str) -> Option<(VerifyingKey, Line)> {
    let mut words = line.split_whitespace();
    let (id, version, key, signature) = (words.next()?, words.next()?, words.next()?, words.next()?);
    if words.next().is_some() {
        return None;
    }
    let key: Digest = key.parse().ok()?;
    let mut bytes = [0; 64];
    hex::decode_to_slice(signature, &mut bytes).ok()?;
    let line = Line { id: id.parse().ok()?, version: version.parse().ok()?, signature: Signature(bytes) };
    Some((VerifyingKey::from_bytes(key.0).ok()?, line))
}
