//! Evidence that convicts nobody: a coordinator with everything that honest members ever signed, their answers included,
//! puts it together in every way it can think of. The formats are written from the manual.
//!
//! Evidence that does convict is tested where the offence is: checks C3, C13 and C16 in `secagg_collector.rs`, C14 and C15
//! in `secagg_refusals`.
#![allow(clippy::unwrap_used)]

mod secagg_world;

use std::sync::Arc;

use consilium_crypto::{
    codec::{Reader, Writer},
    digest::Digest,
    merkle::{Leaf, Tree, leaf},
    secagg::{
        Attempt, Position, Step,
        evidence::{MAX_EVIDENCE_BYTES, NotEvidence, verify},
    },
};
use secagg_world::*;

const VICTIM: u16 = 1;
const DEALER: u16 = 3;

/// A whole honest attempt of five, in which member 4 dealt and fell silent.
struct Finished {
    world: World,
    adverts: Vec<u8>,
    headers: Vec<u8>,
    inputs: Vec<u8>,
}

fn finished() -> Finished {
    let mut world = World::new(Shape::of(5, 20), 1);
    let (all, rest) = ([0, 1, 2, 3, 4], [0, 1, 2, 3]);
    world.advertise(&all);
    let adverts = world.delivery(0);
    world.share(&all);
    let headers = join_list(Step::Input, &split_deals(&world.delivery(0)).0);
    world.input(&rest);
    let inputs = world.delivery(0);
    world.vote(&rest);
    world.unmask(&rest);
    assert!(world.collector.proofs().is_empty());
    Finished { world, adverts, headers, inputs }
}

impl Finished {
    fn said(&self, from: u16, step: Step) -> &[u8] {
        let said = self.world.log.iter().find_map(|event| match event {
            Event::Said(who, when, body) if who.0 == from && *when == step => Some(body),
            _ => None,
        });
        said.unwrap()
    }

    /// A dealer's leaf for a recipient, with its path: digest of the box, commitments, siblings.
    fn leaf(&self, dealer: u16, recipient: u16) -> Vec<u8> {
        let mut r = Reader::new(&self.said(dealer, Step::Share)[DEAL_HEADER..]);
        let mut parts = Vec::new();
        for at in 0..self.world.shape.n {
            let sealed = r.raw("sealed", if at == dealer { 0 } else { SEALED }).unwrap();
            parts.push((Digest::of(sealed), r.raw("commitments", 64).unwrap()));
        }
        let leaves: Vec<Leaf> = parts
            .iter()
            .map(|(hash, both)| leaf("consilium/1/deal", &[&hash.0, &both[..32], &both[32..]]))
            .collect();
        let path = Tree::new(leaves).path(usize::from(recipient));
        let (hash, both) = parts[usize::from(recipient)];
        let siblings: Vec<u8> = path.iter().flat_map(|sibling| sibling.0).collect();
        [&hash.0[..], both, &siblings].concat()
    }

    /// Evidence of kind 3.
    fn bad_share(&self, accused: u16, answer: &[u8], dealer: u16, leaf: &[u8]) -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(1).u8(3).bytes(&self.adverts).bytes(&self.headers).bytes(&self.inputs);
        w.u16(accused).bytes(answer).u16(dealer).raw(leaf).finish()
    }

    /// Evidence of kind 4, from the answers of the first four: share and salt of `dealer`.
    fn no_secret(
        &self,
        dealer: u16,
        secret: u8,
        recipients: &[u16],
        change: impl Fn(u16, &mut Vec<u8>),
    ) -> Vec<u8> {
        let mut w = Writer::new();
        let header = &self.said(dealer, Step::Share)[..DEAL_HEADER];
        w.u8(1).u8(4).bytes(&self.adverts).raw(header).u8(secret).count(recipients.len());
        for recipient in recipients {
            let at = HEAD + 2 + 32 + usize::from(dealer) * 64;
            let mut shown = self.said(*recipient, Step::Unmask)[at..at + 64].to_vec();
            change(*recipient, &mut shown);
            w.u16(*recipient).raw(&self.leaf(dealer, *recipient)).raw(&shown);
        }
        w.finish()
    }

    #[track_caller]
    fn nobody(&self, evidence: &[u8]) -> NotEvidence {
        verify(&self.world.attempt, evidence).unwrap_err()
    }
}

fn two_words(step: Step, accused: u16, first: &[u8], second: &[u8]) -> Vec<u8> {
    Writer::new().u8(1).u8(2).u8(step.number()).u16(accused).bytes(first).bytes(second).finish()
}

#[test]
fn one_word_said_twice_is_no_second_word() {
    let done = finished();
    for step in Step::ALL {
        let body = done.said(VICTIM, step);
        let signed = match step {
            Step::Share => &body[..DEAL_HEADER],
            Step::Input => &body[..INPUT_HEADER],
            _ => body,
        };
        assert_eq!(done.nobody(&two_words(step, VICTIM, signed, signed)), NotEvidence::Unfounded);
        // The same header before another list, for the list is not signed.
        let longer = [signed, &[0; 32]].concat();
        if step == Step::Share || step == Step::Input {
            assert_eq!(done.nobody(&two_words(step, VICTIM, signed, &longer)), NotEvidence::Unfounded);
        }
        // Another member's word, and another step's.
        let other = done.said(0, step);
        assert!(matches!(done.nobody(&two_words(step, VICTIM, signed, other)), NotEvidence::Word(_)));
        let next = Step::from_number(step.number() % 5 + 1).unwrap();
        let strange = done.said(VICTIM, next);
        assert!(matches!(done.nobody(&two_words(step, VICTIM, signed, strange)), NotEvidence::Word(_)));
    }
}

/// The coordinator announces two attempts, or one in two ways: what members say in the one is no second word in the other.
#[test]
fn words_of_two_attempts_are_not_two_words() {
    let done = finished();
    let mut other = World::new(Shape::of(5, 20), 1);
    let (params, members) = (*other.attempt.params(), other.attempt.members().to_vec());
    other.attempt = Arc::new(Attempt::new(Digest([7; 32]), params, members).unwrap());
    let foreign = other.start(VICTIM);
    let evidence = two_words(Step::Advertise, VICTIM, done.said(VICTIM, Step::Advertise), &foreign);
    assert!(matches!(done.nobody(&evidence), NotEvidence::Word(_)));
    assert!(verify(&other.attempt, &evidence).is_err());
}

#[test]
fn a_good_answer_convicts_nobody() {
    let done = finished();
    let answer = done.said(VICTIM, Step::Unmask).to_vec();
    for dealer in 0..5 {
        let leaf = done.leaf(dealer, VICTIM);
        let evidence = done.bad_share(VICTIM, &answer, dealer, &leaf);
        assert_eq!(done.nobody(&evidence), NotEvidence::Unfounded, "dealer {dealer}");
        // Held against another dealer's, another recipient's or an altered leaf.
        let mut altered = leaf.clone();
        altered[40] ^= 1;
        for leaf in [done.leaf((dealer + 1) % 5, VICTIM), done.leaf(dealer, 0), altered] {
            let evidence = done.bad_share(VICTIM, &answer, dealer, &leaf);
            assert!(verify(&done.world.attempt, &evidence).is_err(), "dealer {dealer}");
        }
    }
    // An answer that the coordinator altered, or that it says is another's.
    let mut bent = answer.clone();
    bent[HEAD + 2 + 32] ^= 1;
    let leaf = done.leaf(DEALER, VICTIM);
    assert!(matches!(done.nobody(&done.bad_share(VICTIM, &bent, DEALER, &leaf)), NotEvidence::Word(_)));
    let leaf = done.leaf(DEALER, 0);
    assert!(matches!(done.nobody(&done.bad_share(0, &answer, DEALER, &leaf)), NotEvidence::Word(_)));
}

/// With other survivors shown, an honest share of the one kind would be judged as a share of the other: the answer names what it
/// was given for.
#[test]
fn a_good_answer_held_against_other_survivors_convicts_nobody() {
    // Everybody survives, and the record of the attempt without member 4 is shown in its place.
    let mut world = World::new(Shape::of(5, 20), 1);
    let all = world.everyone();
    world.run([&all; 5]);
    let answers: Vec<_> = world
        .log
        .iter()
        .filter_map(|event| match event {
            Event::Said(who, Step::Unmask, body) => Some((who.0, body.clone())),
            _ => None,
        })
        .collect();
    let done = finished();
    for (accused, answer) in answers {
        let evidence = done.bad_share(accused, &answer, 4, &done.leaf(4, accused));
        assert!(matches!(done.nobody(&evidence), NotEvidence::Word(_)), "member {accused}");
    }
}

#[test]
fn good_shares_convict_no_dealer() {
    let done = finished();
    let first = [0, 1, 2, 3];
    for dealer in 0..5 {
        let secret = u8::from(dealer != 4);
        let unchanged = |_: u16, _: &mut Vec<u8>| ();
        assert_eq!(done.nobody(&done.no_secret(dealer, secret, &first, unchanged)), NotEvidence::Unfounded);
        // As shares of the other secret, with a made-up share, with fewer, with one twice.
        assert_eq!(
            done.nobody(&done.no_secret(dealer, 1 - secret, &first, unchanged)),
            NotEvidence::NotUnderRoot
        );
        let made_up = |who: u16, shown: &mut Vec<u8>| shown[0] ^= u8::from(who == 2);
        assert_eq!(done.nobody(&done.no_secret(dealer, secret, &first, made_up)), NotEvidence::NotUnderRoot);
        for recipients in [&[0, 1, 2][..], &[0, 1, 2, 2], &[0, 1, 3, 2]] {
            let evidence = done.no_secret(dealer, secret, recipients, unchanged);
            assert!(matches!(done.nobody(&evidence), NotEvidence::Malformed(_)), "{recipients:?}");
        }
    }
}

#[test]
fn rubbish_convicts_nobody() {
    let done = finished();
    let attempt = &done.world.attempt;
    assert!(verify(attempt, &[]).is_err());
    assert!(verify(attempt, &vec![1; MAX_EVIDENCE_BYTES + 1]).is_err());
    for kind in 0..=5 {
        for length in 0..200 {
            assert!(verify(attempt, &[&[1, kind][..], &vec![1; length]].concat()).is_err());
        }
    }
    let mut dice = rng_of(5, 0);
    let good = done.bad_share(VICTIM, done.said(VICTIM, Step::Unmask), DEALER, &done.leaf(DEALER, VICTIM));
    for _ in 0..300 {
        let mut bent = good.clone();
        let at = rand_core::Rng::next_u32(&mut dice) as usize % bent.len();
        bent[at] ^= 1 << (at % 8);
        bent.truncate(bent.len() - at % 2);
        assert!(verify(attempt, &bent).is_err());
    }
    assert_eq!(done.world.collector.survivors().len(), 4);
    assert_eq!(done.world.collector.survivors()[0], Position(0));
}
