//! Step 4: collecting votes.

use alloc::{collections::BTreeMap, vec::Vec};

use super::{Roll, Unmask};
use crate::{
    digest::Digest,
    secagg::{
        Attempt, Position,
        coordinator::Fault,
        messages::{Adverts, Ballot, DealHeaders, DealtLeaves, InputHeaders, Votes},
    },
    sign::Signature,
};

/// What each dealer's tree is made of.
pub(super) type Dealt = BTreeMap<Position, DealtLeaves>;

#[derive(Debug)]
pub(in crate::secagg::coordinator) struct Vote {
    pub(super) roll: Roll,
    pub(super) adverts: Adverts,
    pub(super) chunks: BTreeMap<Position, Vec<Digest>>,
    dealers: DealHeaders,
    dealt: Dealt,
    headers: InputHeaders,
    ballot: Ballot,
    votes: BTreeMap<Position, Signature>,
}

impl Vote {
    pub(super) fn new(
        adverts: Adverts,
        dealers: DealHeaders,
        dealt: Dealt,
        headers: InputHeaders,
        chunks: BTreeMap<Position, Vec<Digest>>,
    ) -> Self {
        let ballot = Ballot {
            step1: *adverts.hash(),
            step2: *dealers.hash(),
            headers: *headers.hash(),
            survivors: headers.survivors(),
        };
        let roll = Roll::of(ballot.survivors.iter().copied());
        Self { roll, adverts, chunks, dealers, dealt, headers, ballot, votes: BTreeMap::new() }
    }

    pub(super) fn accept(&mut self, attempt: &Attempt, from: Position, body: &[u8]) -> Result<(), Fault> {
        let (ballot, signature) = Ballot::parse(attempt, body)?;
        if ballot != self.ballot {
            return Err(Fault::OtherBallot);
        }
        self.votes.insert(from, signature);
        self.roll.received.insert(from);
        Ok(())
    }

    pub(super) fn close(self) -> Unmask {
        let votes = Votes::new(self.ballot, self.votes);
        Unmask::new(self.adverts, self.dealers, self.dealt, self.headers, votes, self.chunks)
    }

    pub(super) fn delivery(&self) -> Vec<u8> {
        self.headers.delivery()
    }

    pub(super) fn survivors(&self) -> &[Position] {
        &self.ballot.survivors
    }
}
