//! What to do, as the machine says it.

use std::sync::Arc;

use consilium_crypto::{protocol::Unmasking, secagg::Position};
use consilium_proto::{ids::Id, wire::coordinator_message::Kind};

use super::{Event, Publication};

/// What to do.
#[derive(Debug)]
pub enum Effect {
    /// Make this durable before any later send.
    Record {
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
        /// What happened.
        event: Event,
    },
    /// Keep a chunk of a masked input.
    PutChunk {
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
        /// Whose.
        from: Id,
        /// Index, from 0 and in order.
        index: u32,
        /// Its bytes, already checked against the signed header.
        bytes: Vec<u8>,
    },
    /// Make a member's chunks durable.
    SyncInput {
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
        /// Whose.
        from: Id,
    },
    /// Make a release durable, together with its event.
    Publish(Box<Publication>),
    /// Say this to a member; dropped if it is not connected.
    Send {
        /// To whom.
        to: Id,
        /// What.
        message: Kind,
    },
    /// Look up how many chunks are held and come back with [`Input::Held`](super::Input::Held).
    AskUpload {
        /// Whose.
        from: Id,
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
    },
    /// Sum the survivors' masked inputs, take the masks off, and come back with [`Input::Summed`](super::Input::Summed).
    Aggregate(Aggregation),
    /// The attempt's masked inputs are not needed any more.
    DropInputs {
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
    },
    /// A member's message was refused: for the log and the counters.
    Refused {
        /// Whose.
        from: Id,
        /// `no-attempt`, `other-attempt`, `other-step`, `not-in-cohort`, or the number of the check in the manual's table.
        code: &'static str,
    },
    /// Close a member's session after what was sent.
    Close {
        /// Whose.
        to: Id,
    },
}

/// What it takes to compute one sum.
#[derive(Clone, Debug)]
pub struct Aggregation {
    /// Round.
    pub round: u32,
    /// Attempt.
    pub attempt: u32,
    /// What takes the masks off.
    pub revealed: Arc<dyn Unmasking>,
    /// Chunks in a masked input.
    pub chunks: u32,
    /// Ids by position.
    pub ids: Arc<[Id]>,
}

impl Aggregation {
    /// The id at a position of the cohort.
    pub fn id(&self, position: Position) -> Option<&Id> {
        self.ids.get(position.index())
    }
}
