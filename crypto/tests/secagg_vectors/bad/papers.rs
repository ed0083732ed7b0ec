//! Complaints and public records, good and bad.

use std::sync::Arc;

use consilium_crypto::{
    digest::Digest,
    group::{KeyPair, PublicPoint, scalar_from_bytes},
    secagg::{
        Attempt, RecordError, Revealed,
        blame::{Dismissed, judge},
    },
};
use serde_json::{Value, json};

use super::*;
use crate::run::run;

const ACCUSER: u16 = 1;
const DEALER: u16 = 2;

/// What judging a complaint comes to.
fn verdict(attempt: &Attempt, adverts: &[u8], complaint: &[u8]) -> Value {
    match judge(attempt, adverts, complaint) {
        Ok(convict) => json!({ "convicts": convict.0 }),
        Err(dismissed) => json!({ "dismissed": match dismissed {
            Dismissed::Adverts(_) => "the adverts are not good",
            Dismissed::Malformed(_) => "malformed",
            Dismissed::Header(_) => "the dealer's header is not good",
            Dismissed::NotInStep1 => "not in step 1",
            Dismissed::NotUnderRoot => "not under the root",
            Dismissed::Proof => "the proof does not hold",
            Dismissed::NotItsOwn | Dismissed::OutOfTurn => "not to be judged now",
        }}),
    }
}

pub(super) fn complaints() -> Value {
    let inputs = inputs("bad-complaints", "Complaints of member 1 about member 2, and whom they convict.");
    let run = run(&inputs);
    let adverts = run.deliveries[1][&ACCUSER].clone();
    let mut cases: Vec<(String, Vec<u8>)> = Vec::new();
    for (check, about, deal) in deliveries::crooked_deals(&inputs, &run) {
        let deals = deliveries::deals_with(&inputs, &run, deal);
        cases.push((format!("{check}: {about}"), complaint(&inputs, &run, &deals)));
    }
    let good = complaint(&inputs, &run, &run.deliveries[2][&ACCUSER]);
    // Version, accuser, shared secret, proof, header, box.
    let (shared, proof, header, parcel) = (3, 35, 99, 99 + DEAL_HEADER);
    cases.push(("about a good box: only the accuser can have made it".into(), good.clone()));
    cases.push(("empty".into(), Vec::new()));
    cases.push(("another version".into(), flipped(&good, 0)));
    cases.push(("a byte too long".into(), [&good[..], &[0]].concat()));
    cases.push(("an accuser outside the cohort".into(), {
        let mut bent = good.clone();
        bent[1] = 4;
        bent
    }));
    cases.push(("another accuser".into(), {
        let mut bent = good.clone();
        bent[1] = 3;
        bent
    }));
    cases.push(("another shared secret".into(), flipped(&good, shared)));
    cases.push(("another challenge".into(), flipped(&good, proof)));
    cases.push(("another response".into(), flipped(&good, proof + 32)));
    cases.push(("a header its dealer did not sign".into(), flipped(&good, header + 40)));
    cases.push(("a box that is not under the root".into(), flipped(&good, parcel)));
    cases.push(("a path that does not lead to the root".into(), flipped(&good, good.len() - 1)));
    let attempt = inputs.attempt();
    let cases: Vec<Value> = cases
        .into_iter()
        .map(|(about, complaint)| {
            let verdict = verdict(&attempt, &adverts, &complaint);
            json!({ "about": about, "complaint": hex::encode(complaint), "verdict": verdict })
        })
        .collect();
    json!({
        "format": "consilium/1 secure aggregation, complaints",
        "name": inputs.name,
        "about": inputs.about,
        "inputs": inputs.to_json(),
        "adverts": hex::encode(adverts),
        "cases": cases,
    })
}

/// A complaint of the accuser about the dealer's box, as a malicious accuser would also write it.
fn complaint(inputs: &Inputs, run: &Run, deals: &[u8]) -> Vec<u8> {
    let (headers, parcels) = split_deals(deals);
    let secret = manual::scalar(&inputs.members[usize::from(ACCUSER)].draws.keys[0]).to_bytes();
    let keys = KeyPair::from_secret(scalar_from_bytes(&secret).unwrap()).unwrap();
    let adverts = split(&run.deliveries[1][&ACCUSER], ADVERT);
    let dealer = PublicPoint::from_bytes(adverts[usize::from(DEALER)][5..37].try_into().unwrap()).unwrap();
    let id = |i: u16| inputs.members[usize::from(i)].id.as_bytes();
    let (ctx, step1) = (run.attempt.ctx().as_bytes(), step_hash(run, 1));
    let info = manual::h(
        "consilium/1/seal",
        &[ctx, &step1, id(DEALER), id(ACCUSER), dealer.as_bytes(), keys.public().as_bytes()],
    );
    // Of the other dealers' parcels the first is member 0's, the second the dealer's.
    let parcel = &parcels[1];
    let bound = Digest(manual::h("consilium/1/complaint", &[&info, &parcel[..SEALED]]));
    let mut complaint = [&[1][..], &ACCUSER.to_le_bytes(), keys.agree(&dealer).expose()].concat();
    complaint.extend(keys.prove_agreement(&dealer, &bound).to_bytes());
    complaint.extend(&headers[usize::from(DEALER)]);
    complaint.extend(parcel);
    complaint
}

#[test]
fn complaints_convict_whom_they_should() {
    let vector = crate::read("bad-complaints.json");
    let attempt = Inputs::from_json(&vector).attempt();
    let bytes = |text: &Value| hex::decode(text.as_str().unwrap()).unwrap();
    let adverts = bytes(&vector["adverts"]);
    let cases = vector["cases"].as_array().unwrap();
    for case in cases {
        let found = verdict(&attempt, &adverts, &bytes(&case["complaint"]));
        assert_eq!(found, case["verdict"], "{}", case["about"]);
    }
    // The honest client writes the same complaints, byte for byte.
    let deliveries = crate::read("bad-deliveries.json");
    let honest: Vec<&Value> =
        deliveries["cases"].as_array().unwrap().iter().map(|case| &case["complaint"]).collect();
    let written: Vec<&Value> = cases
        .iter()
        .filter(|case| case["verdict"]["convicts"] == DEALER)
        .map(|case| &case["complaint"])
        .collect();
    assert_eq!(honest.into_iter().filter(|complaint| !complaint.is_null()).collect::<Vec<_>>(), written);
}

/// What reading a record comes to.
fn reading(attempt: &Arc<Attempt>, record: &[u8]) -> Value {
    match Revealed::from_record(attempt.clone(), record) {
        Ok(revealed) => {
            assert_eq!(revealed.public_record(), record);
            json!("good")
        }
        Err(RecordError::Malformed(_)) => json!("malformed"),
        Err(RecordError::OtherContext) => json!("another attempt's"),
        Err(RecordError::Refused(refusal)) => json!(refusal.check()),
        Err(RecordError::OtherSurvivors) => json!("votes on other survivors than the headers'"),
        Err(RecordError::WrongSecret { dealer }) => json!({ "wrong_secret_of": dealer.0 }),
        Err(error) => panic!("{error}"),
    }
}

pub(super) fn records() -> Value {
    let inputs = inputs("bad-records", "Public records, and what reading them comes to.");
    let run = run(&inputs);
    let good = run.collector.revealed().unwrap().public_record();
    let parts: Vec<Vec<u8>> = {
        let deals = &run.deliveries[2][&0];
        let front = deals[..HEAD + 4 + 4 * DEAL_HEADER].to_vec();
        vec![
            run.deliveries[1][&0].clone(),
            front,
            run.deliveries[3][&0].clone(),
            run.deliveries[4][&0].clone(),
        ]
    };
    let secrets = good[good.len() - 4 * 32..].to_vec();
    let joined = |parts: &[Vec<u8>]| {
        let mut record = good[..33].to_vec();
        parts.iter().for_each(|part| record.extend(manual::sized(part)));
        record.extend(&secrets);
        record
    };
    assert_eq!(joined(&parts), good);
    let with = |index: usize, part: Vec<u8>| {
        let mut parts = parts.clone();
        parts[index] = part;
        joined(&parts)
    };
    let last = |part: usize| flipped(&parts[part], parts[part].len() - 1);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("good", good.clone()),
        ("empty", Vec::new()),
        ("another version", flipped(&good, 0)),
        ("another context", flipped(&good, 1)),
        ("a byte too long", [&good[..], &[0]].concat()),
        ("a secret too few", good[..good.len() - 32].to_vec()),
        ("another secret", flipped(&good, good.len() - 32)),
        ("a length that lies", {
            let mut bent = good.clone();
            bent[33..37].fill(0xff);
            bent
        }),
        ("an advert altered", with(0, last(0))),
        ("a deal header altered", with(1, last(1))),
        ("an input header altered", with(2, last(2))),
        ("a vote altered", with(3, last(3))),
        ("votes on fewer survivors", with(3, votes_on(&inputs, &run, &[0, 1, 2], &[0, 1, 2]))),
        ("too few votes", with(3, votes_on(&inputs, &run, &[0, 1, 2, 3], &[0, 1]))),
    ];
    let attempt = run.attempt.clone();
    let cases: Vec<Value> = cases
        .into_iter()
        .map(|(about, record)| {
            let reading = reading(&attempt, &record);
            json!({ "about": about, "record": hex::encode(record), "reading": reading })
        })
        .collect();
    json!({
        "format": "consilium/1 secure aggregation, public records",
        "name": inputs.name,
        "about": inputs.about,
        "inputs": inputs.to_json(),
        "cases": cases,
    })
}

#[test]
fn records_read_as_they_should() {
    let vector = crate::read("bad-records.json");
    let attempt = Arc::new(Inputs::from_json(&vector).attempt());
    for case in vector["cases"].as_array().unwrap() {
        let record = hex::decode(case["record"].as_str().unwrap()).unwrap();
        assert_eq!(reading(&attempt, &record), case["reading"], "{}", case["about"]);
        assert_eq!(case["reading"] == "good", case["about"] == "good");
    }
}
