//! Documents that a consortium signs.
//!
//! A roster or a plan is TOML text: what a person reads is, byte for byte, what is signed. Signatures stand in a file
//! of their own beside it (`plan.toml.sig`), one line each, `<signer> <128 hexadecimal digits>`, so that each
//! organization signs alone and the lines are simply put together.

use std::{collections::BTreeMap, fmt::Write as _};

use consilium_crypto::{
    digest::{Digest, Transcript},
    sign::{Signature, SigningKey, VerifyingKey, sign_digest, verify_digest},
};
use thiserror::Error;

use crate::ids::Id;

/// Most bytes of a document's text.
pub const MAX_DOCUMENT_BYTES: usize = 4 << 20;

/// What a document is; part of what is signed, so that one kind never passes for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Who belongs to the consortium.
    Roster,
    /// What a job does.
    Plan,
}

impl Kind {
    /// The word used in signatures and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Roster => "roster",
            Self::Plan => "plan",
        }
    }
}

/// Digest of a document's text: its fingerprint, compared out of band.
pub fn fingerprint(kind: Kind, text: &str) -> Digest {
    Transcript::new("consilium/1/document").bytes(kind.as_str().as_bytes()).bytes(text.as_bytes()).finish()
}

/// Signatures over one document, by signer. Parsed, not verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signatures(BTreeMap<Id, Signature>);

/// Why signatures were refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SignatureError {
    /// A line that is not `<signer> <signature>`.
    #[error(
        "line {line} of the signature file is not `<signer> <128 hexadecimal digits>`; ask the signer to sign again"
    )]
    Line {
        /// Counted from 1.
        line: usize,
    },
    /// A signature that does not belong to the document and the signer's key.
    #[error(
        "the signature of {signer} does not fit this {kind}: it was made over another text or with another key; \
         compare fingerprints and sign again"
    )]
    Bad {
        /// Whose line it is.
        signer: Id,
        /// What was signed.
        kind: &'static str,
    },
    /// Too few signers.
    #[error("the {kind} needs {needed} signatures of {whom} and has {have} ({}); still missing: {}", list(.signed), list(.missing))]
    TooFew {
        /// What was to be signed.
        kind: &'static str,
        /// Whose signatures count.
        whom: &'static str,
        /// How many are needed.
        needed: usize,
        /// How many are there.
        have: usize,
        /// Who signed.
        signed: Vec<Id>,
        /// Who has not.
        missing: Vec<Id>,
    },
}

fn list(ids: &[Id]) -> String {
    if ids.is_empty() {
        return "nobody".to_owned();
    }
    ids.iter().map(Id::as_str).collect::<Vec<_>>().join(", ")
}

impl Signatures {
    /// Reads the lines of a `.sig` file. Empty lines and lines that begin with `#` are skipped.
    ///
    /// # Errors
    ///
    /// [`SignatureError::Line`] names the first line that does not parse.
    pub fn parse(text: &str) -> Result<Self, SignatureError> {
        let mut all = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let bad = || SignatureError::Line { line: index + 1 };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (signer, digits) = line.split_once(char::is_whitespace).ok_or_else(bad)?;
            let mut bytes = [0; 64];
            hex::decode_to_slice(digits.trim(), &mut bytes).map_err(|_| bad())?;
            all.insert(signer.parse().map_err(|_| bad())?, Signature(bytes));
        }
        Ok(Self(all))
    }

    /// Adds `signer`'s signature over `text`.
    pub fn add(&mut self, kind: Kind, text: &str, signer: &Id, key: &SigningKey) {
        self.add_all(kind, text, [(signer, key)]);
    }

    /// Adds the signatures of several signers over `text`, which is hashed once.
    pub fn add_all<'a>(
        &mut self,
        kind: Kind,
        text: &str,
        signers: impl IntoIterator<Item = (&'a Id, &'a SigningKey)>,
    ) {
        let (ctx, body) = (fingerprint(kind, text), Digest::of(text.as_bytes()));
        for (signer, key) in signers {
            let signature = sign_digest(key, kind.as_str(), &ctx, signer.as_str(), &body);
            self.0.insert(signer.clone(), signature);
        }
    }

    /// Takes over the lines of `other`; the same signer's newer line wins.
    pub fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (signer, signature) in &self.0 {
            // Unwrap safety: writing to a String does not fail.
            let _ = writeln!(text, "{signer} {}", hex::encode(signature.0));
        }
        text
    }

    /// Checks every line whose signer is among `keys`, and that there are `needed` of them. Lines of others are ignored.
    ///
    /// # Errors
    ///
    /// [`SignatureError::Bad`] for a line that does not verify, [`SignatureError::TooFew`].
    pub fn verify(
        &self,
        kind: Kind,
        text: &str,
        whom: &'static str,
        keys: &BTreeMap<Id, VerifyingKey>,
        needed: usize,
    ) -> Result<(), SignatureError> {
        let (ctx, body) = (fingerprint(kind, text), Digest::of(text.as_bytes()));
        let mut signed = Vec::new();
        for (signer, signature) in &self.0 {
            let Some(key) = keys.get(signer) else { continue };
            verify_digest(key, kind.as_str(), &ctx, signer.as_str(), &body, signature)
                .map_err(|_| SignatureError::Bad { signer: signer.clone(), kind: kind.as_str() })?;
            signed.push(signer.clone());
        }
        if signed.len() >= needed {
            return Ok(());
        }
        let missing = keys.keys().filter(|id| !signed.contains(id)).cloned().collect();
        Err(SignatureError::TooFew { kind: kind.as_str(), whom, needed, have: signed.len(), signed, missing })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_travel_as_lines_and_count_once_each() {
        let ids: Vec<Id> = ["a", "b", "c"].iter().map(|id| id.parse().unwrap()).collect();
        let keys: Vec<_> = (1..=3).map(|seed| SigningKey::from_seed([seed; 32])).collect();
        let public: BTreeMap<_, _> =
            ids.iter().cloned().zip(keys.iter().map(SigningKey::verifying_key)).collect();
        let mut all = Signatures::default();
        all.add(Kind::Plan, "x = 1\n", &ids[0], &keys[0]);
        all.add(Kind::Plan, "x = 1\n", &ids[1], &keys[1]);
        let all = Signatures::parse(&all.to_text()).unwrap();
        let check = |text, kind, needed| all.verify(kind, text, "members", &public, needed);
        assert_eq!(check("x = 1\n", Kind::Plan, 2), Ok(()));
        assert!(matches!(check("x = 1\n", Kind::Plan, 3), Err(SignatureError::TooFew { have: 2, .. })));
        assert!(matches!(check("x = 2\n", Kind::Plan, 1), Err(SignatureError::Bad { .. })));
        assert!(matches!(check("x = 1\n", Kind::Roster, 1), Err(SignatureError::Bad { .. })));
        assert_eq!(Signatures::parse("a zz"), Err(SignatureError::Line { line: 1 }));
    }
}
