//! Bad vectors: bytes that must be refused, each with the check that refuses them.

mod bodies;
mod deliveries;
mod papers;

use serde_json::Value;

use crate::{
    inputs::{Inputs, Shape},
    manual,
    run::Run,
};

pub const FILES: [&str; 4] =
    ["bad-deliveries.json", "bad-bodies.json", "bad-complaints.json", "bad-records.json"];

/// The bad vectors, made anew.
pub fn write() -> Vec<(&'static str, Value)> {
    let values = [deliveries::write(), bodies::write(), papers::complaints(), papers::records()];
    FILES.into_iter().zip(values).collect()
}

/// The attempt they all belong to: four members, three are a quorum, nobody drops out.
fn inputs(name: &str, about: &str) -> Inputs {
    let shape = Shape { n: 4, t_c: 1, bits: 20, dimension: 5, silent: [&[]; 5], answers: &[] };
    Inputs::draw(name, about, &shape, 200)
}

// The formats, as far as forging needs them.

const HEAD: usize = 3;
const ADVERT: usize = 205;
const DEAL_HEADER: usize = 133;
const SEALED: usize = 112;
const INPUT_HEADER: usize = 141;
/// Where the three keys of an advert stand.
const KEYS: [usize; 3] = [5, 37, 69];

/// The items of a delivery that is a list.
fn split(delivery: &[u8], item: usize) -> Vec<Vec<u8>> {
    let count = u32::from_le_bytes(delivery[HEAD..HEAD + 4].try_into().unwrap()) as usize;
    delivery[HEAD + 4..].chunks(item).take(count).map(<[u8]>::to_vec).collect()
}

fn join(opens: u8, items: &[Vec<u8>]) -> Vec<u8> {
    let count = (items.len() as u32).to_le_bytes();
    [&manual::head(opens, 1)[..], &count, &items.concat()].concat()
}

/// The headers and parcels of a deals delivery.
fn split_deals(delivery: &[u8]) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let headers = split(delivery, DEAL_HEADER);
    let rest = &delivery[HEAD + 4 + headers.len() * DEAL_HEADER..];
    let parcels = rest.chunks(rest.len() / (headers.len() - 1)).map(<[u8]>::to_vec).collect();
    (headers, parcels)
}

fn join_deals(headers: &[Vec<u8>], parcels: &[Vec<u8>]) -> Vec<u8> {
    [join(3, headers), parcels.concat()].concat()
}

/// Signs `body` as a member.
fn sign(inputs: &Inputs, run: &Run, i: u16, what: &str, body: &[u8]) -> Vec<u8> {
    let member = &inputs.members[usize::from(i)];
    let ctx = run.attempt.ctx().as_bytes();
    [body, &manual::sign(&member.signing_seed, what, ctx, &member.id, body).1].concat()
}

/// Takes the signature off the signed part of a body, changes what it covers, and signs again.
fn resign(
    inputs: &Inputs,
    run: &Run,
    i: u16,
    step: u8,
    body: &[u8],
    change: impl FnOnce(&mut Vec<u8>),
) -> Vec<u8> {
    let (end, what) = match step {
        1 => (ADVERT, "advert"),
        2 => (DEAL_HEADER, "deal"),
        3 => (INPUT_HEADER, "input"),
        4 => (body.len(), "vote"),
        _ => (body.len(), "answer"),
    };
    let mut signed = body[..end - 64].to_vec();
    change(&mut signed);
    [sign(inputs, run, i, what, &signed), body[end..].to_vec()].concat()
}

/// The dealer's box and commitments for one recipient replaced, under a new root that the dealer signs.
fn redeal(
    inputs: &Inputs,
    run: &Run,
    dealer: u16,
    recipient: u16,
    change: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>),
) -> Vec<u8> {
    let (header, mut rest) = run.bodies[1][&dealer].split_at(DEAL_HEADER);
    let (mut out, mut leaves, mut change) = (Vec::new(), Vec::new(), Some(change));
    for i in 0..inputs.n() {
        let (sealed, after) = rest.split_at(if i == dealer { 0 } else { SEALED });
        let (commitments, after) = after.split_at(64);
        rest = after;
        let (mut sealed, mut commitments) = (sealed.to_vec(), commitments.to_vec());
        if i == recipient
            && let Some(change) = change.take()
        {
            change(&mut sealed, &mut commitments);
        }
        let parts: [&[u8]; 3] = [&manual::sha256(&sealed), &commitments[..32], &commitments[32..]];
        leaves.push(manual::h("consilium/1/deal/leaf", &parts));
        out.extend([sealed, commitments].concat());
    }
    let root = manual::Tree::new(leaves).root;
    let deal = [header, &out].concat();
    resign(inputs, run, dealer, 2, &deal, |signed| {
        let at = signed.len() - 32;
        signed[at..].copy_from_slice(&root);
    })
}

/// Seals `content` from `dealer` to `recipient`.
fn seal(inputs: &Inputs, run: &Run, dealer: u16, recipient: u16, content: &[u8]) -> Vec<u8> {
    let pair = |i: u16| {
        let draw = &inputs.members[usize::from(i)].draws.keys[0];
        manual::Pair::of(manual::scalar(draw))
    };
    let (own, peer) = (pair(dealer), pair(recipient).public);
    let ctx = run.attempt.ctx().as_bytes();
    let (step1, id) = (step_hash(run, 1), |i: u16| inputs.members[usize::from(i)].id.as_bytes());
    let (from, to) = (id(dealer), id(recipient));
    let info = manual::h("consilium/1/seal", &[ctx, &step1, from, to, &own.public, &peer]);
    let associated = [&ctx[..], &step1, &manual::sized(from), &manual::sized(to)].concat();
    manual::seal(&manual::hkdf(&own.agree(&peer), &info), content, &associated)
}

/// The hash of step 1 or 2, as member 0 signed it in the step after.
fn step_hash(run: &Run, step: usize) -> [u8; 32] {
    run.bodies[step][&0][HEAD + 2..HEAD + 34].try_into().unwrap()
}

/// Votes of `voters` on `survivors`, all properly signed.
fn votes_on(inputs: &Inputs, run: &Run, survivors: &[u16], voters: &[u16]) -> Vec<u8> {
    let vote = &run.bodies[3][&0];
    let hashes = &vote[HEAD..HEAD + 96];
    let ballot = [&manual::head(4, 0)[..], hashes, &manual::positions(survivors)].concat();
    let mut delivery = [&manual::head(5, 1)[..], &hashes[64..], &manual::positions(survivors)].concat();
    delivery.extend((voters.len() as u32).to_le_bytes());
    for i in voters {
        let signed = sign(inputs, run, *i, "vote", &ballot);
        delivery.extend(i.to_le_bytes());
        delivery.extend(&signed[ballot.len()..]);
    }
    delivery
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes
}

/// The checks that the cases must reach, and nothing beside them.
fn assert_covers(cases: &[Value], letters: &[(&str, u32)]) {
    let mut wanted: Vec<String> =
        letters.iter().flat_map(|(letter, last)| (1..=*last).map(move |i| format!("{letter}{i}"))).collect();
    let mut found: Vec<String> =
        cases.iter().map(|case| case["check"].as_str().unwrap().to_owned()).collect();
    wanted.sort();
    found.sort();
    found.dedup();
    assert_eq!(found, wanted);
}
