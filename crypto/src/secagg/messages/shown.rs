//! What an attempt's members are shown alike, as far as it was verified.

use alloc::{sync::Arc, vec::Vec};

use super::{Adverts, DealHeaders, InputHeaders, Votes};
use crate::{digest::Digest, known::Last};

/// The last accepted delivery of each step, with everything else that its verification depends on beside the attempt. All of it is public.
#[derive(Debug, Default)]
pub(in crate::secagg) struct Shown {
    /// Of a delivery.
    pub(super) adverts: Last<Vec<u8>, Arc<Adverts>>,
    /// Of step 1's hash and the headers of a delivery.
    pub(super) dealers: Last<(Digest, Vec<u8>), Arc<DealHeaders>>,
    /// Of step 2's hash and a delivery.
    pub(super) inputs: Last<(Digest, Vec<u8>), Arc<InputHeaders>>,
    /// Of the hashes of steps 1 and 2 and a delivery.
    pub(super) votes: Last<([Digest; 2], Vec<u8>), Arc<Votes>>,
}
