//! Transcripts of the commands on keys, rosters, signatures and plans, with the real binary.
#![allow(clippy::unwrap_used)]

#[path = "../cli_common/mod.rs"]
mod cli_common;
mod help;
mod identities;
mod models;
mod plans;
