//! Step 3, done: the masked vector is out.

use alloc::vec::Vec;

use super::{LedgerHead, Position, Refusal, Step, Voted, holding::Holding};
use crate::{
    secagg::messages::{Ballot, InputHeaders, vote_body},
    sign::SigningKey,
};

/// A client that has masked its vector and waits for the list of survivors.
#[derive(Debug)]
pub struct Masked {
    pub(super) holding: Holding,
    /// The header it signed.
    pub(super) header: Vec<u8>,
}

impl Masked {
    /// Takes the survivors' headers and votes for them: the body of step 4. **One vote per attempt, ever**:
    /// the caller records it before sending it and repeats it byte for byte.
    ///
    /// # Errors
    ///
    /// Checks H1 to H7 of the manual.
    pub fn on_headers(self, delivery: &[u8], key: &SigningKey) -> Result<(Voted, Vec<u8>), Refusal> {
        let Self { holding, header } = self;
        let attempt = &holding.seat.attempt;
        let dealt = |member| holding.dealt(member);
        let headers = InputHeaders::verify(attempt, &holding.step2, dealt, delivery)?;
        if headers.of(holding.seat.me).map(|shown| &shown.body) != Some(&header) {
            return Err(Refusal::Own { step: Step::Input });
        }
        let ballot = Ballot {
            step1: holding.step1,
            step2: holding.step2,
            headers: *headers.hash(),
            survivors: headers.survivors(),
        };
        let body = vote_body(attempt, holding.seat.me, &ballot, key);
        Ok((Voted { holding, ballot }, body))
    }

    /// Answers a quorum's votes without having voted.
    ///
    /// # Errors
    ///
    /// Checks V1 to V6 of the manual.
    pub fn on_votes(self, delivery: &[u8], key: &SigningKey) -> Result<Vec<u8>, Refusal> {
        self.holding.answer(None, delivery, key)
    }

    /// What every advertised member, this one included, said about its ledger.
    pub fn ledger_heads(&self) -> &[(Position, LedgerHead)] {
        &self.holding.ledgers
    }
}
