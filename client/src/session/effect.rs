//! What to do, as the session says it.

use std::sync::Arc;

use consilium_crypto::release::AdapterState;
use consilium_proto::wire::{self, client_message::Kind as Say};

use super::Event;
use crate::ledger::{Debit, Outlook};

/// What to do.
#[derive(Debug)]
pub enum Effect {
    /// Make this durable before anything that follows.
    Record(Event),
    /// Debit the ledger, durably, before anything that follows.
    Debit(Box<Debit>),
    /// Make this durable before anything that follows, in the place of what was kept: the job's file of peers' adverts.
    KeepPeers(Vec<u8>),
    /// Make this durable before anything that follows, in the place of what was kept: the newest announcement that was accepted,
    /// which a coordinator that has lost its state is shown.
    KeepAnnouncement(wire::SignedAnnouncement),
    /// Keep a release that was applied: whoever has lost it can have it back.
    KeepRelease {
        /// Round.
        round: u32,
        /// Its signed head.
        head: wire::SignedReleaseHead,
        /// Its packed sum.
        sum: Vec<u8>,
    },
    /// The coordinator has lost releases: send those that are kept, from a round on.
    Return {
        /// First round wanted.
        from_round: u32,
    },
    /// Say this to the coordinator.
    Say(Say),
    /// Draw a lot and train it from this adapter; come back with [`Input::Trained`](super::Input::Trained). Replaces whatever was training.
    Train {
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
        /// The adapter the round starts from.
        adapter: Arc<AdapterState>,
    },
    /// What is training is not needed any more.
    StopTraining,
    /// Upload these chunks from an index on.
    Upload {
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
        /// The masked vector, packed, in chunks.
        chunks: Arc<Vec<Vec<u8>>>,
        /// First chunk wanted.
        from: u32,
    },
    /// Fetch published releases from a round on; come back with [`Input::Release`](super::Input::Release) for each.
    Fetch {
        /// First round wanted.
        from_round: u32,
    },
    /// The adapter after a released round, recomputed here: keep it.
    Applied {
        /// Round.
        round: u32,
        /// The adapter.
        adapter: Arc<AdapterState>,
        /// What the noisy sum says about everybody's training together.
        metrics: consilium_crypto::encoding::Metrics,
        /// How many organizations are in the sum.
        survivors: usize,
    },
    /// Evaluate the public test set; come back with [`Input::Evaluated`](super::Input::Evaluated).
    Evaluate {
        /// Round whose adapter it is.
        round: u32,
        /// The adapter.
        adapter: Arc<AdapterState>,
    },
    /// This client declined or left an attempt, for the log.
    Declined {
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
        /// The check that failed.
        code: String,
        /// In words; stays here.
        why: String,
    },
    /// What the attempt that is being joined leads to, for the log.
    Outlook {
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
        /// The last round that fits into every budget, if each takes one attempt from now on.
        last_round: u64,
        /// What is spent after it.
        outlook: Outlook,
    },
    /// A step was reached, for the log.
    Reached {
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
        /// What was said.
        what: &'static str,
    },
    /// The job is over, and everything published is applied.
    Finished,
    /// This client cannot go on with this coordinator: stop, and say why.
    Stop(String),
}
