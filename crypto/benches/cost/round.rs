//! A played attempt, replayed against a fresh client and a fresh coordinator, with a clock on each step.

use std::{convert::Infallible, sync::Arc};

use consilium_crypto::{
    digest::Digest,
    ring,
    secagg::{
        Attempt, Position, Step,
        client::{Participant, Reply},
        coordinator::Collector,
    },
};

use crate::{
    Result,
    clock::Steps,
    cohort::{Cohort, client_rng, client_update, ledger},
};

/// Under which name masking is counted.
pub const MASK: &str = "3 mask, pack, hash";

/// The real client's whole part of the protocol. Training, noise and encoding are not in it.
pub fn client(cohort: &Cohort) -> Result<Steps> {
    let (mut steps, mut rng) = (Steps::default(), client_rng());
    let key = &cohort.keys[0];
    let same = |body: &[u8], step: usize| {
        if body == cohort.bodies[step][0] { Ok(()) } else { Err("the client said something else this time") }
    };
    // Nobody in this client's process has verified anything of the attempt yet.
    let attempt = Arc::new(Attempt::clone(&cohort.attempt).without([]));
    let (mut me, body) = steps
        .time("1 advertise", || Participant::start(attempt.clone(), Position(0), key, ledger(), &mut rng))?;
    same(&body, 1)?;
    for (name, step) in [
        ("2 check adverts, deal", Step::Share),
        ("3 receive shares", Step::Input),
        ("4 check headers, vote", Step::Vote),
        ("5 check votes, answer", Step::Unmask),
    ] {
        let shown = &cohort.shown[usize::from(step.number())];
        match steps.time(name, || me.deliver(step, shown, key, &mut rng))? {
            Reply::Send(body) => same(&body, usize::from(step.number()))?,
            Reply::UpdateWanted => {
                let update = client_update(&cohort.shape)?;
                let input = steps.time(MASK, || me.mask(update, key))?;
                same(&input.header, 3)?;
            }
        }
    }
    Ok(steps)
}

/// The coordinator's whole part: every body checked, every delivery written, every chunk hashed, the sum unmasked and
/// packed. As the service does, it stops at a quorum of answers and turns the rest away.
pub fn coordinator(cohort: &Cohort) -> Result<Steps> {
    let mut steps = Steps::default();
    let attempt = &cohort.attempt;
    let (params, survivors) = (attempt.params(), cohort.shape.survivors());
    let mut collector = Collector::new(attempt.clone());
    for (step, accept, deliver) in [
        (Step::Advertise, "1 adverts", "2 deliver adverts"),
        (Step::Share, "2 deals", "3 deliver deals"),
        (Step::Input, "3 headers", "4 deliver headers"),
        (Step::Vote, "4 votes", "5 deliver votes"),
    ] {
        for (i, body) in (0..).zip(&cohort.bodies[usize::from(step.number())]) {
            steps.time(accept, || collector.accept(Position(i), step, body))?;
            if step == Step::Input {
                for index in 0..params.chunk_count() {
                    let chunk = cohort.vectors.chunk(i, index as usize);
                    let digest = steps.time("3 hash chunks", || Digest::of(chunk));
                    if collector.chunk_digest(Position(i), index) != Some(digest) {
                        return Err("a chunk is not as announced".into());
                    }
                }
                collector.input_complete(Position(i));
            }
        }
        steps.time(accept, || collector.close())?;
        for i in 0..cohort.shape.n {
            let body = steps.time(deliver, || collector.delivery(Position(i)));
            // Whoever is not heard of again is shown its shares all the same.
            let due = step == Step::Advertise || step == Step::Share || i < survivors || step == Step::Vote;
            if body.is_some() != due {
                return Err("a delivery is missing".into());
            }
            steps.time(deliver, || drop(body));
        }
    }
    for (i, body) in (0..).zip(&cohort.bodies[5]) {
        let late = i >= params.quorum();
        let accepted = steps.time("5 answers", || collector.accept(Position(i), Step::Unmask, body)).is_ok();
        if accepted == late {
            return Err("an answer is not good".into());
        }
        if i + 1 == params.quorum() {
            steps.time("5 reconstruct", || collector.close())?;
        }
    }

    let revealed = collector.revealed().ok_or("nothing revealed")?;
    let (mut sum, mut out) = (Vec::new(), Vec::new());
    for index in 0..params.chunk_count() {
        let input = |from: Position, packed: &mut Vec<u8>| {
            packed.extend_from_slice(cohort.vectors.chunk(from.0, index as usize));
            Ok::<_, Infallible>(())
        };
        steps.time("5 sum", || revealed.sum_chunk(index, input, &mut sum))?;
        steps.time("5 take off masks", || revealed.remove_masks(index, &mut sum));
        steps.time("5 pack", || ring::pack(params.ring(), &sum, &mut out));
        if let Some(expected) = &cohort.sum {
            let first = index as usize * consilium_crypto::secagg::CHUNK_ELEMENTS;
            if sum != expected[first..first + sum.len()] {
                return Err("the sum is wrong".into());
            }
        }
    }
    Ok(steps)
}
