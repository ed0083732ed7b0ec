//! What happened, as the session is told.

use consilium_crypto::ring::RingVector;
use consilium_proto::wire::{self, coordinator_message::Kind as Heard};

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// The stream to the coordinator is open.
    Connected,
    /// It closed.
    Disconnected,
    /// The coordinator said something.
    Heard(Heard),
    /// A published release arrived, in order.
    Release {
        /// Its signed head.
        head: wire::SignedReleaseHead,
        /// Its packed sum.
        sum: Vec<u8>,
    },
    /// All releases that were asked for have arrived, or the stream broke: ask again if more are needed.
    ReleasesEnded,
    /// The lot of an attempt is trained and encoded, noise included; or why not.
    Trained {
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
        /// Ring values, or the code of a local fault.
        update: Result<RingVector, &'static str>,
    },
    /// The public test set was evaluated.
    Evaluated(wire::Evaluation),
}
