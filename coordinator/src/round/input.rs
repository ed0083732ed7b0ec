//! What happened, as the machine is told.

use consilium_crypto::{digest::Digest, secagg::chunk_digest};
use consilium_proto::{ids::Id, wire};

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// A member opened a session; the sender is the one that its TLS key proves.
    Hello {
        /// Who.
        from: Id,
        /// Its first message.
        hello: wire::Hello,
    },
    /// A member's session closed.
    Gone {
        /// Whose.
        from: Id,
    },
    /// A protocol message arrived.
    Protocol {
        /// From whom.
        from: Id,
        /// The message.
        message: wire::ProtocolMessage,
    },
    /// A member declined an attempt.
    Refusal {
        /// Who.
        from: Id,
        /// Its reason.
        refusal: wire::Refusal,
    },
    /// A result on the public test set arrived.
    Evaluation {
        /// From whom.
        from: Id,
        /// The result.
        evaluation: wire::Evaluation,
    },
    /// A member that has just started asks what the others hold of it.
    StateQuery {
        /// Who.
        from: Id,
        /// Its question.
        query: wire::StateQuery,
    },
    /// A member answers such questions.
    StateStatements {
        /// Who.
        from: Id,
        /// Its answers.
        statements: wire::StateStatements,
    },
    /// The store's answer to [`Effect::AskUpload`](super::Effect::AskUpload): how many chunks it holds durably.
    Held {
        /// Whose.
        from: Id,
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
        /// Chunks, from the first.
        chunks: u32,
    },
    /// The answer to [`Effect::Aggregate`](super::Effect::Aggregate): the packed sum, or what the store could not read.
    Summed {
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
        /// The sum.
        sum: Result<Vec<u8>, String>,
    },
    /// Time passed.
    Tick,
}

impl Input {
    /// The member whose word it is.
    pub(super) fn from(&self) -> Option<&Id> {
        match self {
            Self::Hello { from, .. }
            | Self::Gone { from }
            | Self::Protocol { from, .. }
            | Self::Refusal { from, .. }
            | Self::Evaluation { from, .. }
            | Self::StateQuery { from, .. }
            | Self::StateStatements { from, .. } => Some(from),
            Self::Held { .. } | Self::Summed { .. } | Self::Tick => None,
        }
    }
}

/// A part of an upload, and the digest of its chunk. Hashing is most of what an upload costs, so it is done where the
/// part arrives, by as many threads as serve connections, and not where the round waits. That this is the digest of that
/// chunk follows from the only way to make one.
#[derive(Clone, Debug)]
pub struct HashedPart {
    pub(super) part: wire::UploadPart,
    pub(super) digest: Digest,
}

impl From<wire::UploadPart> for HashedPart {
    fn from(part: wire::UploadPart) -> Self {
        let digest = chunk_digest(&part.chunk);
        Self { part, digest }
    }
}

/// Why a chunk was refused; the upload ends with this word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkRefused(pub &'static str);
