//! Rosters, chains and revocations that somebody forged, shortened or rolled back. A test named `r3_…` trips check R3.

use jiff::civil::date;

use super::{
    chain::{Changes, Seen, Version, propose, verify},
    revocation::Revocations,
    *,
};
use crate::{
    signed::SignatureError,
    testing::{ALL, id, key, party, pin, roster, signed, version},
};

fn checked(versions: &[Version], revocations: &Revocations) -> Result<VerifiedRoster, RosterError> {
    verify(versions, &pin(&versions[0]), revocations)
}

fn none() -> Revocations {
    Revocations::default()
}

/// The next version of a chain, with the changes, signed by these.
fn next(versions: &[Version], changes: Changes, by: &[(usize, u8)]) -> Version {
    let newest = checked(versions, &none()).unwrap();
    version(&propose(&newest, changes).unwrap(), by)
}

/// Two versions: in the second, organization 2 has the key of seed 30.
fn rotated() -> Vec<Version> {
    let first = version(&roster(), &ALL);
    let changes = Changes { organizations: vec![party(&id(2), 30)], ..Changes::default() };
    let second = next(std::slice::from_ref(&first), changes, &ALL[..4]);
    vec![first, second]
}

#[track_caller]
fn refused(result: Result<VerifiedRoster, RosterError>, check: &str) -> RosterError {
    let error = result.unwrap_err();
    assert_eq!(error.check(), check, "{error}");
    error
}

#[test]
fn a_chain_grows_shrinks_and_changes_keys_under_one_pin() {
    let mut versions = rotated();
    let second = checked(&versions, &none()).unwrap();
    assert_eq!((second.version(), second.genesis()), (2, pin(&versions[0])));
    assert_eq!(second.organization(&id(2)).unwrap().signing_key, key(30).verifying_key());
    // Organization 2 signs with its new key now; a sixth comes in, organization 0 goes.
    let changes = Changes {
        organizations: vec![party(&id(5), 6)],
        removed: vec![id(0)],
        extended: vec![(id(1), date(2121, 1, 1))],
        ..Changes::default()
    };
    versions.push(next(&versions, changes, &[(0, 1), (1, 2), (2, 30), (3, 4)]));
    let third = checked(&versions, &none()).unwrap();
    assert_eq!(third.cohort(), [1, 2, 3, 4, 5].map(id));
    assert_eq!(third.organization(&id(1)).unwrap().valid_until, date(2121, 1, 1));
    assert_eq!(third.document().quorum, 4, "as many organizations as before");
    assert_eq!(third.version_of(&pin(&versions[1])), Some(2));
    assert_eq!((third.at(1), third.at(3), third.at(4)), (Some(third.genesis()), Some(third.digest()), None));
    // A fourth organization more, and the quorum follows.
    let changes = Changes { organizations: vec![party(&id(7), 8)], ..Changes::default() };
    assert_eq!(propose(&third, changes).unwrap().quorum, 5);
}

#[test]
fn files_of_a_chain_stand_beside_the_first() {
    let first = Path::new("/etc/heart/roster.toml");
    assert_eq!(successor(first, 1), first);
    assert_eq!(successor(first, 2), Path::new("/etc/heart/roster.2.toml"));
    assert_eq!(successor(Path::new("r"), 12), Path::new("r.12"));
    for version in 2..4 {
        assert_eq!(predecessor(&successor(first, version), version), Some(successor(first, version - 1)));
    }
    assert_eq!((predecessor(first, 1), predecessor(first, 2)), (None, None));
    assert_eq!(revocation_file(first), Path::new("/etc/heart/roster.toml.revoked"));
}

#[test]
fn r1_texts_that_are_no_roster() {
    let good = version(&roster(), &ALL);
    let parsed = |text: &str| checked(&[Version { text: text.into(), ..good.clone() }], &none());
    refused(parsed("rubbish"), "R1");
    refused(parsed(&format!("unknown = 1\n{}", good.text)), "R1");
    refused(parsed(&"#".repeat(MAX_DOCUMENT_BYTES + 1)), "R1");
    assert_eq!(RosterError::from(Signatures::parse("a zz").unwrap_err()).check(), "R1");
}

#[test]
fn r2_rosters_that_break_a_rule() {
    let good = roster();
    let broken = |change: &dyn Fn(&mut Roster)| {
        let mut roster = good.clone();
        change(&mut roster);
        let text = toml::to_string(&roster).unwrap();
        let signatures = signed(crate::signed::Kind::Roster, &text, &ALL);
        refused(checked(&[Version { text, signatures }], &none()), "R2")
    };
    broken(&|roster| roster.organizations.truncate(2));
    broken(&|roster| roster.quorum = 3);
    broken(&|roster| roster.quorum = 6);
    broken(&|roster| roster.version = 0);
    broken(&|roster| roster.version = 2);
    broken(&|roster| roster.previous = Some(Digest([1; 32])));
    broken(&|roster| roster.organizations[1].id = id(0));
    broken(&|roster| roster.organizations[1].tls_key = roster.organizations[0].tls_key);
    broken(&|roster| roster.organizations[1].signing_key = roster.organizations[0].signing_key);
    broken(&|roster| {
        roster.plan_signers = vec![PlanSigner { id: id(9), signing_key: key(1).verifying_key() }]
    });
    broken(&|roster| roster.simulated = true);
    assert_eq!(verify(&[], &Digest([0; 32]), &none()).unwrap_err().check(), "R2");
}

/// Ten thousand organizations are for the simulator alone: a roster that lists them says so, and is verified like any other.
#[test]
fn a_simulated_roster_is_no_deployments() {
    let mut simulated = roster();
    simulated.simulated = true;
    let signed = version(&simulated, &ALL);
    let pin = pin(&signed);
    assert!(Roster::verify(&signed.text, &signed.signatures, &pin).unwrap().document().simulated);
    refused(verify(&[signed], &pin, &none()), "R2");

    let listing = |n: u32, simulated| {
        let organizations =
            (0..n).map(|index| party(&format!("o{index}").parse().unwrap(), index as u8)).collect();
        Roster { organizations, simulated, quorum: n as usize, ..roster() }
    };
    let why = |n, simulated| listing(n, simulated).to_text().unwrap_err().to_string();
    assert!(why(1001, false).contains("3 to 1000"));
    assert!(why(10_001, true).contains("3 to 10000"));
}

/// A coordinator hands one client a roster in which a peer has another key. It can sign it with all the keys it likes: the pin is
/// another.
#[test]
fn r3_a_roster_with_a_peers_key_replaced() {
    let honest = version(&roster(), &ALL);
    let mut forged = roster();
    forged.organizations[2] = party(&id(2), 66);
    let forged = version(&forged, &[(0, 1), (1, 2), (2, 66), (3, 4), (4, 5)]);
    refused(verify(&[forged], &pin(&honest), &none()), "R3");
}

#[test]
fn r4_a_forged_signature_names_its_line() {
    let good = roster();
    let forged = version(&good, &[(0, 1), (1, 2), (2, 66), (3, 4), (4, 5)]);
    let error = refused(checked(&[forged], &none()), "R4");
    assert_eq!(error.named(), Some(&id(2)));
    // In a later version the old key is the one that counts, not the one that the version brings.
    let mut versions = rotated();
    versions[1] = version(&Roster::parse(&versions[1].text).unwrap(), &[(0, 1), (1, 2), (2, 30), (3, 4)]);
    let error = refused(checked(&versions, &none()), "R4");
    assert_eq!(error.named(), Some(&id(2)));
}

#[test]
fn r5_a_roster_with_too_few_signatures() {
    let four = version(&roster(), &ALL[..4]);
    refused(checked(&[four], &none()), "R5");
    // A later version needs a quorum of the one before. Whoever comes in with it has no voice yet.
    let first = [version(&roster(), &ALL)];
    let changes = || Changes { organizations: vec![party(&id(5), 6)], ..Changes::default() };
    let mut chain = vec![first[0].clone(), next(&first, changes(), &[(0, 1), (1, 2), (2, 3), (5, 6)])];
    let error = refused(checked(&chain, &none()), "R5");
    let RosterError::Later { version: 2, source } = error else { panic!("{error}") };
    assert!(matches!(*source, RosterError::Signature(SignatureError::TooFew { needed: 4, have: 3, .. })));
    chain[1] = next(&first, changes(), &ALL[1..]);
    assert!(checked(&chain, &none()).is_ok());
}

/// A coordinator that invents a member has one signature for it, its own.
#[test]
fn r5_an_invented_member_finds_no_quorum() {
    let first = [version(&roster(), &ALL)];
    let changes = Changes { organizations: vec![party(&id(6), 66)], ..Changes::default() };
    let newest = checked(&first, &none()).unwrap();
    let invented = propose(&newest, changes).unwrap();
    let mut second = version(&invented, &[(6, 66)]);
    second.signatures.add(
        crate::signed::Kind::Roster,
        &second.text,
        &"coordinator".parse().unwrap(),
        &key(99),
    );
    refused(checked(&[first[0].clone(), second], &none()), "R5");
}

#[test]
fn r6_versions_that_do_not_continue_the_chain() {
    let versions = rotated();
    // One left out, one twice, one of another consortium, one whose predecessor is another.
    refused(verify(&versions[1..], &pin(&versions[1]), &none()), "R6");
    let twice = [versions[0].clone(), versions[1].clone(), versions[1].clone()];
    refused(checked(&twice, &none()), "R6");
    let altered = |change: &dyn Fn(&mut Roster)| {
        let mut second = Roster::parse(&versions[1].text).unwrap();
        change(&mut second);
        refused(checked(&[versions[0].clone(), version(&second, &ALL)], &none()), "R6")
    };
    altered(&|second| second.consortium = "other".parse().unwrap());
    altered(&|second| second.previous = Some(Digest([7; 32])));
    altered(&|second| second.version = 3);
}

#[test]
fn r7_a_chain_that_is_rolled_back_or_forked() {
    let versions = rotated();
    let (first, second) = (checked(&versions[..1], &none()).unwrap(), checked(&versions, &none()).unwrap());
    let seen = Seen::of(&second);
    assert!(seen.check(&second).is_ok() && Seen::of(&first).check(&second).is_ok());
    let error = seen.check(&first).unwrap_err();
    assert_eq!(error.check(), "R7");
    assert!(error.to_string().contains("version 1") && error.to_string().contains("version 2"), "{error}");
    // Another second version, signed by a quorum as well.
    let changes = Changes { removed: vec![id(4)], quorum: Some(4), ..Changes::default() };
    let fork = next(&versions[..1], changes, &ALL);
    let forked = checked(&[versions[0].clone(), fork], &none()).unwrap();
    assert_eq!(seen.check(&forked).unwrap_err().check(), "R7");
    // It survives its text.
    let text = toml::to_string(&seen).unwrap();
    assert_eq!(toml::from_str::<Seen>(&text).unwrap(), seen);
}

#[test]
fn r8_a_revocation_that_the_key_did_not_sign() {
    let chain = [version(&roster(), &ALL)];
    let genesis = pin(&chain[0]);
    let mut good = none();
    good.add(&genesis, &id(2), 1, &key(3));
    assert_eq!(checked(&chain, &good).unwrap().revoked(), [id(2)]);
    let line = good.to_text();
    let revoked = |text: String| checked(&chain, &Revocations::parse(&text).unwrap());
    // Another version, another name, another consortium, another signature, a key that nobody has.
    let error = refused(revoked(line.replace("org-2 1", "org-2 2")), "R8");
    assert!(error.to_string().contains("org-2"), "{error}");
    refused(revoked(line.replace("org-2", "org-3")), "R8");
    let mut other = none();
    other.add(&Digest([1; 32]), &id(2), 1, &key(3));
    refused(revoked(other.to_text()), "R8");
    let flipped = if line.trim_end().ends_with('0') { "1" } else { "0" };
    refused(revoked(format!("{}{flipped}", &line.trim_end()[..line.trim_end().len() - 1])), "R8");
    let mut strange = none();
    strange.add(&genesis, &id(2), 1, &key(77));
    refused(revoked(strange.to_text()), "R8");
    for rubbish in ["org-2", "org-2 1 zz zz", &format!("{} more", line.trim_end())] {
        assert_eq!(Revocations::parse(rubbish).unwrap_err().check(), "R8", "{rubbish}");
    }
    assert_eq!(Revocations::parse(&format!("# a comment\n\n{line}")).unwrap(), good);
}

#[test]
fn r9_an_unlisted_key_is_nobodys() {
    let roster = checked(&[version(&roster(), &ALL)], &none()).unwrap();
    let today = date(2027, 1, 1);
    assert_eq!(roster.caller(&Digest([3; 32]), today), Ok(Caller::Organization(id(2))));
    assert_eq!(roster.caller(&Digest([66; 32]), today).unwrap_err().check(), "R9");
    // A member that the next version leaves out, and a key that it replaces.
    let versions = rotated();
    let rotated = checked(&versions, &none()).unwrap();
    assert_eq!(rotated.caller(&Digest([3; 32]), today).unwrap_err().check(), "R9");
    assert_eq!(rotated.caller(&Digest([30; 32]), today), Ok(Caller::Organization(id(2))));
}

#[test]
fn r10_an_expired_entry_is_named() {
    let mut document = roster();
    document.organizations[2].valid_until = date(2027, 1, 1);
    let roster = checked(&[version(&document, &ALL)], &none()).unwrap();
    assert!(roster.caller(&Digest([3; 32]), date(2027, 1, 1)).is_ok(), "its last day counts");
    let error = roster.caller(&Digest([3; 32]), date(2027, 1, 2)).unwrap_err();
    assert_eq!(error.check(), "R10");
    assert!(error.to_string().contains("org-2"), "{error}");
}

#[test]
fn r11_a_revoked_key_opens_no_connection() {
    let chain = [version(&roster(), &ALL)];
    let mut revocations = none();
    revocations.add(&pin(&chain[0]), &id(2), 1, &key(3));
    let roster = checked(&chain, &revocations).unwrap();
    let error = roster.caller(&Digest([3; 32]), date(2027, 1, 1)).unwrap_err();
    assert_eq!((error.check(), error), ("R11", Unlisted::Revoked { id: id(2) }));
    assert!(roster.caller(&Digest([4; 32]), date(2027, 1, 1)).is_ok());
}

/// A revoked key signs no later version; what it had signed before stands; and with a new key the organization is back.
#[test]
fn a_revocation_ends_a_key_and_not_the_chain() {
    let versions = rotated();
    let genesis = pin(&versions[0]);
    let mut revocations = none();
    // Organization 0 signed version 2, and revokes its key afterwards.
    revocations.add(&genesis, &id(0), 2, &key(1));
    let second = checked(&versions, &revocations).unwrap();
    assert_eq!(second.revoked(), [id(0)]);
    let changes = Changes { organizations: vec![party(&id(0), 10)], ..Changes::default() };
    let third = propose(&second, changes).unwrap();
    let with = |by: &[(usize, u8)]| {
        let chain = [versions[0].clone(), versions[1].clone(), version(&third, by)];
        checked(&chain, &revocations)
    };
    refused(with(&[(0, 1), (1, 2), (2, 30), (3, 4)]), "R5");
    let third = with(&[(1, 2), (2, 30), (3, 4), (4, 5)]).unwrap();
    assert!(third.revoked().is_empty(), "the revoked key is not listed any more");
    assert!(third.caller(&Digest([10; 32]), date(2027, 1, 1)).is_ok());
    // Said to count from version 1 on, it takes its voice back from version 2, which then needs another's.
    let mut earlier = none();
    earlier.add(&genesis, &id(0), 1, &key(1));
    refused(checked(&versions, &earlier), "R5");
    let more = version(&Roster::parse(&versions[1].text).unwrap(), &ALL[1..]);
    assert!(checked(&[versions[0].clone(), more], &earlier).is_ok());
}

/// With so many keys revoked that no quorum is left, all who are left decide, while they are more than half.
#[test]
fn a_consortium_outlives_revoked_keys() {
    let first = version(&roster(), &ALL);
    let genesis = pin(&first);
    let mut revocations = none();
    revocations.add(&genesis, &id(0), 1, &key(1));
    revocations.add(&genesis, &id(1), 1, &key(2));
    let newest = checked(std::slice::from_ref(&first), &revocations).unwrap();
    let changes = Changes { organizations: vec![party(&id(0), 10), party(&id(1), 11)], ..Changes::default() };
    let second = propose(&newest, changes).unwrap();
    let with = |by: &[(usize, u8)], revocations: &Revocations| {
        checked(&[first.clone(), version(&second, by)], revocations)
    };
    assert!(with(&ALL[2..], &revocations).unwrap().revoked().is_empty());
    refused(with(&ALL[3..], &revocations), "R5");
    refused(with(&ALL[..4], &revocations), "R5");
    revocations.add(&genesis, &id(2), 1, &key(3));
    refused(with(&ALL[3..], &revocations), "R5");
}

#[test]
fn what_cannot_be_changed_is_named() {
    let newest = checked(&[version(&roster(), &ALL)], &none()).unwrap();
    for changes in [
        Changes { removed: vec![id(9)], ..Changes::default() },
        Changes { extended: vec![(id(9), date(2030, 1, 1))], ..Changes::default() },
        Changes { removed: vec![id(0), id(1), id(2)], ..Changes::default() },
        Changes { quorum: Some(2), ..Changes::default() },
    ] {
        assert_eq!(propose(&newest, changes).unwrap_err().check(), "R2");
    }
}
