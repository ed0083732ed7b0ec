//! A whole attempt around one real client: everything that everybody says, made before anything is measured.
//!
//! Position 0 is a real client. The others are generated: their keys, signatures, shares, commitments and roots are
//! true. What is saved is what nobody but they could see. They share their secrets by polynomials of degree one, which
//! are as good as any to whoever puts them together. Of their boxes only those to the real client are sealed; the
//! coordinator cannot open one and carries random bytes of the same length under a true root. Their vectors carry the
//! masks that do not cancel among themselves.

use std::{num::NonZeroUsize, sync::Arc};

use chacha20::ChaCha20Rng;
use consilium_crypto::{
    digest::Digest,
    group::{KeyPair, PublicPoint, random_scalar},
    mask::Sign,
    merkle::Tree,
    ring::{self, RingVector, RingWidth},
    secagg::{
        Attempt, CHUNK_ELEMENTS, LedgerHead, Member, MemberId, Params, Position, Step,
        client::{Participant, Reply},
        coordinator::Collector,
    },
    sign::SigningKey,
};
use curve25519_dalek::scalar::Scalar;
use rand_core::{Rng, SeedableRng};

use crate::{
    Result,
    messages::{self, DEAL_HEADER, Kind, SEALED},
    vectors::Vectors,
};

/// The numbers of an attempt.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub n: u16,
    pub dimension: u32,
    /// Members that deal their shares and are not heard of again.
    pub dropped: u16,
    pub bits: u32,
}

impl Shape {
    pub fn survivors(&self) -> u16 {
        self.n - self.dropped
    }
}

/// One attempt, said from beginning to end.
pub struct Cohort {
    pub shape: Shape,
    pub attempt: Arc<Attempt>,
    pub keys: Vec<SigningKey>,
    /// By step, from 1: everybody's bodies, by position.
    pub bodies: [Vec<Vec<u8>>; 6],
    /// By step, from 1: what the real client is shown.
    pub shown: [Vec<u8>; 6],
    pub vectors: Vectors,
    /// The exact sum, when the vectors are whole.
    pub sum: Option<Vec<u32>>,
}

/// A generated member's secrets.
struct Keys {
    seal: KeyPair,
    mask: KeyPair,
    own: KeyPair,
}

impl Keys {
    fn publics(&self) -> [&PublicPoint; 3] {
        [self.seal.public(), self.mask.public(), self.own.public()]
    }
}

/// The real client's generator: it draws the same in every run, so that one set of messages serves them all.
pub fn client_rng() -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(1)
}

pub fn ledger() -> LedgerHead {
    LedgerHead { length: 0, salted_head: Digest([0; 32]) }
}

/// A member's update: small numbers that are easily summed.
fn update(member: u16, dimension: u32) -> impl Iterator<Item = u32> {
    (0..dimension).map(move |i| i.wrapping_mul(2_654_435_761).rotate_left(u32::from(member)) & 0xffff)
}

pub fn client_update(shape: &Shape) -> Result<RingVector> {
    Ok(RingVector::reduced(RingWidth::new(shape.bits)?, update(0, shape.dimension).collect()))
}

impl Cohort {
    /// Plays the attempt. `whole`: every survivor has a vector of its own and the sum is known; otherwise vectors are
    /// pieces of one pool, for sizes that no memory holds.
    pub fn play(shape: Shape, whole: bool) -> Result<Self> {
        let t_c = Params::default_colluders(shape.n);
        let m_min = (shape.n + t_c) / 2 + 1;
        let params = Params::new(shape.n, t_c, m_min, RingWidth::new(shape.bits)?, shape.dimension)?;
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let keys: Vec<SigningKey> = (0..shape.n).map(|_| SigningKey::generate(&mut rng)).collect();
        let members = keys
            .iter()
            .enumerate()
            .map(|(i, key)| {
                Ok(Member { id: MemberId::new(&format!("org-{i:04}"))?, key: key.verifying_key() })
            })
            .collect::<Result<_>>()?;
        let attempt = Arc::new(Attempt::new(Digest::of(b"cost"), params, members)?);
        let others = (1..shape.n)
            .map(|_| Ok(Keys { seal: pair(&mut rng)?, mask: pair(&mut rng)?, own: pair(&mut rng)? }))
            .collect::<Result<_>>()?;
        Play { shape, attempt, keys, others }.whole(whole)
    }
}

fn pair(rng: &mut ChaCha20Rng) -> Result<KeyPair> {
    Ok(KeyPair::generate(rng)?)
}

/// An attempt being played.
struct Play {
    shape: Shape,
    attempt: Arc<Attempt>,
    keys: Vec<SigningKey>,
    /// From position 1 on.
    others: Vec<Keys>,
}

/// A share and the salt that opens its commitment.
type Released = [u8; 64];

impl Play {
    fn whole(self, whole: bool) -> Result<Cohort> {
        let (shape, attempt) = (self.shape, self.attempt.clone());
        let (n, survivors) = (shape.n, shape.survivors());
        let mut collector = Collector::new(attempt.clone());
        let mut rng = client_rng();
        let key = &self.keys[0];

        let (mut client, own) = Participant::start(attempt.clone(), Position(0), key, ledger(), &mut rng)?;
        let [client_seal, client_mask, _] = messages::advertised(&own);
        let mut adverts = vec![own];
        adverts.extend((1..n).map(|i| self.sign(i, 1, messages::advert(i, self.of(i).publics()))));
        let shown_adverts = close(&mut collector, Step::Advertise, &adverts)?;
        let step1 = messages::step_hash("consilium/1/step-1", attempt.ctx(), adverts.iter());

        let own = body(client.deliver(Step::Share, &shown_adverts, key, &mut rng)?)?;
        let mut released =
            vec![(1..n).map(|i| self.opened(&step1, &client_seal, i, &own)).collect::<Vec<Released>>()];
        // The client's own place: it answers for itself.
        released[0].insert(0, [0; 64]);
        let mut deals = vec![own];
        for (deal, shares) in on_all_cores(1..n, |dealer| self.deal(&step1, &client_seal, dealer)) {
            deals.push(deal);
            released.push(shares);
        }
        let shown_deals = close(&mut collector, Step::Share, &deals)?;
        let headers = deals.iter().map(|deal| &deal[..DEAL_HEADER]);
        let step2 = messages::step_hash("consilium/1/step-2", &step1, headers);

        client.deliver(Step::Input, &shown_deals, key, &mut rng)?;
        let own = client.mask(client_update(&shape)?, key)?;
        let vectors = if whole {
            let others = on_all_cores(1..survivors, |i| self.vector(&step2, &client_mask, i));
            Vectors::whole(own.chunks, others)
        } else {
            Vectors::pooled(own.chunks, &attempt)
        };
        let mut inputs = vec![own.header];
        inputs.extend(on_all_cores(1..survivors, |i| {
            let digests = vectors.digests(i);
            let header = messages::input_header(i, &step2, &digests, attempt.params().total_len());
            let mut input = self.sign(i, 3, header);
            digests.iter().for_each(|digest| input.extend_from_slice(digest.as_bytes()));
            input
        }));
        let shown_headers = close(&mut collector, Step::Input, &inputs)?;
        let header = inputs[0].len() - Digest::LEN * attempt.params().chunk_count() as usize;
        let fronts = inputs.iter().map(|input| &input[..header]);
        let headers = messages::step_hash("consilium/1/headers", &step2, fronts);

        let own = body(client.deliver(Step::Vote, &shown_headers, key, &mut rng)?)?;
        let ballot = own[..own.len() - 64].to_vec();
        let mut votes = vec![own];
        votes.extend((1..survivors).map(|i| self.sign(i, 4, ballot.clone())));
        let shown_votes = close(&mut collector, Step::Vote, &votes)?;

        let mut answers = vec![body(client.deliver(Step::Unmask, &shown_votes, key, &mut rng)?)?];
        answers.extend((1..survivors).map(|i| {
            let mut answer = messages::answer(i, &headers);
            released.iter().for_each(|shares| answer.extend_from_slice(&shares[usize::from(i)]));
            self.sign(i, 5, answer)
        }));

        let sum = whole.then(|| {
            let mut sum = vec![0u32; shape.dimension as usize];
            for i in 0..survivors {
                sum.iter_mut()
                    .zip(update(i, shape.dimension))
                    .for_each(|(sum, it)| *sum = sum.wrapping_add(it));
            }
            sum.iter_mut().for_each(|value| *value &= attempt.params().ring().mask());
            sum
        });
        let nothing = Vec::new;
        Ok(Cohort {
            shape,
            attempt,
            keys: self.keys,
            bodies: [Vec::new(), adverts, deals, inputs, votes, answers],
            shown: [nothing(), nothing(), shown_adverts, shown_deals, shown_headers, shown_votes],
            vectors,
            sum,
        })
    }

    fn of(&self, i: u16) -> &Keys {
        &self.others[usize::from(i) - 1]
    }

    fn sign(&self, i: u16, step: usize, body: Vec<u8>) -> Vec<u8> {
        messages::signed(&self.attempt, i, &self.keys[usize::from(i)], step, body)
    }

    fn has_dropped(&self, i: u16) -> bool {
        i >= self.shape.survivors()
    }

    /// A generated dealer's deal, and what each recipient releases of it later.
    fn deal(&self, step1: &Digest, client_seal: &PublicPoint, dealer: u16) -> (Vec<u8>, Vec<Released>) {
        let keys = self.of(dealer);
        let mut rng = ChaCha20Rng::seed_from_u64(1 << 32 | u64::from(dealer));
        let slopes: [Scalar; 2] = std::array::from_fn(|_| *random_scalar(&mut rng).expose());
        let (mut entries, mut leaves, mut released) = (Vec::new(), Vec::new(), Vec::new());
        for recipient in 0..self.shape.n {
            let x = Scalar::from(recipient + 1);
            let mask = (keys.mask.secret().expose() + slopes[0] * x).to_bytes();
            let seed = (keys.own.secret().expose() + slopes[1] * x).to_bytes();
            let mut random = [0; SEALED];
            rng.fill_bytes(&mut random);
            let (mut salts, mut sealed) = ([[0; 32]; 2], random.to_vec());
            salts.iter_mut().for_each(|salt| rng.fill_bytes(salt));
            if recipient == 0 {
                let salt = salts[0];
                salts = [Kind::Mask, Kind::Seed].map(|kind| messages::kind_salt(&salt, kind));
                let shared = keys.seal.agree(client_seal);
                let (from, to) = ((dealer, keys.seal.public()), (0, client_seal));
                let (key, data) = messages::box_key(&self.attempt, step1, from, to, &shared);
                sealed = key.seal(&[mask, seed, salt].concat(), &data);
            } else if recipient == dealer {
                sealed.clear();
            }
            let place = (dealer, recipient);
            let c_mask = messages::commitment(&self.attempt, place, Kind::Mask, &mask, &salts[0]);
            let c_seed = messages::commitment(&self.attempt, place, Kind::Seed, &seed, &salts[1]);
            leaves.push(messages::deal_leaf(&sealed, &c_mask, &c_seed));
            for part in [sealed.as_slice(), c_mask.as_bytes(), c_seed.as_bytes()] {
                entries.extend_from_slice(part);
            }
            let (share, salt) = if self.has_dropped(dealer) { (mask, salts[0]) } else { (seed, salts[1]) };
            let mut both = [0; 64];
            both[..32].copy_from_slice(&share);
            both[32..].copy_from_slice(&salt);
            released.push(both);
        }
        let header = messages::deal_header(dealer, step1, &Tree::new(leaves).root());
        let mut deal = self.sign(dealer, 2, header);
        deal.append(&mut entries);
        (deal, released)
    }

    /// What a generated member releases of the real client's deal, out of the box sealed to it.
    fn opened(&self, step1: &Digest, client_seal: &PublicPoint, me: u16, deal: &[u8]) -> Released {
        let seal = &self.of(me).seal;
        let at = DEAL_HEADER + 64 + (usize::from(me) - 1) * (SEALED + 64);
        let (from, to) = ((0, client_seal), (me, seal.public()));
        let (key, data) = messages::box_key(&self.attempt, step1, from, to, &seal.agree(client_seal));
        let opening = key.open(&deal[at..at + SEALED], &data).expect("the client sealed it to this member");
        let (opening, mut released) = (opening.expose(), [0; 64]);
        released[..32].copy_from_slice(&opening[32..64]);
        let salt = opening[64..].try_into().expect("32 bytes");
        released[32..].copy_from_slice(&messages::kind_salt(&salt, Kind::Seed));
        released
    }

    /// A survivor's packed chunks. Masks between two generated survivors cancel in the sum and are left out.
    fn vector(&self, step2: &Digest, client_mask: &PublicPoint, me: u16) -> Vec<Vec<u8>> {
        let (attempt, keys) = (&self.attempt, self.of(me));
        let mut values: Vec<u32> = update(me, self.shape.dimension).collect();
        messages::self_mask(attempt, step2, me, &keys.own).apply(Sign::Add, 0, &mut values);
        let dropped = (self.shape.survivors()..self.shape.n).map(|i| (i, self.of(i).mask.public()));
        for peer in std::iter::once((0, client_mask)).chain(dropped) {
            let (sign, seed) = messages::pair_mask(attempt, step2, (me, &keys.mask), peer);
            seed.apply(sign, 0, &mut values);
        }
        let pack = |chunk: &[u32]| {
            let mut packed = Vec::new();
            ring::pack(attempt.params().ring(), chunk, &mut packed);
            packed
        };
        values.chunks(CHUNK_ELEMENTS).map(pack).collect()
    }
}

/// Hands a step's bodies to the collector and closes it; what the real client is then shown.
fn close(collector: &mut Collector, step: Step, bodies: &[Vec<u8>]) -> Result<Vec<u8>> {
    for (i, body) in (0..).zip(bodies) {
        collector.accept(Position(i), step, body)?;
        collector.input_complete(Position(i));
    }
    collector.close()?;
    collector.delivery(Position(0)).ok_or_else(|| "nothing to show".into())
}

fn body(reply: Reply) -> Result<Vec<u8>> {
    match reply {
        Reply::Send(body) => Ok(body),
        Reply::UpdateWanted => Err("an update is wanted too early".into()),
    }
}

/// `work` for each position, in order, spread over the machine.
fn on_all_cores<T: Send>(positions: std::ops::Range<u16>, work: impl Fn(u16) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let all: Vec<u16> = positions.collect();
    let work = &work;
    std::thread::scope(|scope| {
        let parts: Vec<_> = all
            .chunks(all.len().div_ceil(threads).max(1))
            .map(|part| scope.spawn(move || part.iter().map(|i| work(*i)).collect::<Vec<T>>()))
            .collect();
        parts.into_iter().flat_map(|part| part.join().expect("generating does not panic")).collect()
    })
}
