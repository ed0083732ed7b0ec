//! What the coordinator must not forget: the events of a job, the masked inputs of its attempts, its releases.
//!
//! [`Store`] is a contract; [`contract::check`] is its test suite, which every implementation must pass. The default,
//! [`SqliteStore`], keeps one job in one folder: events and release heads in SQLite, masked inputs and sums in files
//! beside it. SQL is kept plain and blobs are kept apart, so that a database server and an object store can take their
//! places.
//!
//! The interface is synchronous, because being durable is; a service calls it from one thread of its own. It assumes one
//! process per store, and refuses a second. It keeps bytes and knows nothing of their meaning: masked inputs are masked
//! before they arrive.

pub mod contract;
mod error;
mod inputs;
mod sqlite;

use consilium_crypto::digest::Digest;
use consilium_proto::{ids::Id, plan::Derived};

pub use error::StoreError;
pub(crate) use sqlite::copy_database;
pub use sqlite::{Ended, SqliteStore, StoreView, migration};

/// Coordinates in a chunk of a masked input (see the byte formats of secure aggregation).
pub const CHUNK_COORDINATES: usize = 1 << 16;

/// Which job a store holds. Fixed when the store is made; opening it for another is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredJob {
    /// Digest of the job's plan.
    pub plan: Digest,
    /// How long chunks are.
    pub input: InputLayout,
}

/// How a masked input is cut into chunks: all of one length but the last, which may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputLayout {
    chunk_bytes: usize,
    total_bytes: usize,
}

impl InputLayout {
    /// Chunks of `chunk_bytes` that make `total_bytes` together; `None` if either is 0, or there are 2³² chunks.
    pub fn new(chunk_bytes: usize, total_bytes: usize) -> Option<Self> {
        if chunk_bytes == 0 || total_bytes == 0 {
            return None;
        }
        u32::try_from(total_bytes.div_ceil(chunk_bytes)).ok()?;
        Some(Self { chunk_bytes, total_bytes })
    }

    /// The layout of a plan's masked inputs.
    pub fn of_plan(derived: &Derived) -> Self {
        let chunk_bytes = derived.ring.packed_len(CHUNK_COORDINATES);
        Self { chunk_bytes, total_bytes: derived.ring.packed_len(derived.vector_len) }
    }

    /// How many chunks a masked input has.
    pub fn chunks(&self) -> u32 {
        u32::try_from(self.total_bytes.div_ceil(self.chunk_bytes)).unwrap_or(u32::MAX)
    }

    /// Bytes in a chunk; `None` past the last.
    pub fn chunk_len(&self, index: u32) -> Option<usize> {
        let start = (index as usize).checked_mul(self.chunk_bytes)?;
        let left = self.total_bytes.checked_sub(start).filter(|left| *left > 0)?;
        Some(left.min(self.chunk_bytes))
    }

    /// Bytes in every chunk but the last.
    pub fn chunk_bytes(&self) -> usize {
        self.chunk_bytes
    }

    /// Bytes in a whole masked input.
    pub fn total_bytes(&self) -> usize {
        self.total_bytes
    }
}

/// Something that happened, to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// Round, from 1; 0 where none applies.
    pub round: u32,
    /// Attempt within the round, from 1; 0 where none applies.
    pub attempt: u32,
    /// What kind of event it is; the caller's word.
    pub kind: String,
    /// What it says; the caller's format.
    pub body: Vec<u8>,
    /// When, Unix milliseconds.
    pub at_ms: u64,
}

/// An event as it was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRecord {
    /// Place among all events of the job: 1, 2, 3, …
    pub sequence: u64,
    /// See [`NewEvent::round`].
    pub round: u32,
    /// See [`NewEvent::attempt`].
    pub attempt: u32,
    /// See [`NewEvent::kind`].
    pub kind: String,
    /// See [`NewEvent::body`].
    pub body: Vec<u8>,
    /// See [`NewEvent::at_ms`].
    pub at_ms: u64,
}

/// A published sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseRow {
    /// Round, from 1.
    pub round: u32,
    /// The encoded head, exactly the bytes that were signed.
    pub head: Vec<u8>,
    /// The coordinator's signature over them.
    pub signature: Vec<u8>,
    /// The packed sum.
    pub sum: Vec<u8>,
}

/// A published sum without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseHead {
    /// Round, from 1.
    pub round: u32,
    /// See [`ReleaseRow::head`].
    pub head: Vec<u8>,
    /// See [`ReleaseRow::signature`].
    pub signature: Vec<u8>,
    /// Length of the sum.
    pub sum_bytes: u64,
}

/// Takes one event at a time during a replay; its error ends the replay.
pub type EachEvent<'a> = &'a mut dyn FnMut(EventRecord) -> Result<(), StoreError>;

/// The contract between a coordinator and whatever keeps its state.
///
/// *Durable* means: still there after the process is killed and after a power cut. Calls that promise it return after the
/// last sync. On any error but a refusal ([`StoreError::is_refusal`]) the caller cannot know whether the last call took
/// effect: it stops, opens the store again and recovers from what it finds. Nothing is ever half there.
pub trait Store: Send {
    /// Appends all events in one durable transaction, in order; sequences go on from the last one without a gap.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; none of the events was taken, unless the error came from the last sync.
    fn append(&mut self, events: &[NewEvent]) -> Result<(), StoreError>;

    /// Passes every event of the job to `each`, in order, one in memory at a time.
    ///
    /// # Errors
    ///
    /// The first error of `each`; [`StoreError::Corrupt`] naming the first event that is not what was appended.
    fn replay(&self, each: EachEvent<'_>) -> Result<(), StoreError>;

    /// Keeps one chunk of `org`'s masked input. Chunks come in order from index 0; a repeat of a chunk that is held is
    /// taken if it is identical. Durable once [`Store::sync_input`] has returned.
    ///
    /// # Errors
    ///
    /// [`StoreError::ChunkOrder`], [`StoreError::ChunkLength`], [`StoreError::ChunkConflict`] for a repeat with other
    /// bytes; the input is then as it was.
    fn put_chunk(
        &mut self,
        round: u32,
        attempt: u32,
        org: &Id,
        index: u32,
        bytes: &[u8],
    ) -> Result<(), StoreError>;

    /// How many chunks of `org`'s masked input are held, counted from the first. After a crash only whole chunks count, and
    /// at least those that were synced.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn chunks_held(&self, round: u32, attempt: u32, org: &Id) -> Result<u32, StoreError>;

    /// Makes every chunk of `org`'s masked input durable that was put so far.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn sync_input(&mut self, round: u32, attempt: u32, org: &Id) -> Result<(), StoreError>;

    /// Reads one chunk into `out`, whose old content is dropped.
    ///
    /// # Errors
    ///
    /// [`StoreError::ChunkMissing`]; [`StoreError::Corrupt`] when it is not what was put.
    fn read_chunk(
        &self,
        round: u32,
        attempt: u32,
        org: &Id,
        index: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError>;

    /// Forgets all masked inputs of an attempt; no error if there are none.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn drop_attempt_inputs(&mut self, round: u32, attempt: u32) -> Result<(), StoreError>;

    /// Keeps a release and appends `events`, all in one durable transaction. A round is released once.
    ///
    /// # Errors
    ///
    /// [`StoreError::ReleaseExists`]; none of the events was taken then.
    fn put_release(&mut self, events: &[NewEvent], row: &ReleaseRow) -> Result<(), StoreError>;

    /// The head of a round's release; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn release_head(&self, round: u32) -> Result<Option<ReleaseHead>, StoreError>;

    /// Reads `bytes` bytes of a round's sum from `offset` on into `out`, whose old content is dropped; fewer at the sum's
    /// end, none past it. What is read piecewise is not checked; the head's digest is there for that.
    ///
    /// # Errors
    ///
    /// [`StoreError::ReleaseMissing`], or [`StoreError`].
    fn read_sum(&self, round: u32, offset: u64, bytes: usize, out: &mut Vec<u8>) -> Result<(), StoreError>;

    /// A round's release with its whole sum; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] when the sum is not what was put.
    fn release(&self, round: u32) -> Result<Option<ReleaseRow>, StoreError>;

    /// The rounds from `round` on that have a release, ascending.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn releases_from(&self, round: u32) -> Result<Vec<u32>, StoreError>;
}
