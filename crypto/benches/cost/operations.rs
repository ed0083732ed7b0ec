//! How many operations a round cannot do without, and what they cost on this machine.

use crate::{calibration::Prices, cohort::Cohort};

/// Counts of what a round is made of.
#[derive(Default)]
pub struct Operations {
    /// Bytes of keystream.
    pub aes_bytes: f64,
    pub exchanges: f64,
    pub verifications: f64,
    pub multiply_adds: f64,
    pub additions: f64,
    /// Bytes through SHA-256, counted in whole blocks of 64.
    pub sha_bytes: f64,
}

impl Operations {
    /// Seconds at the calibrated prices.
    pub fn cost(&self, prices: &Prices) -> f64 {
        self.aes_bytes * prices.aes_byte
            + self.exchanges * prices.exchange
            + self.verifications * prices.verification
            + self.multiply_adds * prices.multiply_add
            + self.additions * prices.addition
            + self.sha_bytes * prices.sha_byte
    }

    /// One client's: a mask with itself and with each peer, an exchange for the seal and one for the mask with each
    /// peer, everybody's advert, deal header, input header and vote, two polynomials taken from each place to the next.
    pub fn of_client(cohort: &Cohort) -> Self {
        let params = cohort.attempt.params();
        let (n, survivors) = (f64::from(params.n()), f64::from(cohort.shape.survivors()));
        let vector = f64::from(params.dimension());
        Self {
            aes_bytes: 4.0 * vector * n,
            exchanges: 2.0 * (n - 1.0),
            verifications: 2.0 * n + 2.0 * survivors,
            // What the last places depend on shrinks to nothing.
            additions: 2.0 * (n - f64::from(params.quorum()) / 2.0) * f64::from(params.quorum()),
            // Dealt to each peer: leaf 5, node 2, commitments 6. From each: those again, a path. The adverts, headers
            // and votes that are verified take 7 each.
            sha_bytes: params.total_len() as f64
                + 64.0 * (n * (26.0 + 2.0 * n.log2()) + 7.0 * (2.0 * n + 2.0 * survivors)),
            ..Self::default()
        }
    }

    /// The coordinator's: every chunk hashed, every box and commitment, every share held against its commitment, every
    /// secret put together, every mask that does not cancel.
    pub fn of_coordinator(cohort: &Cohort) -> Self {
        let params = cohort.attempt.params();
        let (n, survivors) = (f64::from(params.n()), f64::from(cohort.shape.survivors()));
        let (dropped, quorum) = (f64::from(cohort.shape.dropped), f64::from(params.quorum()));
        let vector = f64::from(params.dimension());
        let pairs = dropped * survivors;
        Self {
            aes_bytes: 4.0 * vector * (survivors + pairs),
            exchanges: pairs,
            verifications: 2.0 * n + 3.0 * survivors,
            multiply_adds: n * quorum,
            // A deal's bytes 3 blocks a share, its box 2, leaf 3, node 2. An answer's bytes 1 a share, for the
            // signature, and 3 for the commitment.
            sha_bytes: params.total_len() as f64 * survivors
                + 64.0 * (10.0 * n * n + n * (survivors + 3.0 * quorum)),
            ..Self::default()
        }
    }
}
