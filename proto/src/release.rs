//! A published sum, and what it does to the adapter.
//!
//! Everybody computes this alike: the coordinator when it releases, every client before it goes on, and an auditor
//! afterwards.

use std::sync::Arc;

use consilium_crypto::{
    digest::Digest,
    encoding::{METRIC_COORDINATES, Metrics, centered_sum},
    release::{AdapterState, ReleaseError, mean_from_sum, mean_of_deltas},
    ring,
    sign::{Signature, SigningKey, sign},
};
use prost::Message;
use thiserror::Error;

use crate::{
    ids::Id,
    plan::VerifiedPlan,
    roster::VerifiedRoster,
    wire::{self, SignedReleaseHead},
};

const WHAT: &str = "release";

/// Why a release was refused. The coordinator is to blame for each of them.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ReleaseRefused {
    /// Not a release.
    #[error("the release is not well formed: {0}")]
    Malformed(&'static str),
    /// Not signed by the roster's coordinator.
    #[error("the release is not signed by the roster's coordinator")]
    Signature,
    /// It belongs to another job.
    #[error("the release belongs to another plan")]
    OtherPlan,
    /// Its survivors are not a set that the plan allows.
    #[error(
        "the release of round {0} names survivors that are fewer than the plan allows, or not its cohort's"
    )]
    Survivors(u32),
    /// The sum's bytes are not the ones that the head names.
    #[error("the sum of round {0} does not match its digest")]
    Sum(u32),
    /// The adapter it starts from is not this client's.
    #[error("the release of round {round} starts from adapter {told}, and the recomputed one is {own}")]
    Before {
        /// Round.
        round: u32,
        /// In the head.
        told: Digest,
        /// Recomputed.
        own: Digest,
    },
    /// The adapter it leads to is not what the sum gives.
    #[error(
        "the release of round {round} claims adapter {told}, and its sum gives {own}; the coordinator is not to be believed"
    )]
    After {
        /// Round.
        round: u32,
        /// In the head.
        told: Digest,
        /// Recomputed.
        own: Digest,
    },
    /// The step is not computable.
    #[error("the sum of round {0} cannot be applied: {1}")]
    Step(u32, String),
}

impl ReleaseRefused {
    /// The number of the check in the manual's table.
    pub const fn check(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "S13",
            Self::Signature => "S14",
            Self::OtherPlan => "S15",
            Self::Survivors(_) => "S16",
            Self::Sum(_) => "S17",
            Self::Before { .. } => "S18",
            Self::After { .. } => "S19",
            Self::Step(..) => "S20",
        }
    }
}

/// The adapter at the start of a job.
///
/// # Errors
///
/// A plan that goes on from a file which was not read ([`VerifiedPlan::begin_from`]); otherwise none for a verified plan.
pub fn initial_state(plan: &VerifiedPlan) -> Result<AdapterState, consilium_crypto::release::ReleaseError> {
    plan.initial()
}

/// Applies a ring sum (packed bytes) of `survivors` organizations to `state`; returns the metrics that rode along. On an
/// error the state is as it was. Works block by block: nothing of the sum's length is allocated.
///
/// # Errors
///
/// What is wrong with the sum, in words.
pub fn apply_sum(
    plan: &VerifiedPlan,
    state: &mut AdapterState,
    sum: &[u8],
    survivors: usize,
) -> Result<Metrics, String> {
    let derived = plan.derived();
    let (ring, bits, length) = (derived.ring, derived.ring.bits(), derived.vector_len);
    if sum.len() != ring.packed_len(length) {
        return Err(format!("the sum has {} bytes, the plan makes {}", sum.len(), ring.packed_len(length)));
    }
    let document = plan.document();
    let survivors = u32::try_from(survivors).map_err(|e| e.to_string())?;
    let n = document.cohort.organizations;
    let deltas = document.privacy.unit.sends_deltas();
    // Where organizations send deltas, each survivor counts once.
    let lot = if deltas { f64::from(n) } else { document.privacy.expected_lot };
    let scale = derived.update.params().scale;
    let mut values = Vec::new();
    // Eight elements fill whole bytes, so a part of the sum can be unpacked by itself.
    let mut part = |first: usize, count: usize| -> Result<Vec<i64>, String> {
        let (begin, end) = (first / 8 * 8, (first + count).next_multiple_of(8).min(length));
        let bytes = sum.get(ring.packed_len(begin)..ring.packed_len(end)).ok_or("the sum is too short")?;
        values.clear();
        ring::unpack(ring, bytes, end - begin, &mut values).map_err(|e| e.to_string())?;
        let wanted = values.get(first - begin..first - begin + count).ok_or("the sum is too short")?;
        Ok(centered_sum(wanted, bits))
    };
    let sigma = derived.metrics_sigma * f64::from(survivors).sqrt();
    let last = part(length.saturating_sub(METRIC_COORDINATES), METRIC_COORDINATES)?;
    let last = last.as_slice().try_into().map_err(|_| "the sum has no metrics")?;
    let metrics = derived.update.metrics_of_last(last, lot, survivors, n, sigma);
    let metrics = metrics.ok_or("the sum has no metrics")?;
    let mut broken = None;
    let block = |first: usize, mean: &mut [f32]| match part(first, mean.len()) {
        Ok(sum) if deltas => {
            mean.copy_from_slice(&mean_of_deltas(&sum, scale, survivors)?);
            Ok(())
        }
        Ok(sum) => {
            mean.copy_from_slice(&mean_from_sum(&sum, scale, lot, survivors, n)?);
            Ok(())
        }
        Err(why) => {
            broken = Some(why);
            Err(ReleaseError::Length { what: "the sum", expected: length, got: first })
        }
    };
    let applied = if deltas { state.apply_delta_blocks(block) } else { state.apply_blocks(block) };
    applied.map_err(|error| broken.unwrap_or_else(|| error.to_string()))?;
    Ok(metrics)
}

/// The ring values of a packed sum.
///
/// # Errors
///
/// When it is not as long as the plan makes it.
pub fn unpack_sum(plan: &VerifiedPlan, sum: &[u8]) -> Result<Vec<u32>, String> {
    let derived = plan.derived();
    let mut values = Vec::new();
    ring::unpack(derived.ring, sum, derived.vector_len, &mut values).map_err(|e| e.to_string())?;
    Ok(values)
}

/// Signs a head as the roster's coordinator.
pub fn sign_head(head: &wire::ReleaseHead, roster: &VerifiedRoster, key: &SigningKey) -> SignedReleaseHead {
    let plan = digest(&head.plan_digest).unwrap_or(Digest([0; 32]));
    let head = head.encode_to_vec();
    let signature = sign(key, WHAT, &plan, roster.coordinator().id.as_str(), &head).0.to_vec();
    SignedReleaseHead { head, signature }
}

/// A head that the coordinator signed for this plan.
#[derive(Clone, Debug)]
pub struct VerifiedHead {
    /// Round.
    pub round: u32,
    /// Attempt that succeeded.
    pub attempt: u32,
    /// Whose masked inputs are in the sum, sorted.
    pub survivors: Arc<[Id]>,
    /// Digest of the sum's bytes.
    pub sum: Digest,
    /// Length of the sum, bytes.
    pub sum_bytes: usize,
    /// Adapter before.
    pub before: Digest,
    /// Adapter after.
    pub after: Digest,
    /// Optimizer state after.
    pub optimizer_after: Digest,
    /// What shows that the sum follows from the masked inputs: the protocol's own. Not looked into here.
    pub evidence: Vec<u8>,
}

impl VerifiedHead {
    /// Verifies a head.
    ///
    /// # Errors
    ///
    /// [`ReleaseRefused`].
    pub fn verify(
        signed: &SignedReleaseHead,
        roster: &VerifiedRoster,
        plan: &VerifiedPlan,
    ) -> Result<Self, ReleaseRefused> {
        let of = roster.digest();
        let same = |(roster, known): &(Digest, SignedReleaseHead)| *roster == of && known == signed;
        plan.known().head.or_else(same, || (of, signed.clone()), || Self::judge(signed, roster, plan))
    }

    fn judge(
        signed: &SignedReleaseHead,
        roster: &VerifiedRoster,
        plan: &VerifiedPlan,
    ) -> Result<Self, ReleaseRefused> {
        let signature = signed.signature.as_slice().try_into().map_err(|_| ReleaseRefused::Signature)?;
        roster
            .coordinator_signed(WHAT, &plan.digest(), &signed.head, &Signature(signature))
            .map_err(|_| ReleaseRefused::Signature)?;
        let head = wire::ReleaseHead::decode(signed.head.as_slice())
            .map_err(|_| ReleaseRefused::Malformed("its fields do not parse"))?;
        if digest(&head.plan_digest)? != plan.digest() {
            return Err(ReleaseRefused::OtherPlan);
        }
        let survivors: Vec<Id> = head
            .survivors
            .iter()
            .map(|id| id.parse().map_err(|_| ReleaseRefused::Malformed("a survivor's id")))
            .collect::<Result<_, _>>()?;
        let sorted = survivors.windows(2).all(|pair| matches!(pair, [a, b] if a < b));
        // Both are sorted.
        let known = survivors.iter().all(|id| plan.cohort().binary_search(id).is_ok());
        if !sorted || !known || survivors.len() < plan.document().cohort.min_survivors as usize {
            return Err(ReleaseRefused::Survivors(head.round));
        }
        let derived = plan.derived();
        let expected = derived.ring.packed_len(derived.vector_len);
        if head.sum_bytes != expected as u64 {
            return Err(ReleaseRefused::Malformed("the sum's length is not the plan's"));
        }
        Ok(Self {
            round: head.round,
            attempt: head.attempt,
            survivors: survivors.into(),
            sum: digest(&head.sum_digest)?,
            sum_bytes: expected,
            before: digest(&head.adapter_before)?,
            after: digest(&head.adapter_after)?,
            optimizer_after: digest(&head.optimizer_after)?,
            evidence: head.evidence,
        })
    }

    /// Recomputes the step from `sum` on `state`, and goes on only if every digest is what the head says. On an error the
    /// state is as it was.
    ///
    /// # Errors
    ///
    /// [`ReleaseRefused`].
    pub fn replay(
        &self,
        plan: &VerifiedPlan,
        state: &mut AdapterState,
        sum: &[u8],
    ) -> Result<Metrics, ReleaseRefused> {
        let round = self.round;
        if Digest::of(sum) != self.sum {
            return Err(ReleaseRefused::Sum(round));
        }
        let own = state.adapter_digest();
        if own != self.before {
            return Err(ReleaseRefused::Before { round, told: self.before, own });
        }
        let mut next = state.clone();
        let metrics = apply_sum(plan, &mut next, sum, self.survivors.len())
            .map_err(|why| ReleaseRefused::Step(round, why))?;
        let own = next.adapter_digest();
        if own != self.after {
            return Err(ReleaseRefused::After { round, told: self.after, own });
        }
        let own = next.optimizer_digest();
        if own != self.optimizer_after {
            return Err(ReleaseRefused::After { round, told: self.optimizer_after, own });
        }
        *state = next;
        Ok(metrics)
    }
}

fn digest(bytes: &[u8]) -> Result<Digest, ReleaseRefused> {
    bytes.try_into().map(Digest).map_err(|_| ReleaseRefused::Malformed("a digest is not 32 bytes"))
}
