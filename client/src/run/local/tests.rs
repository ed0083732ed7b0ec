//! What local steps come to: exact where nothing is private, as noisy as it must be where something is.

use std::cell::RefCell;

use consilium_crypto::encoding::{Metrics, centered_sum};
use consilium_proto::{
    plan::PrivacyUnit::{self, None as Nobody, Organization, Patient, PatientLocal},
    release::initial_state,
};

use crate::{
    config::support::{Consortium, set_unit},
    run::lot::encode_lot,
    trainer::{Evaluation, PatientGradient, TrainError, Trainer},
};

use super::*;

/// Every patient pulls every trained coordinate to `target`: `g = w − target`. Keeps the lots it was asked for and the first
/// trained weight that they began from. The first patients' gradients may be no numbers, and one lot may lose everybody.
struct Pull {
    patients: usize,
    broken: usize,
    empty: Option<usize>,
    target: f32,
    lots: RefCell<Vec<(usize, f32)>>,
}

impl Pull {
    fn new(patients: usize, target: f32) -> Self {
        Self { patients, broken: 0, empty: None, target, lots: RefCell::default() }
    }
}

const HEAD: &str = "head.bias";

impl Trainer for Pull {
    fn patients(&self) -> usize {
        self.patients
    }

    fn dimension(&self) -> usize {
        355
    }

    fn lot(
        &mut self,
        adapter: &AdapterTensors,
        patients: &[usize],
        each: &mut dyn FnMut(PatientGradient<'_>),
    ) -> Result<(), TrainError> {
        let trained = |name: &str| !name.contains("lora_A");
        let weights = adapter.iter().filter(|(name, _)| trained(name)).flat_map(|(_, values)| values);
        let gradient: Vec<f32> = weights.map(|weight| weight - self.target).collect();
        self.lots.borrow_mut().push((patients.len(), adapter.values(HEAD).unwrap()[0]));
        let nothing = vec![f32::NAN; gradient.len()];
        let empty = self.empty == Some(self.lots.borrow().len());
        for &patient in patients.iter().filter(|_| !empty) {
            let gradient = if patient < self.broken { &nothing } else { &gradient };
            each(PatientGradient { patient, gradient, loss: 1.5, correct: 1.0 });
        }
        Ok(())
    }

    fn evaluate(&mut self, _: &AdapterTensors, _: Option<usize>) -> Result<Evaluation, TrainError> {
        Err(TrainError::NoTestSet)
    }
}

fn plan_of(unit: PrivacyUnit, change: impl FnOnce(&mut consilium_proto::plan::Plan)) -> VerifiedPlan {
    let consortium = Consortium::with(|draft| {
        set_unit(&mut draft.plan, unit);
        draft.plan.privacy.sampling_rate = 1.0;
        change(&mut draft.plan);
    });
    consortium.verified().1
}

/// The encoded update in units of the adapter, and the metrics that a sum of it alone would show.
fn decoded(plan: &VerifiedPlan, trainer: &mut dyn Trainer, key: u8) -> (Vec<f64>, Metrics) {
    let derived = plan.derived();
    let state = initial_state(plan).unwrap();
    let update = encode_lot(plan, trainer, &state, &mut BulkRng::new([key; 32])).unwrap();
    let sum = centered_sum(update.values(), derived.ring.bits());
    let scale = derived.update.params().scale;
    let metrics = derived.update.metrics(&sum, 1.0, 1, 1, 0.0).unwrap();
    (sum[..355].iter().map(|&value| value as f64 / scale).collect(), metrics)
}

fn variance(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>() / values.len() as f64
}

#[test]
fn without_noise_the_delta_is_what_gradient_descent_gives() {
    let plan = plan_of(Nobody, |plan| {
        plan.privacy.clip = 1000.0;
        plan.encoding.ring_bits = 32;
    });
    let start = initial_state(&plan).unwrap().trained();
    let mut trainer = Pull::new(7, 1.0);
    let (delta, metrics) = decoded(&plan, &mut trainer, 1);
    // Three steps with rate 1/4 leave (3/4)³ of the way.
    for (value, start) in delta.iter().zip(&start) {
        let expected = (1.0 - f64::from(*start)) * (1.0 - 0.75f64.powi(3));
        assert!((value - expected).abs() <= 0.5 / 256.0 + 1e-6, "{value} for {expected}");
    }
    assert!((metrics.loss - 1.5).abs() < 0.01 && (metrics.accuracy - 1.0).abs() < 0.01, "{metrics:?}");
    // Each step began where the one before ended.
    let lots = trainer.lots.borrow().clone();
    assert_eq!(lots.iter().map(|lot| lot.0).collect::<Vec<_>>(), [7, 7, 7]);
    assert_eq!(lots.iter().map(|lot| lot.1).collect::<Vec<_>>(), [0.0, 0.25, 0.4375]);
    assert_eq!(decoded(&plan, &mut trainer, 2).0, delta, "no randomness but the lot's");
    // A broken record costs nobody else's, and nobody at all is a delta of nothing.
    let broken = decoded(&plan, &mut Pull { broken: 2, ..Pull::new(7, 1.0) }, 1);
    assert_eq!(broken, (delta, metrics));
    let (shorter, _) = decoded(&plan, &mut Pull { empty: Some(2), ..Pull::new(7, 1.0) }, 1);
    assert!(
        (shorter[0] - (1.0 - 0.75f64.powi(2))).abs() <= 0.5 / 256.0 + 1e-6,
        "two steps of three: {}",
        shorter[0]
    );
    for nobody in [&mut Pull { broken: 7, ..Pull::new(7, 1.0) }, &mut Pull::new(0, 1.0)] {
        let (delta, metrics) = decoded(&plan, nobody, 1);
        assert!(delta.iter().all(|&value| value == 0.0) && metrics.accuracy == 0.0, "{metrics:?}");
    }
}

#[test]
fn a_contribution_carries_this_organizations_share_of_noise_even_when_it_is_nothing() {
    let plan = plan_of(Organization, |_| {});
    let scale = plan.document().encoding.scale;
    let expected = (plan.derived().sigma_share / scale).powi(2);
    // Nobody's gradient moves anything, and one that is not finite counts as nothing.
    for target in [f32::NAN, f32::INFINITY] {
        let mut noise = Vec::new();
        for key in 1..=8 {
            noise.extend(decoded(&plan, &mut Pull::new(3, target), key).0);
        }
        let ratio = variance(&noise) / expected;
        assert!((ratio - 1.0).abs() < 5.0 * (2.0 / noise.len() as f64).sqrt(), "{ratio}");
    }
    // A large one is clipped: its mean direction stays, its norm is at most C.
    let mut mean = vec![0.0; 355];
    for key in 1..=100 {
        let (delta, _) = decoded(&plan, &mut Pull::new(3, 1e6), key);
        mean.iter_mut().zip(delta).for_each(|(mean, value)| *mean += value / 100.0);
    }
    let along = mean.iter().sum::<f64>() / 355f64.sqrt();
    assert!((along - 0.95f64.sqrt()).abs() < 0.35, "{along}");
}

#[test]
fn every_local_step_has_the_whole_noise_before_anything_follows_from_it() {
    let plan = plan_of(PatientLocal, |plan| plan.encoding.ring_bits = 32);
    let derived = plan.derived();
    assert_eq!(derived.honest, 2, "or the share and the whole would be the same");
    // Nobody is in the lot, and still: three steps of rate 1/4, each with σ over an expected lot of 6/3.
    let step = 0.25 * derived.sigma / (256.0 * 2.0);
    let mut noise = Vec::new();
    for key in 1..=8 {
        let mut trainer = Pull::new(0, 0.0);
        noise.extend(decoded(&plan, &mut trainer, key).0);
        let lots = trainer.lots.borrow();
        assert_eq!(lots.len(), 3);
        assert!(
            lots[1].1 != lots[0].1 && lots[2].1 != lots[1].1,
            "each step begins from the noisy one before"
        );
    }
    let ratio = variance(&noise) / (3.0 * step * step);
    assert!((ratio - 1.0).abs() < 5.0 * (2.0 / noise.len() as f64).sqrt(), "{ratio}");
}

#[test]
fn one_local_step_is_a_patients_step_divided_by_the_public_lot() {
    // Twelve patients where an organization is expected to draw two: the divisor is public, so the step is six times as long.
    let change = |plan: &mut consilium_proto::plan::Plan| {
        plan.privacy.noise_multiplier = 0.05;
        plan.encoding.ring_bits = 32;
        if let Some(local) = &mut plan.privacy.local {
            local.steps = 1;
        }
    };
    let (local, together) = (plan_of(PatientLocal, change), plan_of(Patient, change));
    let (delta, metrics) = decoded(&local, &mut Pull::new(12, 1e4), 3);
    let (sum, _) = decoded(&together, &mut Pull::new(12, 1e4), 4);
    let along = |values: &[f64]| values.iter().sum::<f64>() / 355f64.sqrt();
    // Twelve clipped gradients of norm √0.95 together; the delta is −rate/2 of that.
    assert!((along(&sum) + 12.0 * 0.95f64.sqrt()).abs() < 0.3, "{}", along(&sum));
    assert!((along(&delta) - 0.25 / 2.0 * 12.0 * 0.95f64.sqrt()).abs() < 0.05, "{}", along(&delta));
    assert!((metrics.accuracy - 6.0).abs() < 1.0, "twelve of an expected two, and noise: {metrics:?}");
}

#[test]
fn the_proximal_term_holds_local_steps_to_where_the_round_starts() {
    let plan = plan_of(Nobody, |plan| {
        plan.privacy.clip = 1000.0;
        plan.encoding.ring_bits = 32;
        plan.privacy.local.as_mut().unwrap().proximal = 0.5;
    });
    let start = initial_state(&plan).unwrap().trained();
    let (delta, _) = decoded(&plan, &mut Pull::new(7, 1.0), 1);
    for (value, start) in delta.iter().zip(&start) {
        // Of the way to the target: x ← x − ¼·((x − 1) + ½·x), three times from 0.
        let far = (0..3).fold(0.0, |x, _| x - 0.25 * ((x - 1.0) + 0.5 * x));
        let expected = far * (1.0 - f64::from(*start));
        assert!((value - expected).abs() <= 0.5 / 256.0 + 1e-6, "{value} for {expected}");
    }
}

/// The tiny model's adapter with both factors trained in turns: 256 coordinates of `A`, 256 of `B`, 99 of the head.
#[test]
fn what_rests_says_nothing_and_uses_up_no_norm() {
    /// A gradient of ones.
    struct Ones(usize);
    impl Trainer for Ones {
        fn patients(&self) -> usize {
            1
        }
        fn dimension(&self) -> usize {
            self.0
        }
        fn lot(
            &mut self,
            _: &AdapterTensors,
            patients: &[usize],
            each: &mut dyn FnMut(PatientGradient<'_>),
        ) -> Result<(), TrainError> {
            for &patient in patients {
                each(PatientGradient { patient, gradient: &vec![1.0; self.0], loss: 1.0, correct: 1.0 });
            }
            Ok(())
        }
        fn evaluate(&mut self, _: &AdapterTensors, _: Option<usize>) -> Result<Evaluation, TrainError> {
            Err(TrainError::NoTestSet)
        }
    }
    for unit in [Patient, PatientLocal, Nobody] {
        let plan = plan_of(unit, |plan| {
            plan.adapter.mode = consilium_proto::plan::AdapterMode::Alternate;
            plan.adapter.tensors.iter_mut().for_each(|tensor| tensor.trained = true);
            plan.encoding.scale = 1024.0;
            plan.encoding.ring_bits = 32;
            if let Some(local) = &mut plan.privacy.local {
                local.update_scale = local.update_scale.map(|_| 1024.0);
            }
            if unit != Nobody {
                plan.privacy.noise_multiplier = 0.02;
            }
        });
        let mut state = initial_state(&plan).unwrap();
        let (derived, dimension) = (plan.derived(), state.trained().len());
        for step in 1..=2 {
            let still = state.still();
            let resting: usize = still.iter().map(|range| range.len()).sum();
            assert_eq!(resting, 256, "{unit}");
            let mut trainer = Ones(dimension);
            let update = encode_lot(&plan, &mut trainer, &state, &mut BulkRng::new([step; 32])).unwrap();
            let sum = centered_sum(update.values(), derived.ring.bits());
            let scale = derived.update.params().scale;
            let of = |rests: bool| {
                let some = sum[..dimension].iter().enumerate();
                let some = some.filter(|(at, _)| still.iter().any(|range| range.contains(at)) == rests);
                let values: Vec<f64> = some.map(|(_, value)| (*value as f64 / scale).abs()).collect();
                values.iter().sum::<f64>() / values.len() as f64
            };
            let (rests, moves) = (of(true), of(false));
            // Clipped to √0.95, shared among those that move alone; noise is below.
            assert!(moves > 3.0 * rests, "{unit}, step {step}: {moves} and {rests}");
            if unit == Patient {
                let alone = (0.95 / (dimension - resting) as f64).sqrt();
                assert!((moves / alone - 1.0).abs() < 0.1, "{moves} for {alone}");
            }
            state.apply(&vec![0.0; dimension]).unwrap();
        }
    }
}
