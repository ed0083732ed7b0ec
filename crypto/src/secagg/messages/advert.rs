//! Step 1: adverts. Three fresh public keys and the ledger's head, signed.
//!
//! ```text
//! advert   = head(1, member) ‖ position u16 ‖ sealing 32 ‖ masking 32 ‖ commitment 32
//!            ‖ ledger length u64 ‖ salted ledger head 32 ‖ signature 64            (205 bytes)
//! delivery = head(2, coordinator) ‖ count u32 ‖ adverts, by position
//! ```

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

use super::{Flaw, Speaker, authenticate, read_head, read_position, sign_and_append, write_head};
use crate::{
    codec::{CodecError, Reader, Writer},
    digest::{Digest, Transcript},
    group::PublicPoint,
    secagg::{Attempt, Position, Refusal, Step},
    sign::SigningKey,
};

pub(super) const ADVERT_LEN: usize = 205;

/// How long a member's privacy ledger is and a salted hash of its last entry: peers hold these, so that a
/// member restored from an old copy finds out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerHead {
    /// Entries in the ledger.
    pub length: u64,
    /// Salted hash of the last entry.
    pub salted_head: Digest,
}

/// One member's advert, verified.
#[derive(Clone, Debug)]
pub(in crate::secagg) struct Advert {
    pub(in crate::secagg) seal: PublicPoint,
    pub(in crate::secagg) mask: PublicPoint,
    pub(in crate::secagg) commitment: PublicPoint,
    pub(in crate::secagg) ledger: LedgerHead,
    /// The body as it was signed and sent.
    pub(in crate::secagg) body: Vec<u8>,
}

/// Writes and signs an advert.
pub(in crate::secagg) fn own_advert(
    attempt: &Attempt,
    me: Position,
    [seal, mask, commitment]: [PublicPoint; 3],
    ledger: LedgerHead,
    key: &SigningKey,
) -> Advert {
    let mut w = Writer::with_capacity(ADVERT_LEN);
    write_head(&mut w, Step::Advertise, Speaker::Member);
    w.u16(me.0).raw(seal.as_bytes()).raw(mask.as_bytes()).raw(commitment.as_bytes());
    w.u64(ledger.length).digest(&ledger.salted_head);
    sign_and_append(&mut w, Step::Advertise, attempt, me, key);
    Advert { seal, mask, commitment, ledger, body: w.finish() }
}

impl Advert {
    /// Reads an authenticated advert: format, points.
    pub(in crate::secagg) fn parse(attempt: &Attempt, body: &[u8]) -> Result<Self, Flaw> {
        let mut r = Reader::new(body);
        read_head(&mut r, Step::Advertise, Speaker::Member)?;
        read_position(&mut r, attempt)?;
        let keys = [r.array("sealing key")?, r.array("masking key")?, r.array("commitment")?];
        let ledger = LedgerHead { length: r.u64("ledger length")?, salted_head: r.digest("ledger head")? };
        let _: [u8; 64] = r.array("signature")?;
        r.finish()?;

        let [seal, mask, commitment] = keys;
        let point = |key, bytes| PublicPoint::from_bytes(bytes).map_err(|bad| Flaw::Point { key, bad });
        Ok(Self {
            seal: point("sealing", seal)?,
            mask: point("masking", mask)?,
            commitment: point("commitment", commitment)?,
            ledger,
            body: body.to_vec(),
        })
    }

    fn keys(&self) -> [(&'static str, &PublicPoint); 3] {
        [("sealing", &self.seal), ("masking", &self.mask), ("commitment", &self.commitment)]
    }
}

/// Everyone who advertised, and what they advertised: the set `U1`, verified.
#[derive(Clone, Debug)]
pub(in crate::secagg) struct Adverts {
    adverts: BTreeMap<Position, Advert>,
    ledgers: Arc<[(Position, LedgerHead)]>,
    hash: Digest,
}

impl Adverts {
    /// Closes a set of verified adverts. No key may stand twice.
    pub(in crate::secagg) fn new(
        attempt: &Attempt,
        adverts: BTreeMap<Position, Advert>,
    ) -> Result<Self, (Position, Flaw)> {
        let mut seen = KeysSeen::default();
        for (position, advert) in &adverts {
            seen.check(*position, advert).map_err(|flaw| (*position, flaw))?;
        }
        let mut all = Vec::with_capacity(adverts.len().saturating_mul(ADVERT_LEN));
        adverts.values().for_each(|advert| all.extend_from_slice(&advert.body));
        let hash = Transcript::new("consilium/1/step-1").digest(attempt.ctx()).bytes(&all).finish();
        let ledgers = adverts.iter().map(|(position, advert)| (*position, advert.ledger)).collect();
        Ok(Self { adverts, ledgers, hash })
    }

    /// Reads and verifies a delivery.
    pub(in crate::secagg) fn verify(attempt: &Attempt, delivery: &[u8]) -> Result<Arc<Self>, Refusal> {
        let known = &attempt.shown().adverts;
        let judge = || Self::judge(attempt, delivery).map(Arc::new);
        known.or_else(|shown| shown == delivery, || delivery.to_vec(), judge)
    }

    fn judge(attempt: &Attempt, delivery: &[u8]) -> Result<Self, Refusal> {
        let mut r = Reader::new(delivery);
        let bodies = read_delivery(&mut r, attempt).map_err(Refusal::malformed(Step::Advertise))?;
        r.finish().map_err(Refusal::malformed(Step::Advertise))?;
        let mut adverts = BTreeMap::new();
        for (position, body) in bodies {
            let advert = authenticate(attempt, Step::Advertise, position, body)
                .and_then(|()| Advert::parse(attempt, body))
                .map_err(|flaw| Refusal::shown(Step::Advertise, position, flaw))?;
            adverts.insert(position, advert);
        }
        let least = attempt.params().m_min();
        if adverts.len() < usize::from(least) {
            return Err(Refusal::TooFew { step: Step::Advertise, got: adverts.len(), least });
        }
        Self::new(attempt, adverts)
            .map_err(|(position, flaw)| Refusal::shown(Step::Advertise, position, flaw))
    }

    /// The delivery that shows this set.
    pub(in crate::secagg) fn delivery(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(self.adverts.len().saturating_mul(ADVERT_LEN) + 7);
        write_head(&mut w, Step::Share, Speaker::Coordinator);
        w.count(self.adverts.len());
        self.adverts.values().for_each(|advert| {
            w.raw(&advert.body);
        });
        w.finish()
    }

    /// The hash of step 1.
    pub(in crate::secagg) fn hash(&self) -> &Digest {
        &self.hash
    }

    /// What every member said about its ledger.
    pub(in crate::secagg) fn ledgers(&self) -> &Arc<[(Position, LedgerHead)]> {
        &self.ledgers
    }

    pub(in crate::secagg) fn of(&self, position: Position) -> Option<&Advert> {
        self.adverts.get(&position)
    }

    /// A member's place among those that advertised.
    pub(in crate::secagg) fn rank(&self, position: Position) -> Option<usize> {
        self.adverts.keys().position(|other| *other == position)
    }

    /// Members and adverts, by position.
    pub(in crate::secagg) fn iter(&self) -> impl ExactSizeIterator<Item = (Position, &Advert)> {
        self.adverts.iter().map(|(position, advert)| (*position, advert))
    }
}

/// The keys of the adverts seen so far.
#[derive(Clone, Debug, Default)]
pub(in crate::secagg) struct KeysSeen(BTreeMap<[u8; 32], Position>);

impl KeysSeen {
    /// Refuses an advert with a key that was seen; remembers its keys otherwise.
    pub(in crate::secagg) fn check(&mut self, position: Position, advert: &Advert) -> Result<(), Flaw> {
        for (index, (key, point)) in advert.keys().into_iter().enumerate() {
            let within = advert.keys().into_iter().take(index).any(|(_, other)| other == point);
            if within {
                return Err(Flaw::RepeatedKey { key, with: position });
            }
            if let Some(with) = self.0.get(point.as_bytes()) {
                return Err(Flaw::RepeatedKey { key, with: *with });
            }
        }
        self.0.extend(advert.keys().map(|(_, point)| (*point.as_bytes(), position)));
        Ok(())
    }
}

fn read_delivery<'a>(r: &mut Reader<'a>, attempt: &Attempt) -> Result<Vec<(Position, &'a [u8])>, CodecError> {
    read_head(r, Step::Share, Speaker::Coordinator)?;
    let count = r.count("adverts", usize::from(attempt.params().n()), ADVERT_LEN)?;
    let mut last = None;
    (0..count)
        .map(|_| {
            let body = r.raw("advert", ADVERT_LEN)?;
            let mut inner = Reader::new(body);
            read_head(&mut inner, Step::Advertise, Speaker::Member)?;
            let position = super::read_next(&mut inner, attempt, &mut last)?;
            Ok((position, body))
        })
        .collect()
}
