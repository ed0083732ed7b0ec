//! Step 2: deals. A signed header over a tree of sealed shares, the shares, and what opens their commitments
//! later.
//!
//! ```text
//! header   = head(2, member) ‖ position u16 ‖ step 1 hash 32 ‖ root 32 ‖ signature 64          (133 bytes)
//! deal     = header ‖ for each advertised member by position: [sealed 112, not for the dealer itself] ‖ commitments 64
//! delivery = head(3, coordinator) ‖ count u32 ‖ headers by position
//!            ‖ for each dealer but the recipient: sealed 112 ‖ commitments 64 ‖ path 32 each
//! ```

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

use super::{
    Adverts, Flaw, HEAD_LEN, Speaker, authenticate, read_head, read_next, read_position, sign_and_append,
    write_head,
};
use crate::{
    codec::{CodecError, Reader, Writer},
    digest::{Digest, Transcript},
    merkle::{self, Leaf, Tree},
    secagg::{
        Attempt, Position, Refusal, Step,
        opening::{Commitments, SEALED_LEN, empty_leaf},
    },
    sign::{Signature, SigningKey},
};

pub(super) const HEADER_LEN: usize = HEAD_LEN + 2 + 32 + 32 + Signature::LEN;

/// Writes and signs a deal's header.
pub(in crate::secagg) fn header_body(
    attempt: &Attempt,
    me: Position,
    step1: &Digest,
    root: &Digest,
    key: &SigningKey,
) -> Vec<u8> {
    let mut w = Writer::with_capacity(HEADER_LEN);
    write_head(&mut w, Step::Share, Speaker::Member);
    w.u16(me.0).digest(step1).digest(root);
    sign_and_append(&mut w, Step::Share, attempt, me, key);
    w.finish()
}

/// One dealer's header, verified.
#[derive(Clone, Debug)]
pub(in crate::secagg) struct DealHeader {
    pub(in crate::secagg) root: Digest,
    /// The header as it was signed and sent.
    pub(in crate::secagg) body: Vec<u8>,
}

impl DealHeader {
    /// Length in bytes.
    pub(in crate::secagg) const LEN: usize = HEADER_LEN;

    /// Whom a header names as its dealer.
    pub(in crate::secagg) fn named(attempt: &Attempt, body: &[u8]) -> Result<Position, CodecError> {
        let mut r = Reader::new(body);
        read_head(&mut r, Step::Share, Speaker::Member)?;
        read_position(&mut r, attempt)
    }

    /// Reads an authenticated header: format, step 1 hash.
    pub(in crate::secagg) fn parse(attempt: &Attempt, step1: &Digest, body: &[u8]) -> Result<Self, Flaw> {
        let mut r = Reader::new(body);
        read_head(&mut r, Step::Share, Speaker::Member)?;
        read_position(&mut r, attempt)?;
        let named = r.digest("step 1 hash")?;
        let root = r.digest("root")?;
        let _: [u8; 64] = r.array("signature")?;
        r.finish()?;

        if &named != step1 {
            return Err(Flaw::OtherTranscript { hash: "step 1 hash" });
        }
        Ok(Self { root, body: body.to_vec() })
    }
}

/// The headers of everyone who dealt: the set `U2`, verified.
#[derive(Clone, Debug)]
pub(in crate::secagg) struct DealHeaders {
    headers: BTreeMap<Position, DealHeader>,
    hash: Digest,
}

impl DealHeaders {
    /// Closes a set of verified headers.
    pub(in crate::secagg) fn new(step1: &Digest, headers: BTreeMap<Position, DealHeader>) -> Self {
        let mut all = Vec::with_capacity(headers.len().saturating_mul(HEADER_LEN));
        headers.values().for_each(|header| all.extend_from_slice(&header.body));
        let hash = Transcript::new("consilium/1/step-2").digest(step1).bytes(&all).finish();
        Self { headers, hash }
    }

    /// Reads and verifies the headers at the front of a delivery.
    pub(in crate::secagg) fn verify(
        attempt: &Attempt,
        adverts: &Adverts,
        r: &mut Reader<'_>,
    ) -> Result<Arc<Self>, Refusal> {
        let front = r.rest();
        let bodies = read_headers(r, attempt).map_err(Refusal::malformed(Step::Share))?;
        let front = front.get(..front.len().saturating_sub(r.rest().len())).unwrap_or(front);
        let step1 = adverts.hash();
        let known = &attempt.shown().dealers;
        let judge = || Self::judge(attempt, adverts, bodies).map(Arc::new);
        known.or_else(|(of, shown)| of == step1 && shown == front, || (*step1, front.to_vec()), judge)
    }

    fn judge(attempt: &Attempt, adverts: &Adverts, bodies: Vec<(Position, &[u8])>) -> Result<Self, Refusal> {
        if let Some((member, _)) = bodies.iter().find(|(member, _)| adverts.of(*member).is_none()) {
            return Err(Refusal::Outsider { step: Step::Share, member: *member });
        }
        let least = attempt.params().m_min();
        if bodies.len() < usize::from(least) {
            return Err(Refusal::TooFew { step: Step::Share, got: bodies.len(), least });
        }
        let mut headers = BTreeMap::new();
        for (position, body) in bodies {
            let header = authenticate(attempt, Step::Share, position, body)
                .and_then(|()| DealHeader::parse(attempt, adverts.hash(), body))
                .map_err(|flaw| Refusal::shown(Step::Share, position, flaw))?;
            headers.insert(position, header);
        }
        Ok(Self::new(adverts.hash(), headers))
    }

    /// Writes the front of a delivery.
    pub(in crate::secagg) fn write(&self, w: &mut Writer) {
        write_head(w, Step::Input, Speaker::Coordinator);
        w.count(self.headers.len());
        self.headers.values().for_each(|header| {
            w.raw(&header.body);
        });
    }

    /// The hash of step 2.
    pub(in crate::secagg) fn hash(&self) -> &Digest {
        &self.hash
    }

    pub(in crate::secagg) fn of(&self, position: Position) -> Option<&DealHeader> {
        self.headers.get(&position)
    }

    /// The dealers, by position.
    pub(in crate::secagg) fn dealers(&self) -> impl ExactSizeIterator<Item = Position> {
        self.headers.keys().copied()
    }
}

fn read_headers<'a>(r: &mut Reader<'a>, attempt: &Attempt) -> Result<Vec<(Position, &'a [u8])>, CodecError> {
    read_head(r, Step::Input, Speaker::Coordinator)?;
    let count = r.count("deal headers", usize::from(attempt.params().n()), HEADER_LEN)?;
    let mut last = None;
    (0..count)
        .map(|_| {
            let body = r.raw("deal header", HEADER_LEN)?;
            let mut inner = Reader::new(body);
            read_head(&mut inner, Step::Share, Speaker::Member)?;
            Ok((read_next(&mut inner, attempt, &mut last)?, body))
        })
        .collect()
}

/// What one dealer dealt to one recipient, with its place in the dealer's tree.
#[derive(Clone, Debug)]
pub(in crate::secagg) struct Parcel<'a> {
    pub(in crate::secagg) sealed: &'a [u8],
    pub(in crate::secagg) commitments: Commitments,
    pub(in crate::secagg) path: Vec<Digest>,
}

impl<'a> Parcel<'a> {
    /// Reads a parcel for `recipient`.
    pub(in crate::secagg) fn read(
        r: &mut Reader<'a>,
        attempt: &Attempt,
        recipient: Position,
    ) -> Result<Self, CodecError> {
        let sealed = r.raw("sealed share", SEALED_LEN)?;
        let commitments = read_commitments(r)?;
        let length = merkle::path_len(usize::from(attempt.params().n()), recipient.index());
        let path = (0..length).map(|_| r.digest("path")).collect::<Result<_, _>>()?;
        Ok(Self { sealed, commitments, path })
    }

    pub(in crate::secagg) fn write(&self, w: &mut Writer) {
        w.raw(self.sealed);
        write_commitments(w, &self.commitments);
        self.path.iter().for_each(|sibling| {
            w.digest(sibling);
        });
    }

    /// Whether this parcel stands at the recipient's place under the dealer's root.
    pub(in crate::secagg) fn is_under(&self, root: &Digest, attempt: &Attempt, recipient: Position) -> bool {
        let (leaves, index) = (usize::from(attempt.params().n()), recipient.index());
        let leaf = self.commitments.leaf(self.sealed);
        merkle::root_of_path(leaves, index, leaf, &self.path).as_ref() == Some(root)
    }
}

fn read_commitments(r: &mut Reader<'_>) -> Result<Commitments, CodecError> {
    Ok(Commitments { mask: r.digest("mask commitment")?, seed: r.digest("seed commitment")? })
}

fn write_commitments(w: &mut Writer, commitments: &Commitments) {
    w.digest(&commitments.mask).digest(&commitments.seed);
}

/// A whole deal: header, boxes, commitments, tree. Written by the dealer, kept by the coordinator.
#[derive(Debug)]
pub(in crate::secagg) struct Deal {
    pub(in crate::secagg) header: DealHeader,
    /// Boxes and commitments as they were sent: a large cohort's are a million, too many to keep one by one.
    entries: Vec<u8>,
    /// The dealer's place among the recipients; it has no box there.
    own: usize,
    tree: Tree,
}

/// Bytes of a recipient's entry.
const ENTRY_LEN: usize = SEALED_LEN + Commitments::LEN;

impl Deal {
    /// The tree over what is dealt: a leaf for each place of the cohort. `dealt` is sorted.
    pub(in crate::secagg) fn tree(
        attempt: &Attempt,
        dealt: impl IntoIterator<Item = (Position, Leaf)>,
    ) -> Tree {
        let mut dealt = dealt.into_iter().peekable();
        Tree::new(attempt.positions().map(|position| {
            dealt.next_if(|(recipient, _)| *recipient == position).map_or_else(empty_leaf, |(_, leaf)| leaf)
        }))
    }

    /// The body of step 2. `entries` by recipient; the dealer's own box is empty.
    pub(in crate::secagg) fn body(
        header: &[u8],
        entries: &BTreeMap<Position, (Vec<u8>, Commitments)>,
    ) -> Vec<u8> {
        let mut w = Writer::with_capacity(HEADER_LEN + entries.len().saturating_mul(ENTRY_LEN));
        w.raw(header);
        for (sealed, commitments) in entries.values() {
            w.raw(sealed);
            write_commitments(&mut w, commitments);
        }
        w.finish()
    }

    /// Reads an authenticated deal: its header, and that everything adds up to the root.
    pub(in crate::secagg) fn parse(
        attempt: &Attempt,
        adverts: &Adverts,
        dealer: Position,
        body: &[u8],
    ) -> Result<Self, Flaw> {
        let mut r = Reader::new(body);
        let header = r.raw("deal header", HEADER_LEN)?;
        let entries = body.get(HEADER_LEN..).unwrap_or_default();
        let header = DealHeader::parse(attempt, adverts.hash(), header)?;
        let mut leaves = Vec::with_capacity(adverts.iter().len());
        let mut own = usize::MAX;
        for (rank, (recipient, _)) in adverts.iter().enumerate() {
            let sealed = if recipient == dealer {
                own = rank;
                &[]
            } else {
                r.raw("sealed share", SEALED_LEN)?
            };
            leaves.push((recipient, read_commitments(&mut r)?.leaf(sealed)));
        }
        r.finish()?;
        let tree = Self::tree(attempt, leaves);
        if tree.root() != header.root {
            return Err(Flaw::Root);
        }
        Ok(Self { header, entries: entries.to_vec(), own, tree })
    }

    /// The parcel for the recipient at `rank` among those that advertised.
    pub(in crate::secagg) fn parcel(&self, rank: usize, recipient: Position) -> Option<Parcel<'_>> {
        let (sealed, commitments) = self.entry(rank)?;
        let path = self.tree.path(recipient.index());
        Some(Parcel { sealed, commitments, path })
    }

    /// The leaves, by rank of the recipient: all that matters once everyone has its shares.
    pub(in crate::secagg) fn into_leaves(self) -> DealtLeaves {
        let entries = (0..).map_while(|rank| self.entry(rank));
        DealtLeaves(entries.map(|(sealed, commitments)| (Digest::of(sealed), commitments)).collect())
    }

    fn entry(&self, rank: usize) -> Option<(&[u8], Commitments)> {
        let length = if rank == self.own { Commitments::LEN } else { ENTRY_LEN };
        let before = rank.checked_mul(ENTRY_LEN)?;
        let start = if rank > self.own { before.checked_sub(SEALED_LEN)? } else { before };
        let entry = self.entries.get(start..start.checked_add(length)?)?;
        let (sealed, commitments) = entry.split_at_checked(length - Commitments::LEN)?;
        Some((sealed, read_commitments(&mut Reader::new(commitments)).ok()?))
    }
}

/// What a deal's tree is made of, without the boxes: enough to hold a released share against, and to show anybody that it
/// is not the dealt one.
#[derive(Debug)]
pub(in crate::secagg) struct DealtLeaves(Vec<(Digest, Commitments)>);

impl DealtLeaves {
    /// Of the recipient at `rank` among those that advertised.
    pub(in crate::secagg) fn commitments(&self, rank: usize) -> Option<&Commitments> {
        self.0.get(rank).map(|(_, commitments)| commitments)
    }

    /// The recipients' leaves with their paths. Builds the tree again: for evidence only.
    pub(in crate::secagg) fn leaves(
        &self,
        attempt: &Attempt,
        adverts: &Adverts,
        recipients: &[Position],
    ) -> Vec<DealtLeaf> {
        let leaf = |((recipient, _), (sealed, commitments)): ((Position, _), &(Digest, Commitments))| {
            (recipient, commitments.leaf_of(sealed))
        };
        let tree = Deal::tree(attempt, adverts.iter().zip(&self.0).map(leaf));
        let leaf = |recipient: &Position| {
            let (sealed, commitments) = *self.0.get(adverts.rank(*recipient)?)?;
            Some(DealtLeaf { sealed, commitments, path: tree.path(recipient.index()) })
        };
        recipients.iter().filter_map(leaf).collect()
    }
}

/// One leaf of a dealer's tree, with the box's digest in place of the box.
#[derive(Clone, Debug)]
pub(in crate::secagg) struct DealtLeaf {
    sealed: Digest,
    pub(in crate::secagg) commitments: Commitments,
    path: Vec<Digest>,
}

impl DealtLeaf {
    pub(in crate::secagg) fn write(&self, w: &mut Writer) {
        w.digest(&self.sealed);
        write_commitments(w, &self.commitments);
        self.path.iter().for_each(|sibling| {
            w.digest(sibling);
        });
    }

    /// Reads the leaf at `recipient`'s place.
    pub(in crate::secagg) fn read(
        r: &mut Reader<'_>,
        attempt: &Attempt,
        recipient: Position,
    ) -> Result<Self, CodecError> {
        let sealed = r.digest("sealed share's digest")?;
        let commitments = read_commitments(r)?;
        let length = merkle::path_len(usize::from(attempt.params().n()), recipient.index());
        let path = (0..length).map(|_| r.digest("path")).collect::<Result<_, _>>()?;
        Ok(Self { sealed, commitments, path })
    }

    /// Whether it stands at the recipient's place under the dealer's root.
    pub(in crate::secagg) fn is_under(&self, root: &Digest, attempt: &Attempt, recipient: Position) -> bool {
        let (leaves, index) = (usize::from(attempt.params().n()), recipient.index());
        let leaf = self.commitments.leaf_of(&self.sealed);
        merkle::root_of_path(leaves, index, leaf, &self.path).as_ref() == Some(root)
    }
}
