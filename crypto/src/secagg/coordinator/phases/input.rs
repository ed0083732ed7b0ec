//! Step 3: collecting headers, while the store collects chunks.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use super::{Roll, Vote};
use crate::{
    codec::Writer,
    digest::Digest,
    secagg::{
        Attempt, Position,
        coordinator::Fault,
        messages::{Adverts, Deal, DealHeaders, InputHeader, InputHeaders},
    },
};

#[derive(Debug)]
pub(in crate::secagg::coordinator) struct Input {
    pub(super) roll: Roll,
    pub(super) adverts: Adverts,
    pub(super) chunks: BTreeMap<Position, Vec<Digest>>,
    dealers: DealHeaders,
    deals: BTreeMap<Position, Deal>,
    headers: BTreeMap<Position, InputHeader>,
}

impl Input {
    pub(super) fn new(
        adverts: Adverts,
        dealers: DealHeaders,
        deals: BTreeMap<Position, Deal>,
        expected: BTreeSet<Position>,
    ) -> Self {
        let (roll, chunks, headers) = (Roll::of(expected), BTreeMap::new(), BTreeMap::new());
        Self { roll, adverts, chunks, dealers, deals, headers }
    }

    pub(super) fn accept(&mut self, attempt: &Attempt, from: Position, body: &[u8]) -> Result<(), Fault> {
        let (header, chunks) = InputHeader::parse_body(attempt, self.dealers.hash(), body)?;

        self.headers.insert(from, header);
        self.chunks.insert(from, chunks);
        Ok(())
    }

    pub(super) fn input_complete(&mut self, from: Position) {
        if self.headers.contains_key(&from) {
            self.roll.received.insert(from);
        }
    }

    pub(super) fn close(mut self) -> Vote {
        self.headers.retain(|member, _| self.roll.received.contains(member));
        self.chunks.retain(|member, _| self.roll.received.contains(member));
        // From here on only the leaves matter; boxes and trees are what grows with the square of the cohort.
        let dealt = self.deals.into_iter().map(|(dealer, deal)| (dealer, deal.into_leaves())).collect();
        let headers = InputHeaders::new(self.dealers.hash(), self.headers);
        Vote::new(self.adverts, self.dealers, dealt, headers, self.chunks)
    }

    pub(super) fn delivery(&self, to: Position) -> Option<Vec<u8>> {
        let rank = self.adverts.rank(to)?;
        let mut w = Writer::new();
        self.dealers.write(&mut w);
        for (_, deal) in self.deals.iter().filter(|(dealer, _)| **dealer != to) {
            deal.parcel(rank, to)?.write(&mut w);
        }
        Some(w.finish())
    }
}
