//! The end of an attempt: what takes the masks off, and the record that lets an auditor do it again.
//!
//! [`Revealed`] holds the reconstructed secrets: survivors' self-mask seeds, and the masking keys of those
//! that dealt but did not survive. From them it derives every mask that did not cancel, and takes them off a
//! sum of masked chunks. Chunks are independent: any number of threads may work on different ones, and the
//! sum has the same bits however it is done.
//!
//! The [public record](Revealed::public_record) contains everything signed and every secret revealed. With it
//! and the masked chunks an auditor recomputes the sum; with it alone, only that the attempt was consistent.

use alloc::{sync::Arc, vec::Vec};
use core::fmt;

use curve25519_dalek::scalar::Scalar;

use super::{
    Attempt, CHUNK_ELEMENTS, Position, Refusal,
    keys::{pair_mask, self_mask},
    messages::{Adverts, DealHeaders, InputHeaders, Votes},
    opening::Kind,
};
use crate::{
    codec::{CodecError, Reader, Writer},
    digest::Digest,
    group::{KeyPair, scalar_from_bytes},
    mask::{MaskSeed, Sign},
    protocol::Unmasking,
    ring::{self, RingError},
    secret::Secret,
};

/// Version of the public record.
const VERSION: u8 = 1;

/// Everything signed in an attempt that came to its end.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) adverts: Arc<Adverts>,
    pub(super) dealers: Arc<DealHeaders>,
    pub(super) headers: Arc<InputHeaders>,
    pub(super) votes: Arc<Votes>,
}

/// What takes the masks off an attempt's sum.
#[derive(Debug)]
pub struct Revealed {
    attempt: Arc<Attempt>,
    published: Published,
    /// One for each dealer, by position.
    secrets: Vec<Secret<Scalar>>,
    /// The masks left in the sum, and which way they went in.
    masks: Vec<(Sign, MaskSeed)>,
}

impl Revealed {
    /// From secrets that were checked against their public points, one for each dealer, by position.
    pub(super) fn new(attempt: Arc<Attempt>, published: Published, secrets: Vec<Secret<Scalar>>) -> Self {
        let masks = left_over(&attempt, &published, &secrets);
        Self { attempt, published, secrets, masks }
    }

    /// The survivors, sorted: whose vectors the sum is of.
    pub fn survivors(&self) -> &[Position] {
        &self.published.votes.ballot().survivors
    }

    /// Whether a survivor's signed header commits to chunks with these digests, in this order: for an auditor who was given its
    /// masked vector.
    pub fn commits_to(&self, survivor: Position, chunks: &[Digest]) -> bool {
        self.published.headers.commits_to(survivor, chunks)
    }

    /// The attempt's public facts.
    pub fn attempt(&self) -> &Arc<Attempt> {
        &self.attempt
    }

    /// Computes chunk `index` of the sum into `out`:
    /// [`Params::chunk_elements`](super::Params::chunk_elements) elements below 2^w. `input` is asked once
    /// for each survivor, in order, for that survivor's packed chunk, to be written into the (empty) buffer
    /// given. Whether a chunk has the digest its header names is for whoever stored it to check.
    ///
    /// # Errors
    ///
    /// When there is no such chunk, `input` fails, or a chunk is not `chunk_len(index)` well-packed bytes.
    pub fn unmask_chunk<E>(
        &self,
        index: u32,
        input: impl FnMut(Position, &mut Vec<u8>) -> Result<(), E>,
        out: &mut Vec<u32>,
    ) -> Result<(), UnmaskError<E>> {
        let this: &dyn Unmasking = self;
        this.unmask_chunk(index, input, out)
    }

    /// The first half of [`unmask_chunk`](Self::unmask_chunk): the survivors' chunks `index` added up, their masks still
    /// on. [`remove_masks`](Self::remove_masks) is the other half, and may run on another thread.
    ///
    /// # Errors
    ///
    /// As [`unmask_chunk`](Self::unmask_chunk).
    pub fn sum_chunk<E>(
        &self,
        index: u32,
        input: impl FnMut(Position, &mut Vec<u8>) -> Result<(), E>,
        out: &mut Vec<u32>,
    ) -> Result<(), UnmaskError<E>> {
        let this: &dyn Unmasking = self;
        this.sum_chunk(index, input, out)
    }

    /// Adds one survivor's packed chunk to a running sum, wrapping at 32 bits. For callers that add chunks up
    /// as they come; [`remove_masks`](Self::remove_masks) finishes.
    ///
    /// # Errors
    ///
    /// When `packed` is not the packed form of `sum.len()` elements.
    pub fn add_packed(&self, packed: &[u8], sum: &mut [u32]) -> Result<(), RingError> {
        ring::unpack_add(self.attempt.params().ring(), packed, sum)
    }

    /// Takes the masks off the sum of all survivors' chunks `index`, and reduces it: the exact ring sum.
    /// `sum` begins at the chunk's first element.
    pub fn remove_masks(&self, index: u32, sum: &mut [u32]) {
        let first = u64::from(index) * CHUNK_ELEMENTS as u64;
        for (sign, seed) in &self.masks {
            seed.apply(sign.inverse(), first, sum);
        }
        let mask = self.attempt.params().ring().mask();
        sum.iter_mut().for_each(|element| *element &= mask);
    }

    /// The record published with the sum: adverts, deal headers, input headers, votes, and the secrets that
    /// were revealed.
    ///
    /// ```text
    /// record = version u8 ‖ ctx 32 ‖ adverts' delivery ‖ deal headers' front of a delivery ‖ input headers' delivery
    ///          ‖ votes' delivery, each with its length u32 before it ‖ for each dealer by position: secret 32
    /// ```
    ///
    /// # Security
    ///
    /// Public. The coordinator knows all of it, and whoever colludes with the coordinator does.
    pub fn public_record(&self) -> Vec<u8> {
        let Published { adverts, dealers, headers, votes } = &self.published;
        let mut front = Writer::new();
        dealers.write(&mut front);
        let mut w = Writer::new();
        w.u8(VERSION).digest(self.attempt.ctx());
        w.bytes(&adverts.delivery()).bytes(&front.finish());
        w.bytes(&headers.delivery()).bytes(&votes.delivery());
        self.secrets.iter().for_each(|secret| {
            w.raw(secret.expose().as_bytes());
        });
        w.finish()
    }

    /// Rebuilds what takes the masks off from a public record, verifying all of it: every signature, every
    /// set against the one before, a quorum of votes, and every secret against its public point.
    ///
    /// # Errors
    ///
    /// When anything does not hold.
    pub fn from_record(attempt: Arc<Attempt>, record: &[u8]) -> Result<Self, RecordError> {
        let cap = record.len();
        let mut r = Reader::new(record);
        if r.u8("version")? != VERSION {
            return Err(r.invalid("version").into());
        }
        if &r.digest("context")? != attempt.ctx() {
            return Err(RecordError::OtherContext);
        }
        let adverts = Adverts::verify(&attempt, r.bytes("adverts", cap)?)?;
        let mut front = Reader::new(r.bytes("deal headers", cap)?);
        let dealers = DealHeaders::verify(&attempt, &adverts, &mut front)?;
        front.finish()?;
        let dealt = |member| dealers.of(member).is_some();
        let headers = InputHeaders::verify(&attempt, dealers.hash(), dealt, r.bytes("input headers", cap)?)?;
        let votes = Votes::verify(&attempt, adverts.hash(), dealers.hash(), dealt, r.bytes("votes", cap)?)?;
        let ballot = votes.ballot();
        if &ballot.headers != headers.hash() || ballot.survivors != headers.survivors() {
            return Err(RecordError::OtherSurvivors);
        }
        let mut secrets = Vec::with_capacity(dealers.dealers().len());
        for dealer in dealers.dealers() {
            let wrong = RecordError::WrongSecret { dealer };
            let secret = scalar_from_bytes(&r.array("secret")?).ok_or(wrong.clone())?;
            let point = adverts.of(dealer).map(|advert| match Kind::for_survivor(ballot.has(dealer)) {
                Kind::Mask => &advert.mask,
                Kind::Seed => &advert.commitment,
            });
            if !point.is_some_and(|point| point.belongs_to(&secret)) {
                return Err(wrong);
            }
            secrets.push(secret);
        }
        r.finish()?;
        Ok(Self::new(attempt, Published { adverts, dealers, headers, votes }, secrets))
    }
}

/// The masks that stay in the survivors' sum: each survivor's self-mask, and what each shared with each
/// dealer that did not survive. Those between two survivors cancel.
fn left_over(attempt: &Attempt, published: &Published, secrets: &[Secret<Scalar>]) -> Vec<(Sign, MaskSeed)> {
    let Published { adverts, dealers, votes, .. } = published;
    let (step2, ballot) = (dealers.hash(), votes.ballot());
    let mut masks = Vec::new();
    for (dealer, secret) in dealers.dealers().zip(secrets) {
        if ballot.has(dealer) {
            if wall!(attempt, self_mask) {
                masks.push((Sign::Add, self_mask(attempt, step2, dealer, secret)));
            }
            continue;
        }
        let Ok(keys) = KeyPair::from_secret(Secret::new(*secret.expose())) else {
            // The secret matched a public point, and no public point is the identity.
            continue;
        };
        for survivor in &ballot.survivors {
            if let Some(advert) = adverts.of(*survivor) {
                let peer = (*survivor, &advert.mask);
                let (sign, seed) = pair_mask(attempt, step2, (dealer, &keys), peer);
                // The sign is the dealer's; the survivor's went the other way.
                masks.push((sign.inverse(), seed));
            }
        }
    }
    masks
}

/// Why a chunk of the sum cannot be computed.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnmaskError<E> {
    /// There is no such chunk.
    NoChunk {
        /// The index asked for.
        index: u32,
    },
    /// The source of masked chunks failed.
    Input(E),
    /// A stored chunk is not what it should be.
    Chunk {
        /// Whose it is.
        survivor: Position,
        /// Which one.
        index: u32,
        /// What is wrong with it.
        error: RingError,
    },
}

impl<E: fmt::Display> fmt::Display for UnmaskError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoChunk { index } => write!(f, "chunk {index} is beyond the vector's last"),
            Self::Input(error) => error.fmt(f),
            Self::Chunk { survivor, index, error } => {
                write!(f, "stored chunk {index} of {survivor}: {error}")
            }
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for UnmaskError<E> {}

/// Why a public record does not stand.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordError {
    /// Bytes that are no record.
    Malformed(CodecError),
    /// The record of another attempt.
    OtherContext,
    /// A client would have refused it.
    Refused(Refusal),
    /// Votes on other survivors than the headers'.
    OtherSurvivors,
    /// A secret that does not belong to its dealer's public point.
    WrongSecret {
        /// The dealer.
        dealer: Position,
    },
}

impl From<CodecError> for RecordError {
    fn from(error: CodecError) -> Self {
        Self::Malformed(error)
    }
}

impl From<Refusal> for RecordError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => write!(f, "record: {error}"),
            Self::OtherContext => f.write_str("record of another attempt"),
            Self::Refused(refusal) => write!(f, "record does not verify: {refusal}"),
            Self::OtherSurvivors => f.write_str("votes are on other survivors than the headers'"),
            Self::WrongSecret { dealer } => {
                write!(f, "secret of {dealer} does not belong to its public point")
            }
        }
    }
}

impl core::error::Error for RecordError {}
