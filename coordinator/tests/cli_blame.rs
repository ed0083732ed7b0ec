//! `consilium blame verify` with the real binary: a third party with the roster, the plan and a file.
#![allow(clippy::unwrap_used)]

mod cli_common;

use cli_common::{Desk, consortium, plan};
use consilium_crypto::{digest::Digest, secagg::Step, sign::sign};
use consilium_proto::{
    announcement::Announcement, evidence::Evidence, identity::Identity, plan::Plan, roster::Roster,
    signed::Signatures,
};
use serde_json::json;

/// Evidence that site-2 signed two different first words in round 3.
fn evidence(desk: &Desk, pin: &str) -> Evidence {
    let signatures = |name: &str| Signatures::parse(&desk.read(name)).unwrap();
    let identity = |id: &str| Identity::parse(&desk.read(&format!("{id}/identity.toml"))).unwrap();
    let pin = pin.parse().unwrap();
    let roster = Roster::verify(&desk.read("roster.toml"), &signatures("roster.toml.sig"), &pin).unwrap();
    let plan = Plan::verify(&desk.read("plan.toml"), &signatures("plan.toml.sig"), &roster).unwrap();
    let announcement = Announcement {
        round: 3,
        attempt: 1,
        cohort: plan.whole_cohort(),
        adapter: Digest([1; 32]),
        optimizer: Digest([2; 32]),
    };
    let facts = announcement.facts(&roster, &plan).unwrap();
    let signed = announcement.sign(&roster, &plan, identity("coordinator").signing_key());
    let site = identity("site-2");
    let word = |last: u8| {
        let body = [1, Step::Advertise.number(), 0, 1, 0, last];
        let signature = sign(site.signing_key(), "advert", facts.ctx(), "site-2", &body);
        let word = [&body[..], &signature.0].concat();
        [&(word.len() as u32).to_le_bytes()[..], &word].concat()
    };
    Evidence {
        version: 1,
        round: 3,
        attempt: 1,
        culprit: "site-2".parse().unwrap(),
        check: "C3".into(),
        announcement: signed.announcement,
        signature: signed.signature,
        evidence: [vec![1, 2, 1, 1, 0], word(7), word(8)].concat(),
    }
}

#[test]
fn a_third_party_verifies_evidence_without_a_connection() {
    let desk = Desk::new();
    let pin = consortium(&desk);
    plan(&desk);
    let good = evidence(&desk, &pin);
    desk.write("e.toml", &good.to_text());
    let verify =
        |files: &str| format!("blame verify {files} --roster roster.toml --pin {pin} --plan plan.toml");
    let out = desk.ok(&verify("e.toml"));
    assert_eq!(out, "site-2 in round 3, attempt 1: signed two different words in one step (check C3)\n");
    let json = desk.json(&format!("{} --json", verify("e.toml e.toml")));
    assert_eq!((&json[1]["culprit"], &json[1]["check"]), (&json!("site-2"), &json!("C3")));

    // Turned against another, altered, and rubbish: exit code 1, and nobody is convicted.
    desk.write("other.toml", &good.to_text().replace("site-2", "site-3"));
    let error = desk.refused(&verify("other.toml"));
    assert!(error.contains("other.toml") && error.contains("says culprit site-3"), "{error}");
    let mut bent = good.clone();
    *bent.evidence.last_mut().unwrap() ^= 1;
    desk.write("bent.toml", &bent.to_text());
    assert!(desk.refused(&verify("e.toml bent.toml")).contains("convicts nobody"));
    desk.write("rubbish.toml", "version = 1\n");
    assert!(desk.refused(&verify("rubbish.toml")).contains("does not parse"));

    // A key that was revoked may have been in other hands.
    desk.ok(&format!(
        "roster revoke roster.toml --pin {pin} --identity site-2/identity.toml --confirm site-2"
    ));
    let error = desk.refused(&verify("e.toml"));
    assert!(error.contains("has revoked the key"), "{error}");
}
