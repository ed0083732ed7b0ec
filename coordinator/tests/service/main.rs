//! Bad input, slow input, too much input: against the real coordinator process, over real sockets and real TLS.
//!
//! Every test looks for three things: the refusal has a name in the log, memory stays bounded where memory is attacked, and
//! a round of the others completes with the exact sum.

#![allow(clippy::unwrap_used)]

#[path = "../generator/mod.rs"]
#[allow(dead_code, missing_docs, unreachable_pub, unused_imports)]
mod generator;
#[allow(dead_code)]
mod server;

mod alerts;
mod chunks;
mod dead;
mod disk;
mod drain;
mod garbage;
mod inspected;
mod nothing_else;
mod operate;
mod parties;
mod raw;
mod silent;
mod slow;
mod too_many;
