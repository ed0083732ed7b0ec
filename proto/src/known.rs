//! What was verified last under a plan, so that the same bytes are not verified twice.

use consilium_crypto::{digest::Digest, known::Last, secagg::Attempt};

use crate::{announcement::Announcement, release::VerifiedHead, wire};

/// One of each kind; a part of the plan under which they were verified. Each input begins with the roster's digest.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) announcement: Last<(Digest, wire::SignedAnnouncement), Announcement>,
    pub(crate) facts: Last<(Digest, Announcement), Attempt>,
    pub(crate) head: Last<(Digest, wire::SignedReleaseHead), VerifiedHead>,
}
