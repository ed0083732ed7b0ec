//! What is going to happen, in the order of `(time, sequence)`: the sequence is the order in which things were put into the
//! queue, so nothing depends on how a heap breaks ties.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use consilium_crypto::{digest::Digest, release::AdapterState};
use consilium_proto::wire;

use crate::network::Micros;

/// Something that happens at a moment.
pub(super) enum Happening {
    /// The coordinator's process starts.
    CoordinatorStarts,
    /// The coordinator's machine is due, unless it was woken since.
    Tick,
    /// An organization's process starts.
    Starts(usize),
    /// It dies.
    Dies(usize),
    /// A cut of the network begins, and ends.
    CutBegins(usize),
    CutEnds(usize),
    /// It dials.
    Dials(usize),
    /// The handshake is over.
    Connects(usize),
    /// A message arrives.
    Up {
        from: usize,
        connection: u64,
        bytes: Arc<Vec<u8>>,
        after: bool,
    },
    Down {
        to: usize,
        connection: u64,
        packet: Arc<Packet>,
        after: bool,
    },
    /// A part of an upload arrives.
    Part {
        from: usize,
        connection: u64,
        part: wire::UploadPart,
    },
    /// The line is free for an upload's next part.
    NextPart {
        from: usize,
        upload: Upload,
    },
    /// A request for releases arrives, and what is sent in reply.
    Asked {
        from: usize,
        connection: u64,
        round: u32,
    },
    Release {
        to: usize,
        connection: u64,
        release: Arc<(wire::SignedReleaseHead, Vec<u8>)>,
    },
    Released {
        to: usize,
        connection: Option<u64>,
        start: u64,
    },
    /// The coordinator notices that a session is gone.
    Gone {
        from: usize,
        connection: u64,
    },
    /// An organization notices that its session is gone.
    Lost {
        to: usize,
        connection: u64,
    },
    /// A lot would be trained by now.
    Trained {
        organization: usize,
        ticket: u64,
    },
    /// The test set would be evaluated by now.
    Evaluated {
        organization: usize,
        start: u64,
        round: u32,
        adapter: Arc<AdapterState>,
    },
}

/// A message of the coordinator, as bytes: one copy, however many organizations it goes to.
pub(super) struct Packet {
    pub(super) bytes: Vec<u8>,
    pub(super) digest: Digest,
}

/// A masked vector on its way, chunk by chunk.
pub(super) struct Upload {
    pub(super) connection: u64,
    pub(super) round: u32,
    pub(super) attempt: u32,
    pub(super) chunks: Arc<Vec<Vec<u8>>>,
    pub(super) index: u32,
}

struct Due {
    at: Micros,
    sequence: u64,
    what: Happening,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

/// Everything that is due.
#[derive(Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<Due>>,
    sequence: u64,
    /// Messages on their way to the coordinator.
    rising: usize,
}

impl Queue {
    pub(super) fn push(&mut self, at: Micros, what: Happening) {
        self.rising += usize::from(matches!(what, Happening::Up { .. }));
        self.sequence += 1;
        self.heap.push(Reverse(Due { at, sequence: self.sequence, what }));
    }

    pub(super) fn pop(&mut self) -> Option<(Micros, Happening)> {
        let Reverse(due) = self.heap.pop()?;
        self.rising -= usize::from(matches!(due.what, Happening::Up { .. }));
        Some((due.at, due.what))
    }

    /// When the next thing happens.
    pub(super) fn next(&self) -> Option<Micros> {
        self.heap.peek().map(|Reverse(due)| due.at)
    }

    pub(super) fn is_any_rising(&self) -> bool {
        self.rising > 0
    }
}
