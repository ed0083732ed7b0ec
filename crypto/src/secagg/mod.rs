//! Secure aggregation: many organizations' vectors go in, their exact sum comes out, and nothing else.
//!
//! The protocol of Bonawitz et al. (CCS 2017, eprint 2017/281) in its active-adversary form, for a cohort
//! whose members know each other's signing keys beforehand. The page `crypto/docs/secure-aggregation.md` is
//! its manual: every byte format, every check with its number, and where this implementation departs from the
//! paper, and why.
//!
//! | step | a client says | the coordinator says before it |
//! |---|---|---|
//! | [`Advertise`](Step::Advertise) | its public keys | (nothing: the attempt's facts are known) |
//! | [`Share`](Step::Share) | sealed shares of its secrets | everyone's public keys |
//! | [`Input`](Step::Input) | its masked vector | who dealt, and the shares sealed to this client |
//! | [`Vote`](Step::Vote) | "these survived", signed | the survivors' headers |
//! | [`Unmask`](Step::Unmask) | shares that take the masks off | a quorum of equal votes |
//!
//! [`client`] holds the member's side, one type per step; [`coordinator`] the collecting side; [`Revealed`]
//! takes the masks off and is what an auditor rebuilds from the [published record](Revealed::public_record).
//! [`FiveSteps`] shows both sides to round and session as a [`protocol`](crate::protocol).
//! All of it is pure: bytes and randomness come in, bytes go out. Bodies carry their own version and
//! signatures and are opaque to whoever transports them.
//!
//! # What is assumed
//!
//! At most `t_c` members collude with the coordinator, which may be actively malicious; the roster binds keys
//! to organizations; an attempt's context digest is never used twice (the caller persists attempt numbers);
//! nobody copies a client's state. Not claimed: anything about what the sum itself reveals, honest inputs,
//! traffic analysis, or that a coordinator finishes a round.
#![cfg_attr(
    not(feature = "test-walls"),
    doc = "
# Walls

The feature `test-walls` lets tests take single walls of the protocol down. Without it the module does not exist:

```compile_fail,E0432
use consilium_crypto::secagg::walls;
```
"
)]

/// Whether a wall stands. In every build but one for tests all walls do, at compile time.
#[cfg(feature = "test-walls")]
macro_rules! wall {
    ($attempt:expr, $wall:ident) => {
        $attempt.walls().$wall
    };
}
#[cfg(not(feature = "test-walls"))]
macro_rules! wall {
    ($attempt:expr, $wall:ident) => {
        true
    };
}

mod attempt;
mod behind;
pub mod blame;
pub mod client;
pub mod coordinator;
pub mod evidence;
mod keys;
mod messages;
mod opening;
mod params;
mod refusal;
mod revealed;
mod step;
#[cfg(feature = "test-walls")]
pub mod walls;

pub use attempt::{Attempt, BadMemberId, Context, Member, MemberId, Position, SetupError};
pub use behind::FiveSteps;
pub use messages::{Flaw, LedgerHead, advertised_ledger, delivered_adverts};
pub use params::{Params, ParamsError};
pub use refusal::{Blame, Refusal};
pub use revealed::{RecordError, Revealed, UnmaskError};
pub use step::Step;

use crate::digest::Digest;

/// Names the algorithms and this version of the byte formats; part of every [`Context`].
pub const SUITE: &str = "consilium/1 ristretto255 ed25519-strict chacha20poly1305 aes256ctr hkdf-sha256";

/// Ring elements in one chunk of a masked vector. The last chunk may be shorter.
pub const CHUNK_ELEMENTS: usize = 1 << 16;

/// The digest by which a header names a chunk: plain SHA-256 of its packed bytes.
pub fn chunk_digest(packed: &[u8]) -> Digest {
    Digest::of(packed)
}
