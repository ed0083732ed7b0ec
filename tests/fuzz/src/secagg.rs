//! The protocol's decoders: what a client, a collector, a judge and an auditor are given, and the primitives beneath.
//!
//! Everything happens in the attempt that the bad vectors belong to, so that these are seeds that get far.

use std::{
    cell::RefCell,
    sync::{Arc, OnceLock},
};

use consilium_crypto::{
    digest::Digest,
    group::{AgreementProof, KeyPair, PublicPoint, scalar_from_bytes},
    ring::{self as rings, RingVector, RingWidth},
    secagg::{
        Position, Revealed, Step,
        blame::judge,
        client::{Participant, Reply},
        coordinator::Collector,
    },
    sign::VerifyingKey,
};
use serde_json::Value;

use crate::{
    inputs::{Inputs, Tape},
    run::{Run, run},
    select, selected,
};

const CLIENT: u16 = 1;

struct World {
    inputs: Inputs,
    run: Run,
    deliveries: Value,
    bodies: Value,
    complaints: Value,
    records: Value,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let read = |text| serde_json::from_str::<Value>(text).unwrap();
        let deliveries = read(include_str!("../../../crypto/tests/vectors/secagg/bad-deliveries.json"));
        let inputs = Inputs::from_json(&deliveries);
        World {
            run: run(&inputs),
            inputs,
            deliveries,
            bodies: read(include_str!("../../../crypto/tests/vectors/secagg/bad-bodies.json")),
            complaints: read(include_str!("../../../crypto/tests/vectors/secagg/bad-complaints.json")),
            records: read(include_str!("../../../crypto/tests/vectors/secagg/bad-records.json")),
        }
    })
}

fn cases<'a>(vector: &'a Value, field: &'a str) -> impl Iterator<Item = (&'a Value, Vec<u8>)> {
    let cases = vector["cases"].as_array().unwrap();
    cases.iter().map(move |case| (case, hex::decode(case[field].as_str().unwrap()).unwrap()))
}

/// Which delivery, then its bytes, for a client that has seen the honest ones before it.
pub(crate) fn client(data: &[u8]) {
    let Some((which, delivery)) = select(data, 4) else { return };
    let World { inputs, run, .. } = world();
    let key = &run.keys[usize::from(CLIENT)];
    let member = &inputs.members[usize::from(CLIENT)];
    let shown = if which == 0 { positions(delivery, run.attempt.members().len()) } else { (0..4).collect() };
    let mut tape = Tape::new(&member.draws, CLIENT, &shown);
    let me = Position(CLIENT);
    let (mut client, _) = Participant::start(run.attempt.clone(), me, key, member.ledger, &mut tape).unwrap();
    let steps = [Step::Share, Step::Input, Step::Vote, Step::Unmask];
    for (step, honest) in steps.into_iter().zip(1..).take(which) {
        let reply = client.deliver(step, &run.deliveries[honest][&CLIENT], key, &mut tape).unwrap();
        mask(&mut client, reply);
    }
    match client.deliver(steps[which], delivery, key, &mut tape) {
        Ok(reply) => mask(&mut client, reply),
        Err(refusal) => {
            assert!(matches!(client, Participant::Ended), "a refused delivery ends it");
            assert!(!refusal.to_string().is_empty() && refusal.check().len() == 2);
            if let Some(complaint) = refusal.complaint() {
                // Only a dealer's own signature gets this far, and the vectors hold some.
                let adverts = &run.deliveries[1][&CLIENT];
                assert!(judge(&run.attempt, adverts, complaint).is_ok(), "an honest complaint convicts");
            }
        }
    }
}

/// Masks the update if that is what the reply asks for.
fn mask(client: &mut Participant, reply: Reply) {
    let World { inputs, run, .. } = world();
    if reply == Reply::UpdateWanted {
        let update = RingVector::new(run.attempt.params().ring(), inputs.update(CLIENT)).unwrap();
        client.mask(update, &run.keys[usize::from(CLIENT)]).unwrap();
    }
}

/// Whom a delivery of adverts shows, as far as it can be read: a client draws one salt for each.
fn positions(delivery: &[u8], most: usize) -> Vec<u16> {
    let adverts = delivery.get(7..).unwrap_or_default().chunks(205);
    adverts
        .take(most)
        .filter_map(|advert| Some(u16::from_le_bytes([*advert.get(3)?, *advert.get(4)?])))
        .filter(|i| *i < 4)
        .collect()
}

pub(crate) fn client_seeds() -> Vec<Vec<u8>> {
    let World { run, deliveries, .. } = world();
    let honest = (0..4).map(|which| selected(which, &run.deliveries[which + 1][&CLIENT]));
    let bad = cases(deliveries, "delivery")
        .map(|(case, delivery)| selected(case["step"].as_u64().unwrap() as usize - 2, delivery));
    honest.chain(bad).collect()
}

thread_local! {
    /// Collectors in each step, kept while nothing is accepted: what is refused must not change them.
    static COLLECTORS: RefCell<[Option<Collector>; 5]> = const { RefCell::new([const { None }; 5]) };
}

/// Step and sender, then a body, for a collector in that step.
pub(crate) fn collector(data: &[u8]) {
    let Some((which, rest)) = select(data, 5) else { return };
    let Some((from, body)) = select(rest, 5) else { return };
    let (from, step) = (Position(from as u16), Step::ALL[which]);
    COLLECTORS.with_borrow_mut(|collectors| {
        let collector = collectors[which].get_or_insert_with(|| collector_in(which));
        let received = collector.received().clone();
        let before = collector.faults().len();
        match collector.accept(from, step, body) {
            Ok(()) => collectors[which] = None,
            Err(fault) => {
                assert_eq!(collector.received(), &received);
                assert_eq!(collector.step(), step);
                assert!(!fault.to_string().is_empty());
                // One entry a member and kind of fault.
                assert!(collector.faults().len() <= before + 1 && collector.faults().len() <= 5 * 13);
            }
        }
    });
}

/// A collector before step `which`, member 0 having spoken in it.
fn collector_in(which: usize) -> Collector {
    let run = &world().run;
    let mut collector = Collector::new(run.attempt.clone());
    for (at, step) in Step::ALL.into_iter().enumerate().take(which) {
        for (from, body) in &run.bodies[at] {
            collector.accept(Position(*from), step, body).unwrap();
            collector.input_complete(Position(*from));
        }
        collector.close().unwrap();
    }
    collector.accept(Position(0), Step::ALL[which], &run.bodies[which][&0]).unwrap();
    collector
}

pub(crate) fn collector_seeds() -> Vec<Vec<u8>> {
    let World { run, bodies, .. } = world();
    let seed = |which: usize, from: u64, body: &[u8]| [&[which as u8, from as u8][..], body].concat();
    let honest =
        (0..5).flat_map(|which| [0, 1].map(|from| seed(which, from, &run.bodies[which][&(from as u16)])));
    let bad = cases(bodies, "body").map(|(case, body)| {
        seed(case["step"].as_u64().unwrap() as usize - 1, case["from"].as_u64().unwrap(), &body)
    });
    honest.chain(bad).collect()
}

/// A complaint, judged by the honest adverts; or adverts, by which a good complaint is judged.
pub(crate) fn complaint(data: &[u8]) {
    let Some((which, bytes)) = select(data, 2) else { return };
    let World { run, complaints, .. } = world();
    let adverts = &run.deliveries[1][&CLIENT];
    let verdict = if which == 0 {
        judge(&run.attempt, adverts, bytes)
    } else {
        judge(&run.attempt, bytes, &cases(complaints, "complaint").next().unwrap().1)
    };
    match verdict {
        // Member 2 signed the bad boxes of the vectors; member 1 made every proof. Nobody else can be convicted.
        Ok(convict) => assert!([1, 2].contains(&convict.0), "{convict} did nothing"),
        Err(dismissed) => assert!(!dismissed.to_string().is_empty()),
    }
}

pub(crate) fn complaint_seeds() -> Vec<Vec<u8>> {
    let World { run, complaints, .. } = world();
    let adverts = selected(1, &run.deliveries[1][&CLIENT]);
    cases(complaints, "complaint").map(|(_, complaint)| selected(0, complaint)).chain([adverts]).collect()
}

/// A public record.
pub(crate) fn record(data: &[u8]) {
    match Revealed::from_record(world().run.attempt.clone(), data) {
        Ok(revealed) => assert_eq!(revealed.public_record(), data, "a record has one spelling"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

pub(crate) fn record_seeds() -> Vec<Vec<u8>> {
    cases(&world().records, "record").map(|(_, record)| record).collect()
}

/// Points, scalars, signing keys and proofs of agreement.
pub(crate) fn points(data: &[u8]) {
    let mut arrays = data.as_chunks::<32>().0.iter();
    let Some(first) = arrays.next() else { return };
    if let Ok(point) = PublicPoint::from_bytes(*first) {
        assert_eq!(point.as_bytes(), first, "a point has one spelling");
    }
    if let Some(scalar) = scalar_from_bytes(first) {
        assert_eq!(scalar.expose().as_bytes(), first, "a scalar has one spelling");
    }
    if let Ok(key) = VerifyingKey::from_bytes(*first) {
        assert_eq!(key.as_bytes(), first, "a key has one spelling");
    }
    let (Some(second), Some(third)) = (arrays.next(), arrays.next()) else { return };
    let proof = AgreementProof::from_bytes(&[*first, *second].concat().try_into().unwrap());
    let (honest, good) = statement();
    let [prover, peer] = [0, 1].map(|i| honest[i].public());
    let holds = proof.holds(prover, peer, third, &Digest([1; 32]));
    let is_good = data[..96] == good[..];
    assert_eq!(holds, is_good, "a proof holds for its statement alone");
}

fn statement() -> &'static ([KeyPair; 2], Vec<u8>) {
    static STATEMENT: OnceLock<([KeyPair; 2], Vec<u8>)> = OnceLock::new();
    STATEMENT.get_or_init(|| {
        let secret =
            |byte| scalar_from_bytes(&std::array::from_fn(|i| if i < 31 { byte } else { 0 })).unwrap();
        let pairs = [3, 5].map(|byte| KeyPair::from_secret(secret(byte)).unwrap());
        let proof = pairs[0].prove_agreement(pairs[1].public(), &Digest([1; 32])).to_bytes();
        let good = [&proof[..], pairs[0].agree(pairs[1].public()).expose()].concat();
        (pairs, good)
    })
}

pub(crate) fn point_seeds() -> Vec<Vec<u8>> {
    let (pairs, good) = statement();
    let run = &world().run;
    let key = run.keys[0].verifying_key();
    vec![
        good.clone(),
        pairs[0].public().as_bytes().to_vec(),
        key.as_bytes().to_vec(),
        vec![0; 32],
        vec![0xff; 96],
    ]
}

/// A ring width and a count, then packed elements.
pub(crate) fn ring(data: &[u8]) {
    let Some((bits, rest)) = select(data, 256) else { return };
    let Some((count, packed)) = select(rest, 256) else { return };
    let Ok(width) = RingWidth::new(bits as u32) else { return };
    let (mut elements, mut sum) = (Vec::new(), vec![0; count]);
    let read = rings::unpack(width, packed, count, &mut elements);
    assert_eq!(rings::unpack_add(width, packed, &mut sum).is_ok(), read.is_ok());
    if read.is_ok() {
        assert_eq!(sum, elements);
        let mut again = Vec::new();
        rings::pack(width, &elements, &mut again);
        assert_eq!(again, packed, "a packed vector has one spelling");
    }
}

pub(crate) fn ring_seeds() -> Vec<Vec<u8>> {
    (8..=32u8)
        .map(|bits| {
            let width = RingWidth::new(bits.into()).unwrap();
            let count = bits % 11 + 1;
            let mut packed = Vec::new();
            let elements: Vec<u32> = (0..u32::from(count)).map(|i| i.wrapping_mul(0x9e37_79b9)).collect();
            rings::pack(width, &elements, &mut packed);
            [&[bits, count][..], &packed].concat()
        })
        .collect()
}

/// The attempt of the vectors, for the sequences.
pub(crate) fn attempt_facts() -> (&'static Inputs, Arc<consilium_crypto::secagg::Attempt>) {
    let World { inputs, run, .. } = world();
    (inputs, run.attempt.clone())
}
