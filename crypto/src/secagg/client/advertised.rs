//! Step 1: keys made and advertised.

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

use curve25519_dalek::scalar::Scalar;
use rand_core::CryptoRng;

use super::{Advert, Adverts, Attempt, Dealt, LedgerHead, Position, Refusal, Seat, SetupError, Step};
use crate::{
    digest::Digest,
    group::{BadPoint, KeyPair},
    seal::SealKey,
    secagg::{
        keys::Route,
        messages::{Deal, DealHeader, header_body, own_advert},
        opening::{Opening, Place},
    },
    secret::Secret,
    shamir::Shares,
    sign::SigningKey,
};

/// A client that has advertised its keys and waits for everyone's.
#[derive(Debug)]
pub struct Advertised {
    seat: Seat,
    keys: Keys,
    advert: Advert,
}

/// A member's three secrets of an attempt.
#[derive(Debug)]
pub(super) struct Keys {
    /// Opens what others seal to this member.
    pub(super) seal: KeyPair,
    /// Agrees on pairwise masks.
    pub(super) mask: KeyPair,
    /// The self-mask seed, a scalar `b`, with its commitment `b · G`.
    pub(super) own: KeyPair,
}

impl Keys {
    fn generate(rng: &mut impl CryptoRng) -> Result<Self, BadPoint> {
        let keys = Self {
            seal: KeyPair::generate(rng)?,
            mask: KeyPair::generate(rng)?,
            own: KeyPair::generate(rng)?,
        };
        let [seal, mask, own] = keys.publics();
        // A generator that repeats itself would have every peer refuse the advert; say so here.
        if seal == mask || mask == own || own == seal {
            return Err(BadPoint::Identity);
        }
        Ok(keys)
    }

    fn publics(&self) -> [crate::group::PublicPoint; 3] {
        [*self.seal.public(), *self.mask.public(), *self.own.public()]
    }
}

impl Advertised {
    /// Makes the attempt's keys and the body of step 1. `key` is the organization's roster key, `ledger` what
    /// its privacy ledger looks like now.
    ///
    /// # Errors
    ///
    /// When `me` is not in the cohort, `key` is not the roster's, or `rng` is broken.
    pub fn start(
        attempt: Arc<Attempt>,
        me: Position,
        key: &SigningKey,
        ledger: LedgerHead,
        rng: &mut impl CryptoRng,
    ) -> Result<(Self, Vec<u8>), SetupError> {
        let member = attempt.member(me).ok_or(SetupError::NotAMember { position: me })?;
        let got = key.verifying_key();
        if member.key != got {
            return Err(SetupError::WrongKey { expected: *member.key.as_bytes(), got: *got.as_bytes() });
        }
        let keys = Keys::generate(rng).map_err(SetupError::Randomness)?;
        let advert = own_advert(&attempt, me, keys.publics(), ledger, key);
        let body = advert.body.clone();
        Ok((Self { seat: Seat { attempt, me }, keys, advert }, body))
    }

    /// Takes everyone's adverts and deals shares of this member's secrets: the body of step 2.
    ///
    /// # Errors
    ///
    /// Checks A1 to A6 of the manual.
    pub fn on_adverts(
        self,
        delivery: &[u8],
        key: &SigningKey,
        rng: &mut impl CryptoRng,
    ) -> Result<(Dealt, Vec<u8>), Refusal> {
        let Self { seat, keys, advert } = self;
        let adverts = Adverts::verify(&seat.attempt, delivery)?;
        if adverts.of(seat.me).map(|shown| &shown.body) != Some(&advert.body) {
            return Err(Refusal::Own { step: Step::Advertise });
        }
        let dealing = deal(&seat, &keys, &adverts, rng);
        let leaves =
            dealing.entries.iter().map(|(to, (sealed, commitments))| (*to, commitments.leaf(sealed)));
        let tree = Deal::tree(&seat.attempt, leaves);
        let header = header_body(&seat.attempt, seat.me, adverts.hash(), &tree.root(), key);
        let body = Deal::body(&header, &dealing.entries);
        let header = DealHeader { root: tree.root(), body: header };
        let Dealing { own, agreed, .. } = dealing;
        Ok((Dealt { seat, keys, adverts, own, agreed, header }, body))
    }
}

struct Dealing {
    /// By recipient: the box (none for the dealer itself) and the commitments.
    entries: BTreeMap<Position, (Vec<u8>, crate::secagg::opening::Commitments)>,
    /// The dealer's share of its own secrets.
    own: Opening,
    /// What the dealer's sealing key and each recipient's agree on. It seals the box that goes and opens the one that comes.
    agreed: BTreeMap<Position, Secret<[u8; 32]>>,
}

/// Every position of the cohort has a share.
fn share(shares: &Shares, of: Position) -> &[u8; 32] {
    shares.expose(of.x()).unwrap_or(&Scalar::ZERO).as_bytes()
}

fn deal(seat: &Seat, keys: &Keys, adverts: &Adverts, rng: &mut impl CryptoRng) -> Dealing {
    let Seat { attempt, me } = seat;
    let (threshold, n) = (usize::from(attempt.params().quorum()), usize::from(attempt.params().n()));
    let mask = Shares::deal(keys.mask.secret(), threshold, n, rng);
    let seed = Shares::deal(keys.own.secret(), threshold, n, rng);
    let mut open = |recipient: Position| {
        let salt = Secret::fill([0; 32], |salt| rng.fill_bytes(salt));
        let (mask, seed) = (share(&mask, recipient), share(&seed, recipient));
        Opening::new(mask, seed, salt.expose())
    };
    let own = open(*me);
    let (mut entries, mut agreed) = (BTreeMap::new(), BTreeMap::new());
    for (recipient, advert) in adverts.iter() {
        let place = Place { attempt, dealer: *me, recipient };
        if recipient == *me {
            entries.insert(recipient, (Vec::new(), own.commitments(&place)));
            continue;
        }
        let opening = open(recipient);
        let route = Route {
            attempt,
            step1: adverts.hash(),
            dealer: (*me, keys.seal.public()),
            recipient: (recipient, &advert.seal),
        };
        let shared = keys.seal.agree(&advert.seal);
        let sealed =
            SealKey::new(&shared, &route.purpose()).seal(opening.as_bytes(), &route.associated_data());
        agreed.insert(recipient, shared);
        entries.insert(recipient, (sealed, opening.commitments(&place)));
    }
    Dealing { entries, own, agreed }
}

impl Dealt {
    /// The hash of step 1, as this client saw it.
    pub fn step1_hash(&self) -> &Digest {
        self.adverts.hash()
    }
}
