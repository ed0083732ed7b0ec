//! What a client refuses: each check of the manual's table, tripped by one malicious coordinator or member.
//!
//! A test named `a3_…` trips check A3 and no other. The bytes are taken apart and forged from the manual's
//! formats, not with the library's own writers.
#![allow(clippy::unwrap_used)]

mod secagg_world;

use std::sync::Arc;

use consilium_crypto::{
    codec::Writer,
    digest::{Digest, Transcript},
    group::KeyPair,
    merkle::{Leaf, Tree, leaf},
    ring::{RingVector, RingWidth},
    seal::SealKey,
    secagg::{
        Blame, Position, Refusal, SetupError, Step,
        blame::{Dismissed, judge},
        client::{Participant, Reply},
        evidence::{Conviction, Offence},
    },
};
use rand_core::Rng;
use secagg_world::*;

const VICTIM: u16 = 4;

/// A cohort of ten, everyone through the steps before `step`, whose deliveries are ready.
fn before(step: Step, seed: u8) -> World {
    let mut world = World::new(Shape::of(10, 20), seed);
    let all = world.everyone();
    world.advertise(&all);
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

/// Shows the victim a delivery: it refuses by this check, and its part is over.
#[track_caller]
fn refused(world: &mut World, delivery: &[u8], check: &str) -> Refusal {
    let refusal = world.show(VICTIM, delivery).unwrap_err();
    assert_eq!(refusal.check(), check, "{refusal}");
    assert!(matches!(world.clients[usize::from(VICTIM)], Participant::Ended));
    assert_eq!(world.show(VICTIM, delivery).unwrap_err().check(), "T1", "it is over");
    refusal
}

/// Runs `forge` on the honest delivery of a fresh world before `step`.
#[track_caller]
fn forged(step: Step, check: &str, forge: impl FnOnce(&World, Vec<u8>) -> Vec<u8>) -> Refusal {
    let mut world = before(step, 1);
    let delivery = world.delivery(VICTIM);
    let forged = forge(&world, delivery);
    let refusal = refused(&mut world, &forged, check);
    assert!(matches!(refusal.blame(), Blame::Coordinator | Blame::Member(_)));
    refusal
}

/// Deliveries that are not deliveries, from the honest one of `item`-byte bodies.
fn malformed(step: Step, check: &str) {
    forged(step, check, |_, d| d[..d.len() - 1].to_vec());
    forged(step, check, |_, d| [&d[..], &[0]].concat());
    forged(step, check, |_, _| Vec::new());
    for index in 0..HEAD {
        forged(step, check, |_, mut d| {
            d[index] ^= 1;
            d
        });
    }
    // A count no cohort has, and one no delivery has room for.
    for count in [1001u32, u32::MAX] {
        forged(step, check, |_, mut d| {
            let at = if step == Step::Unmask { HEAD + 32 } else { HEAD };
            d[at..at + 4].copy_from_slice(&count.to_le_bytes());
            d
        });
    }
}

/// Changes one item of a list delivery.
fn with_item(
    delivery: &[u8],
    opens: Step,
    item: usize,
    index: usize,
    change: impl FnOnce(&mut Vec<u8>),
) -> Vec<u8> {
    let mut items = split_list(delivery, item);
    change(&mut items[index]);
    join_list(opens, &items)
}

// Step 1: adverts.

#[test]
fn a1_adverts_that_are_not_a_delivery() {
    malformed(Step::Share, "A1");
    // One id twice, unsorted, or beyond the cohort.
    let relisted = |change: fn(&mut Vec<Vec<u8>>)| {
        forged(Step::Share, "A1", |_, d| {
            let mut adverts = split_list(&d, ADVERT);
            change(&mut adverts);
            join_list(Step::Share, &adverts)
        })
    };
    relisted(|adverts| adverts[3] = adverts[2].clone());
    relisted(|adverts| adverts.swap(0, 1));
    relisted(|adverts| adverts[9][HEAD] = 10);
    relisted(|adverts| adverts[2][0] = 2);
}

#[test]
fn a2_an_advert_altered_on_the_way() {
    for byte in [5, 40, 70, 110, 125, 141, 204] {
        forged(Step::Share, "A2", |_, d| with_item(&d, Step::Share, ADVERT, 2, |advert| advert[byte] ^= 1));
    }
}

#[test]
fn a2_an_advert_from_a_foreign_context() {
    // The same members and keys in another attempt.
    let mut other = World::new(Shape::of(10, 20), 1);
    other.attempt = Arc::new(
        consilium_crypto::secagg::Attempt::new(
            Digest([7; 32]),
            *other.attempt.params(),
            other.attempt.members().to_vec(),
        )
        .unwrap(),
    );
    let foreign = other.start(2);
    forged(Step::Share, "A2", |_, d| with_item(&d, Step::Share, ADVERT, 2, |advert| *advert = foreign));
}

/// Member `i` advertises something of its own making, properly signed.
fn own_making(world: &World, delivery: &[u8], i: usize, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    with_item(delivery, Step::Share, ADVERT, i, |advert| {
        let mut body = advert[..ADVERT - 64].to_vec();
        change(&mut body);
        *advert = world.sign(i as u16, "advert", &body);
    })
}

const KEYS: [std::ops::Range<usize>; 3] = [5..37, 37..69, 69..101];

/// The coordinator goes on with a member whose key the victim knows to be revoked.
#[test]
fn a7_an_advert_under_a_revoked_key() {
    let shape = Shape::of(10, 20);
    let mut world = before(Step::Share, 1);
    let delivery = world.delivery(VICTIM);
    world.attempt = Arc::new(attempt(shape, 1).without([Position(2)]));
    let own = world.start(VICTIM);
    let shown = with_item(&delivery, Step::Share, ADVERT, usize::from(VICTIM), |advert| *advert = own);
    let refusal = refused(&mut world, &shown, "A7");
    assert_eq!(refusal.blame(), Blame::Coordinator);
}

#[test]
fn a3_the_identity_and_points_that_are_none() {
    for key in KEYS {
        for point in [[0; 32], [0xff; 32], [1; 32]] {
            forged(Step::Share, "A3", |world, d| {
                own_making(world, &d, 6, |body| body[key.clone()].copy_from_slice(&point))
            });
        }
    }
}

#[test]
fn a4_keys_that_stand_twice() {
    // Another's key, in the same role and in another; one key in two roles; the victim's own.
    for (from, at) in [(2, 0), (2, 1), (VICTIM, 2)] {
        forged(Step::Share, "A4", |world, d| {
            let stolen = split_list(&d, ADVERT)[usize::from(from)][KEYS[1].clone()].to_vec();
            own_making(world, &d, 6, |body| body[KEYS[at].clone()].copy_from_slice(&stolen))
        });
    }
    forged(Step::Share, "A4", |world, d| {
        own_making(world, &d, 6, |body| body.copy_within(KEYS[0].clone(), KEYS[2].start))
    });
}

#[test]
fn a5_the_own_advert_missing_or_an_older_one() {
    forged(Step::Share, "A5", |_, d| {
        let mut adverts = split_list(&d, ADVERT);
        adverts.remove(usize::from(VICTIM));
        join_list(Step::Share, &adverts)
    });
    // The coordinator kept an advert that the same organization made before a restart.
    forged(Step::Share, "A5", |world, d| {
        let mut older = World::new(world.shape, 1);
        older.rngs[usize::from(VICTIM)] = rng_of(99, 0);
        let older = older.start(VICTIM);
        with_item(&d, Step::Share, ADVERT, usize::from(VICTIM), |advert| *advert = older)
    });
}

#[test]
fn a6_too_few_adverts() {
    forged(Step::Share, "A6", |_, d| {
        let adverts = split_list(&d, ADVERT);
        join_list(Step::Share, &adverts[..6])
    });
}

// Step 2: deals.

#[test]
fn d1_deals_that_are_not_a_delivery() {
    malformed(Step::Input, "D1");
    // A sealed share left out: what follows moves up, and the delivery is too short.
    forged(Step::Input, "D1", |_, d| {
        let (headers, mut parcels) = split_deals(&d);
        parcels.remove(3);
        join_deals(&headers, &parcels)
    });
    // A sealed share cut short.
    forged(Step::Input, "D1", |_, d| {
        let (headers, mut parcels) = split_deals(&d);
        parcels[3].truncate(SEALED - 1);
        join_deals(&headers, &parcels)
    });
    forged(Step::Input, "D1", |_, d| {
        let (mut headers, parcels) = split_deals(&d);
        headers.swap(0, 1);
        join_deals(&headers, &parcels)
    });
}

#[test]
fn d2_a_dealer_that_never_advertised() {
    let mut world = World::new(Shape::of(10, 20), 1);
    let all = world.everyone();
    world.advertise(&all);
    // The victim is shown nine adverts, the others ten.
    let mut adverts = split_list(&world.delivery(VICTIM), ADVERT);
    adverts.remove(9);
    world.show(VICTIM, &join_list(Step::Share, &adverts)).unwrap();
    world.share(&but(&all, &[VICTIM]));
    let deals = world.collector.delivery(Position(0)).unwrap();
    refused(&mut world, &deals, "D2");
}

#[test]
fn d3_too_few_dealers() {
    forged(Step::Input, "D3", |_, d| {
        let (headers, parcels) = split_deals(&d);
        join_deals(&headers[..6], &parcels[..5])
    });
}

/// Equivocated adverts: two groups are shown different sets, and each signs what it saw.
#[test]
fn d4_dealers_that_saw_other_adverts() {
    let mut world = World::new(Shape::of(10, 20), 1);
    let all = world.everyone();
    world.advertise(&all);
    let mut adverts = split_list(&world.delivery(VICTIM), ADVERT);
    adverts.remove(9);
    let Reply::Send(own) = world.show(VICTIM, &join_list(Step::Share, &adverts)).unwrap() else { panic!() };
    world.share(&but(&all, &[VICTIM]));
    // Its own header is the true one; the other nine signed step 1's hash over ten adverts.
    let (mut headers, parcels) = split_deals(&world.delivery(0));
    headers.retain(|header| named(header) != 9);
    headers.insert(usize::from(VICTIM), own[..DEAL_HEADER].to_vec());
    let refusal = refused(&mut world, &join_deals(&headers, &parcels), "D4");
    assert!(refusal.to_string().contains("another step 1 hash"), "{refusal}");
}

#[test]
fn d5_a_header_altered_on_the_way() {
    for byte in [40, 68, 70, 132] {
        forged(Step::Input, "D5", |_, d| {
            let (mut headers, parcels) = split_deals(&d);
            headers[2][byte] ^= 1;
            join_deals(&headers, &parcels)
        });
    }
}

#[test]
fn d6_the_own_header_missing_or_another() {
    forged(Step::Input, "D6", |_, d| {
        let (mut headers, parcels) = split_deals(&d);
        headers.remove(usize::from(VICTIM));
        join_deals(&headers, &parcels[..headers.len() - 1])
    });
    // Properly signed by the same key over the same adverts, but not what this process dealt.
    forged(Step::Input, "D6", |world, d| {
        let (mut headers, parcels) = split_deals(&d);
        let mut body = headers[usize::from(VICTIM)][..DEAL_HEADER - 64].to_vec();
        body[40] ^= 1;
        headers[usize::from(VICTIM)] = world.sign(VICTIM, "deal", &body);
        join_deals(&headers, &parcels)
    });
}

#[test]
fn d7_sealed_shares_swapped_or_altered_or_with_a_wrong_path() {
    let tampered = |change: &dyn Fn(&mut Vec<Vec<u8>>, &World)| {
        let refusal = forged(Step::Input, "D7", |world, d| {
            let (headers, mut parcels) = split_deals(&d);
            change(&mut parcels, world);
            join_deals(&headers, &parcels)
        });
        assert_eq!(refusal.blame(), Blame::Coordinator, "whoever carried the box, not the dealer");
        assert_eq!(refusal.complaint(), None);
    };
    tampered(&|parcels, _| parcels.swap(1, 2)); // another dealer's box
    tampered(&|parcels, world| {
        // Dealer 0's box for member 5, path and all.
        let (_, others) = split_deals(&world.delivery(5));
        parcels[0] = others[0].clone();
    });
    tampered(&|parcels, _| parcels[1][0] ^= 1); // box
    tampered(&|parcels, _| parcels[1][SEALED - 1] ^= 1); // its tag
    tampered(&|parcels, _| parcels[1][SEALED] ^= 1); // mask commitment
    tampered(&|parcels, _| parcels[1][SEALED + 32] ^= 1); // seed commitment
    tampered(&|parcels, _| *parcels[1].last_mut().unwrap() ^= 1); // path
}

/// Dealer 2 deals honestly to all but the victim, whose box `make` makes. Gives the adverts and the deals.
fn bad_dealer(make: impl Fn(&World, &mut Vec<u8>, &mut Vec<u8>)) -> (World, Vec<u8>, Vec<u8>) {
    const DEALER: u16 = 2;
    let mut world = World::new(Shape::of(10, 20), 1);
    let all = world.everyone();
    world.advertise(&all);
    let adverts = world.delivery(VICTIM);
    for i in &all {
        let Reply::Send(body) = world.show(*i, &adverts).unwrap() else { panic!() };
        let body = if *i == DEALER { redealt(&world, DEALER, &body, &make) } else { body };
        world.say(*i, Step::Share, body).unwrap();
    }
    world.close();
    let deals = world.delivery(VICTIM);
    (world, adverts, deals)
}

/// Takes a deal apart, changes the victim's box and commitments, and signs the new root.
fn redealt(
    world: &World,
    dealer: u16,
    body: &[u8],
    make: impl Fn(&World, &mut Vec<u8>, &mut Vec<u8>),
) -> Vec<u8> {
    let (header, mut rest) = body.split_at(DEAL_HEADER);
    let (mut out, mut leaves): (Vec<u8>, Vec<Leaf>) = (Vec::new(), Vec::new());
    for recipient in 0..world.shape.n {
        let (sealed, after) = rest.split_at(if recipient == dealer { 0 } else { SEALED });
        let (commitments, after) = after.split_at(64);
        rest = after;
        let (mut sealed, mut commitments) = (sealed.to_vec(), commitments.to_vec());
        if recipient == VICTIM {
            make(world, &mut sealed, &mut commitments);
        }
        let hash = Digest::of(&sealed);
        leaves.push(leaf("consilium/1/deal", &[&hash.0, &commitments[..32], &commitments[32..]]));
        out.extend_from_slice(&sealed);
        out.extend_from_slice(&commitments);
    }
    let mut signed = header[..DEAL_HEADER - 64 - 32].to_vec();
    signed.extend_from_slice(&Tree::new(leaves).root().0);
    [world.sign(dealer, "deal", &signed), out].concat()
}

/// The sealing key pair a member makes first thing.
fn sealing_keys(i: u16) -> KeyPair {
    KeyPair::generate(&mut rng_of(1, i)).unwrap()
}

/// Seals `content` from dealer 2 to the victim, the manual's way.
fn sealed_by_dealer(world: &World, content: &[u8]) -> Vec<u8> {
    let (from, to) = (sealing_keys(2), sealing_keys(VICTIM));
    let adverts = world.collector.adverts().unwrap();
    let step1 = Transcript::new("consilium/1/step-1")
        .digest(world.attempt.ctx())
        .bytes(&split_list(&adverts, ADVERT).concat())
        .finish();
    let purpose = Transcript::new("consilium/1/seal")
        .digest(world.attempt.ctx())
        .digest(&step1)
        .bytes(b"org-0002")
        .bytes(b"org-0004")
        .bytes(from.public().as_bytes())
        .bytes(to.public().as_bytes())
        .finish();
    let context =
        Writer::new().digest(world.attempt.ctx()).digest(&step1).str("org-0002").str("org-0004").finish();
    SealKey::new(&from.agree(to.public()), &purpose).seal(content, &context)
}

/// The victim refuses, and its complaint convicts the dealer in anyone's eyes.
#[track_caller]
fn convicted((mut world, adverts, deals): (World, Vec<u8>, Vec<u8>), check: &str) -> Vec<u8> {
    let refusal = refused(&mut world, &deals, check);
    assert_eq!(refusal.blame(), Blame::Member(Position(2)));
    let complaint = refusal.complaint().unwrap().to_vec();
    assert_eq!(judge(&world.attempt, &adverts, &complaint), Ok(Position(2)));
    // The coordinator that carried the box judges it alike, once, and only from the accuser itself.
    let complains = |world: &mut World, from| world.collector.complain(Position(from), &complaint);
    assert_eq!(complains(&mut world, 3), Err(Dismissed::NotItsOwn));
    let conviction = Conviction { culprit: Position(2), offence: Offence::BadDeal };
    assert_eq!(complains(&mut world, VICTIM), Ok(conviction));
    assert_eq!(complains(&mut world, VICTIM), Err(Dismissed::NotItsOwn));
    convicts(&world, 2, Offence::BadDeal);
    complaint
}

#[test]
fn d8_a_box_that_does_not_open() {
    convicted(bad_dealer(|_, sealed, _| sealed[7] ^= 1), "D8");
    convicted(bad_dealer(|_, sealed, _| sealed.fill(0)), "D8");
}

#[test]
fn d9_a_box_with_other_shares_than_committed() {
    convicted(bad_dealer(|world, sealed, _| *sealed = sealed_by_dealer(world, &[1; 96])), "D9");
    // Committed shares must be scalars, too.
    convicted(bad_dealer(|world, sealed, _| *sealed = sealed_by_dealer(world, &[0xff; 96])), "D9");
    convicted(bad_dealer(|_, _, commitments| commitments[0] ^= 1), "D9");
}

#[test]
fn c15_a_dealer_whose_box_a_complaint_shows() {
    convicted(bad_dealer(|_, sealed, _| sealed[7] ^= 1), "D8");
    // Before anything was dealt there is nothing to complain of.
    let mut world = World::new(Shape::of(10, 20), 1);
    assert_eq!(world.collector.complain(Position(VICTIM), &[1, 4, 0]), Err(Dismissed::OutOfTurn));
}

#[test]
fn c14_a_complaint_of_a_good_box_convicts_the_accuser_or_nobody() {
    // The victim is malicious and complains of an honest box.
    let (mut world, adverts, deals) = bad_dealer(|_, _, _| ());
    let (headers, parcels) = split_deals(&deals);
    let (from, to) = (sealing_keys(2), sealing_keys(VICTIM));
    let step1 = Digest(headers[2][HEAD + 2..HEAD + 34].try_into().unwrap());
    let purpose = Transcript::new("consilium/1/seal")
        .digest(world.attempt.ctx())
        .digest(&step1)
        .bytes(b"org-0002")
        .bytes(b"org-0004")
        .bytes(from.public().as_bytes())
        .bytes(to.public().as_bytes())
        .finish();
    let sealed = &parcels[2][..SEALED];
    let bound = Transcript::new("consilium/1/complaint").digest(&purpose).bytes(sealed).finish();
    let write = |shared: &[u8; 32], proof: &[u8; 64], parcel: &[u8]| {
        Writer::new().u8(1).u16(VICTIM).raw(shared).raw(proof).raw(&headers[2]).raw(parcel).finish()
    };
    let shared = to.agree(from.public());
    let proof = to.prove_agreement(from.public(), &bound).to_bytes();
    let judged = |complaint: &[u8]| judge(&world.attempt, &adverts, complaint);
    assert_eq!(judged(&write(shared.expose(), &proof, &parcels[2])), Ok(Position(VICTIM)));

    // A made-up secret, someone else's proof, a box the dealer did not sign, rubbish: nobody is convicted.
    let made_up = *sealing_keys(0).agree(from.public()).expose();
    assert_eq!(judged(&write(&made_up, &proof, &parcels[2])), Err(Dismissed::Proof));
    let framed = sealing_keys(0).prove_agreement(from.public(), &bound).to_bytes();
    assert_eq!(judged(&write(&made_up, &framed, &parcels[2])), Err(Dismissed::Proof));
    assert_eq!(judged(&write(shared.expose(), &proof, &parcels[1])), Err(Dismissed::NotUnderRoot));
    assert!(matches!(judged(&[]), Err(Dismissed::Malformed(_))));
    let good = write(shared.expose(), &proof, &parcels[2]);
    for index in (0..good.len()).step_by(7) {
        let mut bent = good.clone();
        bent[index] ^= 1;
        assert!(judged(&bent).is_err(), "byte {index}");
    }
    // Judged by other adverts than the dealer signed for.
    let fewer = join_list(Step::Share, &split_list(&adverts, ADVERT)[..9]);
    assert!(matches!(judge(&world.attempt, &fewer, &good), Err(Dismissed::Header(_))));
    world.collector.complain(Position(VICTIM), &good).unwrap();
    convicts(&world, VICTIM, Offence::FalseComplaint);
}

// Step 3: survivors' headers.

#[test]
fn h1_headers_that_are_not_a_delivery() {
    malformed(Step::Vote, "H1");
    forged(Step::Vote, "H1", |_, d| {
        let mut headers = split_list(&d, INPUT_HEADER);
        headers[1] = headers[0].clone();
        join_list(Step::Vote, &headers)
    });
}

#[test]
fn h2_not_a_survivor_or_with_an_altered_header() {
    forged(Step::Vote, "H2", |_, d| {
        let mut headers = split_list(&d, INPUT_HEADER);
        headers.remove(usize::from(VICTIM));
        join_list(Step::Vote, &headers)
    });
    // What the same organization might have signed over another vector.
    forged(Step::Vote, "H2", |world, d| {
        with_item(&d, Step::Vote, INPUT_HEADER, usize::from(VICTIM), |header| {
            let mut body = header[..INPUT_HEADER - 64].to_vec();
            body[HEAD + 2 + 32] ^= 1;
            *header = world.sign(VICTIM, "input", &body);
        })
    });
}

#[test]
fn h3_a_survivor_that_never_dealt() {
    let mut world = World::new(Shape::of(10, 20), 1);
    let all = world.everyone();
    world.advertise(&all);
    world.share(&all[..9]);
    world.input(&all[..9]);
    let mut headers = split_list(&world.delivery(VICTIM), INPUT_HEADER);
    let mut body = headers[8][..INPUT_HEADER - 64].to_vec();
    body[HEAD] = 9;
    headers.push(world.sign(9, "input", &body));
    refused(&mut world, &join_list(Step::Vote, &headers), "H3");
}

#[test]
fn h4_too_few_survivors() {
    forged(Step::Vote, "H4", |_, d| join_list(Step::Vote, &split_list(&d, INPUT_HEADER)[..6]));
}

#[test]
fn h5_a_survivors_header_altered_on_the_way() {
    for byte in [40, 70, 140] {
        forged(Step::Vote, "H5", |_, d| with_item(&d, Step::Vote, INPUT_HEADER, 1, |h| h[byte] ^= 1));
    }
}

/// Equivocated dealers: the others are shown one dealer less, and mask under another step 2 hash.
#[test]
fn h6_survivors_that_saw_other_dealers() {
    let mut world = before(Step::Input, 1);
    let all = world.everyone();
    for i in &all {
        let (mut headers, mut parcels) = split_deals(&world.delivery(*i));
        if *i != VICTIM && *i != 9 {
            headers.pop();
            parcels.pop();
        }
        let deals = join_deals(&headers, &parcels);
        assert_eq!(world.show(*i, &deals).unwrap(), Reply::UpdateWanted);
    }
    let headers: Vec<Vec<u8>> = all.iter().map(|i| world.mask(*i).header[..INPUT_HEADER].to_vec()).collect();
    // An honest collector would have refused most of these headers; show them to the victim regardless.
    let delivery = join_list(Step::Vote, &headers);
    let at = usize::from(VICTIM);
    let refusal =
        world.clients[at].deliver(Step::Vote, &delivery, &world.keys[at], &mut world.rngs[at]).unwrap_err();
    assert_eq!(refusal.check(), "H6", "{refusal}");
}

#[test]
fn h7_a_survivor_with_a_vector_of_another_length() {
    forged(Step::Vote, "H7", |world, d| {
        with_item(&d, Step::Vote, INPUT_HEADER, 1, |header| {
            let mut body = header[..INPUT_HEADER - 64].to_vec();
            body[HEAD + 2 + 64] ^= 1;
            *header = world.sign(1, "input", &body);
        })
    });
}

// Steps 4 and 5: votes.

fn with_votes(delivery: &[u8], change: impl FnOnce(&mut VotesDelivery)) -> Vec<u8> {
    let mut votes = VotesDelivery::parse(delivery);
    change(&mut votes);
    votes.bytes()
}

#[test]
fn v1_votes_that_are_not_a_delivery() {
    malformed(Step::Unmask, "V1");
    forged(Step::Unmask, "V1", |_, d| with_votes(&d, |v| v.survivors.swap(0, 1)));
    // The same vote counted twice.
    forged(Step::Unmask, "V1", |_, d| {
        with_votes(&d, |v| {
            v.votes.truncate(6);
            v.votes.push(v.votes[5]);
        })
    });
}

/// All but the victim stand ready to sign anything: votes of `voters` on a ballot over `survivors`.
fn votes_on(world: &World, delivery: &[u8], survivors: &[u16], voters: &[u16]) -> Vec<u8> {
    let honest = VotesDelivery::parse(delivery);
    let (step1, step2) = hashes(world);
    let ballot = ballot(&step1, &step2, &honest.headers, survivors);
    let vote = |i: &u16| {
        let signed = world.sign(*i, "vote", &ballot);
        (*i, signed[signed.len() - 64..].try_into().unwrap())
    };
    let votes = voters.iter().map(vote).collect();
    VotesDelivery { headers: honest.headers, survivors: survivors.to_vec(), votes }.bytes()
}

/// The hashes of steps 1 and 2, from the bodies in the log.
fn hashes(world: &World) -> (Digest, Digest) {
    let mut bodies: Vec<(Step, u16, Vec<u8>)> = Vec::new();
    for event in &world.log {
        if let Event::Said(from, step, body) = event {
            bodies.push((*step, from.0, body.clone()));
        }
    }
    bodies.sort();
    let all = |step, length: usize| -> Vec<u8> {
        bodies.iter().filter(|b| b.0 == step).flat_map(|b| b.2[..length].to_vec()).collect()
    };
    let step1 = Transcript::new("consilium/1/step-1")
        .digest(world.attempt.ctx())
        .bytes(&all(Step::Advertise, ADVERT))
        .finish();
    let step2 =
        Transcript::new("consilium/1/step-2").digest(&step1).bytes(&all(Step::Share, DEAL_HEADER)).finish();
    (step1, step2)
}

#[test]
fn v2_votes_for_a_survivor_that_never_dealt() {
    let mut world = World::new(Shape::of(10, 20), 1);
    let all = world.everyone();
    world.advertise(&all);
    world.share(&all[..9]);
    world.input(&all[..9]);
    world.vote(&all[..9]);
    let votes = votes_on(&world, &world.delivery(VICTIM), &all, &all);
    refused(&mut world, &votes, "V2");
}

#[test]
fn v3_votes_for_too_few_survivors() {
    let mut world = before(Step::Unmask, 1);
    let few = [0, 1, 2, 3, 4, 5];
    let votes = votes_on(&world, &world.delivery(VICTIM), &few, &few);
    refused(&mut world, &votes, "V3");
}

#[test]
fn v4_votes_of_members_that_did_not_survive() {
    let mut world = before(Step::Unmask, 1);
    let votes = votes_on(&world, &world.delivery(VICTIM), &[0, 1, 2, 3, 4, 5, 6, 7], &[0, 1, 2, 3, 4, 5, 9]);
    refused(&mut world, &votes, "V4");
}

#[test]
fn v5_fewer_votes_than_the_quorum() {
    forged(Step::Unmask, "V5", |_, d| with_votes(&d, |v| v.votes.truncate(6)));
}

#[test]
fn v6_votes_altered_or_of_another_set() {
    forged(Step::Unmask, "V6", |_, d| with_votes(&d, |v| v.votes[2].1[9] ^= 1));
    // Good votes, shown for a smaller set; for other headers.
    forged(Step::Unmask, "V6", |_, d| {
        with_votes(&d, |v| {
            v.survivors.pop();
            v.votes.pop();
        })
    });
    forged(Step::Unmask, "V6", |_, d| with_votes(&d, |v| v.headers.0[0] ^= 1));
    // One member's vote under another's name.
    forged(Step::Unmask, "V6", |_, d| with_votes(&d, |v| v.votes[2].1 = v.votes[3].1));
}

/// Were everyone else to vote twice, this client still answers for the set it voted for, or not at all.
#[test]
fn v7_a_quorum_for_another_set_than_voted_for() {
    let mut world = before(Step::Unmask, 1);
    let others = [0, 1, 2, 3, 4, 5, 6, 7];
    let votes = votes_on(&world, &world.delivery(VICTIM), &others, &others);
    refused(&mut world, &votes, "V7");
}

// Turns.

/// Both kinds of share asked for: first for a set with member 9, then for one without. After the first answer
/// there is nothing left to answer with.
#[test]
fn t1_both_kinds_of_share_asked() {
    let mut world = before(Step::Unmask, 1);
    let delivery = world.delivery(VICTIM);
    world.show(VICTIM, &delivery).unwrap();
    let without = [0, 1, 2, 3, 4, 5, 6, 7, 8];
    let votes = votes_on(&world, &delivery, &without, &without);
    let refusal = world.show(VICTIM, &votes).unwrap_err();
    assert_eq!(refusal, Refusal::OutOfTurn { next: None, got: Step::Unmask });
}

#[test]
fn t1_a_second_vote_and_a_second_vector() {
    let mut world = before(Step::Vote, 1);
    let delivery = world.delivery(VICTIM);
    let at = usize::from(VICTIM);
    let update = || RingVector::zeros(RingWidth::new(20).unwrap(), 20);
    let again = world.clients[at].mask(update(), &world.keys[at]).unwrap_err();
    assert_eq!(again, Refusal::OutOfTurn { next: Some(Step::Vote), got: Step::Input });
    world.show(VICTIM, &delivery).unwrap();
    let fewer = join_list(Step::Vote, &split_list(&delivery, INPUT_HEADER)[..9]);
    let again = world.show(VICTIM, &fewer).unwrap_err();
    assert_eq!(again, Refusal::OutOfTurn { next: Some(Step::Unmask), got: Step::Vote });
    assert!(matches!(world.clients[at], Participant::Voted(_)), "nothing was read");
}

// Local faults.

#[test]
fn l1_an_update_of_another_shape() {
    for (bits, length) in [(20, 19), (20, 21), (19, 20), (32, 20)] {
        let mut world = before(Step::Input, 1);
        world.ready(VICTIM);
        let at = usize::from(VICTIM);
        let update = RingVector::zeros(RingWidth::new(bits).unwrap(), length);
        let refusal = world.clients[at].mask(update, &world.keys[at]).unwrap_err();
        assert_eq!((refusal.check(), refusal.blame()), ("L1", Blame::Local));
        assert!(matches!(world.clients[at], Participant::Ended));
    }
}

#[test]
fn a_client_does_not_start_with_the_wrong_key_or_a_broken_generator() {
    struct Stuck;
    impl rand_core::TryRng for Stuck {
        type Error = std::convert::Infallible;
        fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
            Ok(7)
        }
        fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
            Ok(7)
        }
        fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
            bytes.fill(7);
            Ok(())
        }
    }
    impl rand_core::TryCryptoRng for Stuck {}

    let world = World::new(Shape::of(3, 5), 1);
    let ledger = consilium_crypto::secagg::LedgerHead { length: 0, salted_head: Digest([0; 32]) };
    let start = |me, key| {
        Participant::start(world.attempt.clone(), Position(me), key, ledger, &mut rng_of(1, 0)).unwrap_err()
    };
    assert!(matches!(start(0, &world.keys[1]), SetupError::WrongKey { .. }));
    assert_eq!(start(3, &world.keys[0]), SetupError::NotAMember { position: Position(3) });
    let stuck = Participant::start(world.attempt.clone(), Position(0), &world.keys[0], ledger, &mut Stuck);
    assert!(matches!(stuck, Err(SetupError::Randomness(_))));
}

/// Rubbish and near misses into every decoder a client has: nothing panics, and nothing but the honest bytes
/// is accepted.
#[test]
fn mutated_deliveries_are_refused_without_panic() {
    let mut dice = rng_of(77, 0);
    for step in [Step::Share, Step::Input, Step::Vote, Step::Unmask] {
        for round in 0..60 {
            let mut world = World::new(Shape::of(3, 4), 1);
            let all = world.everyone();
            world.advertise(&all);
            for earlier in [Step::Share, Step::Input, Step::Vote] {
                if earlier < step {
                    if earlier == Step::Input { world.input(&all) } else { world.share(&all) }
                }
            }
            let honest = world.delivery(0);
            let bent = mutate(&honest, round, &mut dice);
            if bent != honest {
                assert!(world.show(0, &bent).is_err(), "{step}, round {round}");
            }
        }
    }
}

/// A seeded mutation: flipped bits, cuts, insertions, repeated parts, noise.
fn mutate(honest: &[u8], kind: usize, dice: &mut impl Rng) -> Vec<u8> {
    let mut bytes = honest.to_vec();
    let mut at = || dice.next_u32() as usize % honest.len();
    match kind % 6 {
        0 => bytes[at()] ^= 1 << (kind / 6 % 8),
        1 => bytes.truncate(at()),
        2 => bytes.insert(at(), kind as u8),
        3 => {
            let (a, b) = (at(), at());
            bytes.copy_within(a.min(b)..a.max(b), 0);
        }
        4 => {
            let from = at();
            dice.fill_bytes(&mut bytes[from..]);
        }
        _ => {
            let from = at();
            bytes.extend_from_slice(&honest[from..]);
        }
    }
    bytes
}
