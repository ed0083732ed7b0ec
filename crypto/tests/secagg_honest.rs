//! Honest attempts: the sum is exact whoever drops out when, reconnects and crashes change nothing, and the
//! public record gives the sum again.
#![allow(clippy::unwrap_used)]

mod secagg_world;

use std::{convert::Infallible, sync::Arc, thread};

use consilium_crypto::{
    digest::Digest,
    ring::RingVector,
    secagg::{
        CHUNK_ELEMENTS, Position, RecordError, Revealed, Step, UnmaskError,
        client::{Participant, Reply},
        coordinator::Collector,
    },
    workers::{Packed, Piece, Workers},
};
use secagg_world::*;

/// Runs an attempt in which `silent[s]` fall silent in step `s + 1`, and checks the sum.
fn check(shape: Shape, silent: [&[u16]; 5]) {
    let mut world = World::new(shape, 1);
    let mut who = world.everyone();
    let speakers = silent.map(|silent| {
        who = but(&who, silent);
        who.clone()
    });
    world.run(speakers.each_ref().map(Vec::as_slice));
    assert_eq!(world.survivors(), speakers[2], "{shape:?} {silent:?}");
    assert_eq!(world.sum(), world.expected_sum(&speakers[2]), "{shape:?} {silent:?}");
    assert!(world.collector.faults().is_empty());
}

#[test]
fn everyone_stays() {
    for n in [3, 4, 5, 10] {
        check(Shape::of(n, 100), [&[]; 5]);
    }
}

#[test]
fn dropouts_in_every_step() {
    for step in 0..5 {
        for silent in [&[0][..], &[4], &[2]] {
            let mut plan: [&[u16]; 5] = [&[]; 5];
            plan[step] = silent;
            check(Shape::of(5, 33), plan);
        }
        for silent in [&[0, 5, 9][..], &[7], &[1, 2]] {
            let mut plan: [&[u16]; 5] = [&[]; 5];
            plan[step] = silent;
            check(Shape::of(10, 33), plan);
        }
    }
    check(Shape::of(10, 33), [&[3], &[8], &[0], &[], &[]]);
    check(Shape::of(10, 33), [&[], &[], &[9], &[0], &[4]]);
}

#[test]
fn every_ring_width_and_several_chunks() {
    for bits in [8, 13, 16, 24, 31, 32] {
        let shape = Shape { bits, ..Shape::of(4, CHUNK_ELEMENTS as u32 * 2 + 77) };
        check(shape, [&[], &[], &[2], &[], &[]]);
    }
    for dimension in [1, 2, 3, 5, CHUNK_ELEMENTS as u32, CHUNK_ELEMENTS as u32 + 1] {
        check(Shape { bits: 11, ..Shape::of(3, dimension) }, [&[]; 5]);
    }
}

/// A header without all its chunks does not make a survivor; the member still answers.
#[test]
fn an_unfinished_upload_does_not_count() {
    let mut world = World::new(Shape::of(10, 50), 2);
    let all = world.everyone();
    world.advertise(&all);
    world.share(&all);
    for i in &all {
        world.ready(*i);
        let input = world.mask(*i);
        if *i == 6 {
            world.say(*i, Step::Input, input.header).unwrap();
        } else {
            world.upload(*i, input);
        }
    }
    assert!(!world.collector.complete());
    world.close();
    let survivors = but(&all, &[6]);
    assert_eq!(world.survivors(), survivors);
    assert_eq!(world.collector.chunk_digest(Position(6), 0), None);
    assert_eq!(world.collector.delivery(Position(6)), None, "votes are for survivors");
    world.vote(&survivors);
    world.unmask(&[0, 2, 4, 6, 7, 8, 9]);
    assert_eq!(world.sum(), world.expected_sum(&survivors));
}

/// Members that masked nothing, or did not vote, answer a quorum's votes all the same.
#[test]
fn whoever_holds_shares_can_answer() {
    let mut world = World::new(Shape::of(10, 50), 3);
    let all = world.everyone();
    world.advertise(&all);
    world.share(&all);
    world.ready(9); // trained too slowly: ready, but no vector
    let survivors = but(&all, &[9]);
    world.input(&survivors);
    world.vote(&but(&survivors, &[0, 1])); // 0 and 1 never saw the headers
    world.unmask(&[0, 1, 9, 2, 3, 4, 5]);
    assert_eq!(world.sum(), world.expected_sum(&survivors));
}

#[test]
fn reconnecting_changes_nothing() {
    let mut world = World::new(Shape::of(5, 50), 4);
    let all = world.everyone();
    world.advertise(&all);
    for step in [Step::Share, Step::Input, Step::Vote, Step::Unmask] {
        for i in &all {
            let delivery = world.delivery(*i);
            assert_eq!(world.delivery(*i), delivery, "the same however often it is asked for");
            if step == Step::Input {
                world.ready(*i);
                let input = world.mask(*i);
                world.upload(*i, input);
            } else {
                world.turn(*i);
            }
            // The delivery comes again; the client stands where it stood and has nothing new to say.
            let before = format!("{:?}", world.clients[usize::from(*i)]);
            assert_eq!(world.show(*i, &delivery).unwrap_err().check(), "T1");
            assert_eq!(format!("{:?}", world.clients[usize::from(*i)]), before);
        }
        world.close();
    }
    // Every body comes once more, in any step: all the same to the collector.
    for event in world.log.clone() {
        if let Event::Said(from, step, body) = event {
            world.collector.accept(from, step, &body).unwrap();
        }
    }
    assert!(world.collector.faults().is_empty());
    assert_eq!(world.sum(), world.expected_sum(&all));
    assert!(world.clients.iter().all(|client| matches!(client, Participant::Ended)));
}

/// A coordinator killed at any point: a fresh collector fed the log is where the old one was.
#[test]
fn replaying_the_log_gives_the_same_collector() {
    let mut world = World::new(Shape::of(5, 50), 5);
    let all = world.everyone();
    let rest = but(&all, &[1]);
    world.run([&all, &all, &rest, &rest, &rest]);

    let mut first = Collector::new(world.attempt.clone());
    for end in 0..=world.log.len() {
        // The first collector goes on; the second starts afresh each time.
        let mut second = Collector::new(world.attempt.clone());
        world.log[..end].iter().for_each(|event| apply(&mut second, event));
        if let Some(event) = end.checked_sub(1).map(|last| &world.log[last]) {
            apply(&mut first, event);
        }
        assert_eq!(first.step(), second.step());
        assert_eq!(first.expected(), second.expected());
        assert_eq!(first.received(), second.received());
        assert_eq!((first.complete(), first.enough()), (second.complete(), second.enough()));
        assert_eq!(first.survivors(), second.survivors());
        for position in world.attempt.positions() {
            assert_eq!(first.delivery(position), second.delivery(position));
            assert_eq!(first.chunk_digest(position, 0), second.chunk_digest(position, 0));
        }
    }
    let record = first.revealed().unwrap().public_record();
    assert_eq!(record, world.revealed().public_record());
    assert_eq!(sum(first.revealed().unwrap(), &world.store), world.sum());
}

fn apply(collector: &mut Collector, event: &Event) {
    match event {
        Event::Said(from, step, body) => collector.accept(*from, *step, body).unwrap(),
        Event::Complete(from) => collector.input_complete(*from),
        Event::Closed => collector.close().unwrap(),
    }
}

#[test]
fn the_public_record_gives_the_sum_again_and_bears_no_change() {
    let mut world = World::new(Shape::of(4, 50), 6);
    let all = world.everyone();
    let survivors = but(&all, &[2]);
    world.run([&all, &all, &survivors, &survivors, &survivors]);
    let record = world.revealed().public_record();

    let rebuilt = Revealed::from_record(world.attempt.clone(), &record).unwrap();
    assert_eq!(rebuilt.survivors(), world.collector.survivors());
    assert_eq!(sum(&rebuilt, &world.store), world.expected_sum(&survivors));
    assert_eq!(rebuilt.public_record(), record);

    for index in (0..record.len()).step_by(13).chain(record.len() - 40..record.len()) {
        let mut bent = record.clone();
        bent[index] ^= 0x10;
        assert!(Revealed::from_record(world.attempt.clone(), &bent).is_err(), "byte {index}");
    }
    for length in [0, 1, 33, 34, 100, record.len() - 32, record.len() - 1] {
        assert!(Revealed::from_record(world.attempt.clone(), &record[..length]).is_err());
    }
    let other = Arc::new(attempt(world.shape, 7));
    let error = Revealed::from_record(other, &record).unwrap_err();
    assert_eq!(error, RecordError::OtherContext);
}

/// Chunks on any number of threads, inputs added in any order: the same bits.
#[test]
fn the_sum_does_not_depend_on_who_computes_it() {
    let mut world = World::new(Shape::of(4, CHUNK_ELEMENTS as u32 * 3 + 5), 8);
    let all = world.everyone();
    let survivors = but(&all, &[0]);
    world.run([&all, &all, &survivors, &survivors, &survivors]);
    let (revealed, store) = (world.revealed(), &world.store);
    let params = world.attempt.params();
    let chunks: Vec<Vec<u32>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..params.chunk_count())
            .map(|index| {
                scope.spawn(move || {
                    let mut sum = vec![0; params.chunk_elements(index)];
                    for survivor in revealed.survivors().iter().rev() {
                        revealed.add_packed(&store[&(*survivor, index)], &mut sum).unwrap();
                    }
                    revealed.remove_masks(index, &mut sum);
                    sum
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    assert_eq!(chunks.concat(), world.expected_sum(&survivors));
}

/// Lends out some threads, and does the last pieces first.
struct Hurried(usize);

impl Workers for Hurried {
    fn map(&self, pieces: Vec<Piece<'_>>, work: &(dyn Fn(Piece<'_>) -> Packed + Sync)) -> Vec<Packed> {
        let mut left: Vec<Vec<(usize, Piece<'_>)>> = (0..self.0).map(|_| Vec::new()).collect();
        for (index, piece) in pieces.into_iter().enumerate().rev() {
            left[index % self.0].push((index, piece));
        }
        let mut done: Vec<(usize, Packed)> = thread::scope(|scope| {
            let threads: Vec<_> = left
                .into_iter()
                .map(|mine| {
                    scope.spawn(move || mine.into_iter().map(|(i, it)| (i, work(it))).collect::<Vec<_>>())
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        done.sort_by_key(|(index, _)| *index);
        done.into_iter().map(|(_, result)| result).collect()
    }
}

#[test]
fn masking_does_not_depend_on_how_many_threads_do_it() {
    let ready = || {
        let mut world = World::new(Shape::of(4, CHUNK_ELEMENTS as u32 * 5 + 77), 8);
        let all = world.everyone();
        world.advertise(&all);
        world.share(&all);
        world.ready(1);
        world
    };
    let alone = ready().mask(1);
    assert_eq!(alone.chunks.len(), 6);
    for threads in [1, 2, 3, 6, 11] {
        let mut world = ready();
        let update = RingVector::new(world.attempt.params().ring(), world.updates[1].clone()).unwrap();
        let masked = world.clients[1].mask_on(update, &world.keys[1], &Hurried(threads)).unwrap();
        assert!(masked == alone, "{threads} threads");
    }
}

#[test]
fn a_damaged_store_is_named() {
    let mut world = World::new(Shape::of(3, 50), 9);
    let all = world.everyone();
    world.run([&all; 5].map(Vec::as_slice));
    let revealed = world.revealed();
    let mut out = Vec::new();
    let mut short = |_: Position, out: &mut Vec<u8>| {
        out.push(0);
        Ok::<_, Infallible>(())
    };
    let error = revealed.unmask_chunk(0, &mut short, &mut out).unwrap_err();
    assert!(matches!(error, UnmaskError::Chunk { survivor: Position(0), index: 0, .. }));
    let error = revealed.unmask_chunk(1, &mut short, &mut out).unwrap_err();
    assert_eq!(error, UnmaskError::NoChunk { index: 1 });
    let mut broken = |_: Position, _: &mut Vec<u8>| Err("disk");
    let error = revealed.unmask_chunk(0, &mut broken, &mut out).unwrap_err();
    assert_eq!(error, UnmaskError::Input("disk"));
}

#[test]
fn peers_ledgers_are_known_from_step_three_on() {
    let mut world = World::new(Shape::of(3, 5), 10);
    let all = world.everyone();
    world.advertise(&all);
    assert_eq!(world.clients[0].ledger_heads(), None);
    world.share(&all);
    world.ready(0);
    let heads = world.clients[0].ledger_heads().unwrap();
    let positions: Vec<u16> = heads.iter().map(|(position, _)| position.0).collect();
    assert_eq!(positions, all);
    assert!(heads.iter().all(|(_, head)| head.length == 7));
}

/// Every byte that leaves anyone in a small attempt, pinned. A change here is a change of the wire: it needs
/// a new version number, not a new digest.
#[test]
fn the_wire_is_frozen() {
    let mut world = World::new(Shape { bits: 13, ..Shape::of(4, 20) }, 42);
    let all = world.everyone();
    let survivors = but(&all, &[3]);
    let mut said: Vec<(String, Vec<u8>)> = Vec::new();
    world.advertise(&all);
    for step in [Step::Share, Step::Input, Step::Vote, Step::Unmask] {
        said.push((format!("to 0, {step}"), world.delivery(0)));
        match step {
            Step::Input => world.input(&survivors),
            Step::Share => world.share(&all),
            _ => world.share(&survivors),
        }
    }
    for event in &world.log {
        if let Event::Said(from, step, body) = event
            && *from == Position(1)
        {
            said.push((format!("from 1, {step}"), body.clone()));
        }
    }
    said.push(("chunk of 1".into(), world.store[&(Position(1), 0)].clone()));
    said.push(("record".into(), world.revealed().public_record()));
    let found: Vec<String> =
        said.iter().map(|(what, bytes)| format!("{what}: {} {}", bytes.len(), Digest::of(bytes))).collect();
    let frozen = include_str!("vectors/secagg_n4.txt");
    assert_eq!(found, frozen.lines().collect::<Vec<_>>(), "\n{}\n", found.join("\n"));
}

#[test]
fn a_reply_is_to_be_recorded_before_it_is_sent() {
    // Deterministic given the generator: a client that replays its own start says the same again.
    let mut world = World::new(Shape::of(3, 5), 11);
    let all = world.everyone();
    world.advertise(&all);
    let delivery = world.delivery(0);
    let Ok(Reply::Send(first)) = world.show(0, &delivery) else { panic!() };
    let mut again = World::new(Shape::of(3, 5), 11);
    again.advertise(&all);
    assert_eq!(again.show(0, &delivery), Ok(Reply::Send(first)));
}
