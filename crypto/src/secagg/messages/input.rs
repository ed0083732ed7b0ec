//! Step 3: masked inputs. A signed header over the chunks' digests; the chunks travel beside it.
//!
//! ```text
//! header   = head(3, member) ‖ position u16 ‖ step 2 hash 32 ‖ chunk root 32 ‖ total length u64 ‖ signature 64   (141 bytes)
//! body     = header ‖ one digest for each chunk, 32 each
//! delivery = head(4, coordinator) ‖ count u32 ‖ headers by position
//! ```
//!
//! A chunk is 65536 elements, packed least significant bit first, starting on a byte; the last may be
//! shorter.

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

use super::{
    Flaw, HEAD_LEN, Speaker, authenticate, read_head, read_next, read_position, sign_and_append, write_head,
};
use crate::{
    codec::{CodecError, Reader, Writer},
    digest::{Digest, Transcript},
    merkle::{Tree, leaf},
    secagg::{Attempt, Position, Refusal, Step},
    sign::{Signature, SigningKey},
};

pub(super) const HEADER_LEN: usize = HEAD_LEN + 2 + 32 + 32 + 8 + Signature::LEN;

/// Writes and signs the body of step 3.
pub(in crate::secagg) fn input_body(
    attempt: &Attempt,
    me: Position,
    step2: &Digest,
    chunks: &[Digest],
    key: &SigningKey,
) -> Vec<u8> {
    let mut w = Writer::with_capacity(HEADER_LEN + chunks.len().saturating_mul(Digest::LEN));
    write_head(&mut w, Step::Input, Speaker::Member);
    w.u16(me.0).digest(step2).digest(&chunk_root(chunks)).u64(attempt.params().total_len());
    sign_and_append(&mut w, Step::Input, attempt, me, key);
    chunks.iter().for_each(|digest| {
        w.digest(digest);
    });
    w.finish()
}

fn chunk_root(chunks: &[Digest]) -> Digest {
    Tree::new(chunks.iter().map(|digest| leaf("consilium/1/chunks", &[&digest.0]))).root()
}

/// One member's input header, verified.
#[derive(Clone, Debug)]
pub(in crate::secagg) struct InputHeader {
    /// The header as it was signed and sent.
    pub(in crate::secagg) body: Vec<u8>,
    root: Digest,
}

impl InputHeader {
    /// The header at the front of a body of step 3.
    pub(in crate::secagg) fn front(body: &[u8]) -> &[u8] {
        body.get(..HEADER_LEN).unwrap_or(body)
    }

    /// Reads an authenticated header: format, step 2 hash, length.
    pub(in crate::secagg) fn parse(attempt: &Attempt, step2: &Digest, body: &[u8]) -> Result<Self, Flaw> {
        let mut r = Reader::new(body);
        read_head(&mut r, Step::Input, Speaker::Member)?;
        read_position(&mut r, attempt)?;
        let named = r.digest("step 2 hash")?;
        let root = r.digest("chunk root")?;
        let got = r.u64("total length")?;
        let _: [u8; 64] = r.array("signature")?;
        r.finish()?;

        if &named != step2 {
            return Err(Flaw::OtherTranscript { hash: "step 2 hash" });
        }
        let expected = attempt.params().total_len();
        if got != expected {
            return Err(Flaw::Length { expected, got });
        }
        Ok(Self { body: body.to_vec(), root })
    }

    /// Reads a whole authenticated body: the header, and digests that add up to its root.
    pub(in crate::secagg) fn parse_body(
        attempt: &Attempt,
        step2: &Digest,
        body: &[u8],
    ) -> Result<(Self, Vec<Digest>), Flaw> {
        let mut r = Reader::new(body);
        let header = Self::parse(attempt, step2, r.raw("input header", HEADER_LEN)?)?;
        let chunks = (0..attempt.params().chunk_count())
            .map(|_| r.digest("chunk digest"))
            .collect::<Result<Vec<_>, _>>()?;
        r.finish()?;
        if chunk_root(&chunks) != header.root {
            return Err(Flaw::Root);
        }
        Ok((header, chunks))
    }
}

/// The headers of everyone whose masked vector is complete: the survivors, verified.
#[derive(Clone, Debug)]
pub(in crate::secagg) struct InputHeaders {
    headers: BTreeMap<Position, InputHeader>,
    hash: Digest,
}

impl InputHeaders {
    /// Closes a set of verified headers.
    pub(in crate::secagg) fn new(step2: &Digest, headers: BTreeMap<Position, InputHeader>) -> Self {
        let mut all = Vec::with_capacity(headers.len().saturating_mul(HEADER_LEN));
        headers.values().for_each(|header| all.extend_from_slice(&header.body));
        let hash = Transcript::new("consilium/1/headers").digest(step2).bytes(&all).finish();
        Self { headers, hash }
    }

    /// Reads and verifies a delivery. `dealers` tells whether a member is in step 2's set, the one that `step2` is the hash of.
    pub(in crate::secagg) fn verify(
        attempt: &Attempt,
        step2: &Digest,
        dealers: impl Fn(Position) -> bool,
        delivery: &[u8],
    ) -> Result<Arc<Self>, Refusal> {
        let known = &attempt.shown().inputs;
        let same = |(of, shown): &(Digest, Vec<u8>)| of == step2 && shown == delivery;
        let judge = || Self::judge(attempt, step2, dealers, delivery).map(Arc::new);
        known.or_else(same, || (*step2, delivery.to_vec()), judge)
    }

    fn judge(
        attempt: &Attempt,
        step2: &Digest,
        dealers: impl Fn(Position) -> bool,
        delivery: &[u8],
    ) -> Result<Self, Refusal> {
        let mut r = Reader::new(delivery);
        let bodies = read_headers(&mut r, attempt).map_err(Refusal::malformed(Step::Input))?;
        r.finish().map_err(Refusal::malformed(Step::Input))?;
        if let Some((member, _)) = bodies.iter().find(|(member, _)| !dealers(*member)) {
            return Err(Refusal::Outsider { step: Step::Input, member: *member });
        }
        let least = attempt.params().m_min();
        if bodies.len() < usize::from(least) {
            return Err(Refusal::TooFew { step: Step::Input, got: bodies.len(), least });
        }
        let mut headers = BTreeMap::new();
        for (position, body) in bodies {
            let header = authenticate(attempt, Step::Input, position, body)
                .and_then(|()| InputHeader::parse(attempt, step2, body))
                .map_err(|flaw| Refusal::shown(Step::Input, position, flaw))?;
            headers.insert(position, header);
        }
        Ok(Self::new(step2, headers))
    }

    /// The delivery that shows this set.
    pub(in crate::secagg) fn delivery(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(self.headers.len().saturating_mul(HEADER_LEN) + 7);
        write_head(&mut w, Step::Vote, Speaker::Coordinator);
        w.count(self.headers.len());
        self.headers.values().for_each(|header| {
            w.raw(&header.body);
        });
        w.finish()
    }

    /// The hash of the survivors' headers.
    pub(in crate::secagg) fn hash(&self) -> &Digest {
        &self.hash
    }

    pub(in crate::secagg) fn of(&self, position: Position) -> Option<&InputHeader> {
        self.headers.get(&position)
    }

    /// Whether these are the digests that a survivor's header commits to.
    pub(in crate::secagg) fn commits_to(&self, position: Position, chunks: &[Digest]) -> bool {
        self.of(position).is_some_and(|header| chunk_root(chunks) == header.root)
    }

    /// The survivors, by position.
    pub(in crate::secagg) fn survivors(&self) -> Vec<Position> {
        self.headers.keys().copied().collect()
    }
}

fn read_headers<'a>(r: &mut Reader<'a>, attempt: &Attempt) -> Result<Vec<(Position, &'a [u8])>, CodecError> {
    read_head(r, Step::Vote, Speaker::Coordinator)?;
    let count = r.count("input headers", usize::from(attempt.params().n()), HEADER_LEN)?;
    let mut last = None;
    (0..count)
        .map(|_| {
            let body = r.raw("input header", HEADER_LEN)?;
            let mut inner = Reader::new(body);
            read_head(&mut inner, Step::Input, Speaker::Member)?;
            Ok((read_next(&mut inner, attempt, &mut last)?, body))
        })
        .collect()
}
