//! What a coordinator's collector refuses, and whom it blames: each check of the manual's table once.
#![allow(clippy::unwrap_used)]

mod secagg_world;

use consilium_crypto::{
    digest::{Digest, Transcript},
    merkle::{Tree, leaf},
    secagg::{
        Flaw, Position, Step,
        client::Reply,
        coordinator::{Failure, Fault, Why},
        evidence::Offence,
    },
};
use hkdf::Hkdf;
use rand_core::Rng;
use secagg_world::*;
use sha2::Sha256;

const BAD: u16 = 1;

/// Five members, everyone through the steps before `step`.
fn before(step: Step) -> World {
    let mut world = World::new(Shape::of(5, 20), 1);
    let all = world.everyone();
    if step > Step::Advertise {
        world.advertise(&all);
    }
    if step > Step::Share {
        world.share(&all);
    }
    if step > Step::Input {
        world.input(&all);
    }
    if step > Step::Vote {
        world.vote(&all);
    }
    world
}

/// The bad member's honest body for the open step.
fn honest(world: &mut World) -> Vec<u8> {
    let step = world.collector.step();
    if step == Step::Advertise {
        return world.start(BAD);
    }
    let delivery = world.delivery(BAD);
    match world.show(BAD, &delivery).unwrap() {
        Reply::Send(body) => body,
        Reply::UpdateWanted => world.mask(BAD).header,
    }
}

/// The bad member says something; the collector refuses it by this check, remembers who it was, and goes on.
#[track_caller]
fn refused(world: &mut World, body: &[u8], check: &str) -> Fault {
    let (step, received) = (world.collector.step(), world.collector.received().clone());
    let fault = world.collector.accept(Position(BAD), step, body).unwrap_err();
    assert_eq!(fault.check(), check, "{fault}");
    assert_eq!(world.collector.received(), &received);
    let blamed = world.collector.faults().iter().any(|(who, seen)| who.0 == BAD && seen.check() == check);
    assert_eq!(blamed, fault.is_misbehaviour());
    fault
}

/// The signed part of a body, and what follows the signature.
fn parts(step: Step, body: &[u8]) -> (Vec<u8>, &'static str, Vec<u8>) {
    let (end, what) = match step {
        Step::Advertise => (body.len(), "advert"),
        Step::Share => (DEAL_HEADER, "deal"),
        Step::Input => (INPUT_HEADER, "input"),
        Step::Vote => (body.len(), "vote"),
        Step::Unmask => (body.len(), "answer"),
    };
    (body[..end - 64].to_vec(), what, body[end..].to_vec())
}

/// The honest body of `step`, its signed part changed and signed again.
fn resigned(step: Step, change: impl Fn(&mut Vec<u8>)) -> (World, Vec<u8>) {
    let mut world = before(step);
    let body = honest(&mut world);
    let (mut signed, what, rest) = parts(step, &body);
    change(&mut signed);
    let body = [world.sign(BAD, what, &signed), rest].concat();
    (world, body)
}

#[test]
fn c1_a_body_out_of_turn_is_nobodys_fault() {
    let mut world = before(Step::Share);
    let deal = honest(&mut world);
    let mut early = before(Step::Advertise);
    let fault = early.collector.accept(Position(BAD), Step::Share, &deal).unwrap_err();
    assert_eq!(fault, Fault::OutOfTurn { now: Step::Advertise, got: Step::Share });
    assert_eq!(fault.check(), "C1");
    assert!(early.collector.faults().is_empty());

    // A member that was too late to advertise.
    let mut late = World::new(Shape::of(5, 20), 1);
    late.advertise(&[0, 2, 3, 4]);
    let advert = late.start(BAD);
    let fault = late.collector.accept(Position(BAD), Step::Advertise, &advert).unwrap_err();
    assert_eq!(fault.check(), "C1");
}

#[test]
fn c2_a_member_the_step_is_not_open_to() {
    let mut all = before(Step::Share);
    let deal = honest(&mut all);
    let mut world = World::new(Shape::of(5, 20), 1);
    world.advertise(&[0, 2, 3, 4]);
    let fault = refused(&mut world, &deal, "C2");
    assert_eq!(fault, Fault::NotExpected { step: Step::Share });
    let stranger = world.collector.accept(Position(5), Step::Share, &deal).unwrap_err();
    assert_eq!(stranger.check(), "C2");
}

/// A second word in any step, properly signed and different, names its sender; the same word again does not.
#[test]
fn c3_two_different_words() {
    for step in Step::ALL {
        let mut world = before(step);
        let body = honest(&mut world);
        world.say(BAD, step, body.clone()).unwrap();
        world.say(BAD, step, body.clone()).unwrap();
        assert!(world.collector.faults().is_empty());

        let (mut signed, what, rest) = parts(step, &body);
        *signed.last_mut().unwrap() ^= 1;
        let second = [world.sign(BAD, what, &signed), rest].concat();
        let fault = world.collector.accept(Position(BAD), step, &second).unwrap_err();
        assert_eq!(fault, Fault::Equivocation { step });
        assert_eq!(world.collector.faults(), &[(Position(BAD), fault)]);
        convicts(&world, BAD, Offence::TwoWords);
        // Shouting does not fill memory.
        world.collector.accept(Position(BAD), step, &second).unwrap_err();
        assert_eq!(world.collector.faults().len(), 1);
        assert_eq!(world.collector.proofs().len(), 1);
        // An unsigned second word is not the member's.
        let mut forged = second;
        let last = forged.len() - 1;
        forged[if step == Step::Share || step == Step::Input { 6 } else { last }] ^= 1;
        let fault = world.collector.accept(Position(BAD), step, &forged).unwrap_err();
        assert_eq!(fault.check(), "C6");
    }
}

#[test]
fn c4_bodies_that_are_not_bodies() {
    for step in Step::ALL {
        let mut world = before(step);
        refused(&mut world, &[], "C4");
        refused(&mut world, &[1, step.number(), 0], "C4");
        // Properly signed, and still not what the step wants: another version, another step, another speaker.
        for byte in 0..HEAD {
            let (mut world, body) = resigned(step, |signed| signed[byte] ^= 4);
            refused(&mut world, &body, "C4");
        }
        let (mut world, body) = resigned(step, |signed| signed.push(0));
        let check = if step == Step::Share || step == Step::Input { "C6" } else { "C4" };
        refused(&mut world, &body, check);
    }
    // Lists behind a good header: too short, too long.
    for step in [Step::Share, Step::Input] {
        let mut world = before(step);
        let body = honest(&mut world);
        refused(&mut world, &body[..body.len() - 1], "C4");
        refused(&mut world, &[&body[..], &[0]].concat(), "C4");
    }
}

#[test]
fn c5_a_body_that_names_another_sender() {
    for step in [Step::Advertise, Step::Share, Step::Input, Step::Unmask] {
        let (mut world, body) = resigned(step, |signed| signed[HEAD] = 2);
        let fault = refused(&mut world, &body, "C5");
        assert_eq!(fault, Fault::Flawed(Flaw::Sender { named: Position(2) }));
    }
}

#[test]
fn c6_a_body_nobody_signed() {
    for step in Step::ALL {
        let mut world = before(step);
        let mut body = honest(&mut world);
        let at = match step {
            Step::Share => DEAL_HEADER - 1,
            Step::Input => INPUT_HEADER - 1,
            _ => body.len() - 1,
        };
        body[at] ^= 1;
        refused(&mut world, &body, "C6");
    }
    // Another member's vote, word for word: votes name nobody, the signature does.
    let mut world = before(Step::Vote);
    world.turn(0);
    let Some(Event::Said(_, _, vote)) = world.log.last().cloned() else { panic!() };
    refused(&mut world, &vote, "C6");
}

#[test]
fn c7_keys_that_are_no_points() {
    for key in 0..3 {
        let (mut world, body) = resigned(Step::Advertise, |signed| signed[5 + 32 * key..][..32].fill(0));
        refused(&mut world, &body, "C7");
        let (mut world, body) = resigned(Step::Advertise, |signed| signed[5 + 32 * key..][..32].fill(0xff));
        refused(&mut world, &body, "C7");
    }
}

#[test]
fn c8_a_key_somebody_advertised_before() {
    let (mut world, body) = resigned(Step::Advertise, |signed| {
        let stolen = World::new(Shape::of(5, 20), 1).start(0)[37..69].to_vec();
        signed[69..101].copy_from_slice(&stolen);
    });
    let advert = world.start(0);
    world.say(0, Step::Advertise, advert).unwrap();
    let fault = refused(&mut world, &body, "C8");
    assert_eq!(fault, Fault::Flawed(Flaw::RepeatedKey { key: "commitment", with: Position(0) }));
    // Within one advert, too.
    let (mut world, body) = resigned(Step::Advertise, |signed| signed.copy_within(5..37, 37));
    refused(&mut world, &body, "C8");
}

#[test]
fn c9_words_from_another_transcript() {
    for step in [Step::Share, Step::Input, Step::Unmask] {
        let (mut world, body) = resigned(step, |signed| signed[HEAD + 2] ^= 1);
        refused(&mut world, &body, "C9");
    }
}

#[test]
fn c10_lists_that_do_not_add_up() {
    for step in [Step::Share, Step::Input] {
        let mut world = before(step);
        let body = honest(&mut world);
        for at in [parts(step, &body).0.len() + 64, body.len() - 1] {
            let mut bent = body.clone();
            bent[at] ^= 1;
            refused(&mut world, &bent, "C10");
        }
        world.say(BAD, step, body).unwrap();
    }
}

#[test]
fn c11_a_vector_of_another_length() {
    let (mut world, body) = resigned(Step::Input, |signed| signed[HEAD + 2 + 64] ^= 1);
    let fault = refused(&mut world, &body, "C11");
    assert_eq!(fault, Fault::Flawed(Flaw::Length { expected: 50, got: 51 }));
}

#[test]
fn c12_a_vote_on_something_else() {
    // Each of the three hashes, and the set.
    for byte in [HEAD, HEAD + 32, HEAD + 64] {
        let (mut world, body) = resigned(Step::Vote, |signed| signed[byte] ^= 1);
        refused(&mut world, &body, "C12");
    }
    let (mut world, body) = resigned(Step::Vote, |signed| {
        signed.truncate(signed.len() - 2);
        signed[HEAD + 96] -= 1;
    });
    refused(&mut world, &body, "C12");
}

#[test]
fn c13_a_share_that_was_not_dealt() {
    let first = HEAD + 2 + 32;
    for (at, dealer) in [(first, 0), (first + 32, 0), (first + 64 * 3, 3), (first + 64 + 5, 1)] {
        let (mut world, body) = resigned(Step::Unmask, |signed| signed[at] ^= 1);
        let fault = refused(&mut world, &body, "C13");
        assert_eq!(fault, Fault::BadShare { dealer: Position(dealer) });
        convicts(&world, BAD, Offence::BadShare);
        // The others are a quorum without it.
        world.unmask(&[0, 2, 3, 4]);
        assert_eq!(world.sum(), world.expected_sum(&[0, 1, 2, 3, 4]));
    }
}

/// A header that is the same and a list that is another: whoever sent it is refused, and nothing of it proves who that was.
#[test]
fn what_is_not_signed_proves_nothing() {
    for step in [Step::Share, Step::Input] {
        let mut world = before(step);
        let body = honest(&mut world);
        world.say(BAD, step, body.clone()).unwrap();
        let mut other = body;
        *other.last_mut().unwrap() ^= 1;
        let fault = world.collector.accept(Position(BAD), step, &other).unwrap_err();
        assert_eq!(fault.check(), "C3");
        assert!(world.collector.proofs().is_empty());
    }
}

/// A member that has revoked its key: whatever the key signs is refused, and proves nothing.
#[test]
fn c17_a_word_under_a_revoked_key() {
    let shape = Shape::of(5, 20);
    let mut world = World::with_attempt(attempt(shape, 1).without([Position(BAD)]), shape, 1);
    let body = world.start(BAD);
    refused(&mut world, &body, "C17");
    let mut signed = body[..body.len() - 64].to_vec();
    *signed.last_mut().unwrap() ^= 1;
    let second = world.sign(BAD, "advert", &signed);
    refused(&mut world, &second, "C17");
    assert!(world.collector.proofs().is_empty());
    // The others go on without it: it is absent.
    let rest = but(&world.everyone(), &[BAD]);
    world.run([&rest; 5]);
    assert_eq!(world.sum(), world.expected_sum(&rest));
}

/// Commitments for a dealer's share, the manual's way.
fn commitment(world: &World, kind: &str, dealer: u16, recipient: u16, share: &[u8], salt: &[u8]) -> [u8; 32] {
    let (open, derive) = match kind {
        "mask" => ("consilium/1/open-mask", "consilium/1/salt-mask"),
        _ => ("consilium/1/open-seed", "consilium/1/salt-seed"),
    };
    let mut own_salt = [0; 32];
    let purpose = Transcript::new(derive).finish();
    Hkdf::<Sha256>::new(None, salt).expand(&purpose.0, &mut own_salt).unwrap();
    let id = |i: u16| world.attempt.members()[usize::from(i)].id.as_str().as_bytes().to_vec();
    Transcript::new(open)
        .digest(world.attempt.ctx())
        .bytes(&id(dealer))
        .bytes(&id(recipient))
        .bytes(share)
        .bytes(&own_salt)
        .finish()
        .0
}

/// A dealer whose committed shares lie on no polynomial with its secret: found when the secrets are put
/// together, and named. It spoils its own share of its own secret, which needs no box; the recipients cannot
/// tell.
#[test]
fn c16_a_dealer_whose_shares_do_not_give_its_secret() {
    let mut world = before(Step::Share);
    let all = world.everyone();
    let (share, salt) = ([3u8; 32].map(|b| b & 0x0f), [5u8; 32]);
    for i in &all {
        let delivery = world.delivery(*i);
        let Reply::Send(body) = world.show(*i, &delivery).unwrap() else { panic!() };
        let body = if *i == BAD { spoil_own_share(&world, &body, &share, &salt) } else { body };
        world.say(*i, Step::Share, body).unwrap();
    }
    world.close();
    // The bad member now shows the client side no more; it signs its own words.
    let rest = but(&all, &[BAD]);
    for i in &rest {
        world.ready(*i);
        let input = world.mask(*i);
        world.upload(*i, input);
    }
    world.close();
    world.vote(&rest);
    // It answers for all dealers with what it was dealt, and for itself with the committed rubbish: not
    // needed for the test, because the honest shares alone do not give its masking key's... so it must be
    // among the answers.
    let failure = {
        // Member 4 stays silent, so the bad member's answer is needed for the quorum of four.
        for i in [0, 2, 3] {
            world.turn(i);
        }
        let answer = answer_of_bad(&world, &share, &salt);
        world.say(BAD, Step::Unmask, answer).unwrap();
        world.collector.close().unwrap_err()
    };
    assert_eq!(failure, Failure { why: Why::InconsistentShares, culprits: vec![Position(BAD)] });
    assert!(world.collector.revealed().is_none());
    convicts(&world, BAD, Offence::InconsistentShares);
    let again = world.collector.close().unwrap_err();
    assert_eq!(again.why, Why::AlreadyEnded);
}

/// Rewrites the dealer's commitments to its own shares and signs the new root.
fn spoil_own_share(world: &World, body: &[u8], share: &[u8; 32], salt: &[u8; 32]) -> Vec<u8> {
    let (header, mut rest) = body.split_at(DEAL_HEADER);
    let (mut out, mut leaves) = (Vec::new(), Vec::new());
    for recipient in 0..world.shape.n {
        let (sealed, after) = rest.split_at(if recipient == BAD { 0 } else { SEALED });
        let (commitments, after) = after.split_at(64);
        rest = after;
        let mut commitments = commitments.to_vec();
        if recipient == BAD {
            commitments =
                ["mask", "seed"].map(|kind| commitment(world, kind, BAD, BAD, share, salt)).concat();
        }
        let hash = Digest::of(sealed);
        leaves.push(leaf("consilium/1/deal", &[&hash.0, &commitments[..32], &commitments[32..]]));
        out.extend_from_slice(sealed);
        out.extend_from_slice(&commitments);
    }
    let mut signed = header[..DEAL_HEADER - 64 - 32].to_vec();
    signed.extend_from_slice(&Tree::new(leaves).root().0);
    [world.sign(BAD, "deal", &signed), out].concat()
}

/// The bad member's answer: honest for the others, rubbish for itself. A second, honest client of the same
/// organization (same keys, same generator) stands in for its knowledge of what it was dealt.
fn answer_of_bad(world: &World, share: &[u8; 32], salt: &[u8; 32]) -> Vec<u8> {
    let mut twin = World::new(world.shape, 1);
    let mut deals = None;
    // Replay the log up to the deals, with the twin's client running beside it.
    let own_advert = twin.start(BAD);
    for event in &world.log {
        match event {
            Event::Said(from, step, body) => twin.collector.accept(*from, *step, body).unwrap(),
            Event::Complete(from) => twin.collector.input_complete(*from),
            Event::Closed => twin.collector.close().unwrap(),
        }
        let step = twin.collector.step();
        if matches!(event, Event::Closed) && step == Step::Share {
            let delivery = twin.delivery(BAD);
            twin.show(BAD, &delivery).unwrap();
        }
        if matches!(event, Event::Closed) && step == Step::Input {
            deals = Some(twin.delivery(BAD));
        }
    }
    assert!(!own_advert.is_empty());
    // The twin's own header is not the spoiled one, so its client would refuse (D6). It opens its boxes by
    // hand instead.
    let (headers, parcels) = split_deals(&deals.unwrap());
    let keys = consilium_crypto::group::KeyPair::generate(&mut rng_of(1, BAD)).unwrap();
    let adverts = split_list(&world.collector.adverts().unwrap(), ADVERT);
    let votes = VotesDelivery::parse(&world.delivery(0));
    let mut w = consilium_crypto::codec::Writer::new();
    w.u8(1).u8(5).u8(0).u16(BAD).digest(&votes.headers);
    let mut parcels = parcels.iter();
    for dealer in headers.iter().map(|header| named(header)) {
        let survived = votes.survivors.contains(&dealer);
        let opening = if dealer == BAD {
            [*share, *share, *salt].concat()
        } else {
            let step1 = Digest(headers[0][HEAD + 2..HEAD + 34].try_into().unwrap());
            open(
                world,
                &keys,
                &step1,
                dealer,
                &adverts[usize::from(dealer)],
                &parcels.next().unwrap()[..SEALED],
            )
        };
        let label = if survived { "consilium/1/salt-seed" } else { "consilium/1/salt-mask" };
        let mut own_salt = [0; 32];
        let purpose = Transcript::new(label).finish();
        Hkdf::<Sha256>::new(None, &opening[64..]).expand(&purpose.0, &mut own_salt).unwrap();
        w.raw(if survived { &opening[32..64] } else { &opening[..32] }).raw(&own_salt);
    }
    world.sign(BAD, "answer", &w.finish())
}

/// Opens a box sealed to the bad member, the manual's way.
fn open(
    world: &World,
    keys: &consilium_crypto::group::KeyPair,
    step1: &Digest,
    dealer: u16,
    advert: &[u8],
    sealed: &[u8],
) -> Vec<u8> {
    let from = consilium_crypto::group::PublicPoint::from_bytes(advert[5..37].try_into().unwrap()).unwrap();
    let id = |i: u16| world.attempt.members()[usize::from(i)].id.as_str();
    let purpose = Transcript::new("consilium/1/seal")
        .digest(world.attempt.ctx())
        .digest(step1)
        .bytes(id(dealer).as_bytes())
        .bytes(id(BAD).as_bytes())
        .bytes(from.as_bytes())
        .bytes(keys.public().as_bytes())
        .finish();
    let context = consilium_crypto::codec::Writer::new()
        .digest(world.attempt.ctx())
        .digest(step1)
        .str(id(dealer))
        .str(id(BAD))
        .finish();
    let key = consilium_crypto::seal::SealKey::new(&keys.agree(&from), &purpose);
    key.open(sealed, &context).unwrap().expose().to_vec()
}

#[test]
fn too_few_end_the_attempt_and_name_whoever_misbehaved() {
    for step in Step::ALL {
        let mut world = before(step);
        let rubbish = [7; 400];
        world.collector.accept(Position(BAD), step, &rubbish).unwrap_err();
        for i in [0, 2, 3] {
            if step == Step::Advertise {
                let body = world.start(i);
                world.say(i, step, body).unwrap();
            } else if step == Step::Input {
                world.ready(i);
                let input = world.mask(i);
                world.upload(i, input);
            } else {
                world.turn(i);
            }
        }
        assert!(!world.collector.enough());
        let failure = world.collector.close().unwrap_err();
        let why = Why::TooFew { step, got: 3, needed: 4 };
        assert_eq!(failure, Failure { why, culprits: vec![Position(BAD)] });
        assert_eq!(world.collector.step(), step, "it ended here");
        assert_eq!(world.collector.delivery(Position(0)), None);
        assert_eq!(world.collector.close().unwrap_err().why, Why::AlreadyEnded);
    }
}

/// Rubbish and near misses into every decoder the collector has: nothing panics, nothing but the honest bytes
/// is accepted.
#[test]
fn mutated_bodies_are_refused_without_panic() {
    let mut dice = rng_of(78, 0);
    for step in Step::ALL {
        let mut world = before(step);
        let body = honest(&mut world);
        for round in 0..300 {
            let mut bent = body.clone();
            let at = dice.next_u32() as usize % bent.len();
            match round % 5 {
                0 => bent[at] ^= 1 << (dice.next_u32() % 8),
                1 => bent.truncate(at),
                2 => bent.insert(at, dice.next_u32() as u8),
                3 => dice.fill_bytes(&mut bent[at..]),
                _ => bent.copy_within(at.., 0),
            }
            if bent != body {
                assert!(world.collector.accept(Position(BAD), step, &bent).is_err(), "{step}: {round}");
            }
        }
        assert!(world.collector.faults().len() < 10, "a flood of rubbish does not fill memory");
        world.say(BAD, step, body).unwrap();
    }
}
