//! Step 4, done: voted.

use alloc::vec::Vec;

use super::{LedgerHead, Position, Refusal, holding::Holding};
use crate::{secagg::messages::Ballot, sign::SigningKey};

/// A client that has voted and waits for a quorum of equal votes.
#[derive(Debug)]
pub struct Voted {
    pub(super) holding: Holding,
    pub(super) ballot: Ballot,
}

impl Voted {
    /// Answers a quorum's votes for the set this client voted for, and no other: the body of step 5.
    ///
    /// # Errors
    ///
    /// Checks V1 to V7 of the manual.
    pub fn on_votes(self, delivery: &[u8], key: &SigningKey) -> Result<Vec<u8>, Refusal> {
        self.holding.answer(Some(&self.ballot), delivery, key)
    }

    /// The survivors voted for, sorted.
    pub fn survivors(&self) -> &[Position] {
        &self.ballot.survivors
    }

    /// What every advertised member, this one included, said about its ledger.
    pub fn ledger_heads(&self) -> &[(Position, LedgerHead)] {
        &self.holding.ledgers
    }

    #[cfg(feature = "test-walls")]
    pub(in crate::secagg) fn copy(&self) -> Self {
        Self { holding: self.holding.copy(), ballot: self.ballot.clone() }
    }
}
