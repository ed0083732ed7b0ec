//! A scripted adversary with the coordinator's whole state and the whole state of `t_c` members, against one
//! honest member's vector.
//!
//! That an attack fails proves little; a random-looking output proves nothing. So each attack runs twice:
//! against the product, where it must fail, and with the one wall down that it should break on, where it must
//! **succeed**. Walls exist in builds with the feature `test-walls` only, and so does this test: `cargo test
//! -p consilium-crypto --features test-walls`.
#![cfg(feature = "test-walls")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod secagg_world;

use std::{collections::BTreeMap, sync::Arc};

use consilium_crypto::{
    codec::Writer,
    digest::{Digest, Transcript},
    group::{KeyPair, PublicPoint, scalar_from_bytes},
    mask::{MaskSeed, Sign},
    ring::{self, RingVector},
    seal::SealKey,
    secagg::{
        Attempt, Position, Step,
        client::{Participant, Reply},
        walls::{Walls, narrow_seed},
    },
    secret::Secret,
    shamir::Weights,
};
use curve25519_dalek::scalar::Scalar;
use secagg_world::*;

const VICTIM: u16 = 2;
/// Ten members, three of them the adversary's: the quorum is seven.
const COLLUDERS: [u16; 3] = [7, 8, 9];
const SEED: u8 = 1;

fn world(walls: Walls) -> World {
    let shape = Shape::of(10, 40);
    let mut world = World::with_attempt(attempt(shape, SEED).with_walls(walls), shape, SEED);
    // Updates are small next to the ring, as real ones are: what a guess is recognized by.
    for update in &mut world.updates {
        update.iter_mut().for_each(|value| *value &= 0xff);
    }
    world
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    Mask,
    Seed,
}

/// Everything the adversary knows.
struct Adversary {
    ctx: Digest,
    ids: Vec<String>,
    /// Public keys of step 1: sealing, masking, commitment.
    adverts: Vec<[PublicPoint; 3]>,
    step1: Digest,
    step2: Digest,
    /// The colluders' own keys: sealing, masking, self-mask.
    own: BTreeMap<u16, [KeyPair; 3]>,
    /// Shares known: of which dealer, which kind, at which party.
    shares: BTreeMap<(u16, Kind), BTreeMap<u16, Scalar>>,
}

impl Adversary {
    /// Takes over the coordinator, with its log up to step 2, and the colluders, with their keys and boxes.
    fn watching(world: &World) -> Self {
        let said = |wanted: Step, length: usize| -> Vec<Vec<u8>> {
            let mut bodies = BTreeMap::new();
            for event in &world.log {
                if let Event::Said(from, step, body) = event
                    && *step == wanted
                {
                    bodies.insert(from.0, body[..length].to_vec());
                }
            }
            bodies.into_values().collect()
        };
        let ctx = *world.attempt.ctx();
        let bodies = said(Step::Advertise, ADVERT);
        let step1 = Transcript::new("consilium/1/step-1").digest(&ctx).bytes(&bodies.concat()).finish();
        let headers = said(Step::Share, DEAL_HEADER);
        let step2 = Transcript::new("consilium/1/step-2").digest(&step1).bytes(&headers.concat()).finish();
        let point = |bytes: &[u8]| PublicPoint::from_bytes(bytes.try_into().unwrap()).unwrap();
        let adverts =
            bodies.iter().map(|b| [point(&b[5..37]), point(&b[37..69]), point(&b[69..101])]).collect();
        let own = COLLUDERS
            .map(|i| {
                // A member's first three draws are its keys; a colluder's are the adversary's.
                let mut rng = rng_of(SEED, i);
                (i, [(); 3].map(|()| KeyPair::generate(&mut rng).unwrap()))
            })
            .into();
        let ids = world.attempt.members().iter().map(|member| member.id.to_string()).collect();
        let mut adversary = Self { ctx, ids, adverts, step1, step2, own, shares: BTreeMap::new() };
        for i in COLLUDERS {
            adversary.open_boxes(world, i);
        }
        adversary
    }

    /// Opens what everybody sealed to colluder `i`.
    fn open_boxes(&mut self, world: &World, i: u16) {
        for event in &world.log {
            let Event::Said(Position(dealer), Step::Share, body) = event else { continue };
            if *dealer == i {
                continue;
            }
            let before = i - u16::from(*dealer < i);
            let at = DEAL_HEADER + usize::from(before) * (SEALED + 64) + usize::from(*dealer < i) * 64;
            let purpose = Transcript::new("consilium/1/seal")
                .digest(&self.ctx)
                .digest(&self.step1)
                .bytes(self.ids[usize::from(*dealer)].as_bytes())
                .bytes(self.ids[usize::from(i)].as_bytes())
                .bytes(self.adverts[usize::from(*dealer)][0].as_bytes())
                .bytes(self.adverts[usize::from(i)][0].as_bytes())
                .finish();
            let context = Writer::new()
                .digest(&self.ctx)
                .digest(&self.step1)
                .str(&self.ids[usize::from(*dealer)])
                .str(&self.ids[usize::from(i)])
                .finish();
            let shared = self.own[&i][0].agree(&self.adverts[usize::from(*dealer)][0]);
            let opened = SealKey::new(&shared, &purpose).open(&body[at..at + SEALED], &context).unwrap();
            let opened = opened.expose();
            self.learn(*dealer, Kind::Mask, i, &opened[..32]);
            self.learn(*dealer, Kind::Seed, i, &opened[32..64]);
        }
    }

    fn learn(&mut self, dealer: u16, kind: Kind, party: u16, share: &[u8]) {
        let share = *scalar_from_bytes(share.try_into().unwrap()).unwrap().expose();
        self.shares.entry((dealer, kind)).or_default().insert(party, share);
    }

    /// Reads an honest member's answer for the survivors it was asked about.
    fn read_answer(&mut self, body: &[u8], survivors: &[u16]) {
        let party = named(body);
        let first = HEAD + 2 + 32;
        for dealer in 0..10 {
            let kind = if survivors.contains(&dealer) { Kind::Seed } else { Kind::Mask };
            let at = first + usize::from(dealer) * 64;
            self.learn(dealer, kind, party, &body[at..at + 32]);
            // Without the wall "one kind", the other kinds follow the signature.
            let other = if kind == Kind::Seed { Kind::Mask } else { Kind::Seed };
            let at = first + 10 * 64 + 64 + usize::from(dealer) * 64;
            if body.len() > at {
                self.learn(dealer, other, party, &body[at..at + 32]);
            }
        }
    }

    /// Puts a dealer's secret together from whatever shares are known, and checks it against its public
    /// point.
    fn secret(&self, dealer: u16, kind: Kind) -> Option<Secret<Scalar>> {
        if let Some(own) = self.own.get(&dealer) {
            let keys = &own[if kind == Kind::Mask { 1 } else { 2 }];
            return Some(Secret::new(*keys.secret().expose()));
        }
        let shares = self.shares.get(&(dealer, kind))?;
        let parties: Vec<u64> = shares.keys().map(|party| u64::from(*party) + 1).collect();
        let values: Vec<_> = shares.values().map(|share| Secret::new(*share)).collect();
        let secret = Weights::new(&parties).unwrap().combine(values.iter()).unwrap();
        let point = &self.adverts[usize::from(dealer)][if kind == Kind::Mask { 1 } else { 2 }];
        point.belongs_to(&secret).then_some(secret)
    }

    fn known_shares(&self, dealer: u16, kind: Kind) -> usize {
        self.shares.get(&(dealer, kind)).map_or(0, BTreeMap::len)
    }

    /// The mask between two members, if the adversary can know it: it has either one's masking key.
    fn pair_mask(&self, a: u16, b: u16) -> Option<MaskSeed> {
        let (low, high) = (a.min(b), a.max(b));
        let (key, peer) = match (self.secret(low, Kind::Mask), self.secret(high, Kind::Mask)) {
            (Some(key), _) => (key, high),
            (None, Some(key)) => (key, low),
            (None, None) => return None,
        };
        let shared = KeyPair::from_secret(key).unwrap().agree(&self.adverts[usize::from(peer)][1]);
        let purpose = Transcript::new("consilium/1/pair-mask")
            .digest(&self.ctx)
            .digest(&self.step2)
            .bytes(self.ids[usize::from(low)].as_bytes())
            .bytes(self.ids[usize::from(high)].as_bytes())
            .bytes(self.adverts[usize::from(low)][1].as_bytes())
            .bytes(self.adverts[usize::from(high)][1].as_bytes())
            .finish();
        Some(MaskSeed::new(shared.expose(), &purpose))
    }

    fn self_mask(&self, member: u16) -> Option<MaskSeed> {
        let purpose = Transcript::new("consilium/1/self-mask")
            .digest(&self.ctx)
            .digest(&self.step2)
            .bytes(self.ids[usize::from(member)].as_bytes())
            .finish();
        Some(MaskSeed::new(self.secret(member, Kind::Seed)?.expose().as_bytes(), &purpose))
    }

    /// Takes every mask it can know off the sum of `members`' vectors. Whether that is all of them it cannot
    /// tell but by looking at the result.
    fn unmask(&self, world: &World, members: &[u16]) -> Vec<u32> {
        let mut sum = vec![0; 40];
        for i in members {
            add_vector(world, *i, &mut sum);
            if let Some(seed) = self.self_mask(*i) {
                seed.apply(Sign::Subtract, 0, &mut sum);
            }
            for other in (0..10).filter(|other| !members.contains(other)) {
                let sign = if *i < other { Sign::Add } else { Sign::Subtract };
                if let Some(seed) = self.pair_mask(*i, other) {
                    seed.apply(sign.inverse(), 0, &mut sum);
                }
            }
        }
        reduce(world, &mut sum);
        sum
    }
}

fn add_vector(world: &World, i: u16, sum: &mut [u32]) {
    let packed = &world.store[&(Position(i), 0)];
    ring::unpack_add(world.attempt.params().ring(), packed, sum).unwrap();
}

fn reduce(world: &World, sum: &mut [u32]) {
    sum.iter_mut().for_each(|value| *value &= world.attempt.params().ring().mask());
}

/// Runs an attempt in which the coordinator has the victim's vector and says it dropped out. The other honest
/// members answer as they must; the adversary reads along.
fn called_dropped(walls: Walls) -> (World, Adversary) {
    let mut world = world(walls);
    let all = world.everyone();
    world.advertise(&all);
    world.share(&all);
    let adversary = Adversary::watching(&world);
    let survivors = but(&all, &[VICTIM]);
    world.ready(VICTIM);
    let input = world.mask(VICTIM);
    world.store.insert((Position(VICTIM), 0), input.chunks[0].clone());
    world.input(&survivors);
    world.vote(&survivors);
    let adversary = answers(&mut world, adversary, &survivors, &all);
    (world, adversary)
}

/// Shows every honest member of `asked` the votes, and reads its answer.
fn answers(world: &mut World, mut adversary: Adversary, survivors: &[u16], asked: &[u16]) -> Adversary {
    for i in but(asked, &COLLUDERS) {
        let delivery = world.delivery(i);
        let Reply::Send(body) = world.show(i, &delivery).unwrap() else { panic!() };
        adversary.read_answer(&body, survivors);
    }
    adversary
}

/// The attack the self-mask is for: a member whose vector arrived is called dropped, so that its masking key
/// is given out.
#[test]
fn a_member_called_dropped_is_covered_by_its_self_mask() {
    let attack = |walls| {
        let (world, adversary) = called_dropped(walls);
        assert!(adversary.secret(VICTIM, Kind::Mask).is_some(), "the masking key is known, as designed");
        adversary.unmask(&world, &[VICTIM]) == world.updates[usize::from(VICTIM)]
    };
    assert!(!attack(Walls::standing()));
    assert!(attack(Walls { self_mask: false, ..Walls::standing() }));
}

/// What keeps the self-mask closed is the number of shares: the adversary has its own three of the seven
/// needed, and no honest member gives any.
#[test]
fn the_adversary_counts_shares() {
    let (_, adversary) = called_dropped(Walls::standing());
    assert_eq!(adversary.known_shares(VICTIM, Kind::Mask), 10);
    assert_eq!(adversary.known_shares(VICTIM, Kind::Seed), COLLUDERS.len());
    assert!(adversary.secret(VICTIM, Kind::Seed).is_none());
    // And of a survivor: its self-mask, not its masking key.
    assert_eq!(adversary.known_shares(0, Kind::Seed), 10);
    assert_eq!(adversary.known_shares(0, Kind::Mask), COLLUDERS.len());
    assert!(adversary.secret(0, Kind::Mask).is_none());
}

/// The honest outcome is what the adversary may have: the sum over the survivors.
#[test]
fn the_adversary_gets_the_sum() {
    let (world, adversary) = called_dropped(Walls::standing());
    let survivors = but(&world.everyone(), &[VICTIM]);
    assert_eq!(adversary.unmask(&world, &survivors), world.expected_sum(&survivors));
}

/// Both kinds of share of one member give it away.
#[test]
fn one_kind_of_share_each() {
    let attack = |walls| {
        let (world, adversary) = called_dropped(walls);
        adversary.unmask(&world, &[VICTIM]) == world.updates[usize::from(VICTIM)]
    };
    assert!(!attack(Walls::standing()));
    assert!(attack(Walls { one_kind: false, ..Walls::standing() }));
}

/// A seed short enough to try out: the victim's masking key is known, its self-mask is tried until the result
/// looks like an update. (Masks of sixteen-bit seeds pass any test of uniformity one cares to run.)
#[test]
fn mask_seeds_are_too_long_to_try() {
    let attack = |walls: Walls| {
        let narrow = !walls.wide_mask_seed;
        let (world, adversary) = called_dropped(walls);
        // Every mask of the victim has a sixteen-bit seed. With the pairwise secrets known, only the
        // self-mask remains to be tried; the pairwise seeds are computed as the narrow build computes them.
        let mut rest = vec![0; 40];
        add_vector(&world, VICTIM, &mut rest);
        for other in (0..10).filter(|other| *other != VICTIM) {
            let sign = if VICTIM < other { Sign::Add } else { Sign::Subtract };
            let seed = adversary.pair_mask_of_build(VICTIM, other, narrow).unwrap();
            seed.apply(sign.inverse(), 0, &mut rest);
        }
        (0..=u16::MAX).any(|bits| {
            let mut guess = rest.clone();
            narrow_seed(bits).apply(Sign::Subtract, 0, &mut guess);
            reduce(&world, &mut guess);
            guess.iter().all(|value| *value < 256) && guess == world.updates[usize::from(VICTIM)]
        })
    };
    assert!(!attack(Walls::standing()));
    assert!(attack(Walls { wide_mask_seed: false, ..Walls::standing() }));
}

impl Adversary {
    fn pair_mask_of_build(&self, a: u16, b: u16, narrow: bool) -> Option<MaskSeed> {
        if !narrow {
            return self.pair_mask(a, b);
        }
        let (low, high) = (a.min(b), a.max(b));
        let shared = KeyPair::from_secret(self.secret(VICTIM, Kind::Mask)?)
            .unwrap()
            .agree(&self.adverts[usize::from(if low == VICTIM { high } else { low })][1]);
        let purpose = Transcript::new("consilium/1/pair-mask")
            .digest(&self.ctx)
            .digest(&self.step2)
            .bytes(self.ids[usize::from(low)].as_bytes())
            .bytes(self.ids[usize::from(high)].as_bytes())
            .bytes(self.adverts[usize::from(low)][1].as_bytes())
            .bytes(self.adverts[usize::from(high)][1].as_bytes())
            .finish();
        let wide = Transcript::new("narrow").bytes(shared.expose()).digest(&purpose).finish();
        Some(narrow_seed(u16::from_le_bytes([wide.0[0], wide.0[1]])))
    }
}

/// Different models for different members (Pasquini et al., CCS 2022): the victim trains the true one,
/// everybody else one that is dead, with nothing to learn in it, so that the sum is the victim's update. The
/// context names the model, and the context is in every signature and mask.
#[test]
fn members_shown_different_models_are_not_added_up() {
    let attack = |walls: Walls| {
        let mut others = world(walls.clone());
        // The victim's world: the same members and keys, another adapter digest in the context.
        let victims =
            Attempt::new(Digest([77; 32]), *others.attempt.params(), others.attempt.members().to_vec())
                .unwrap()
                .with_walls(walls);
        let at = usize::from(VICTIM);
        for (_, update) in others.updates.iter_mut().enumerate().filter(|(i, _)| *i != at) {
            update.fill(0);
        }
        let all = others.everyone();
        let (honest, theirs) = (Arc::new(victims), others.attempt.clone());
        for i in &all {
            others.attempt = if *i == VICTIM { honest.clone() } else { theirs.clone() };
            let body = others.start(*i);
            if others.say(*i, Step::Advertise, body).is_err() {
                // A collector of the attacker's own would take it; the members would not.
                let adverts = others.start(VICTIM);
                let mut list = vec![];
                for other in but(&all, &[VICTIM]) {
                    others.attempt = theirs.clone();
                    list.push(others.start(other));
                }
                list.insert(at, adverts);
                let refusal = others.clients[0]
                    .deliver(
                        Step::Share,
                        &join_list(Step::Share, &list),
                        &others.keys[0],
                        &mut others.rngs[0],
                    )
                    .unwrap_err();
                assert_eq!(refusal.check(), "A2");
                return false;
            }
        }
        others.attempt = theirs;
        others.close();
        others.share(&all);
        others.input(&all);
        others.vote(&all);
        others.unmask(&all);
        others.sum() == others.updates[at]
    };
    assert!(!attack(Walls::standing()));
    assert!(attack(Walls { context: false, ..Walls::standing() }));
}

/// Two vectors under one mask: the difference of two updates, in the clear, to nobody but the coordinator. In
/// the product nothing is left to mask a second vector with, and a restarted process has new keys, which no
/// peer knows.
#[test]
fn a_second_upload_under_the_same_masks_gives_the_difference() {
    let mut world = world(Walls::standing());
    let all = world.everyone();
    world.advertise(&all);
    world.share(&all);
    world.ready(VICTIM);
    let at = usize::from(VICTIM);
    let Participant::Ready(ready) = &world.clients[at] else { panic!() };
    // The wall down: round secrets were on disk, and a restarted client goes on with them, with a new lot.
    let restored = ready.snapshot();
    let first = world.mask(VICTIM);
    let ring = world.attempt.params().ring();
    let update = |values: &[u32]| RingVector::new(ring, values.to_vec()).unwrap();
    let other: Vec<u32> = (0..40).map(|i| i * 5 % 256).collect();
    let (_, second) = restored.mask(update(&other), &world.keys[at]).unwrap();

    let difference = |first: &[u8], second: &[u8]| -> Vec<u32> {
        let unpacked = |bytes: &[u8]| {
            let mut out = Vec::new();
            ring::unpack(ring, bytes, 40, &mut out).unwrap();
            out
        };
        let (first, second) = (unpacked(first), unpacked(second));
        first.iter().zip(&second).map(|(a, b)| a.wrapping_sub(*b) & ring.mask()).collect()
    };
    let wanted: Vec<u32> =
        world.updates[at].iter().zip(&other).map(|(a, b)| a.wrapping_sub(*b) & ring.mask()).collect();
    assert_eq!(difference(&first.chunks[0], &second.chunks[0]), wanted, "succeeds with the wall down");

    // The product: the same machine asked again has nothing to say.
    let again = world.clients[at].mask(update(&other), &world.keys[at]).unwrap_err();
    assert_eq!(again.check(), "T1");
    let deals = world.delivery(VICTIM);
    assert_eq!(world.show(VICTIM, &deals).unwrap_err().check(), "T1");
    // The product, restarted: new keys. Shown the deals of its former self, it refuses; it never masks.
    let mut restarted = World::with_attempt((*world.attempt).clone(), world.shape, SEED);
    restarted.rngs[at] = rng_of(SEED + 1, VICTIM);
    restarted.start(VICTIM);
    let adverts = world.collector.adverts().unwrap();
    let refusal = restarted.clients[at]
        .deliver(Step::Share, &adverts, &world.keys[at], &mut restarted.rngs[at])
        .unwrap_err();
    assert_eq!(refusal.check(), "A5");
}

/// Answers without votes: the coordinator shows every honest member another survivor set, each large enough,
/// so chosen that the shares it gets unmask a set that nobody was shown and that is below the minimum: the
/// vectors of two honest members, not of four.
#[test]
fn survivors_are_voted_before_masks_come_off() {
    // Five of seven honest members are left out by four each: with the three colluders' shares, seven.
    let honest: Vec<u16> = but(&(0..10).collect::<Vec<_>>(), &COLLUDERS);
    let target = [0, 1];
    let excluded: Vec<u16> = but(&honest, &target);
    // Member i is shown a set without three of the five, in turn: 7 * 3 = 21 >= 5 * 4.
    let shown = |i: usize| -> Vec<u16> {
        let without: Vec<u16> = (0..3).map(|k| excluded[(3 * i + k) % 5]).collect();
        but(&(0..10).collect::<Vec<_>>(), &without)
    };
    let attack = |walls| {
        let mut world = world(walls);
        let all = world.everyone();
        world.advertise(&all);
        world.share(&all);
        let mut adversary = Adversary::watching(&world);
        for i in &all {
            world.ready(*i);
            let input = world.mask(*i);
            world.upload(*i, input);
        }
        world.close();
        for (index, i) in honest.iter().enumerate() {
            let survivors = shown(index);
            assert!(survivors.len() >= usize::from(world.attempt.params().m_min()));
            let fake =
                VotesDelivery { headers: Digest([0; 32]), survivors: survivors.clone(), votes: vec![] };
            let at = usize::from(*i);
            let delivery = fake.bytes();
            let reply =
                world.clients[at].deliver(Step::Unmask, &delivery, &world.keys[at], &mut world.rngs[at]);
            match reply {
                Ok(Reply::Send(body)) => adversary.read_answer(&body, &survivors),
                Ok(Reply::UpdateWanted) => panic!(),
                Err(refusal) => assert_eq!(refusal.check(), "V5"),
            }
        }
        // The colluders know their own vectors; the rest of this sum is two honest members'.
        let members = [target.as_slice(), &COLLUDERS].concat();
        adversary.unmask(&world, &members) == world.expected_sum(&members)
    };
    assert!(!attack(Walls::standing()));
    assert!(attack(Walls { votes: false, ..Walls::standing() }));
}

/// Even so, no honest member's both kinds are ever known: one answer each, and twice the quorum is more than
/// there are answers.
#[test]
fn split_answers_do_not_open_a_single_member() {
    let mut world = world(Walls { votes: false, ..Walls::standing() });
    let all = world.everyone();
    world.advertise(&all);
    world.share(&all);
    let mut adversary = Adversary::watching(&world);
    for i in &all {
        world.ready(*i);
        let input = world.mask(*i);
        world.upload(*i, input);
    }
    world.close();
    let with: Vec<u16> = all.clone();
    let without = but(&all, &[VICTIM]);
    for i in but(&all, &COLLUDERS) {
        let survivors = if i % 2 == 0 { &with } else { &without };
        let fake = VotesDelivery { headers: Digest([0; 32]), survivors: survivors.clone(), votes: vec![] };
        let at = usize::from(i);
        let Ok(Reply::Send(body)) =
            world.clients[at].deliver(Step::Unmask, &fake.bytes(), &world.keys[at], &mut world.rngs[at])
        else {
            panic!()
        };
        adversary.read_answer(&body, survivors);
    }
    let known = [Kind::Mask, Kind::Seed].map(|kind| adversary.secret(VICTIM, kind).is_some());
    assert_ne!(known, [true, true]);
    assert_ne!(adversary.unmask(&world, &[VICTIM]), world.updates[usize::from(VICTIM)]);
}
