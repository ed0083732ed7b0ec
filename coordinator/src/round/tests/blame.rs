//! Members that break the protocol: who is named, on what evidence, and what follows from it.

use consilium_crypto::{
    merkle::{Leaf, Tree, leaf},
    secagg::{Attempt, evidence::Offence},
    sign::sign,
};
use consilium_proto::evidence::{Evidence, EvidenceError};

use super::*;

const DEAL_HEADER: usize = 133;
const SEALED: usize = 112;

impl Bench {
    fn announcement(&self) -> wire::SignedAnnouncement {
        let opened = self.recorded.iter().rev().find_map(|recorded| match &recorded.event {
            Event::Opened(signed) => Some(signed.clone()),
            _ => None,
        });
        opened.unwrap()
    }

    fn facts(&self) -> Attempt {
        let announcement = Announcement::verify(&self.announcement(), &self.roster, &self.plan).unwrap();
        announcement.facts(&self.roster, &self.plan).unwrap()
    }

    fn signed(&self, index: usize, what: &'static str, body: &[u8]) -> Vec<u8> {
        let key = self.identities[index].signing_key();
        let signature = sign(key, what, self.facts().ctx(), name(index).as_str(), body);
        [body, &signature.0].concat()
    }

    /// A member's honest deal with one recipient's box spoiled, under a root of its own that it signs.
    fn spoiled(&self, dealer: usize, recipient: usize, deal: &[u8]) -> Vec<u8> {
        let (header, mut rest) = deal.split_at(DEAL_HEADER);
        let (mut out, mut leaves): (Vec<u8>, Vec<Leaf>) = (Vec::new(), Vec::new());
        for at in 0..5 {
            let (sealed, after) = rest.split_at(if at == dealer { 0 } else { SEALED });
            let (commitments, after) = after.split_at(64);
            rest = after;
            let mut sealed = sealed.to_vec();
            if at == recipient {
                sealed[9] ^= 1;
            }
            let hash = Digest::of(&sealed);
            leaves.push(leaf("consilium/1/deal", &[&hash.0, &commitments[..32], &commitments[32..]]));
            out.extend_from_slice(&sealed);
            out.extend_from_slice(commitments);
        }
        let mut signed = header[..DEAL_HEADER - 64 - 32].to_vec();
        signed.extend_from_slice(&Tree::new(leaves).root().0);
        [self.signed(dealer, "deal", &signed), out].concat()
    }

    /// A member opens the box that it was dealt, and complains.
    fn complains(&mut self, index: usize) -> wire::Refusal {
        let Kind::Protocol(told) = self.told[&name(index)].clone() else { panic!() };
        let key = self.identities[index].clone();
        let member = self.members[index].as_mut().unwrap();
        let refusal = member.deliver(Step::Input, &told.body, key.signing_key(), &mut self.rng).unwrap_err();
        assert_eq!(refusal.check(), "D8");
        let complaint = refusal.complaint().unwrap().to_vec();
        wire::Refusal { round: told.round, attempt: told.attempt, code: "check-d8".into(), complaint }
    }

    /// A member says a second, different first word.
    fn speaks_twice(&mut self, index: usize) -> Vec<&'static str> {
        let mut kinds = self.speaks(index);
        let accepted = self.recorded.iter().rev().find_map(|recorded| match &recorded.event {
            Event::Accepted { from, body, .. } if *from == name(index) => Some(body.clone()),
            _ => None,
        });
        let mut other = accepted.unwrap();
        other.truncate(other.len() - 64);
        *other.last_mut().unwrap() ^= 1;
        let body = self.signed(index, "advert", &other);
        let status = self.job.status(self.now);
        let message = wire::ProtocolMessage { round: status.round, attempt: status.attempt, step: 1, body };
        kinds.extend(self.hand(Input::Protocol { from: name(index), message }));
        kinds
    }

    fn trouble(&self, index: usize) -> String {
        self.job.status(self.now).members[index].refusal.clone()
    }
}

/// Everybody has dealt, member 2 badly to member 0, which has complained.
fn complained() -> Bench {
    let mut bench = Bench::new();
    bench.all_come();
    bench.up_to("share");
    for index in 0..5 {
        let mut message = bench.word(index);
        if index == 2 {
            message.body = bench.spoiled(2, 0, &message.body);
        }
        bench.hand(Input::Protocol { from: name(index), message });
    }
    assert_eq!(bench.step(), "input");
    let refusal = bench.complains(0);
    assert_eq!(
        bench.hand(Input::Refusal { from: name(0), refusal: refusal.clone() }),
        ["blamed", "declined"]
    );
    assert!(bench.hand(Input::Refusal { from: name(0), refusal }).is_empty(), "once is enough");
    bench
}

#[test]
fn a_complaint_names_the_dealer_in_anybodys_eyes() {
    let mut bench = complained();
    let [evidence] = bench.job.evidence() else { panic!() };
    let verdict = evidence.verify(&bench.roster, &bench.plan).unwrap();
    assert_eq!((verdict.culprit, verdict.offence), (name(2), Offence::BadDeal));
    assert_eq!((verdict.round, verdict.attempt), (1, 1));
    assert_eq!(evidence.file_name(), "round-1-attempt-1-org-2-c15.toml");
    // It survives its file and the wire.
    assert_eq!(&Evidence::parse(&evidence.to_text()).unwrap(), evidence);
    assert_eq!(Evidence::from_wire(evidence.to_wire()).as_ref(), Some(evidence));
    // The attempt goes on as long as it can; when it fails for want of members, it names who broke it.
    [1, 3, 4].iter().for_each(|index| drop(bench.speaks(*index)));
    assert_eq!(bench.wait(STEP_MS), ["failed", "opened"]);
    let round = bench.job.rounds().rounds.remove(0);
    assert_eq!((round.outcome.as_str(), round.culprits), (code::TOO_FEW_ANSWERS, vec!["org-2".to_owned()]));
}

#[test]
fn a_convicted_member_counts_as_absent_from_the_next_attempt_on() {
    let mut bench = complained();
    // The attempt fails for want of members, and names who broke it.
    assert_eq!(bench.refuses(1), ["declined", "failed", "opened"]);
    assert_eq!(outcomes(&bench.job), [(1, 1, code::TOO_MANY_REFUSALS.to_owned())]);
    assert_eq!(bench.job.rounds().rounds[0].culprits, ["org-2"]);
    let Kind::AttemptEnded(ended) = bench.told[&name(2)].clone() else {
        panic!("it is told nothing of the next attempt: {:?}", bench.told[&name(2)])
    };
    assert_eq!(ended.culprits, ["org-2"]);
    assert_eq!((bench.trouble(2).as_str(), bench.trouble(1).as_str()), ("excluded", ""));
    // Its words count for nothing, its place stays, and nobody waits for it.
    let facts = bench.facts();
    let ledger = LedgerHead { length: 0, salted_head: Digest([7; 32]) };
    let key = bench.identities[2].clone();
    let (_, body) =
        Participant::start(Arc::new(facts), Position(2), key.signing_key(), ledger, &mut bench.rng).unwrap();
    let message = wire::ProtocolMessage { round: 1, attempt: 2, step: 1, body };
    assert!(bench.hand(Input::Protocol { from: name(2), message }).is_empty());
    bench.comes(2);
    assert!(matches!(bench.told[&name(2)], Kind::Welcome(_)), "it may fetch what is published");
    for step in ["advertise", "share", "input", "vote", "unmask"] {
        assert_eq!(bench.step(), step);
        [0, 1, 3, 4].iter().for_each(|index| drop(bench.speaks(*index)));
    }
    assert_eq!(bench.sums(), ["released", "opened"]);
    assert_eq!(bench.job.rounds().rounds[1].survivors, ["org-0", "org-1", "org-3", "org-4"]);
    // A coordinator that starts again knows it all from its record.
    for events in 0..=bench.recorded.len() {
        let blamed = bench.recorded[..events].iter().filter(|it| it.event.kind() == "blamed").count();
        assert_eq!(bench.rebuilt(events).evidence().len(), blamed);
    }
    let rebuilt = bench.rebuilt(bench.recorded.len());
    assert_eq!(rebuilt.evidence(), bench.job.evidence());
    assert_eq!(rebuilt.status(bench.now).members[2].refusal, "excluded");
}

#[test]
fn two_words_in_one_step_convict() {
    let mut bench = Bench::new();
    bench.all_come();
    assert_eq!(bench.speaks_twice(3), ["accepted", "blamed"]);
    let [evidence] = bench.job.evidence() else { panic!() };
    let verdict = evidence.verify(&bench.roster, &bench.plan).unwrap();
    assert_eq!((verdict.culprit, verdict.offence), (name(3), Offence::TwoWords));
    assert_eq!(bench.trouble(3), "fault-c3");
}

/// What is refused without proof is for the operator's eyes, and names nobody to anybody else.
#[test]
fn what_cannot_be_proven_convicts_nobody() {
    let mut bench = Bench::new();
    bench.all_come();
    let message = wire::ProtocolMessage { round: 1, attempt: 1, step: 1, body: vec![7; 205] };
    assert!(bench.hand(Input::Protocol { from: name(3), message }).is_empty());
    assert_eq!(bench.trouble(3), "fault-c5");
    let complaint = vec![1, 3, 0, 9];
    let refusal = wire::Refusal { round: 1, attempt: 1, code: "check-d8".into(), complaint };
    assert_eq!(bench.hand(Input::Refusal { from: name(4), refusal }), ["declined"]);
    let refusal = wire::Refusal { round: 1, attempt: 1, code: "x".into(), complaint: vec![1; 2049] };
    assert_eq!(bench.hand(Input::Refusal { from: name(0), refusal }), ["declined", "failed", "opened"]);
    assert!(bench.job.rounds().rounds[0].culprits.is_empty());
    assert!(bench.job.evidence().is_empty());
    assert_eq!(bench.trouble(3), "", "forgotten with the attempt");
}

#[test]
fn members_that_the_plan_cannot_spare_are_not_excluded() {
    let mut bench = Bench::new();
    bench.all_come();
    assert_eq!(bench.speaks_twice(3), ["accepted", "blamed"]);
    assert_eq!(bench.speaks_twice(4), ["accepted", "blamed"]);
    bench.refuses(0);
    assert_eq!(bench.refuses(1), ["declined", "failed", "opened"]);
    assert_eq!(bench.job.rounds().rounds[0].culprits, ["org-3", "org-4"]);
    // Three of five are left, and the plan needs four: with the two the round can still succeed.
    assert!((0..5).all(|index| bench.trouble(index).is_empty()));
    bench.up_to("release");
    assert_eq!(bench.sums(), ["released", "opened"]);
}

/// The coordinator has good evidence against one member, and turns it against another, or into another offence.
#[test]
fn a_coordinator_that_alters_evidence_convicts_nobody() {
    let bench = complained();
    let [good] = bench.job.evidence() else { panic!() };
    let refused = |evidence: &Evidence| evidence.verify(&bench.roster, &bench.plan).unwrap_err();
    for (field, evidence) in [
        ("culprit", Evidence { culprit: name(1), ..good.clone() }),
        ("check", Evidence { check: "C14".into(), ..good.clone() }),
        ("round", Evidence { round: 2, ..good.clone() }),
        ("attempt", Evidence { attempt: 2, ..good.clone() }),
    ] {
        let error = refused(&evidence);
        assert!(matches!(error, EvidenceError::Altered { field: named, .. } if named == field), "{error}");
    }
    // Announced anew by its own signature: another attempt, or another adapter. The members' words do not belong to it.
    let original = Announcement::verify(&bench.announcement(), &bench.roster, &bench.plan).unwrap();
    for forged in [
        Announcement { attempt: 2, ..original.clone() },
        Announcement { adapter: Digest([5; 32]), ..original.clone() },
    ] {
        let signed = forged.sign(&bench.roster, &bench.plan, bench.coordinator.signing_key());
        let (announcement, signature) = (signed.announcement, signed.signature);
        let attempt = forged.attempt;
        let evidence = Evidence { attempt, announcement, signature, ..good.clone() };
        assert!(matches!(refused(&evidence), EvidenceError::Nobody(_)));
    }
    let mut unsigned = good.clone();
    unsigned.signature[3] ^= 1;
    assert!(matches!(refused(&unsigned), EvidenceError::Announcement(_)));
    for index in (0..good.evidence.len()).step_by(53) {
        let mut bent = good.clone();
        bent.evidence[index] ^= 1;
        assert!(matches!(refused(&bent), EvidenceError::Nobody(_)), "byte {index}");
    }
    // Words that an honest member said once.
    let mut twice = good.clone();
    let word = bench.recorded.iter().find_map(|recorded| match &recorded.event {
        Event::Accepted { from, step: 1, body } if *from == name(1) => Some(body.clone()),
        _ => None,
    });
    let word = word.unwrap();
    let length = (word.len() as u32).to_le_bytes();
    twice.evidence = [&[1, 2, 1, 1, 0][..], &length, &word, &length, &word].concat();
    assert!(matches!(refused(&twice), EvidenceError::Nobody(_)));
    assert!(Evidence::parse(&good.to_text().replace("version = 1", "version = 2")).is_err());
}
