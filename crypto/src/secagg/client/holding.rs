//! What a client holds from step 3 on: other members' shares, and the answer they become.

use alloc::{sync::Arc, vec::Vec};
use core::fmt;

use super::{LedgerHead, Position, Refusal, Seat};
use crate::{
    digest::Digest,
    secagg::{
        messages::{Ballot, Votes, answer_body},
        opening::{Kind, Opening},
    },
    sign::SigningKey,
};

/// Shares held, and the transcripts they belong to.
pub(super) struct Holding {
    pub(super) seat: Seat,
    pub(super) step1: Digest,
    pub(super) step2: Digest,
    pub(super) ledgers: Arc<[(Position, LedgerHead)]>,
    /// One for each dealer, this member included, by position.
    pub(super) openings: Vec<(Position, Opening)>,
}

impl Holding {
    /// Whether a member dealt: is in step 2's set.
    pub(super) fn dealt(&self, member: Position) -> bool {
        self.openings.binary_search_by_key(&member, |(dealer, _)| *dealer).is_ok()
    }

    /// Checks the votes and releases one kind of share for each dealer: the self-mask seed's for survivors,
    /// the masking key's for the others. Everything else is wiped as `self` goes.
    pub(super) fn answer(
        self,
        voted: Option<&Ballot>,
        delivery: &[u8],
        key: &SigningKey,
    ) -> Result<Vec<u8>, Refusal> {
        let Seat { attempt, me } = &self.seat;
        let dealt = |member| self.dealt(member);
        let votes = Votes::verify(attempt, &self.step1, &self.step2, dealt, delivery)?;
        let ballot = votes.ballot();
        if voted.is_some_and(|voted| voted != ballot) {
            return Err(Refusal::OtherVote);
        }
        let kind = |dealer: Position| Kind::for_survivor(ballot.has(dealer));
        let revelations = self.openings.iter().map(|(dealer, opening)| opening.reveal(kind(*dealer)));
        #[cfg_attr(not(feature = "test-walls"), allow(unused_mut))]
        let mut body = answer_body(attempt, *me, &ballot.headers, revelations, key);
        #[cfg(feature = "test-walls")]
        if !wall!(attempt, one_kind) {
            for (dealer, opening) in &self.openings {
                let other = opening.reveal(kind(*dealer).other());
                body.extend_from_slice(other.share());
                body.extend_from_slice(other.salt());
            }
        }
        Ok(body)
    }

    #[cfg(feature = "test-walls")]
    pub(super) fn copy(&self) -> Self {
        Self {
            seat: self.seat.clone(),
            step1: self.step1,
            step2: self.step2,
            ledgers: self.ledgers.clone(),
            openings: self.openings.iter().map(|(dealer, opening)| (*dealer, opening.copy())).collect(),
        }
    }
}

impl fmt::Debug for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Holding({} of {} dealers' shares, <redacted>)", self.seat.me, self.openings.len())
    }
}
