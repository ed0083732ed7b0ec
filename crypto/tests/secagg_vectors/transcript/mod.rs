//! A good vector: every value of an attempt, computed by the manual's formulas and held against the library's bytes.

mod deals;
mod masks;
mod opening;

use std::collections::BTreeMap;

use consilium_crypto::secagg::{CHUNK_ELEMENTS, SUITE};
use curve25519_dalek::scalar::Scalar;
use serde_json::{Map, Value, json};

use crate::{
    inputs::Inputs,
    manual::{self, Pair, Tree, evaluate, h, head, hkdf, scalar, sha256, sized},
    run::{Run, run},
};

/// Vectors longer than this show their two ends only.
const SHOWN: usize = 64;

/// The whole vector that follows from its inputs.
///
/// # Panics
///
/// When the library says anything other than the manual's formulas give.
pub fn transcript(inputs: &Inputs) -> Value {
    let run = run(inputs);
    let mut scribe = Scribe::new(inputs, &run);
    json!({
        "format": "consilium/1 secure aggregation, transcript",
        "name": inputs.name,
        "about": inputs.about,
        "inputs": inputs.to_json(),
        "context": scribe.context(),
        "step_1": scribe.advertise(),
        "step_2": scribe.share(),
        "step_3": scribe.input(),
        "step_4": scribe.vote(),
        "step_5": scribe.unmask(),
    })
}

/// The deal of a member that shares another masking key than the one it advertised, and is correct in everything else.
pub fn crooked_deal(inputs: &Inputs, dealer: u16) -> Vec<u8> {
    let run = crate::run::run_through(inputs, 2);
    let mut scribe = Scribe::new(inputs, &run);
    scribe.context();
    scribe.advertise();
    let mut polynomials = scribe.polynomials(dealer);
    polynomials[0][0] += Scalar::ONE;
    let (mut leaves, mut rest) = (Vec::new(), Vec::new());
    for recipient in 0..inputs.n() {
        let (_, entry, leaf) = scribe.deal_to(dealer, recipient, &polynomials);
        leaves.push(leaf);
        rest.extend(entry);
    }
    let header = [&head(2, 0)[..], &dealer.to_le_bytes(), &scribe.step1, &Tree::new(leaves).root].concat();
    [scribe.signed(dealer, "deal", header).1, rest].concat()
}

/// What one dealer deals to one recipient.
#[derive(Clone)]
struct Opening {
    shares: [[u8; 32]; 2],
    salts: [[u8; 32]; 2],
}

struct Scribe<'a> {
    inputs: &'a Inputs,
    run: &'a Run,
    ctx: [u8; 32],
    /// Sealing, masking, self-mask seed; for every member, whether it speaks or not.
    keys: Vec<[Pair; 3]>,
    step1: [u8; 32],
    step2: [u8; 32],
    headers: [u8; 32],
    ballot: Vec<u8>,
    /// By dealer and recipient.
    openings: BTreeMap<(u16, u16), Opening>,
}

const KINDS: [&str; 2] = ["mask", "seed"];

impl<'a> Scribe<'a> {
    fn new(inputs: &'a Inputs, run: &'a Run) -> Self {
        let keys = inputs.members.iter().map(|member| member.draws.keys.map(|draw| Pair::of(scalar(&draw))));
        Self {
            inputs,
            run,
            ctx: [0; 32],
            keys: keys.collect(),
            step1: [0; 32],
            step2: [0; 32],
            headers: [0; 32],
            ballot: Vec::new(),
            openings: BTreeMap::new(),
        }
    }

    fn id(&self, member: u16) -> &'a str {
        &self.inputs.members[usize::from(member)].id
    }

    fn keys(&self, member: u16) -> &[Pair; 3] {
        &self.keys[usize::from(member)]
    }

    /// Signs as a member; gives the digest and body with signature.
    fn signed(&self, member: u16, what: &str, body: Vec<u8>) -> (String, Vec<u8>) {
        let seed = &self.inputs.members[usize::from(member)].signing_seed;
        let (digest, signature) = manual::sign(seed, what, &self.ctx, self.id(member), &body);
        (hex::encode(digest), [&body[..], &signature].concat())
    }

    fn context(&mut self) -> Value {
        let inputs = self.inputs;
        let ids: Vec<&[u8]> = inputs.members.iter().map(|member| member.id.as_bytes()).collect();
        let (round, attempt) = (inputs.round.to_le_bytes(), inputs.attempt.to_le_bytes());
        let count = (ids.len() as u64).to_le_bytes();
        let mut items: Vec<&[u8]> =
            vec![SUITE.as_bytes(), &inputs.roster.0, &inputs.plan.0, &round, &attempt, &count];
        items.extend(ids);
        items.extend([&inputs.adapter.0[..], &inputs.optimizer.0]);
        let hashed = manual::preimage("consilium/1/context", &items);
        self.ctx = sha256(&hashed);
        assert_eq!(&self.ctx, self.run.attempt.ctx().as_bytes());
        let keys: Vec<String> = self.run.keys.iter().map(|key| key.verifying_key().to_string()).collect();
        json!({
            "suite": SUITE,
            "hashed_bytes": hex::encode(hashed),
            "ctx": hex::encode(self.ctx),
            "verifying_keys": keys,
            "quorum": inputs.quorum(),
        })
    }
}

fn masked_len(inputs: &Inputs) -> usize {
    inputs.dimension as usize
}

fn add(to: &mut [u32], vector: &[u32], negative: bool) {
    for (to, element) in to.iter_mut().zip(vector) {
        *to = if negative { to.wrapping_sub(*element) } else { to.wrapping_add(*element) };
    }
}

/// All elements of a short vector, both ends of a long one.
fn elements(vector: &[u32]) -> Value {
    if vector.len() <= SHOWN {
        return json!(vector);
    }
    let (first, last) = (&vector[..8], &vector[vector.len() - 8..]);
    let little: Vec<u8> = vector.iter().flat_map(|element| element.to_le_bytes()).collect();
    json!({ "first": first, "last": last, "sha256_of_u32_le": hex::encode(sha256(&little)) })
}

fn list(digests: &[[u8; 32]]) -> Vec<String> {
    digests.iter().map(hex::encode).collect()
}

fn scalars(scalars: &[Scalar]) -> Vec<String> {
    scalars.iter().map(|scalar| hex::encode(scalar.to_bytes())).collect()
}
