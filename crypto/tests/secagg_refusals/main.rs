//! What a client refuses: each check of the manual's table, tripped by one malicious coordinator or member.
//!
//! A test named `a3_…` trips check A3 and no other. The bytes are taken apart and forged from the manual's
//! formats, not with the library's own writers.
#![allow(clippy::unwrap_used)]

mod adverts;
mod client;
mod deals;
mod headers;
#[path = "../secagg_world/mod.rs"]
mod secagg_world;
mod votes;

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
    // Another member has seen the truth: what was accepted once makes nothing else acceptable.
    let honest = world.delivery(0);
    world.show(0, &honest).unwrap();
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
