//! What a corrupt coordinator knows of one attempt, with its colluding members' keys and boxes, and what it can compute from it:
//! every mask that follows from the shares it holds.
//!
//! The protocol's own derivations (`crypto/docs/secure-aggregation.md`), from the other side. It knows nothing that its parties
//! would not: bodies as members sent them, colluders' own keys, and answers.

use std::collections::{BTreeMap, BTreeSet};

use consilium_crypto::{
    codec::Writer,
    digest::{Digest, Transcript},
    group::{KeyPair, PublicPoint, scalar_from_bytes},
    mask::{MaskSeed, Sign},
    seal::SealKey,
    secagg::Attempt,
    secret::Secret,
    shamir::Weights,
};

/// Bytes of the protocol's messages.
const ADVERT: usize = 205;
const DEAL_HEADER: usize = 133;
const SEALED: usize = 112;
const HEAD: usize = 3;

/// Which of a dealer's two secrets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Kind {
    /// Its masking key: given out if it dropped out.
    Mask,
    /// Its self-mask: given out if it survived.
    Seed,
}

/// A colluder's own keys: sealing, masking, self-mask.
pub(super) type Keys = [KeyPair; 3];

/// Everything known of one attempt.
pub(super) struct Knowledge {
    ctx: Digest,
    ids: Vec<String>,
    adverts: BTreeMap<u16, Vec<u8>>,
    deals: BTreeMap<u16, Vec<u8>>,
    own: BTreeMap<u16, Keys>,
    /// Shares: of which dealer and kind, at which party.
    shares: BTreeMap<(u16, Kind), BTreeMap<u16, [u8; 32]>>,
}

/// `N` bytes at a place.
fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

impl Knowledge {
    /// Nothing yet.
    pub(super) fn of(attempt: &Attempt) -> Self {
        let ids = attempt.members().iter().map(|member| member.id.to_string()).collect();
        let (adverts, deals, own, shares) = Default::default();
        Self { ctx: *attempt.ctx(), ids, adverts, deals, own, shares }
    }

    pub(super) fn advertised(&mut self, from: u16, body: &[u8]) {
        self.adverts.insert(from, body.to_vec());
    }

    pub(super) fn dealt(&mut self, from: u16, body: &[u8]) {
        self.deals.insert(from, body.to_vec());
    }

    /// A colluder hands over its keys.
    pub(super) fn colludes(&mut self, who: u16, keys: Keys) {
        self.own.insert(who, keys);
    }

    fn id(&self, who: u16) -> &str {
        self.ids.get(usize::from(who)).map_or("", String::as_str)
    }

    /// A member's public key: sealing, masking, commitment.
    fn point(&self, who: u16, which: usize) -> Option<PublicPoint> {
        PublicPoint::from_bytes(array(self.adverts.get(&who)?, 5 + 32 * which)?).ok()
    }

    fn step1(&self) -> Digest {
        let all: Vec<u8> =
            self.adverts.values().filter_map(|body| body.get(..ADVERT)).flatten().copied().collect();
        Transcript::new("consilium/1/step-1").digest(&self.ctx).bytes(&all).finish()
    }

    fn step2(&self) -> Digest {
        let all: Vec<u8> =
            self.deals.values().filter_map(|body| body.get(..DEAL_HEADER)).flatten().copied().collect();
        Transcript::new("consilium/1/step-2").digest(&self.step1()).bytes(&all).finish()
    }

    /// Opens what every dealer sealed to the colluders.
    pub(super) fn open_boxes(&mut self) {
        let colluders: Vec<u16> = self.own.keys().copied().collect();
        let dealers: Vec<u16> = self.deals.keys().copied().collect();
        for dealer in dealers {
            for to in colluders.iter().filter(|to| **to != dealer) {
                if let Some((mask, seed)) = self.open_box(dealer, *to) {
                    self.learn(dealer, Kind::Mask, *to, mask);
                    self.learn(dealer, Kind::Seed, *to, seed);
                }
            }
        }
    }

    fn open_box(&self, dealer: u16, to: u16) -> Option<([u8; 32], [u8; 32])> {
        let before = self.adverts.keys().filter(|other| **other < to).count();
        // A dealer has no box for itself, only its commitments.
        let boxes = before - usize::from(dealer < to);
        let at = DEAL_HEADER + before * 64 + boxes * SEALED;
        let sealed = self.deals.get(&dealer)?.get(at..at + SEALED)?;
        let (theirs, mine) = (self.point(dealer, 0)?, self.point(to, 0)?);
        let purpose = Transcript::new("consilium/1/seal")
            .digest(&self.ctx)
            .digest(&self.step1())
            .bytes(self.id(dealer).as_bytes())
            .bytes(self.id(to).as_bytes())
            .bytes(theirs.as_bytes())
            .bytes(mine.as_bytes())
            .finish();
        let context = Writer::new()
            .digest(&self.ctx)
            .digest(&self.step1())
            .str(self.id(dealer))
            .str(self.id(to))
            .finish();
        let [sealing, ..] = self.own.get(&to)?;
        let opened = SealKey::new(&sealing.agree(&theirs), &purpose).open(sealed, &context).ok()?;
        Some((array(opened.expose(), 0)?, array(opened.expose(), 32)?))
    }

    fn learn(&mut self, dealer: u16, kind: Kind, party: u16, share: [u8; 32]) {
        self.shares.entry((dealer, kind)).or_default().insert(party, share);
    }

    /// Reads an answer for the survivors that its sender was asked about.
    pub(super) fn answered(&mut self, from: u16, body: &[u8], survivors: &BTreeSet<u16>) {
        let dealers: Vec<u16> = self.deals.keys().copied().collect();
        for (index, dealer) in dealers.into_iter().enumerate() {
            let kind = if survivors.contains(&dealer) { Kind::Seed } else { Kind::Mask };
            if let Some(share) = array(body, HEAD + 2 + 32 + index * 64) {
                self.learn(dealer, kind, from, share);
            }
        }
    }

    /// Shares known of a dealer's secret.
    pub(super) fn known(&self, dealer: u16, kind: Kind) -> usize {
        self.shares.get(&(dealer, kind)).map_or(0, BTreeMap::len)
    }

    /// A dealer's secret, if the shares that are known give it: held against its public point.
    fn secret(&self, dealer: u16, kind: Kind) -> Option<KeyPair> {
        let which = if kind == Kind::Mask { 1 } else { 2 };
        let shares = self.shares.get(&(dealer, kind))?;
        let parties: Vec<u64> = shares.keys().map(|party| u64::from(*party) + 1).collect();
        let values: Vec<_> = shares.values().map(scalar_from_bytes).collect::<Option<_>>()?;
        let secret = Weights::new(&parties).ok()?.combine(values.iter()).ok()?;
        let point = self.point(dealer, which)?;
        if point.belongs_to(&secret) { KeyPair::from_secret(secret).ok() } else { None }
    }

    /// The shared secret of two members' masking keys, if either's is known.
    fn shared(&self, a: u16, b: u16) -> Option<Secret<[u8; 32]>> {
        let with = |peer: u16, key: &KeyPair| Some(key.agree(&self.point(peer, 1)?));
        for (mine, peer) in [(a, b), (b, a)] {
            if let Some([_, masking, _]) = self.own.get(&mine) {
                return with(peer, masking);
            }
            if let Some(key) = self.secret(mine, Kind::Mask) {
                return with(peer, &key);
            }
        }
        None
    }

    fn pair_mask(&self, a: u16, b: u16) -> Option<MaskSeed> {
        let (low, high) = (a.min(b), a.max(b));
        let purpose = Transcript::new("consilium/1/pair-mask")
            .digest(&self.ctx)
            .digest(&self.step2())
            .bytes(self.id(low).as_bytes())
            .bytes(self.id(high).as_bytes())
            .bytes(self.point(low, 1)?.as_bytes())
            .bytes(self.point(high, 1)?.as_bytes())
            .finish();
        Some(MaskSeed::new(self.shared(a, b)?.expose(), &purpose))
    }

    fn self_mask(&self, member: u16) -> Option<MaskSeed> {
        let purpose = Transcript::new("consilium/1/self-mask")
            .digest(&self.ctx)
            .digest(&self.step2())
            .bytes(self.id(member).as_bytes())
            .finish();
        let key = self.secret(member, Kind::Seed)?;
        Some(MaskSeed::new(key.secret().expose().as_bytes(), &purpose))
    }

    /// Takes every mask that is known off one member's vector; how many of all could not be.
    pub(super) fn unmask(&self, victim: u16, masked: &mut [u32]) -> usize {
        let mut left = 0;
        match self.self_mask(victim) {
            Some(seed) => seed.apply(Sign::Subtract, 0, masked),
            None => left += 1,
        }
        for other in self.deals.keys().copied().filter(|other| *other != victim) {
            let sign = if victim < other { Sign::Add } else { Sign::Subtract };
            match self.pair_mask(victim, other) {
                Some(seed) => seed.apply(sign.inverse(), 0, masked),
                None => left += 1,
            }
        }
        left
    }
}
