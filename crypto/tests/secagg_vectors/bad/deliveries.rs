//! What a client must refuse: deliveries of a coordinator that forges, or passes on what a member forged.

use std::sync::Arc;

use consilium_crypto::{
    ring::RingVector,
    secagg::{
        Blame, Position, Refusal, Step,
        blame::judge,
        client::{Participant, Reply},
    },
    sign::SigningKey,
};
use serde_json::{Map, Value, json};

use super::*;
use crate::{inputs::Tape, run::run};

/// The client that is shown all this.
const CLIENT: u16 = 1;

struct Cases {
    /// Deliveries that cases build on, by name.
    named: Map<String, Value>,
    cases: Vec<Value>,
}

impl Cases {
    fn name(&mut self, name: &str, delivery: &[u8]) {
        self.named.insert(name.to_owned(), json!(hex::encode(delivery)));
    }

    /// After the deliveries named in `before`, this one must be refused.
    fn refuse(&mut self, check: &str, about: &str, before: &[&str], step: u8, delivery: Vec<u8>) {
        self.cases.push(json!({
            "check": check, "about": about, "before": before, "step": step, "delivery": hex::encode(delivery),
        }));
    }
}

const BEFORE_DEALS: &[&str] = &["adverts"];
const BEFORE_HEADERS: &[&str] = &["adverts", "deals"];
const BEFORE_VOTES: &[&str] = &["adverts", "deals", "headers"];

pub(super) fn write() -> Value {
    let inputs = inputs("bad-deliveries", "What a client must refuse, and whom it blames.");
    let run = run(&inputs);
    let mut cases = Cases { named: Map::new(), cases: Vec::new() };
    for (step, name) in ["adverts", "deals", "headers", "votes"].into_iter().enumerate() {
        let honest = &run.deliveries[step + 1][&CLIENT];
        cases.name(name, honest);
        let (check, before): (_, &[&str]) = match step {
            0 => ("A1", &[]),
            1 => ("D1", BEFORE_DEALS),
            2 => ("H1", BEFORE_HEADERS),
            _ => ("V1", BEFORE_VOTES),
        };
        malformed(&mut cases, check, before, step as u8 + 2, honest);
    }
    adverts(&mut cases, &inputs, &run);
    deals(&mut cases, &inputs, &run);
    bad_boxes(&mut cases, &inputs, &run);
    headers(&mut cases, &inputs, &run);
    votes(&mut cases, &inputs, &run);
    never_dealt(&mut cases, &inputs);
    turns(&mut cases, &inputs, &run);
    let mut vector = json!({
        "format": "consilium/1 secure aggregation, refused deliveries",
        "name": inputs.name,
        "about": inputs.about,
        "inputs": inputs.to_json(),
        "client": CLIENT,
        "deliveries": cases.named,
        "cases": cases.cases,
    });
    // The rest of what a case says is what the library does; the replay holds it to that from here on.
    for index in 0..vector["cases"].as_array().unwrap().len() {
        let outcome = outcome(&inputs, &vector, &vector["cases"][index]);
        let case = vector["cases"][index].as_object_mut().unwrap();
        case.extend(outcome.as_object().unwrap().clone());
    }
    vector
}

fn malformed(cases: &mut Cases, check: &str, before: &[&str], step: u8, honest: &[u8]) {
    let mut add = |about: &str, delivery: Vec<u8>| cases.refuse(check, about, before, step, delivery);
    add("empty", Vec::new());
    add("cut short by a byte", honest[..honest.len() - 1].to_vec());
    add("a byte too long", [honest, &[0]].concat());
    for (at, what) in ["version", "step", "speaker"].into_iter().enumerate() {
        add(&format!("another {what}"), flipped(honest, at));
    }
    for count in [1001, u32::MAX] {
        let at = if step == 5 { HEAD + 32 } else { HEAD };
        let mut lying = honest.to_vec();
        lying[at..at + 4].copy_from_slice(&count.to_le_bytes());
        add(&format!("a count of {count}"), lying);
    }
}

fn adverts(cases: &mut Cases, inputs: &Inputs, run: &Run) {
    let honest = split(&run.deliveries[1][&CLIENT], ADVERT);
    let mut add = |check: &str, about: &str, change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut adverts = honest.clone();
        change(&mut adverts);
        cases.refuse(check, about, &[], 2, join(2, &adverts));
    };
    add("A1", "a member twice", &|adverts| adverts[3] = adverts[2].clone());
    add("A1", "not sorted", &|adverts| adverts.swap(0, 1));
    add("A1", "a position outside the cohort", &|adverts| adverts[3][HEAD] = 4);
    for (at, what) in [(5, "sealing key"), (69, "commitment"), (101, "ledger length"), (204, "signature")] {
        add("A2", &format!("{what} altered on the way"), &|adverts| adverts[2][at] ^= 1);
    }
    let resigned = |advert: &[u8], change: &dyn Fn(&mut Vec<u8>)| resign(inputs, run, 2, 1, advert, change);
    add("A2", "signed in another context", &|adverts| {
        let member = &inputs.members[2];
        let body = &adverts[2][..ADVERT - 64];
        let foreign = manual::sign(&member.signing_seed, "advert", &[7; 32], &member.id, body).1;
        adverts[2] = [body, &foreign].concat();
    });
    for (key, at) in ["sealing", "masking", "commitment"].into_iter().zip(KEYS) {
        for (what, point) in [("the identity", [0; 32]), ("not canonical", [0xff; 32]), ("negative", [1; 32])]
        {
            add("A3", &format!("{key} key is {what}, signed by its member"), &|adverts| {
                adverts[2] = resigned(&adverts[2], &|body| body[at..at + 32].copy_from_slice(&point));
            });
        }
    }
    add("A4", "another member's masking key as a commitment", &|adverts| {
        let stolen = adverts[0][37..69].to_vec();
        adverts[2] = resigned(&adverts[2], &|body| body[69..101].copy_from_slice(&stolen));
    });
    add("A4", "one key in two roles", &|adverts| {
        adverts[2] = resigned(&adverts[2], &|body| body.copy_within(5..37, 37));
    });
    add("A5", "the client's own advert is missing", &|adverts| drop(adverts.remove(1)));
    add("A5", "another advert of the client's, properly signed", &|adverts| {
        adverts[1] = resign(inputs, run, 1, 1, &adverts[1], |body| body[101] ^= 1);
    });
    add("A6", "two adverts where three are the least", &|adverts| adverts.truncate(2));
}

fn deals(cases: &mut Cases, inputs: &Inputs, run: &Run) {
    let (headers, parcels) = split_deals(&run.deliveries[2][&CLIENT]);
    type Change<'a> = &'a dyn Fn(&mut Vec<Vec<u8>>, &mut Vec<Vec<u8>>);
    let mut add = |check: &str, about: &str, change: Change<'_>| {
        let (mut headers, mut parcels) = (headers.clone(), parcels.clone());
        change(&mut headers, &mut parcels);
        cases.refuse(check, about, BEFORE_DEALS, 3, join_deals(&headers, &parcels));
    };
    add("D1", "a sealed share left out", &|_, parcels| drop(parcels.remove(1)));
    add("D1", "headers not sorted", &|headers, _| headers.swap(0, 1));
    add("D3", "two dealers where three are the least", &|headers, parcels| {
        headers.truncate(2);
        parcels.truncate(1);
    });
    add("D4", "a dealer that signed another step 1", &|headers, _| {
        headers[0] = resign(inputs, run, 0, 2, &headers[0], |header| header[HEAD + 2] ^= 1);
    });
    add("D5", "a root altered on the way", &|headers, _| headers[2][40] ^= 1);
    add("D5", "a signature altered on the way", &|headers, _| headers[2][132] ^= 1);
    add("D6", "the client's own header is missing", &|headers, parcels| {
        headers.remove(1);
        parcels.pop();
    });
    add("D6", "another header of the client's, properly signed", &|headers, _| {
        headers[1] = resign(inputs, run, 1, 2, &headers[1], |header| header[40] ^= 1);
    });
    add("D7", "two dealers' boxes swapped", &|_, parcels| parcels.swap(0, 1));
    for (at, what) in [(0, "box"), (SEALED, "mask commitment"), (SEALED + 32, "seed commitment")] {
        add("D7", &format!("a {what} altered on the way"), &|_, parcels| parcels[1][at] ^= 1);
    }
    add("D7", "a path altered", &|_, parcels| *parcels[1].last_mut().unwrap() ^= 1);
    add("D7", "a box for another recipient, path and all", &|_, parcels| {
        parcels[0] = split_deals(&run.deliveries[2][&2]).1[0].clone();
    });

    // The client was shown three adverts, the others four.
    let fewer = split(&run.deliveries[1][&CLIENT], ADVERT)[..3].to_vec();
    cases.name("adverts-of-0-1-2", &join(2, &fewer));
    let honest = run.deliveries[2][&CLIENT].clone();
    cases.refuse("D2", "a dealer whose advert was not shown", &["adverts-of-0-1-2"], 3, honest);
}

/// Dealer 2 deals rubbish to the client alone and signs it.
fn bad_boxes(cases: &mut Cases, inputs: &Inputs, run: &Run) {
    for (check, about, deal) in crooked_deals(inputs, run) {
        cases.refuse(check, about, BEFORE_DEALS, 3, deals_with(inputs, run, deal));
    }
}

/// Deals of member 2 that only the client can tell from good ones.
pub(super) fn crooked_deals(inputs: &Inputs, run: &Run) -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let sealed = |content: [u8; 96]| seal(inputs, run, 2, CLIENT, &content);
    let redeal = |change: &dyn Fn(&mut Vec<u8>, &mut Vec<u8>)| redeal(inputs, run, 2, CLIENT, change);
    vec![
        ("D8", "a box with a flipped bit, under its dealer's root", redeal(&|sealed, _| sealed[7] ^= 1)),
        ("D9", "shares other than those committed to", redeal(&|held, _| *held = sealed([1; 96]))),
        ("D9", "shares that are not canonical scalars", redeal(&|held, _| *held = sealed([0xff; 96]))),
        ("D9", "a commitment to something else", redeal(&|_, commitments| commitments[0] ^= 1)),
    ]
}

/// What an honest collector shows the client when member 2 deals this.
pub(super) fn deals_with(inputs: &Inputs, run: &Run, deal: Vec<u8>) -> Vec<u8> {
    let mut collector = crate::run::run_through(inputs, 1).collector;
    for (i, body) in &run.bodies[1] {
        let body = if *i == 2 { &deal } else { body };
        collector.accept(Position(*i), Step::Share, body).unwrap();
    }
    collector.close().unwrap();
    collector.delivery(Position(CLIENT)).unwrap()
}

fn headers(cases: &mut Cases, inputs: &Inputs, run: &Run) {
    let honest = split(&run.deliveries[3][&CLIENT], INPUT_HEADER);
    let mut add = |check: &str, about: &str, change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut headers = honest.clone();
        change(&mut headers);
        cases.refuse(check, about, BEFORE_HEADERS, 4, join(4, &headers));
    };
    let resigned = |header: &[u8], i, at: usize| resign(inputs, run, i, 3, header, |header| header[at] ^= 1);
    add("H1", "a survivor twice", &|headers| headers[1] = headers[0].clone());
    add("H2", "the client is not among the survivors", &|headers| drop(headers.remove(1)));
    add("H2", "another header of the client's, properly signed", &|headers| {
        headers[1] = resigned(&headers[1], 1, HEAD + 2 + 32);
    });
    add("H4", "two survivors where three are the least", &|headers| headers.truncate(2));
    add("H5", "a chunk root altered on the way", &|headers| headers[2][40] ^= 1);
    add("H5", "a signature altered on the way", &|headers| headers[2][140] ^= 1);
    add("H6", "a survivor that signed another step 2", &|headers| {
        headers[0] = resigned(&headers[0], 0, HEAD + 2);
    });
    add("H7", "a survivor that signed another length", &|headers| {
        headers[0] = resigned(&headers[0], 0, HEAD + 2 + 64);
    });
}

fn votes(cases: &mut Cases, inputs: &Inputs, run: &Run) {
    let honest = run.deliveries[4][&CLIENT].clone();
    let mut add = |check: &str, about: &str, delivery: Vec<u8>| {
        cases.refuse(check, about, BEFORE_VOTES, 5, delivery);
    };
    let on = |survivors: &[u16], voters: &[u16]| votes_on(inputs, run, survivors, voters);
    assert_eq!(on(&[0, 1, 2, 3], &[0, 1, 2, 3]), honest);
    add("V1", "a vote counted twice", on(&[0, 1, 2, 3], &[0, 1, 1]));
    add("V1", "survivors not sorted", on(&[1, 0, 2, 3], &[0, 1, 2]));
    add("V1", "a survivor outside the cohort", on(&[0, 1, 2, 4], &[0, 1, 2]));
    add("V3", "two survivors where three are the least", on(&[0, 1], &[0, 1]));
    add("V4", "a voter that did not survive", on(&[0, 1, 2], &[0, 1, 3]));
    add("V5", "two votes where three are a quorum", on(&[0, 1, 2, 3], &[0, 1]));
    let last = honest.len() - 1;
    add("V6", "a signature altered on the way", flipped(&honest, last));
    add("V6", "votes on other headers", flipped(&honest, HEAD));
    add("V6", "votes on four survivors, shown for three", {
        let four = on(&[0, 1, 2, 3], &[0, 1, 2]);
        let votes = &four[HEAD + 32 + 4 + 8..];
        [&four[..HEAD + 32], &manual::positions(&[0, 1, 2]), votes].concat()
    });
    add("V7", "a quorum for another set than the client voted for", on(&[0, 1, 2], &[0, 1, 2]));
}

/// Member 3 advertised and never dealt.
fn never_dealt(cases: &mut Cases, inputs: &Inputs) {
    let shape = crate::inputs::Shape {
        n: 4,
        t_c: 1,
        bits: 20,
        dimension: 5,
        silent: [&[], &[3], &[], &[], &[]],
        answers: &[],
    };
    let three = Inputs::draw("", "", &shape, 200);
    let run = run(&three);
    cases.name("deals-of-0-1-2", &run.deliveries[2][&CLIENT]);
    cases.name("headers-of-0-1-2", &run.deliveries[3][&CLIENT]);
    let mut headers = split(&run.deliveries[3][&CLIENT], INPUT_HEADER);
    let forged = resign(inputs, &run, 3, 3, &headers[0], |header| header[HEAD] = 3);
    headers.push(forged);
    let before = ["adverts", "deals-of-0-1-2", "headers-of-0-1-2"];
    cases.refuse("H3", "a survivor that never dealt", &before[..2], 4, join(4, &headers));
    let votes = votes_on(&three, &run, &[0, 1, 2, 3], &[0, 1, 2]);
    cases.refuse("V2", "votes for a survivor that never dealt", &before, 5, votes);
}

fn turns(cases: &mut Cases, inputs: &Inputs, run: &Run) {
    let fewer = join(4, &split(&run.deliveries[3][&CLIENT], INPUT_HEADER)[..3]);
    cases.refuse("T1", "a second set to vote on", BEFORE_VOTES, 4, fewer);
    let without = votes_on(inputs, run, &[0, 1, 2], &[0, 1, 2]);
    let all = ["adverts", "deals", "headers", "votes"];
    cases.refuse("T1", "after the answer, another set to answer for", &all, 5, without);
    let honest = run.deliveries[4][&CLIENT].clone();
    cases.refuse("T1", "votes before the deals", BEFORE_DEALS, 5, honest);
}

/// Whom a client blames for a case, and what it complains of. Checks what must hold in any case.
fn outcome(inputs: &Inputs, vector: &Value, case: &Value) -> Value {
    let attempt = Arc::new(inputs.attempt());
    let me = vector["client"].as_u64().unwrap() as u16;
    let member = &inputs.members[usize::from(me)];
    let key = SigningKey::from_seed(member.signing_seed);
    let bytes = |text: &Value| hex::decode(text.as_str().unwrap()).unwrap();
    let before: Vec<_> =
        case["before"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let shown: Vec<Vec<u8>> = before.iter().map(|name| bytes(&vector["deliveries"][*name])).collect();
    let advertised: Vec<u16> = match shown.first() {
        Some(adverts) => split(adverts, ADVERT).iter().map(|advert| u16::from(advert[HEAD])).collect(),
        None => Vec::new(),
    };
    let mut tape = Tape::new(&member.draws, me, &advertised);
    let (mut client, _) =
        Participant::start(attempt.clone(), Position(me), &key, member.ledger, &mut tape).unwrap();
    for (step, delivery) in [Step::Share, Step::Input, Step::Vote, Step::Unmask].into_iter().zip(&shown) {
        if let Reply::UpdateWanted = client.deliver(step, delivery, &key, &mut tape).unwrap() {
            let update = RingVector::new(attempt.params().ring(), inputs.update(me)).unwrap();
            client.mask(update, &key).unwrap();
        }
    }
    let step = Step::from_number(case["step"].as_u64().unwrap() as u8).unwrap();
    let state = format!("{client:?}");
    let about = &case["about"];
    let refusal: Refusal = client.deliver(step, &bytes(&case["delivery"]), &key, &mut tape).unwrap_err();
    assert_eq!(refusal.check(), case["check"], "{about}: {refusal}");
    let unread = refusal.check() == "T1";
    assert!(
        if unread { format!("{client:?}") == state } else { matches!(client, Participant::Ended) },
        "{about}"
    );
    let mut outcome = json!({
        "blame": match refusal.blame() {
            Blame::Local => json!("nobody"),
            Blame::Coordinator => json!("coordinator"),
            Blame::Member(position) => json!(position.0),
        },
    });
    if let Some(complaint) = refusal.complaint() {
        outcome["complaint"] = json!(hex::encode(complaint));
        assert_eq!(
            judge(&attempt, &shown[0], complaint).map(|convict| json!(convict.0)),
            Ok(outcome["blame"].clone())
        );
    }
    outcome
}

#[test]
fn a_client_refuses_every_bad_delivery() {
    let vector = crate::read("bad-deliveries.json");
    let inputs = Inputs::from_json(&vector);
    let cases = vector["cases"].as_array().unwrap();
    for case in cases {
        for (what, value) in outcome(&inputs, &vector, case).as_object().unwrap() {
            assert_eq!(value, &case[what], "{} {}: {what}", case["check"], case["about"]);
        }
    }
    let others: Vec<Value> = cases.iter().filter(|case| case["check"] != "T1").cloned().collect();
    assert_covers(&others, &[("A", 6), ("D", 9), ("H", 7), ("V", 7)]);
}
