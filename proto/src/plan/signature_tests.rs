//! Plans that somebody forged, shortened, or made for another roster. A test named `j3_…` trips check J3.

use super::*;
use crate::{
    roster::chain::{self, Changes, propose},
    roster::revocation::Revocations,
    testing::{ALL, id, key, party, pin, plan, roster, signed, version},
};

fn verified() -> VerifiedRoster {
    let first = version(&roster(), &ALL);
    let pin = pin(&first);
    chain::verify(&[first], &pin, &Revocations::default()).unwrap()
}

#[track_caller]
fn refused(text: &str, by: &[(usize, u8)], roster: &VerifiedRoster, check: &str) -> PlanError {
    let error = Plan::verify(text, &signed(Kind::Plan, text, by), roster).unwrap_err();
    assert_eq!(error.check(), check, "{error}");
    error
}

#[test]
fn j1_texts_that_are_no_plan() {
    let roster = verified();
    let text = plan(roster.digest(), 5).to_text().unwrap();
    refused("rubbish", &ALL, &roster, "J1");
    refused(&format!("unknown = 1\n{text}"), &ALL, &roster, "J1");
    refused(&"#".repeat(MAX_DOCUMENT_BYTES + 1), &ALL, &roster, "J1");
    assert_eq!(PlanError::from(Signatures::parse("a zz").unwrap_err()).check(), "J1");
}

#[test]
fn j2_plans_that_break_a_rule() {
    let roster = verified();
    let broken = |change: &dyn Fn(&mut Plan)| {
        let mut plan = plan(roster.digest(), 5);
        change(&mut plan);
        refused(&toml::to_string(&plan).unwrap(), &ALL, &roster, "J2")
    };
    broken(&|plan| plan.version = 2);
    broken(&|plan| plan.arithmetic += 1);
    // A cohort that is not the roster, an evaluator that is nobody, too few survivors.
    broken(&|plan| plan.cohort.organizations = 6);
    broken(&|plan| plan.evaluation.organization = id(9));
    broken(&|plan| plan.cohort.min_survivors = 2);
}

#[test]
fn j3_a_plan_for_another_roster() {
    let roster = verified();
    let other = plan(Digest([9; 32]), 5).to_text().unwrap();
    refused(&other, &ALL, &roster, "J3");
    // For a version that the chain has left behind, even with everybody's signature.
    let first = version(&super::super::testing::roster(), &ALL);
    let changes = Changes { organizations: vec![party(&id(2), 30)], ..Changes::default() };
    let second = version(&propose(&roster, changes).unwrap(), &ALL);
    let pin = pin(&first);
    let newest = chain::verify(&[first, second], &pin, &Revocations::default()).unwrap();
    let old = plan(roster.digest(), 5).to_text().unwrap();
    let error = refused(&old, &ALL, &newest, "J3");
    assert!(matches!(error, PlanError::OldRoster { made: 1, newest: 2 }), "{error}");
    let text = plan(newest.digest(), 5).to_text().unwrap();
    let by = [(0, 1), (1, 2), (2, 30), (3, 4)];
    assert!(Plan::verify(&text, &signed(Kind::Plan, &text, &by), &newest).is_ok());
}

#[test]
fn j4_a_forged_signature_names_its_line() {
    let roster = verified();
    let text = plan(roster.digest(), 5).to_text().unwrap();
    let error = refused(&text, &[(0, 1), (1, 2), (2, 66), (3, 4)], &roster, "J4");
    assert!(error.to_string().contains("org-2"), "{error}");
    // Signatures of another text, and of a roster under the same bytes.
    let other = text.replace("rounds = 4", "rounds = 5");
    let error = Plan::verify(&other, &signed(Kind::Plan, &text, &ALL), &roster).unwrap_err();
    assert_eq!(error.check(), "J4");
    let error = Plan::verify(&text, &signed(Kind::Roster, &text, &ALL), &roster).unwrap_err();
    assert_eq!(error.check(), "J4");
}

#[test]
fn j5_a_plan_with_too_few_signatures() {
    let roster = verified();
    let text = plan(roster.digest(), 5).to_text().unwrap();
    let error = refused(&text, &ALL[..3], &roster, "J5");
    assert!(error.to_string().contains("org-3"), "who is missing is named: {error}");
    // The coordinator's signature counts for nothing.
    let mut signatures = signed(Kind::Plan, &text, &ALL[..3]);
    signatures.add(Kind::Plan, &text, &"coordinator".parse().unwrap(), &key(99));
    assert_eq!(Plan::verify(&text, &signatures, &roster).unwrap_err().check(), "J5");
    // Where the roster names plan signers, all of them are needed, and nobody else.
    let mut document = super::super::testing::roster();
    let signer = |name: &str, seed| crate::roster::PlanSigner {
        id: name.parse().unwrap(),
        signing_key: key(seed).verifying_key(),
    };
    document.plan_signers = vec![signer("ada", 41), signer("bob", 42)];
    let first = version(&document, &ALL);
    let pin = pin(&first);
    let roster = chain::verify(&[first], &pin, &Revocations::default()).unwrap();
    let text = plan(roster.digest(), 5).to_text().unwrap();
    let mut signatures = signed(Kind::Plan, &text, &ALL);
    signatures.add(Kind::Plan, &text, &"ada".parse().unwrap(), &key(41));
    assert_eq!(Plan::verify(&text, &signatures, &roster).unwrap_err().check(), "J5");
    signatures.add(Kind::Plan, &text, &"bob".parse().unwrap(), &key(42));
    assert!(Plan::verify(&text, &signatures, &roster).is_ok());
}
