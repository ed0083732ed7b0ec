//! A whole attempt in one process: real clients, a real collector, a store of chunks, and a log of what was
//! said. Nothing here is random: a world is a function of its seed.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::Arc,
};

use chacha20::ChaCha20Rng;
use consilium_crypto::{
    codec::{Reader, Writer},
    digest::{Digest, Transcript},
    ring::{RingVector, RingWidth},
    secagg::{
        Attempt, LedgerHead, Member, MemberId, Params, Position, Refusal, Revealed, Step, chunk_digest,
        client::{MaskedInput, Participant, Reply},
        coordinator::{Collector, Fault},
        evidence::{Conviction, Offence, verify},
    },
    sign::{self, SigningKey},
};
use rand_core::{Rng, SeedableRng};

/// The numbers of a world.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub n: u16,
    pub t_c: u16,
    pub m_min: u16,
    pub bits: u32,
    pub dimension: u32,
}

impl Shape {
    /// Default colluders, `m_min` at the quorum, 20-bit ring.
    pub fn of(n: u16, dimension: u32) -> Self {
        let t_c = Params::default_colluders(n);
        Self { n, t_c, m_min: (n + t_c) / 2 + 1, bits: 20, dimension }
    }
}

/// What a coordinator would have on disk.
#[derive(Clone, Debug)]
pub enum Event {
    Said(Position, Step, Vec<u8>),
    Complete(Position),
    Closed,
}

pub struct World {
    pub shape: Shape,
    pub attempt: Arc<Attempt>,
    pub keys: Vec<SigningKey>,
    pub rngs: Vec<ChaCha20Rng>,
    pub clients: Vec<Participant>,
    pub collector: Collector,
    pub updates: Vec<Vec<u32>>,
    pub store: BTreeMap<(Position, u32), Vec<u8>>,
    pub log: Vec<Event>,
}

pub fn signing_key(seed: u8, index: u16) -> SigningKey {
    SigningKey::from_seed(Transcript::new("test-key").u64(seed.into()).u64(index.into()).finish().0)
}

pub fn attempt(shape: Shape, seed: u8) -> Attempt {
    let width = RingWidth::new(shape.bits).unwrap();
    let params = Params::new(shape.n, shape.t_c, shape.m_min, width, shape.dimension).unwrap();
    let members = (0..shape.n)
        .map(|i| Member {
            id: MemberId::new(&format!("org-{i:04}")).unwrap(),
            key: signing_key(seed, i).verifying_key(),
        })
        .collect();
    Attempt::new(Transcript::new("test-context").u64(seed.into()).finish(), params, members).unwrap()
}

impl World {
    pub fn new(shape: Shape, seed: u8) -> Self {
        Self::with_attempt(attempt(shape, seed), shape, seed)
    }

    pub fn with_attempt(attempt: Attempt, shape: Shape, seed: u8) -> Self {
        let attempt = Arc::new(attempt);
        let mask = attempt.params().ring().mask();
        let mut rng = ChaCha20Rng::seed_from_u64(u64::from(seed) << 32);
        let updates =
            (0..shape.n).map(|_| (0..shape.dimension).map(|_| rng.next_u32() & mask).collect()).collect();
        Self {
            shape,
            keys: (0..shape.n).map(|i| signing_key(seed, i)).collect(),
            rngs: (0..shape.n).map(|i| rng_of(seed, i)).collect(),
            clients: (0..shape.n).map(|_| Participant::Ended).collect(),
            collector: Collector::new(attempt.clone()),
            attempt,
            updates,
            store: BTreeMap::new(),
            log: Vec::new(),
        }
    }

    pub fn everyone(&self) -> Vec<u16> {
        (0..self.shape.n).collect()
    }

    /// A body reaches the collector and, if accepted, the log.
    pub fn say(&mut self, from: u16, step: Step, body: Vec<u8>) -> Result<(), Fault> {
        self.collector.accept(Position(from), step, &body)?;
        self.log.push(Event::Said(Position(from), step, body));
        Ok(())
    }

    pub fn close(&mut self) {
        self.collector.close().unwrap();
        self.log.push(Event::Closed);
    }

    pub fn start(&mut self, i: u16) -> Vec<u8> {
        let ledger = LedgerHead { length: 7, salted_head: Digest([9; 32]) };
        let at = usize::from(i);
        let (client, body) =
            Participant::start(self.attempt.clone(), Position(i), &self.keys[at], ledger, &mut self.rngs[at])
                .unwrap();
        self.clients[at] = client;
        body
    }

    pub fn advertise(&mut self, who: &[u16]) {
        for i in who {
            let body = self.start(*i);
            self.say(*i, Step::Advertise, body).unwrap();
        }
        self.close();
    }

    /// What the coordinator shows `i` now.
    pub fn delivery(&self, i: u16) -> Vec<u8> {
        self.collector.delivery(Position(i)).unwrap()
    }

    /// Shows `i` something in the open step.
    pub fn show(&mut self, i: u16, delivery: &[u8]) -> Result<Reply, Refusal> {
        let (step, at) = (self.collector.step(), usize::from(i));
        self.clients[at].deliver(step, delivery, &self.keys[at], &mut self.rngs[at])
    }

    /// Shows `i` the honest delivery and hands its word to the collector.
    pub fn turn(&mut self, i: u16) {
        let delivery = self.delivery(i);
        let Reply::Send(body) = self.show(i, &delivery).unwrap() else { panic!("update wanted") };
        self.say(i, self.collector.step(), body).unwrap();
    }

    pub fn share(&mut self, who: &[u16]) {
        who.iter().for_each(|i| self.turn(*i));
        self.close();
    }

    /// Shows `i` the deals, leaving it ready to mask.
    pub fn ready(&mut self, i: u16) {
        let delivery = self.delivery(i);
        assert_eq!(self.show(i, &delivery).unwrap(), Reply::UpdateWanted);
    }

    pub fn mask(&mut self, i: u16) -> MaskedInput {
        let at = usize::from(i);
        let update = RingVector::new(self.attempt.params().ring(), self.updates[at].clone()).unwrap();
        self.clients[at].mask(update, &self.keys[at]).unwrap()
    }

    /// Stores an uploaded vector, checking each chunk as a store would.
    pub fn upload(&mut self, i: u16, input: MaskedInput) {
        self.say(i, Step::Input, input.header).unwrap();
        for (index, chunk) in (0..).zip(input.chunks) {
            assert_eq!(self.collector.chunk_digest(Position(i), index), Some(chunk_digest(&chunk)));
            assert_eq!(self.collector.chunk_len(index), chunk.len());
            self.store.insert((Position(i), index), chunk);
        }
        self.collector.input_complete(Position(i));
        self.log.push(Event::Complete(Position(i)));
    }

    pub fn input(&mut self, who: &[u16]) {
        for i in who {
            self.ready(*i);
            let input = self.mask(*i);
            self.upload(*i, input);
        }
        self.close();
    }

    pub fn vote(&mut self, who: &[u16]) {
        self.share(who);
    }

    pub fn unmask(&mut self, who: &[u16]) {
        self.share(who);
    }

    pub fn survivors(&self) -> Vec<u16> {
        self.collector.survivors().iter().map(|p| p.0).collect()
    }

    /// A whole attempt: who speaks in each step.
    pub fn run(&mut self, who: [&[u16]; 5]) {
        self.advertise(who[0]);
        self.share(who[1]);
        self.input(who[2]);
        self.vote(who[3]);
        self.unmask(who[4]);
    }

    pub fn revealed(&self) -> &Revealed {
        self.collector.revealed().unwrap()
    }

    pub fn sum(&self) -> Vec<u32> {
        sum(self.revealed(), &self.store)
    }

    pub fn expected_sum(&self, survivors: &[u16]) -> Vec<u32> {
        let mask = self.attempt.params().ring().mask();
        let mut sum = vec![0u32; self.shape.dimension as usize];
        for i in survivors {
            for (sum, value) in sum.iter_mut().zip(&self.updates[usize::from(*i)]) {
                *sum = sum.wrapping_add(*value) & mask;
            }
        }
        sum
    }

    /// Signs a body as `i`, the manual's way.
    pub fn sign(&self, i: u16, what: &'static str, body: &[u8]) -> Vec<u8> {
        let id = &self.attempt.members()[usize::from(i)].id;
        let key = &self.keys[usize::from(i)];
        let signature = sign::sign(key, what, self.attempt.ctx(), id.as_str(), body);
        [body, &signature.0].concat()
    }
}

/// The collector's proofs are one, it convicts this member of this in anybody's eyes, and no altered copy convicts anybody.
#[track_caller]
pub fn convicts(world: &World, culprit: u16, offence: Offence) {
    let [proof] = world.collector.proofs() else { panic!("{:?}", world.collector.proofs()) };
    let conviction = Conviction { culprit: Position(culprit), offence };
    assert_eq!(proof.conviction, conviction);
    assert_eq!(verify(&world.attempt, &proof.evidence), Ok(conviction));
    let length = proof.evidence.len();
    for index in (0..length).step_by(1 + length / 97) {
        let mut bent = proof.evidence.clone();
        bent[index] ^= 1 << (index % 8);
        assert!(verify(&world.attempt, &bent).is_err(), "byte {index} of {length}");
    }
    assert!(verify(&world.attempt, &proof.evidence[..length - 1]).is_err());
    assert!(verify(&world.attempt, &[&proof.evidence[..], &[0]].concat()).is_err());
    // Nor does it convict anybody in another attempt of the same members.
    let elsewhere =
        Attempt::new(Digest([7; 32]), *world.attempt.params(), world.attempt.members().to_vec()).unwrap();
    assert!(verify(&elsewhere, &proof.evidence).is_err());
}

pub fn rng_of(seed: u8, index: u16) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(u64::from(seed) << 16 | u64::from(index))
}

pub fn sum(revealed: &Revealed, store: &BTreeMap<(Position, u32), Vec<u8>>) -> Vec<u32> {
    let (mut sum, mut chunk) = (Vec::new(), Vec::new());
    for index in 0..revealed.attempt().params().chunk_count() {
        let mut input = |who: Position, out: &mut Vec<u8>| {
            out.extend_from_slice(&store[&(who, index)]);
            Ok::<_, Infallible>(())
        };
        revealed.unmask_chunk(index, &mut input, &mut chunk).unwrap();
        sum.extend_from_slice(&chunk);
    }
    sum
}

/// `all` without `some`.
pub fn but(all: &[u16], some: &[u16]) -> Vec<u16> {
    let some: BTreeSet<_> = some.iter().collect();
    all.iter().filter(|i| !some.contains(i)).copied().collect()
}

// The byte formats, written from the manual and not from the code.

pub const HEAD: usize = 3;
pub const ADVERT: usize = 205;
pub const DEAL_HEADER: usize = 133;
pub const SEALED: usize = 112;
pub const INPUT_HEADER: usize = 141;

/// A delivery that is a list of bodies of one length.
pub fn split_list(delivery: &[u8], item: usize) -> Vec<Vec<u8>> {
    let mut r = Reader::new(&delivery[HEAD..]);
    let count = r.count("items", 1000, item).unwrap();
    (0..count).map(|_| r.raw("item", item).unwrap().to_vec()).collect()
}

pub fn join_list(opens: Step, items: &[Vec<u8>]) -> Vec<u8> {
    let mut w = Writer::new();
    w.u8(1).u8(opens.number()).u8(1).count(items.len());
    items.iter().for_each(|item| {
        w.raw(item);
    });
    w.finish()
}

/// The sender a member's body names.
pub fn named(body: &[u8]) -> u16 {
    u16::from_le_bytes([body[HEAD], body[HEAD + 1]])
}

/// A deals delivery, taken apart: headers, and for each other dealer its parcel.
pub fn split_deals(delivery: &[u8]) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let headers = split_list(delivery, DEAL_HEADER);
    let rest = &delivery[HEAD + 4 + headers.len() * DEAL_HEADER..];
    let parcel = rest.len() / (headers.len() - 1);
    (headers, rest.chunks(parcel).map(<[u8]>::to_vec).collect())
}

pub fn join_deals(headers: &[Vec<u8>], parcels: &[Vec<u8>]) -> Vec<u8> {
    [join_list(Step::Input, headers), parcels.concat()].concat()
}

/// A votes delivery, taken apart.
#[derive(Clone, Debug)]
pub struct VotesDelivery {
    pub headers: Digest,
    pub survivors: Vec<u16>,
    pub votes: Vec<(u16, [u8; 64])>,
}

impl VotesDelivery {
    pub fn parse(delivery: &[u8]) -> Self {
        let mut r = Reader::new(&delivery[HEAD..]);
        let headers = r.digest("headers").unwrap();
        let count = r.count("survivors", 1000, 2).unwrap();
        let survivors = (0..count).map(|_| r.u16("survivor").unwrap()).collect();
        let count = r.count("votes", 1000, 66).unwrap();
        let votes = (0..count).map(|_| (r.u16("voter").unwrap(), r.array("vote").unwrap())).collect();
        r.finish().unwrap();
        Self { headers, survivors, votes }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(1).u8(5).u8(1).digest(&self.headers).count(self.survivors.len());
        self.survivors.iter().for_each(|i| {
            w.u16(*i);
        });
        w.count(self.votes.len());
        self.votes.iter().for_each(|(i, vote)| {
            w.u16(*i).raw(vote);
        });
        w.finish()
    }
}

/// The ballot that votes sign.
pub fn ballot(step1: &Digest, step2: &Digest, headers: &Digest, survivors: &[u16]) -> Vec<u8> {
    let mut w = Writer::new();
    w.u8(1).u8(4).u8(0).digest(step1).digest(step2).digest(headers).count(survivors.len());
    survivors.iter().for_each(|i| {
        w.u16(*i);
    });
    w.finish()
}
