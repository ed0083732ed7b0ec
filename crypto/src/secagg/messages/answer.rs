//! Step 5: answers. One kind of share for each dealer, each with the salt that opens its commitment.
//!
//! ```text
//! answer = head(5, member) ‖ position u16 ‖ headers hash 32 ‖ for each dealer by position: share 32 ‖ salt 32 ‖ signature 64
//! ```
//!
//! Which kind is given for a dealer follows from the survivors, whom the headers hash names: a survivor's is
//! the self-mask seed, anyone else's the masking key.

use alloc::vec::Vec;

use super::{Flaw, Speaker, read_head, read_position, sign_and_append, write_head};
use crate::{
    codec::{Reader, Writer},
    digest::Digest,
    secagg::{Attempt, Position, Step, opening::Revelation},
    sign::SigningKey,
};

/// Writes and signs an answer.
pub(in crate::secagg) fn answer_body(
    attempt: &Attempt,
    me: Position,
    headers: &Digest,
    revelations: impl ExactSizeIterator<Item = Revelation>,
    key: &SigningKey,
) -> Vec<u8> {
    // Reserved at once: growing would leave unwiped copies behind.
    let mut w = Writer::with_capacity(128 + revelations.len().saturating_mul(Revelation::LEN));
    write_head(&mut w, Step::Unmask, Speaker::Member);
    w.u16(me.0).digest(headers);
    revelations.for_each(|revelation| {
        w.raw(revelation.share()).raw(revelation.salt());
    });
    sign_and_append(&mut w, Step::Unmask, attempt, me, key);
    w.finish()
}

/// One member's answer: shares not yet held against their commitments.
pub(in crate::secagg) struct Answer {
    pub(in crate::secagg) headers: Digest,
    /// One for each dealer, by position.
    pub(in crate::secagg) revelations: Vec<Revelation>,
}

impl Answer {
    /// Reads an authenticated answer for `dealers` dealers.
    pub(in crate::secagg) fn parse(attempt: &Attempt, dealers: usize, body: &[u8]) -> Result<Self, Flaw> {
        let mut r = Reader::new(body);
        read_head(&mut r, Step::Unmask, Speaker::Member)?;
        read_position(&mut r, attempt)?;
        let headers = r.digest("headers hash")?;
        let revelations = (0..dealers)
            .map(|_| Ok(Revelation::new(&r.array("share")?, &r.array("salt")?)))
            .collect::<Result<_, Flaw>>()?;
        let _: [u8; 64] = r.array("signature")?;
        r.finish()?;

        Ok(Self { headers, revelations })
    }
}
