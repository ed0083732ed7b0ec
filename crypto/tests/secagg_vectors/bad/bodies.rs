//! What a collector must refuse: bodies of a member that forges.

use std::sync::Arc;

use consilium_crypto::secagg::{Position, Step, coordinator::Collector};
use serde_json::{Value, json};

use super::*;
use crate::run::{run, run_open};

/// The member that forges.
const BAD: u16 = 1;

struct Cases<'a> {
    inputs: &'a Inputs,
    run: &'a Run,
    /// How many events come before each step's case: everything up to the step, and member 0's word in it.
    after: [usize; 5],
    cases: Vec<Value>,
}

impl Cases<'_> {
    /// In the open step `step`, this body from `from` must be refused.
    fn refuse(&mut self, check: &str, about: &str, step: u8, (from, body): (u16, Vec<u8>)) {
        self.cases.push(json!({
            "check": check,
            "about": about,
            "after": self.after[usize::from(step) - 1],
            "from": from,
            "step": step,
            "body": hex::encode(body),
        }));
    }

    fn honest(&self, step: u8) -> &[u8] {
        &self.run.bodies[usize::from(step) - 1][&BAD]
    }

    /// The bad member's honest body, changed and signed again.
    fn resigned(&self, step: u8, change: impl FnOnce(&mut Vec<u8>)) -> (u16, Vec<u8>) {
        (BAD, resign(self.inputs, self.run, BAD, step, self.honest(step), change))
    }
}

const STEPS: [&str; 5] = ["advert", "deal", "input", "vote", "answer"];

pub(super) fn write() -> Value {
    let about =
        "What a collector must refuse, after so many of the events; and an attempt that a dealer spoils.";
    let inputs = inputs("bad-bodies", about);
    let run = run(&inputs);
    let (events, after) = events(&run);
    let mut cases = Cases { inputs: &inputs, run: &run, after, cases: Vec::new() };
    for step in 1..=5 {
        every_step(&mut cases, step);
    }
    turns(&mut cases);
    lists(&mut cases);
    adverts(&mut cases);
    meanings(&mut cases);
    let mut vector = json!({
        "format": "consilium/1 secure aggregation, refused bodies",
        "name": inputs.name,
        "about": inputs.about,
        "inputs": inputs.to_json(),
        "events": events,
        "cases": cases.cases,
        "spoiled": spoiled(&inputs),
    });
    for index in 0..vector["cases"].as_array().unwrap().len() {
        vector["cases"][index]["misbehaviour"] = json!(outcome(&inputs, &vector, &vector["cases"][index]));
    }
    vector
}

/// What an honest attempt's collector hears, and where in it each step's cases belong.
fn events(run: &Run) -> (Vec<Value>, [usize; 5]) {
    let (mut events, mut after) = (Vec::new(), [0; 5]);
    for (at, bodies) in run.bodies.iter().enumerate() {
        after[at] = events.len() + 1;
        for (from, body) in bodies {
            events.push(json!({ "from": from, "step": at + 1, "body": hex::encode(body) }));
        }
        if at == 2 {
            events.extend(bodies.keys().map(|from| json!({ "stored": from })));
        }
        events.push(json!({ "close": at + 1 }));
    }
    (events, after)
}

/// Applies an event to a collector; a body or a closing that does not pass is the caller's to judge.
fn apply(collector: &mut Collector, event: &Value) {
    if let Some(from) = event["from"].as_u64() {
        let step = Step::from_number(event["step"].as_u64().unwrap() as u8).unwrap();
        let body = hex::decode(event["body"].as_str().unwrap()).unwrap();
        collector.accept(Position(from as u16), step, &body).unwrap();
    } else if let Some(from) = event["stored"].as_u64() {
        collector.input_complete(Position(from as u16));
    } else {
        assert_eq!(u64::from(collector.step().number()), event["close"]);
        collector.close().unwrap();
    }
}

fn every_step(cases: &mut Cases<'_>, step: u8) {
    let what = STEPS[usize::from(step) - 1];
    let honest = cases.honest(step).to_vec();
    let signed_to = match step {
        2 => DEAL_HEADER,
        3 => INPUT_HEADER,
        _ => honest.len(),
    };
    let second =
        resign(cases.inputs, cases.run, 0, step, &cases.run.bodies[usize::from(step) - 1][&0], |signed| {
            *signed.last_mut().unwrap() ^= 1;
        });
    cases.refuse("C3", &format!("a second, different {what}"), step, (0, second));
    cases.refuse("C4", &format!("an empty {what}"), step, (BAD, Vec::new()));
    for (at, field) in ["version", "step", "speaker"].into_iter().enumerate() {
        let body = cases.resigned(step, |signed| signed[at] ^= 4);
        cases.refuse("C4", &format!("{what} with another {field}, signed"), step, body);
    }
    if step != 4 {
        let body = cases.resigned(step, |signed| signed[HEAD] = 2);
        cases.refuse("C5", &format!("{what} that names another sender, signed"), step, body);
    }
    let about = format!("{what} with a signature altered on the way");
    cases.refuse("C6", &about, step, (BAD, flipped(&honest, signed_to - 1)));
}

fn turns(cases: &mut Cases<'_>) {
    let deal = cases.honest(2).to_vec();
    let advert = cases.honest(1).to_vec();
    let after = cases.after;
    cases.refuse("C1", "a deal while adverts are taken", 2, (BAD, deal.clone()));
    cases.cases.last_mut().unwrap()["after"] = json!(after[0]);
    // The bad member's own advert is not among the events before the first closing.
    cases.refuse("C1", "an answer while votes are taken", 5, (BAD, cases.honest(5).to_vec()));
    cases.cases.last_mut().unwrap()["after"] = json!(after[3]);
    cases.refuse("C2", "a position outside the cohort", 1, (4, advert));
    cases.refuse("C2", "a position outside the cohort", 2, (4, deal));
    let vote = cases.run.bodies[3][&0].clone();
    cases.refuse("C6", "another member's vote, word for word", 4, (BAD, vote));
}

fn lists(cases: &mut Cases<'_>) {
    for step in [2, 3] {
        let what = STEPS[usize::from(step) - 1];
        let honest = cases.honest(step).to_vec();
        let header = if step == 2 { DEAL_HEADER } else { INPUT_HEADER };
        let short = honest[..honest.len() - 1].to_vec();
        cases.refuse("C4", &format!("{what} cut short by a byte"), step, (BAD, short));
        cases.refuse("C4", &format!("{what} a byte too long"), step, (BAD, [&honest[..], &[0]].concat()));
        for at in [header, honest.len() - 1] {
            let about = format!("{what} with a list that does not add up to its root");
            cases.refuse("C10", &about, step, (BAD, flipped(&honest, at)));
        }
    }
    for step in [1, 4, 5] {
        let body = cases.resigned(step, |signed| signed.push(0));
        cases.refuse("C4", &format!("{} a byte too long, signed", STEPS[usize::from(step) - 1]), step, body);
    }
}

fn adverts(cases: &mut Cases<'_>) {
    for (key, at) in ["sealing", "masking", "commitment"].into_iter().zip(KEYS) {
        for (what, point) in [("the identity", [0; 32]), ("not canonical", [0xff; 32])] {
            let body = cases.resigned(1, |signed| signed[at..at + 32].copy_from_slice(&point));
            cases.refuse("C7", &format!("{key} key is {what}"), 1, body);
        }
    }
    let stolen = cases.run.bodies[0][&0][37..69].to_vec();
    let body = cases.resigned(1, |signed| signed[69..101].copy_from_slice(&stolen));
    cases.refuse("C8", "another member's masking key as a commitment", 1, body);
    let body = cases.resigned(1, |signed| signed.copy_within(5..37, 37));
    cases.refuse("C8", "one key in two roles", 1, body);
}

fn meanings(cases: &mut Cases<'_>) {
    for step in [2, 3, 5] {
        let body = cases.resigned(step, |signed| signed[HEAD + 2] ^= 1);
        cases.refuse("C9", &format!("{} from another transcript", STEPS[usize::from(step) - 1]), step, body);
    }
    let body = cases.resigned(3, |signed| signed[HEAD + 2 + 64] ^= 1);
    cases.refuse("C11", "a vector of another length", 3, body);
    for (at, what) in [(HEAD, "step 1"), (HEAD + 32, "step 2"), (HEAD + 64, "headers")] {
        let body = cases.resigned(4, |signed| signed[at] ^= 1);
        cases.refuse("C12", &format!("a vote on another {what} hash"), 4, body);
    }
    let body = cases.resigned(4, |signed| {
        signed.truncate(signed.len() - 2);
        signed[HEAD + 96] -= 1;
    });
    cases.refuse("C12", "a vote on fewer survivors", 4, body);
    let first = HEAD + 2 + 32;
    for (at, what) in [(first, "share"), (first + 32, "salt"), (first + 3 * 64, "share of the last dealer")] {
        let body = cases.resigned(5, |signed| signed[at] ^= 1);
        cases.refuse("C13", &format!("another {what} than committed to"), 5, body);
    }
}

/// Whether the collector counts a case as misbehaviour. Checks what must hold in any case.
fn outcome(inputs: &Inputs, vector: &Value, case: &Value) -> bool {
    let mut collector = Collector::new(Arc::new(inputs.attempt()));
    let events = vector["events"].as_array().unwrap();
    events[..case["after"].as_u64().unwrap() as usize].iter().for_each(|event| apply(&mut collector, event));
    let from = Position(case["from"].as_u64().unwrap() as u16);
    let step = Step::from_number(case["step"].as_u64().unwrap() as u8).unwrap();
    let body = hex::decode(case["body"].as_str().unwrap()).unwrap();
    let received = collector.received().clone();
    let fault = collector.accept(from, step, &body).unwrap_err();
    assert_eq!(fault.check(), case["check"], "{}: {fault}", case["about"]);
    assert_eq!(collector.received(), &received, "{}", case["about"]);
    let blamed = collector.faults().iter().any(|(who, _)| *who == from);
    assert_eq!(blamed, fault.is_misbehaviour(), "{}", case["about"]);
    blamed
}

/// The events of an attempt in which member 1 deals shares of a masking key that is not its own. Nobody can tell until
/// the secrets are put together; then the dealer is named.
fn spoiled(inputs: &Inputs) -> Value {
    let crooked = crate::transcript::crooked_deal(inputs, BAD);
    let mut others = Inputs::from_json(&json!({ "name": "", "about": "", "inputs": inputs.to_json() }));
    for step in 2..5 {
        others.speaks[step].retain(|member| *member != BAD);
    }
    let run = run_open(
        &others,
        5,
        |step, from, body| {
            if step == Step::Share && from == BAD { crooked.clone() } else { body }
        },
    );
    let (mut events, _) = events(&run);
    events.pop();
    json!({ "about": "shares of another secret", "events": events, "culprits": [BAD] })
}

#[test]
fn a_collector_refuses_every_bad_body() {
    let vector = crate::read("bad-bodies.json");
    let inputs = Inputs::from_json(&vector);
    let cases = vector["cases"].as_array().unwrap();
    for case in cases {
        assert_eq!(outcome(&inputs, &vector, case), case["misbehaviour"], "{}", case["about"]);
    }
    assert_covers(cases, &[("C", 13)]);
    // The events themselves are good.
    let mut collector = Collector::new(Arc::new(inputs.attempt()));
    vector["events"].as_array().unwrap().iter().for_each(|event| apply(&mut collector, event));
    assert!(collector.revealed().is_some() && collector.faults().is_empty());
}

#[test]
fn a_collector_names_the_dealer_that_spoiled_an_attempt() {
    let vector = crate::read("bad-bodies.json");
    let spoiled = &vector["spoiled"];
    let mut collector = Collector::new(Arc::new(Inputs::from_json(&vector).attempt()));
    spoiled["events"].as_array().unwrap().iter().for_each(|event| apply(&mut collector, event));
    let failure = collector.close().unwrap_err();
    assert_eq!(failure.why, consilium_crypto::secagg::coordinator::Why::InconsistentShares);
    let culprits: Vec<u16> = failure.culprits.iter().map(|culprit| culprit.0).collect();
    assert_eq!(json!(culprits), spoiled["culprits"]);
}
