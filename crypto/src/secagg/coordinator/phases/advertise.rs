//! Step 1: collecting adverts.

use alloc::{boxed::Box, collections::BTreeMap, sync::Arc, vec};

use super::{Failed, Phase, Roll, Share};
use crate::secagg::{
    Attempt, Position, Step,
    coordinator::{Failure, Fault, Why},
    messages::{Advert, Adverts, KeysSeen},
};

#[derive(Debug)]
pub(in crate::secagg::coordinator) struct Advertise {
    pub(super) roll: Roll,
    adverts: BTreeMap<Position, Advert>,
    keys: KeysSeen,
}

impl Advertise {
    pub(in crate::secagg::coordinator) fn new(attempt: &Attempt) -> Self {
        Self { roll: Roll::of(attempt.positions()), adverts: BTreeMap::new(), keys: KeysSeen::default() }
    }

    pub(super) fn accept(&mut self, attempt: &Attempt, from: Position, body: &[u8]) -> Result<(), Fault> {
        let advert = Advert::parse(attempt, body)?;

        self.keys.check(from, &advert)?;
        self.adverts.insert(from, advert);
        self.roll.received.insert(from);
        Ok(())
    }

    pub(super) fn close(self, attempt: &Arc<Attempt>) -> Result<Share, Failed> {
        let roll = self.roll;
        match Adverts::new(attempt, self.adverts) {
            Ok(adverts) => Ok(Share::new(adverts, roll.received)),
            // Cannot happen: repeated keys were refused on arrival.
            Err((member, _)) => {
                let failed = Phase::Failed { step: Step::Advertise, roll };
                let failure = Failure { why: Why::InconsistentShares, culprits: vec![member] };
                Err((Box::new(failed), failure, vec![]))
            }
        }
    }
}
