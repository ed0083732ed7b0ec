//! D1 to D9: what a client refuses of the deals; C14 and C15: what a complaint about one convicts whom of.

use super::*;

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
