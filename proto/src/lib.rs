//! The contract between a Consilium's parties.
//!
//! Three kinds of thing live here, and no logic that acts on them:
//!
//! - [`wire`]: the gRPC messages, generated from `proto/` and checked in; [`trainer_wire`]: those between a client and a
//!   trainer of its organization's own;
//! - the two documents that a consortium signs, as text that a person can read: the [`roster`] (who) and the
//!   [`plan`] (what), both through [`signed`];
//! - what follows from them and both sides must see alike: the round's [`announcement`] and its context, the
//!   published [`release`], the [`evidence`] that convicts a member, an operator's [`action`], the job's signed [`log`], and how a connection proves whose it is ([`pinning`]).
//!
//! Bytes become types in one direction: parsed, then verified. Only verified types reach a round.

pub mod action;
pub mod announcement;
pub mod challenge;
pub mod evidence;
pub mod identity;
pub mod ids;
pub mod inspected;
mod known;
pub mod log;
pub mod pinning;
pub mod plan;
pub mod provenance;
pub mod release;
pub mod roster;
pub mod signed;
#[cfg(test)]
mod testing;
mod text;
pub mod trace;

/// Messages and services generated from `proto/consilium/v1/*.proto` by `tonic-prost-build`; a test regenerates and
/// compares them.
#[allow(missing_docs, unreachable_pub, clippy::all, rustdoc::all)]
pub mod wire {
    include!("generated/consilium.v1.rs");
}

/// The services and messages of [`wire`] as an encoded `FileDescriptorSet`: what gRPC reflection answers with.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/descriptors.bin");

/// The contract between a client and a trainer of its organization's own, generated from
/// `proto/consilium/trainer/v1/trainer.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, rustdoc::all)]
pub mod trainer_wire {
    include!("generated/consilium.trainer.v1.rs");
}

/// Version of the contract with a trainer.
pub const TRAINER_VERSION: u32 = 2;

/// Version of the wire contract, sent in every [`wire::Hello`].
pub const PROTOCOL_VERSION: u32 = 3;

/// The oldest version that a coordinator still serves: clients are upgraded one after the other, and it before them.
pub const OLDEST_PROTOCOL_VERSION: u32 = 2;

/// Largest gRPC message either side accepts, bytes. A cohort of 1000 needs about 0.5 MiB for its largest message.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;
