//! What left the building, against what arrived in plaintext at the other end.
#![allow(clippy::unwrap_used)]

mod cli_support;
mod link_support;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use cli_support::{Consortium, id};
use consilium_client::{
    egress::{self, Destination, Egress, EgressError, Step},
    ledger::{Debit, LedgerState},
    link::{Link, LinkEvent, Route, Target},
};
use consilium_crypto::digest::Digest;
use consilium_proto::{
    plan::VerifiedPlan,
    wire::{self, client_message::Kind as Say},
};
use link_support::Listener;

fn open(state: &Path, plan: &VerifiedPlan, ledger: &LedgerState, address: &str) -> Egress {
    let destination = Destination { coordinator: address.to_owned(), proxy: None };
    Egress::open(state, &id("site-1"), destination, plan, ledger).unwrap()
}

async fn until(link: &mut Link, wanted: impl Fn(&LinkEvent) -> bool) {
    let found = async { while !wanted(&link.next().await.unwrap()) {} };
    tokio::time::timeout(Duration::from_secs(60), found).await.expect("it never happened");
}

/// Every kind of message that a client has, hello first.
fn everything() -> Vec<Say> {
    let word = |step, length| {
        Say::Protocol(wire::ProtocolMessage { round: 3, attempt: 2, step, body: vec![step as u8; length] })
    };
    vec![
        Say::Hello(wire::Hello { protocol_version: 2, ..Default::default() }),
        Say::StateQuery(wire::StateQuery { about: String::new(), nonce: vec![5; 32] }),
        Say::StateStatements(wire::StateStatements::default()),
        word(1, 205),
        word(2, 70_000),
        word(3, 400),
        word(4, 300),
        word(5, 500),
        Say::Refusal(wire::Refusal { round: 4, attempt: 1, code: "budget".into(), complaint: Vec::new() }),
        Say::Evaluation(wire::Evaluation { round: 4, ..Default::default() }),
    ]
}

#[tokio::test]
async fn no_message_arrives_without_a_line() {
    let consortium = Consortium::new();
    let (roster, plan) = consortium.verified();
    let roster = Arc::new(roster);
    let (listener, address) = Listener::start(&consortium.identities[3], roster.clone()).await;
    let state = consortium.path("state");
    std::fs::create_dir(&state).unwrap();
    let mut ledger = LedgerState::new(id("titles"), [0; 32]);
    ledger.debit(Debit::of(&plan, 3, 2)).unwrap();
    let egress = open(&state, &plan, &ledger, &address);
    let target = Target::new(&address, Route::Direct, &consortium.identities[0], roster).unwrap();
    let mut link = Link::start(target, egress.clone());
    until(&mut link, |event| matches!(event, LinkEvent::Connected)).await;
    let mut said = everything();
    for say in said.clone() {
        link.say(say).await;
    }
    until(&mut link, |event| matches!(event, LinkEvent::Heard(_))).await;
    let chunks: Vec<Vec<u8>> = (0..5u8).map(|index| vec![index; 100_000]).collect();
    link.upload(3, 2, Arc::new(chunks), 1).await;
    link.fetch(1, 10).await;
    until(&mut link, |event| matches!(event, LinkEvent::ReleasesEnded)).await;
    let complete = || listener.received.all().len() == said.len() + 4 + 1;
    while !complete() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    link.close().await;

    let mut arrived: BTreeMap<String, usize> = BTreeMap::new();
    for message in listener.received.all() {
        *arrived.entry(Digest::of(&message).to_string()).or_default() += 1;
    }
    let lines = egress::read(&state, &id("site-1")).unwrap().lines;
    let mut written: BTreeMap<String, usize> = BTreeMap::new();
    for it in &lines {
        *written.entry(it.line.sha256.clone()).or_default() += 1;
    }
    assert_eq!(written, arrived, "a message without a line, or a line without a message");
    let bytes: u64 = listener.received.all().iter().map(|message| message.len() as u64).sum();
    assert_eq!(egress.totals(), (lines.len() as u64, bytes));

    // The lines name what they are about.
    let of = |step| lines.iter().filter(move |it| it.line.step == step).map(|it| &it.line);
    assert_eq!(of(Step::Chunk).count(), 4, "from the chunk on that was asked for");
    assert!(
        of(Step::Chunk)
            .chain(of(Step::Input))
            .all(|line| (line.round, line.attempt, line.ledger) == (3, 2, Some(1)))
    );
    assert!(of(Step::Refusal).all(|line| (line.round, line.attempt, line.ledger) == (4, 1, None)));
    assert!(lines.iter().all(|it| it.line.destination == address && it.line.job == id("demo")));
    said.truncate(1);
    assert_eq!((lines[0].line.step, said.len()), (Step::Hello, 1));
    egress::verify(&lines, &ledger).unwrap();
    // The same lines do not go with a ledger that lost the entry.
    let problem = egress::verify(&lines, &LedgerState::new(id("titles"), [0; 32])).unwrap_err();
    assert!(problem.to_string().contains("cut short or restored"), "{problem}");
}

#[tokio::test]
async fn a_masked_vector_that_nobody_paid_for_does_not_leave() {
    let consortium = Consortium::new();
    let (roster, plan) = consortium.verified();
    let roster = Arc::new(roster);
    let (listener, address) = Listener::start(&consortium.identities[3], roster.clone()).await;
    let state = consortium.path("state");
    std::fs::create_dir(&state).unwrap();
    let egress = open(&state, &plan, &LedgerState::new(id("titles"), [0; 32]), &address);
    let target = Target::new(&address, Route::Direct, &consortium.identities[0], roster).unwrap();
    let mut link = Link::start(target, egress.clone());
    until(&mut link, |event| matches!(event, LinkEvent::Connected)).await;
    link.say(everything().remove(0)).await;
    until(&mut link, |event| matches!(event, LinkEvent::Heard(_))).await;
    link.upload(3, 2, Arc::new(vec![vec![7; 1000]]), 0).await;
    until(&mut link, |event| matches!(event, LinkEvent::Disconnected { .. })).await;
    let failure = egress.take_failure().unwrap();
    assert!(matches!(failure, EgressError::Unpaid { round: 3, attempt: 2 }), "{failure}");
    let received = listener.received.all();
    assert_eq!(received.len(), 1, "the greeting alone: {}", received.len());
}
