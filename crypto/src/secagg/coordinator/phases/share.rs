//! Step 2: collecting deals.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use super::{Input, Roll};
use crate::secagg::{
    Attempt, Position,
    coordinator::Fault,
    messages::{Adverts, Deal, DealHeaders},
};

#[derive(Debug)]
pub(in crate::secagg::coordinator) struct Share {
    pub(super) roll: Roll,
    pub(super) adverts: Adverts,
    deals: BTreeMap<Position, Deal>,
}

impl Share {
    pub(super) fn new(adverts: Adverts, expected: BTreeSet<Position>) -> Self {
        Self { roll: Roll::of(expected), adverts, deals: BTreeMap::new() }
    }

    pub(super) fn accept(&mut self, attempt: &Attempt, from: Position, body: &[u8]) -> Result<(), Fault> {
        let deal = Deal::parse(attempt, &self.adverts, from, body)?;

        self.deals.insert(from, deal);
        self.roll.received.insert(from);
        Ok(())
    }

    pub(super) fn close(self) -> Input {
        let headers = self.deals.iter().map(|(dealer, deal)| (*dealer, deal.header.clone())).collect();
        let headers = DealHeaders::new(self.adverts.hash(), headers);
        Input::new(self.adverts, headers, self.deals, self.roll.received)
    }

    pub(super) fn delivery(&self) -> Vec<u8> {
        self.adverts.delivery()
    }
}
