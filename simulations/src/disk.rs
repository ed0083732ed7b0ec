//! What a coordinator finds again after a crash: recorded events, synced chunks, published sums.
//!
//! Kept in memory, in the same encodings as the coordinator's store keeps them, and with its rule that a chunk that
//! was never synced may be gone.

use std::{collections::BTreeMap, sync::Arc};

use consilium_coordinator::round::{Aggregation, BadEvent, Event, Recovered};
use consilium_crypto::{ring, secagg::UnmaskError};
use consilium_proto::{ids::Id, wire::SignedReleaseHead};

use crate::network::Micros;

/// Milliseconds of the virtual calendar at which simulations begin: 1 January 2030, so that log lines look like dates.
pub(crate) const EPOCH_MS: u64 = 1_893_456_000_000;

/// The virtual calendar's time.
pub(crate) fn unix_ms(now: Micros) -> u64 {
    EPOCH_MS + now / 1000
}

struct Stored {
    round: u32,
    attempt: u32,
    kind: &'static str,
    body: Vec<u8>,
    at_ms: u64,
}

#[derive(Default)]
struct Masked {
    chunks: Vec<Vec<u8>>,
    synced: usize,
}

/// Round, attempt, and whose.
type InputKey = (u32, u32, Id);

/// The coordinator's disk.
#[derive(Default)]
pub struct Disk {
    events: Vec<Stored>,
    inputs: BTreeMap<InputKey, Masked>,
    releases: BTreeMap<u32, Arc<(SignedReleaseHead, Vec<u8>)>>,
}

impl Disk {
    /// Events recorded so far.
    pub fn events(&self) -> u64 {
        self.events.len() as u64
    }

    /// Rounds, attempts and kinds of the recorded events, oldest first.
    pub fn kinds(&self) -> impl Iterator<Item = (u32, u32, &'static str)> {
        self.events.iter().map(|event| (event.round, event.attempt, event.kind))
    }

    pub(crate) fn append(&mut self, round: u32, attempt: u32, event: &Event, at_ms: u64) {
        self.events.push(Stored { round, attempt, kind: event.kind(), body: event.encode(), at_ms });
    }

    pub(crate) fn publish(&mut self, round: u32, head: SignedReleaseHead, sum: Vec<u8>) {
        self.releases.insert(round, Arc::new((head, sum)));
    }

    pub(crate) fn put_chunk(&mut self, key: InputKey, index: u32, bytes: Vec<u8>) {
        let masked = self.inputs.entry(key).or_default();
        // Chunks come in order; one that is held already is the same.
        if masked.chunks.len() == index as usize {
            masked.chunks.push(bytes);
        }
    }

    pub(crate) fn sync(&mut self, key: &InputKey) {
        if let Some(masked) = self.inputs.get_mut(key) {
            masked.synced = masked.chunks.len();
        }
    }

    pub(crate) fn held(&self, key: &InputKey) -> u32 {
        self.inputs.get(key).map_or(0, |masked| u32::try_from(masked.chunks.len()).unwrap_or(u32::MAX))
    }

    pub(crate) fn drop_inputs(&mut self, round: u32, attempt: u32) {
        self.inputs.retain(|(r, a, _), _| (*r, *a) != (round, attempt));
    }

    /// Loses what was never synced.
    pub(crate) fn crash(&mut self) {
        self.inputs.values_mut().for_each(|masked| masked.chunks.truncate(masked.synced));
    }

    /// Every event, read back from its bytes.
    pub(crate) fn recovered(&self) -> impl Iterator<Item = Result<Recovered, BadEvent>> {
        self.events.iter().map(|stored| {
            let event = Event::decode(stored.kind, &stored.body)?;
            Ok(Recovered { round: stored.round, attempt: stored.attempt, event, at_ms: stored.at_ms })
        })
    }

    pub(crate) fn release(&self, round: u32) -> Option<(SignedReleaseHead, Vec<u8>)> {
        self.releases.get(&round).map(|release| release.as_ref().clone())
    }

    pub(crate) fn releases_from(&self, round: u32) -> Vec<Arc<(SignedReleaseHead, Vec<u8>)>> {
        self.releases.range(round..).map(|(_, release)| release.clone()).collect()
    }

    /// The exact ring sum, packed.
    pub(crate) fn aggregate(&self, work: &Aggregation) -> Result<Vec<u8>, String> {
        let width = work.revealed.attempt().params().ring();
        let (mut sum, mut values) = (Vec::new(), Vec::new());
        for index in 0..work.chunks {
            let mut read = |position, out: &mut Vec<u8>| {
                let id = work.id(position).ok_or("unknown position")?;
                let masked = self.inputs.get(&(work.round, work.attempt, id.clone())).ok_or("no input")?;
                out.extend_from_slice(masked.chunks.get(index as usize).ok_or("no chunk")?);
                Ok::<(), &str>(())
            };
            work.revealed
                .unmask_chunk(index, &mut read, &mut values)
                .map_err(|error: UnmaskError<&str>| error.to_string())?;
            ring::pack(width, &values, &mut sum);
        }
        Ok(sum)
    }
}
