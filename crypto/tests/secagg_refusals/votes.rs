//! V1 to V7: what a client refuses of the votes.

use super::*;

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
pub(super) fn votes_on(world: &World, delivery: &[u8], survivors: &[u16], voters: &[u16]) -> Vec<u8> {
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
