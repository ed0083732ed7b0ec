//! The client's steps as one machine.

use alloc::{sync::Arc, vec::Vec};

use rand_core::CryptoRng;

use super::{
    Advertised, Attempt, Dealt, LedgerHead, Masked, MaskedInput, Position, Ready, Refusal, SetupError, Step,
    Voted,
};
use crate::{
    ring::RingVector,
    sign::SigningKey,
    workers::{OneThread, Workers},
};

/// A client in whichever step it is.
// There is one a process, moved a handful of times: boxing the larger variants would buy nothing.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Default)]
pub enum Participant {
    /// Keys advertised; waits for everyone's.
    Advertised(Advertised),
    /// Shares dealt; waits for those dealt to it.
    Dealt(Dealt),
    /// Ready to mask; waits for the update.
    Ready(Ready),
    /// Vector masked; waits for the survivors.
    Masked(Masked),
    /// Voted; waits for a quorum.
    Voted(Voted),
    /// Its part is over, by an answer or a refusal. All secrets are wiped.
    #[default]
    Ended,
}

/// What a delivery asks of the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Record this body, then send it.
    Send(Vec<u8>),
    /// Train, then call [`Participant::mask`].
    UpdateWanted,
}

impl Participant {
    /// Begins an attempt; see [`Advertised::start`]. Gives the body of step 1.
    ///
    /// # Errors
    ///
    /// As [`Advertised::start`].
    pub fn start(
        attempt: Arc<Attempt>,
        me: Position,
        key: &SigningKey,
        ledger: LedgerHead,
        rng: &mut impl CryptoRng,
    ) -> Result<(Self, Vec<u8>), SetupError> {
        let (advertised, body) = Advertised::start(attempt, me, key, ledger, rng)?;
        Ok((Self::Advertised(advertised), body))
    }

    /// Takes the delivery that opens `step` and gives this client's word in that step.
    ///
    /// # Errors
    ///
    /// Any refusal ends the client's part (the machine becomes [`Ended`](Self::Ended)), except
    /// [`Refusal::OutOfTurn`], which leaves it as it was: a delivery repeated by a reconnecting coordinator
    /// does no harm, and the recorded body is the answer to it.
    pub fn deliver(
        &mut self,
        step: Step,
        delivery: &[u8],
        key: &SigningKey,
        rng: &mut impl CryptoRng,
    ) -> Result<Reply, Refusal> {
        if !self.accepts(step) {
            return Err(Refusal::OutOfTurn { next: self.next(), got: step });
        }
        match (core::mem::take(self), step) {
            (Self::Advertised(state), _) => {
                let (state, body) = state.on_adverts(delivery, key, rng)?;
                *self = Self::Dealt(state);
                Ok(Reply::Send(body))
            }
            (Self::Dealt(state), _) => {
                *self = Self::Ready(state.on_deals(delivery)?);
                Ok(Reply::UpdateWanted)
            }
            (Self::Masked(state), Step::Vote) => {
                let (state, body) = state.on_headers(delivery, key)?;
                *self = Self::Voted(state);
                Ok(Reply::Send(body))
            }
            (Self::Ready(state), _) => state.on_votes(delivery, key).map(Reply::Send),
            (Self::Masked(state), _) => state.on_votes(delivery, key).map(Reply::Send),
            (Self::Voted(state), _) => state.on_votes(delivery, key).map(Reply::Send),
            (Self::Ended, _) => Err(Refusal::OutOfTurn { next: None, got: step }),
        }
    }

    /// Masks the update on the calling thread, when it is [`Reply::UpdateWanted`].
    ///
    /// # Errors
    ///
    /// As [`Ready::mask`], and then the machine is [`Ended`](Self::Ended); [`Refusal::OutOfTurn`] when no
    /// update is wanted, and then it is as it was.
    pub fn mask(&mut self, update: RingVector, key: &SigningKey) -> Result<MaskedInput, Refusal> {
        self.mask_on(update, key, &OneThread)
    }

    /// [`mask`](Self::mask), with others' hands. The bytes are the same.
    ///
    /// # Errors
    ///
    /// As [`mask`](Self::mask).
    pub fn mask_on(
        &mut self,
        update: RingVector,
        key: &SigningKey,
        workers: &dyn Workers,
    ) -> Result<MaskedInput, Refusal> {
        match core::mem::take(self) {
            Self::Ready(state) => {
                let (state, input) = state.mask_on(update, key, workers)?;
                *self = Self::Masked(state);
                Ok(input)
            }
            other => {
                *self = other;
                Err(Refusal::OutOfTurn { next: self.next(), got: Step::Input })
            }
        }
    }

    /// The step whose delivery is next; none while an update is wanted or after the end.
    pub fn next(&self) -> Option<Step> {
        match self {
            Self::Advertised(_) => Some(Step::Share),
            Self::Dealt(_) => Some(Step::Input),
            Self::Masked(_) => Some(Step::Vote),
            Self::Voted(_) => Some(Step::Unmask),
            Self::Ready(_) | Self::Ended => None,
        }
    }

    /// What every advertised member said about its ledger, once this client knows.
    pub fn ledger_heads(&self) -> Option<&[(Position, LedgerHead)]> {
        match self {
            Self::Ready(state) => Some(state.ledger_heads()),
            Self::Masked(state) => Some(state.ledger_heads()),
            Self::Voted(state) => Some(state.ledger_heads()),
            Self::Advertised(_) | Self::Dealt(_) | Self::Ended => None,
        }
    }

    /// A client that holds shares answers votes from any state: it may have been too late for the steps
    /// between.
    fn accepts(&self, step: Step) -> bool {
        let holds_shares = matches!(self, Self::Ready(_) | Self::Masked(_) | Self::Voted(_));
        self.next() == Some(step) || (holds_shares && step == Step::Unmask)
    }
}
