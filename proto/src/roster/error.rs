//! Why a roster, its chain, or a revocation was refused.

use consilium_crypto::digest::Digest;
use thiserror::Error;

use crate::{
    ids::Id,
    signed::{MAX_DOCUMENT_BYTES, SignatureError},
};

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
    /// What is wrong with a version after the first.
    #[error("in version {version}: {source}")]
    Later {
        /// Its place in the chain.
        version: u32,
        /// What is wrong.
        source: Box<RosterError>,
    },
    /// A version that does not follow from the one before.
    #[error(
        "roster version {version} does not continue the chain: its {field} is {got}, and version {} makes it {expected}; \
         ask whoever sent it for the chain's own version {version}",
        version.saturating_sub(1)
    )]
    Chain {
        /// Its place in the chain.
        version: u32,
        /// "version", "previous" or "consortium".
        field: &'static str,
        /// What it holds.
        got: String,
        /// What it must hold.
        expected: String,
    },
    /// An older or another roster than one accepted before.
    #[error(
        "the roster chain at hand ends with version {got} ({got_digest}), and version {seen} ({seen_digest}) was accepted before: it \
         is rolled back or forked; put the missing files of version {seen} back beside the first, and ask who took them away"
    )]
    RolledBack {
        /// At hand.
        got: u32,
        /// At hand.
        got_digest: Digest,
        /// Accepted before.
        seen: u32,
        /// Accepted before.
        seen_digest: Digest,
    },
    /// A line of the revocations that is none.
    #[error(
        "line {line} of the revocations is not `<organization> <version> <key> <signature>`; take it out, or get it whole"
    )]
    RevocationLine {
        /// Counted from 1.
        line: usize,
    },
    /// A revocation that its organization's key did not sign, or of a key that no version lists.
    #[error(
        "the revocation of a key of {organization} is not {organization}'s word: {why}; take the line out, and ask for its own"
    )]
    Revocation {
        /// Whom it names.
        organization: Id,
        /// What is wrong.
        why: &'static str,
    },
    /// Signatures are missing or bad.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

impl RosterError {
    /// The number of the check in the manual's table. Documents come by hand, so nobody but whoever brought the text is to
    /// blame, and nothing proves who that was; a bad signature names the line's signer, whose name was used.
    pub fn check(&self) -> &'static str {
        match self {
            Self::Later { source, .. } => source.check(),
            Self::Parse(_) | Self::TooLarge(_) | Self::Signature(SignatureError::Line { .. }) => "R1",
            Self::Rule { .. } => "R2",
            Self::Pin { .. } => "R3",
            Self::Signature(SignatureError::Bad { .. }) => "R4",
            Self::Signature(SignatureError::TooFew { .. }) => "R5",
            Self::Chain { .. } => "R6",
            Self::RolledBack { .. } => "R7",
            Self::RevocationLine { .. } | Self::Revocation { .. } => "R8",
        }
    }

    /// Which version of the chain is refused.
    pub fn version(&self) -> u32 {
        match self {
            Self::Later { version, .. } | Self::Chain { version, .. } => *version,
            _ => 1,
        }
    }

    /// Whose line of the signatures is bad.
    pub fn named(&self) -> Option<&Id> {
        match self {
            Self::Signature(SignatureError::Bad { signer, .. }) => Some(signer),
            Self::Later { source, .. } => source.named(),
            _ => None,
        }
    }
}
