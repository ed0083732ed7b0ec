//! A good vector: every value of an attempt, computed by the manual's formulas and held against the library's bytes.

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

    fn advertise(&mut self) -> Value {
        let mut adverts = Vec::new();
        let mut all = Vec::new();
        for i in &self.inputs.speaks[0] {
            let ledger = &self.inputs.members[usize::from(*i)].ledger;
            let [sealing, masking, own] = self.keys(*i);
            let mut body = [head(1, 0), i.to_le_bytes().to_vec()].concat();
            [sealing, masking, own].iter().for_each(|pair| body.extend(pair.public));
            body.extend(ledger.length.to_le_bytes());
            body.extend(ledger.salted_head.0);
            let (digest, body) = self.signed(*i, "advert", body);
            assert_eq!(body, self.run.bodies[0][i], "advert of {i}");
            let pair = |pair: &Pair| json!({ "secret": hex::encode(pair.secret.to_bytes()), "public": hex::encode(pair.public) });
            adverts.push(json!({
                "position": i,
                "sealing_key": pair(sealing),
                "masking_key": pair(masking),
                "self_mask_seed": pair(own),
                "signed_digest": digest,
                "body": hex::encode(&body),
            }));
            all.extend(body);
        }
        self.step1 = h("consilium/1/step-1", &[&self.ctx, &all]);
        let count = (adverts.len() as u32).to_le_bytes();
        let delivery = [&head(2, 1)[..], &count, &all].concat();
        for shown in self.run.deliveries[1].values() {
            assert_eq!(&delivery, shown);
        }
        json!({
            "adverts": adverts,
            "step_1_hash": hex::encode(self.step1),
            "delivery": hex::encode(delivery),
        })
    }

    fn share(&mut self) -> Value {
        let dealers = &self.inputs.speaks[1];
        let (mut deals, mut all, mut trees) = (Vec::new(), Vec::new(), BTreeMap::new());
        let mut boxes: BTreeMap<(u16, u16), Vec<u8>> = BTreeMap::new();
        for dealer in dealers {
            let polynomials = self.polynomials(*dealer);
            let (mut dealt, mut leaves, mut rest) = (Vec::new(), Vec::new(), Vec::new());
            for recipient in 0..self.inputs.n() {
                if !self.inputs.speaks[0].contains(&recipient) {
                    leaves.push(h("consilium/1/deal/leaf", &[]));
                    continue;
                }
                let (value, entry, leaf) = self.deal_to(*dealer, recipient, &polynomials);
                dealt.push(value);
                leaves.push(leaf);
                rest.extend(&entry);
                boxes.insert((*dealer, recipient), entry);
            }
            let tree = Tree::new(leaves.clone());
            let header = [&head(2, 0)[..], &dealer.to_le_bytes(), &self.step1, &tree.root].concat();
            let (digest, header) = self.signed(*dealer, "deal", header);
            let body = [&header[..], &rest].concat();
            assert_eq!(body, self.run.bodies[1][dealer], "deal of {dealer}");
            deals.push(json!({
                "position": dealer,
                "masking_key_polynomial": scalars(&polynomials[0]),
                "self_mask_seed_polynomial": scalars(&polynomials[1]),
                "to": dealt,
                "leaves": list(&leaves),
                "root": hex::encode(tree.root),
                "signed_digest": digest,
                "header": hex::encode(&header),
                "body_length": body.len(),
                "body_sha256": hex::encode(sha256(&body)),
            }));
            all.extend(header);
            trees.insert(*dealer, tree);
        }
        self.step2 = h("consilium/1/step-2", &[&self.step1, &all]);
        let front = [&head(3, 1)[..], &(dealers.len() as u32).to_le_bytes(), &all].concat();
        let mut deliveries = Vec::new();
        for (recipient, shown) in &self.run.deliveries[2] {
            let mut delivery = front.clone();
            let mut paths = Map::new();
            for dealer in dealers.iter().filter(|dealer| *dealer != recipient) {
                let path = trees[dealer].path(usize::from(*recipient));
                delivery.extend(&boxes[&(*dealer, *recipient)]);
                path.iter().for_each(|sibling| delivery.extend(sibling));
                paths.insert(dealer.to_string(), json!(list(&path)));
            }
            assert_eq!(&delivery, shown, "deals to {recipient}");
            deliveries.push(json!({
                "to": recipient,
                "paths": paths,
                "delivery_length": delivery.len(),
                "delivery_sha256": hex::encode(sha256(&delivery)),
            }));
        }
        json!({ "deals": deals, "step_2_hash": hex::encode(self.step2), "deliveries": deliveries })
    }

    /// Constant terms first: the masking key's and the self-mask seed's.
    fn polynomials(&self, dealer: u16) -> [Vec<Scalar>; 2] {
        let [_, masking, own] = self.keys(dealer);
        let draws = &self.inputs.members[usize::from(dealer)].draws.coefficients;
        [(masking, &draws[0]), (own, &draws[1])]
            .map(|(pair, draws)| [pair.secret].into_iter().chain(draws.iter().map(scalar)).collect())
    }

    /// The value for the vector, the bytes in the body, and the leaf.
    fn deal_to(
        &mut self,
        dealer: u16,
        recipient: u16,
        polynomials: &[Vec<Scalar>; 2],
    ) -> (Value, Vec<u8>, [u8; 32]) {
        let salt = self.inputs.members[usize::from(dealer)].draws.salts[usize::from(recipient)];
        let (from, to) = (self.id(dealer).as_bytes(), self.id(recipient).as_bytes());
        let shares = [0, 1].map(|kind| evaluate(&polynomials[kind], u64::from(recipient) + 1));
        let salts = KINDS.map(|kind| hkdf(&salt, &h(&format!("consilium/1/salt-{kind}"), &[])));
        let commitments = [0, 1].map(|kind| {
            let label = format!("consilium/1/open-{}", KINDS[kind]);
            h(&label, &[&self.ctx, from, to, &shares[kind], &salts[kind]])
        });
        let mut value = json!({
            "position": recipient,
            "share_of_masking_key": hex::encode(shares[0]),
            "share_of_self_mask_seed": hex::encode(shares[1]),
            "salt": hex::encode(salt),
            "salt_mask": hex::encode(salts[0]),
            "salt_seed": hex::encode(salts[1]),
            "commitment_mask": hex::encode(commitments[0]),
            "commitment_seed": hex::encode(commitments[1]),
        });
        let mut sealed = Vec::new();
        if dealer != recipient {
            let (own, peer) = (self.keys(dealer)[0], self.keys(recipient)[0].public);
            let shared = own.agree(&peer);
            let info = h("consilium/1/seal", &[&self.ctx, &self.step1, from, to, &own.public, &peer]);
            let key: [u8; 32] = hkdf(&shared, &info);
            let associated = [&self.ctx[..], &self.step1, &sized(from), &sized(to)].concat();
            let opening = [shares[0], shares[1], salt].concat();
            sealed = manual::seal(&key, &opening, &associated);
            for (name, bytes) in [
                ("shared_secret", &shared[..]),
                ("hkdf_info", &info),
                ("sealing_key", &key),
                ("associated_data", &associated),
                ("plaintext", &opening),
                ("sealed", &sealed),
            ] {
                value[name] = json!(hex::encode(bytes));
            }
        }
        self.openings.insert((dealer, recipient), Opening { shares, salts });
        let leaf = h("consilium/1/deal/leaf", &[&sha256(&sealed), &commitments[0], &commitments[1]]);
        (value, [sealed, commitments.concat()].concat(), leaf)
    }

    /// The seed of a member's self-mask, with what it is derived from.
    fn self_mask(&self, member: u16) -> ([u8; 48], Value) {
        let info = h("consilium/1/self-mask", &[&self.ctx, &self.step2, self.id(member).as_bytes()]);
        let secret = self.keys(member)[2].secret.to_bytes();
        let seed = hkdf(&secret, &info);
        (
            seed,
            json!({ "kind": "self", "sign": "+", "hkdf_key": hex::encode(secret), "hkdf_info": hex::encode(info) }),
        )
    }

    /// The seed of the mask between two members and which way it goes into `member`'s vector.
    fn pair_mask(&self, member: u16, peer: u16) -> ([u8; 48], Value) {
        let (low, high) = (member.min(peer), member.max(peer));
        let (low_key, high_key) = (self.keys(low)[1].public, self.keys(high)[1].public);
        let (low_id, high_id) = (self.id(low).as_bytes(), self.id(high).as_bytes());
        let items: [&[u8]; 6] = [&self.ctx, &self.step2, low_id, high_id, &low_key, &high_key];
        let info = h("consilium/1/pair-mask", &items);
        let shared = self.keys(member)[1].agree(&self.keys(peer)[1].public);
        let sign = if member < peer { "+" } else { "-" };
        let value = json!({
            "kind": "pair", "with": peer, "sign": sign, "hkdf_key": hex::encode(shared), "hkdf_info": hex::encode(info),
        });
        (hkdf(&shared, &info), value)
    }

    /// Every mask of one member: seeds, values for the vector, and whether it is added.
    fn masks(&self, member: u16) -> Vec<([u8; 48], Value)> {
        let peers = self.inputs.speaks[1].iter().filter(|peer| **peer != member);
        [self.self_mask(member)]
            .into_iter()
            .chain(peers.map(|peer| self.pair_mask(member, *peer)))
            .map(|(seed, mut value)| {
                value["seed"] = json!(hex::encode(seed));
                value["keystream_start"] = json!(hex::encode(manual::keystream(&seed, 48)));
                (seed, value)
            })
            .collect()
    }

    fn input(&mut self) -> Value {
        let ring = u32::MAX >> (32 - self.inputs.bits);
        let (mut members, mut all) = (Vec::new(), Vec::new());
        for i in &self.inputs.speaks[1] {
            let masks = self.masks(*i);
            let values: Vec<&Value> = masks.iter().map(|(_, value)| value).collect();
            let mut shown = json!({ "position": i, "masks": values });
            if self.inputs.speaks[2].contains(i) {
                let mut masked = self.inputs.update(*i);
                shown["update"] = elements(&masked);
                for (seed, value) in &masks {
                    add(&mut masked, &manual::mask(seed, masked_len(self.inputs)), value["sign"] == "-");
                }
                masked.iter_mut().for_each(|element| *element &= ring);
                let header = self.input_header(*i, &masked, &mut shown);
                all.extend(header);
            }
            members.push(shown);
        }
        self.headers = h("consilium/1/headers", &[&self.step2, &all]);
        let survivors = &self.inputs.speaks[2];
        let delivery = [&head(4, 1)[..], &(survivors.len() as u32).to_le_bytes(), &all].concat();
        for shown in self.run.deliveries[3].values() {
            assert_eq!(&delivery, shown);
        }
        json!({
            "members": members,
            "survivors": survivors,
            "headers_hash": hex::encode(self.headers),
            "delivery": hex::encode(delivery),
        })
    }

    /// Packs and signs a masked vector; adds what it took to `shown`; gives the header.
    fn input_header(&self, member: u16, masked: &[u32], shown: &mut Value) -> Vec<u8> {
        let packed: Vec<Vec<u8>> =
            masked.chunks(CHUNK_ELEMENTS).map(|chunk| manual::pack(self.inputs.bits, chunk)).collect();
        assert_eq!(packed, self.run.chunks[&member], "vector of {member}");
        let digests: Vec<[u8; 32]> = packed.iter().map(|chunk| sha256(chunk)).collect();
        let leaves: Vec<_> = digests.iter().map(|digest| h("consilium/1/chunks/leaf", &[digest])).collect();
        let root = Tree::new(leaves.clone()).root;
        let total: usize = packed.iter().map(Vec::len).sum();
        let header =
            [&head(3, 0)[..], &member.to_le_bytes(), &self.step2, &root, &(total as u64).to_le_bytes()]
                .concat();
        let (digest, header) = self.signed(member, "input", header);
        let body = [&header[..], &digests.concat()].concat();
        assert_eq!(body, self.run.bodies[2][&member], "input of {member}");
        shown["masked"] = elements(masked);
        shown["chunk_lengths"] = json!(packed.iter().map(Vec::len).collect::<Vec<_>>());
        if masked.len() <= SHOWN {
            shown["chunks"] = json!(packed.iter().map(hex::encode).collect::<Vec<_>>());
        }
        shown["chunk_digests"] = json!(list(&digests));
        shown["chunk_leaves"] = json!(list(&leaves));
        shown["chunk_root"] = json!(hex::encode(root));
        shown["signed_digest"] = json!(digest);
        shown["body"] = json!(hex::encode(body));
        header
    }

    fn vote(&mut self) -> Value {
        let survivors = &self.inputs.speaks[2];
        self.ballot =
            [&head(4, 0)[..], &self.step1, &self.step2, &self.headers, &manual::positions(survivors)]
                .concat();
        let voters = &self.inputs.speaks[3];
        let (mut votes, mut all) = (Vec::new(), (voters.len() as u32).to_le_bytes().to_vec());
        for i in voters {
            let (digest, body) = self.signed(*i, "vote", self.ballot.clone());
            assert_eq!(body, self.run.bodies[3][i], "vote of {i}");
            all.extend(i.to_le_bytes());
            all.extend(&body[body.len() - 64..]);
            votes.push(json!({ "position": i, "signed_digest": digest, "body": hex::encode(body) }));
        }
        let delivery = [&head(5, 1)[..], &self.headers, &manual::positions(survivors), &all].concat();
        for shown in self.run.deliveries[4].values() {
            assert_eq!(&delivery, shown);
        }
        json!({ "ballot": hex::encode(&self.ballot), "votes": votes, "delivery": hex::encode(delivery) })
    }

    fn unmask(&mut self) -> Value {
        let answers: Vec<Value> = self.inputs.speaks[4].iter().map(|i| self.answer(*i)).collect();
        let quorum = usize::from(self.inputs.quorum());
        // The collector puts the secrets together from the first answers by position.
        let used: Vec<u16> = self.inputs.speaks[4].iter().take(quorum).copied().collect();
        let parties: Vec<u64> = used.iter().map(|i| u64::from(*i) + 1).collect();
        let weights: Vec<Scalar> = parties.iter().map(|x| manual::weight(*x, &parties)).collect();
        let (mut secrets, mut bytes, mut left) = (Vec::new(), Vec::new(), Vec::new());
        for dealer in &self.inputs.speaks[1] {
            let kind = self.kind(*dealer);
            let shares = used.iter().map(|i| self.openings[&(*dealer, *i)].shares[kind]);
            let secret: Scalar = weights
                .iter()
                .zip(shares)
                .map(|(weight, share)| weight * Scalar::from_canonical_bytes(share).unwrap())
                .sum();
            assert_eq!(secret, self.keys(*dealer)[1 + kind].secret, "secret of {dealer}");
            bytes.extend(secret.to_bytes());
            secrets.push(
                json!({ "dealer": dealer, "kind": KINDS[kind], "secret": hex::encode(secret.to_bytes()) }),
            );
            left.extend(self.left_over(*dealer));
        }
        let record = self.record(&bytes);
        let (masked_sum, sum) = self.sums(&left);
        json!({
            "answers": answers,
            "reconstructed_from": used,
            "lagrange_weights": scalars(&weights),
            "secrets": secrets,
            "masks_in_the_sum": left.into_iter().map(|(_, value)| value).collect::<Vec<_>>(),
            "masked_sum": elements(&masked_sum),
            "sum": elements(&sum),
            "record": hex::encode(record),
        })
    }

    /// 0: a share of the masking key is asked for; 1: of the self-mask seed.
    fn kind(&self, dealer: u16) -> usize {
        usize::from(self.inputs.speaks[2].contains(&dealer))
    }

    fn answer(&self, i: u16) -> Value {
        let mut body = [&head(5, 0)[..], &i.to_le_bytes(), &self.headers].concat();
        let mut released = Vec::new();
        for dealer in &self.inputs.speaks[1] {
            let (opening, kind) = (&self.openings[&(*dealer, i)], self.kind(*dealer));
            body.extend(opening.shares[kind]);
            body.extend(opening.salts[kind]);
            released.push(json!({
                "dealer": dealer,
                "kind": KINDS[kind],
                "share": hex::encode(opening.shares[kind]),
                "salt": hex::encode(opening.salts[kind]),
            }));
        }
        let (digest, body) = self.signed(i, "answer", body);
        assert_eq!(body, self.run.bodies[4][&i], "answer of {i}");
        json!({ "position": i, "released": released, "signed_digest": digest, "body": hex::encode(body) })
    }

    /// The masks of one dealer that do not cancel in the sum, as they went in.
    fn left_over(&self, dealer: u16) -> Vec<([u8; 48], Value)> {
        let survivors = &self.inputs.speaks[2];
        let masks = if survivors.contains(&dealer) {
            vec![(dealer, self.self_mask(dealer))]
        } else {
            survivors.iter().map(|survivor| (*survivor, self.pair_mask(*survivor, dealer))).collect()
        };
        masks
            .into_iter()
            .map(|(of, (seed, mut value))| {
                value["of"] = json!(of);
                value["seed"] = json!(hex::encode(seed));
                (seed, value)
            })
            .collect()
    }

    fn record(&self, secrets: &[u8]) -> Vec<u8> {
        let adverts = self.run.deliveries[1].values().next().unwrap();
        let deals = self.run.deliveries[2].values().next().unwrap();
        let front = &deals[..7 + 133 * self.inputs.speaks[1].len()];
        let headers = self.run.deliveries[3].values().next().unwrap();
        let votes = self.run.deliveries[4].values().next().unwrap();
        let mut record = [&[1][..], &self.ctx].concat();
        [&adverts[..], front, headers, votes].iter().for_each(|part| record.extend(sized(part)));
        record.extend(secrets);
        assert_eq!(record, self.run.collector.revealed().unwrap().public_record());
        record
    }

    /// The sum of the masked vectors, and the sum without masks.
    fn sums(&self, left: &[([u8; 48], Value)]) -> (Vec<u32>, Vec<u32>) {
        let ring = u32::MAX >> (32 - self.inputs.bits);
        let length = masked_len(self.inputs);
        let (mut plain, mut masked) = (vec![0; length], vec![0; length]);
        for survivor in &self.inputs.speaks[2] {
            add(&mut plain, &self.inputs.update(*survivor), false);
            add(&mut masked, &self.inputs.update(*survivor), false);
            for (seed, value) in self.masks(*survivor) {
                add(&mut masked, &manual::mask(&seed, length), value["sign"] == "-");
            }
        }
        let mut sum = masked.clone();
        for (seed, value) in left {
            add(&mut sum, &manual::mask(seed, length), value["sign"] == "+");
        }
        [&mut plain, &mut masked, &mut sum].into_iter().flatten().for_each(|element| *element &= ring);
        assert_eq!(sum, plain);
        assert_eq!(sum, self.run.sum());
        (masked, sum)
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
