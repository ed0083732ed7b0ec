//! An audit that could fail: one patient in or out, many short jobs, and an attacker who must tell which.
//!
//! Every job runs what a client runs: [`draw_lot`], [`LotSum`] with its clipping and rounding, clamp, discrete Gaussian
//! shares, the ring, and the sum over organizations. The *canary* is a patient as visible as clipping allows: a gradient
//! along one coordinate that nobody else uses, the greatest loss, classified correctly. The attacker sees every released
//! sum, knows every number of the plan and every other patient, and scores a job by the likelihood ratio, which no attack
//! beats (Neyman and Pearson).
//!
//! If `(ε, δ)` holds, then for every threshold `P(score > t | in) ≤ e^ε·P(score > t | out) + δ`. The threshold is chosen
//! on a rehearsal; then both probabilities are bounded from fresh jobs by exact confidence intervals, and
//! `ln((least P_in − δ)/greatest P_out)` is a lower bound on `ε`, wrong with a chance of [`RISK`] at most. A lower bound above the
//! accountant's upper bound is a broken mechanism, whatever the reason.
//!
//! The broken mechanisms are built from the outside, with the product's own parts put together wrongly: nothing in the product
//! can be told to misbehave.

mod interval;

use consilium_crypto::{
    encoding::{Encoding, EncodingParams, LotSum, Patient, centered, draw_lot},
    noise::{BulkRng, DiscreteGaussian},
    privacy::{Composition, Mechanism, MechanismParams},
};
use rand::Rng as _;

/// Chance that a lower bound is above the truth.
pub const RISK: f64 = 1e-3;
/// Jobs with the canary, and as many without; a quarter more of each in the rehearsal.
pub const JOBS: u64 = 20_000;
/// `δ` at which bounds are compared: any `δ` may be audited, and at this one few jobs tell much.
pub const DELTA: f64 = 1e-3;
/// Sampling rate, rounds of a job, noise multiplier of the honest shares together.
pub const RATE: f64 = 0.1;
pub const ROUNDS: u64 = 8;
pub const MULTIPLIER: f64 = 1.0;

const DIMENSION: usize = 16;
const SCALE: f64 = 4096.0;
const RING_BITS: u32 = 24;
/// Patients of each organization besides the canary.
const OTHERS: usize = 3;

/// How the mechanism is put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// As the plan says, two honest organizations' noise in the sum.
    Right,
    /// As the plan says, seen by everybody else together: one organization's own noise.
    RightOwnNoise,
    /// Every share has half the scale.
    HalfTheNoise,
    /// Gradients are not clipped; the canary's is four times too long.
    NoClip,
    /// One lot is drawn and used in every round, with fresh noise.
    SameLot,
    /// Noise is drawn once and used in every round, with fresh lots.
    SameNoise,
}

impl Build {
    pub const ALL: [Self; 6] =
        [Self::Right, Self::RightOwnNoise, Self::HalfTheNoise, Self::NoClip, Self::SameLot, Self::SameNoise];

    /// Whether it keeps what the accountant promises.
    pub fn is_right(self) -> bool {
        matches!(self, Self::Right | Self::RightOwnNoise)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Right => "as built, against the coordinator",
            Self::RightOwnNoise => "as built, against everybody else",
            Self::HalfTheNoise => "noise halved",
            Self::NoClip => "clip forgotten",
            Self::SameLot => "one lot for all rounds",
            Self::SameNoise => "one noise for all rounds",
        }
    }
}

/// What an audit found.
#[derive(Clone, Copy, Debug)]
pub struct Finding {
    pub build: Build,
    /// The accountant's `ε`.
    pub promised: f64,
    /// `ε` is at least this.
    pub measured: f64,
    /// Jobs in which the attacker said "in": of those with the canary, of those without.
    pub hits: (u64, u64),
    pub jobs: u64,
}

impl Finding {
    /// Whether the audit refutes the promise.
    pub fn caught(&self) -> bool {
        self.measured > self.promised
    }
}

/// Audits one build. The same seed gives the same finding.
pub fn audit(build: Build, seed: u8) -> Finding {
    let bench = Bench::new(build);
    let mut rng = BulkRng::new([seed; 32]);
    let mut scores = |count: u64, canary: bool| -> Vec<f64> {
        (0..count).map(|_| bench.score(&bench.job(canary, &mut rng))).collect()
    };
    let (rehearsed_in, mut rehearsed_out) = (scores(JOBS / 4, true), scores(JOBS / 4, false));
    rehearsed_out.sort_by(f64::total_cmp);
    let candidates = [0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0].map(|part| {
        let place = (rehearsed_out.len() - 1) as f64 * (1.0 - part);
        rehearsed_out[place as usize]
    });
    let bound = |threshold: f64, with: &[f64], without: &[f64]| {
        let over = |scores: &[f64]| scores.iter().filter(|&&score| score > threshold).count() as u64;
        let hits = (over(with), over(without));
        let least = interval::at_least(hits.0, with.len() as u64, RISK / 2.0);
        let most = interval::at_most(hits.1, without.len() as u64, RISK / 2.0);
        (((least - DELTA).max(f64::MIN_POSITIVE) / most).ln().max(0.0), hits)
    };
    let threshold = candidates
        .into_iter()
        .max_by(|&a, &b| {
            let rehearsed = |t| bound(t, &rehearsed_in, &rehearsed_out).0;
            rehearsed(a).total_cmp(&rehearsed(b))
        })
        .expect("ten candidates");
    let (with, without) = (scores(JOBS, true), scores(JOBS, false));
    let (measured, hits) = bound(threshold, &with, &without);
    Finding { build, promised: bench.promised(), measured, hits, jobs: JOBS }
}

/// Both confidence bounds, each wrong with a chance of `risk` at most.
pub fn interval(hits: u64, trials: u64, risk: f64) -> (f64, f64) {
    (interval::at_least(hits, trials, risk), interval::at_most(hits, trials, risk))
}

/// Everything that the jobs of one build have in common.
struct Bench {
    build: Build,
    /// The plan's: what the accountant is told.
    encoding: Encoding,
    /// What the organizations use.
    used: Encoding,
    /// Organizations whose noise the attacker does not know; what the others send, it subtracts.
    shares: u32,
    /// `σ_i` of the plan.
    sigma_share: f64,
    noise: DiscreteGaussian,
    canary: Vec<f32>,
    others: Vec<Vec<f32>>,
    /// The canary's part of a sum, on average over the rounding; its squared length.
    direction: Vec<f64>,
    length_squared: f64,
}

impl Bench {
    fn new(build: Build) -> Self {
        let params = EncodingParams {
            dimension: DIMENSION as u32,
            clip: 1.0,
            scale: SCALE,
            metrics_share: 0.05,
            loss_max: 5.0,
            beta: 0.01,
        };
        let encoding = Encoding::new(params).expect("in range");
        // A clip that no gradient reaches is no clip. The metrics' share shrinks so that they stay what they were.
        let unclipped = EncodingParams { clip: 100.0, metrics_share: 0.05e-4, ..params };
        let used =
            if build == Build::NoClip { Encoding::new(unclipped).expect("in range") } else { encoding };
        let target = MULTIPLIER * encoding.integer_bound();
        let sigma_share = (target * target + 6.25).sqrt() / 2f64.sqrt();
        let part = if build == Build::HalfTheNoise { 0.5 } else { 1.0 };
        let noise = DiscreteGaussian::new(part * sigma_share).expect("in range");
        let canary: Vec<f32> = (0..DIMENSION).map(|i| if i == 0 { 4.0 } else { 0.0 }).collect();
        let others = (1..=OTHERS)
            .map(|patient| (0..DIMENSION).map(|i| if i == 0 { 0.0 } else { (patient * i) as f32 }).collect())
            .collect();
        let kept = 1.0 - 1.0 / 1024.0;
        let first = if build == Build::NoClip { 4.0 } else { 0.95f64.sqrt() * kept };
        let mut direction = vec![0.0; DIMENSION + 2];
        direction[0] = SCALE * first;
        for metric in &mut direction[DIMENSION..] {
            *metric = SCALE * 0.025f64.sqrt() * kept;
        }
        let length_squared = direction.iter().map(|x| x * x).sum();
        let shares = if build == Build::RightOwnNoise { 1 } else { 2 };
        Self { build, encoding, used, shares, sigma_share, noise, canary, others, direction, length_squared }
    }

    /// The accountant's `ε` for the plan, whatever was built.
    fn promised(&self) -> f64 {
        let mechanism = Mechanism::new(MechanismParams {
            sampling_rate: RATE,
            sigma_i: self.sigma_share,
            shares: self.shares,
            sensitivity: self.encoding.integer_bound(),
            dimension: self.encoding.vector_len() as u64,
        });
        let mut all = Composition::new();
        all.push(mechanism.expect("in range").steps(ROUNDS)).expect("in range");
        all.epsilon(DELTA).expect("in range")
    }

    /// One job: the canary's part in each released sum, 1 where it was in the lot and 0 where not, and noise.
    fn job(&self, canary: bool, rng: &mut BulkRng) -> Vec<f64> {
        let lots = |rng: &mut BulkRng| -> Vec<Vec<usize>> {
            // The last patient of the first organization is the canary.
            let patients = |organization| OTHERS + usize::from(canary && organization == 0);
            (0..self.shares).map(|organization| draw_lot(RATE, patients(organization), rng)).collect()
        };
        let mut drawn = lots(rng);
        let mut noise_key = [0; 32];
        rng.fill_bytes(&mut noise_key);
        (0..ROUNDS)
            .map(|round| {
                if round > 0 && self.build != Build::SameLot {
                    drawn = lots(rng);
                }
                let mut noise_again = BulkRng::new(noise_key);
                let mut sum = [0u32; DIMENSION + 2];
                for lot in &drawn {
                    let values = match self.build {
                        Build::SameNoise => {
                            self.encode(lot, rng).finish(1 << 30, &self.noise, RING_BITS, &mut noise_again)
                        }
                        _ => self.encode(lot, rng).finish(1 << 30, &self.noise, RING_BITS, rng),
                    };
                    for (sum, value) in sum.iter_mut().zip(values.expect("in range")) {
                        *sum = sum.wrapping_add(value) & ((1 << RING_BITS) - 1);
                    }
                }
                let seen =
                    sum.iter().zip(&self.direction).map(|(&value, d)| centered(value, RING_BITS) as f64 * d);
                seen.sum::<f64>() / self.length_squared
            })
            .collect()
    }

    fn encode(&self, lot: &[usize], rng: &mut BulkRng) -> LotSum<'_> {
        let mut sum = LotSum::new(&self.used);
        for &patient in lot {
            let counted = match self.others.get(patient) {
                Some(gradient) => sum.add_patient(gradient, 0.0, false, rng),
                None => sum.add_patient(&self.canary, 5.0, true, rng),
            };
            assert_eq!(counted, Ok(Patient::Counted));
        }
        sum
    }

    /// The logarithm of the likelihood ratio of what was seen, for this build; for noise used twice, how far the
    /// sums are apart, which noise no longer hides.
    fn score(&self, seen: &[f64]) -> f64 {
        let variance = f64::from(self.shares) * self.noise.sigma().powi(2) / self.length_squared;
        let mixed = |log: f64| (1.0 - RATE + RATE * log.min(700.0).exp()).ln();
        let ratios = seen.iter().map(|x| (2.0 * x - 1.0) / (2.0 * variance));
        match self.build {
            Build::SameLot => mixed(ratios.sum()),
            Build::SameNoise => {
                let ends = seen.iter().fold((f64::MAX, f64::MIN), |(a, b), &x| (a.min(x), b.max(x)));
                ends.1 - ends.0
            }
            _ => ratios.map(mixed).sum(),
        }
    }
}
