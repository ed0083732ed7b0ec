//! What of a lot leaves, and what does not: the number of patients who were drawn, dropped, or opted out.

use std::{
    fs,
    io::{self, Write},
    sync::{Arc, Mutex},
};

use consilium_crypto::release::AdapterState;
use consilium_proto::release::initial_state;
use rand::{SeedableRng as _, rngs::StdRng};

use super::*;
use crate::{
    config::support::Consortium,
    data::{DataConfig, Dataset, OptOut},
    model::AdapterTensors,
    trainer::{Consenting, Evaluation, PatientGradient, TrainError},
};

/// A trainer of which every gradient is known.
struct Known {
    gradients: Vec<Vec<f32>>,
    /// Who was in a gradient, lot by lot.
    seen: Arc<Mutex<Vec<Vec<usize>>>>,
}

impl Trainer for Known {
    fn patients(&self) -> usize {
        self.gradients.len()
    }

    fn dimension(&self) -> usize {
        self.gradients[0].len()
    }

    fn lot(
        &mut self,
        _: &AdapterTensors,
        patients: &[usize],
        each: &mut dyn FnMut(PatientGradient<'_>),
    ) -> Result<(), TrainError> {
        self.seen.lock().unwrap().push(patients.to_vec());
        for &patient in patients {
            let gradient = &self.gradients[patient];
            each(PatientGradient { patient, gradient, loss: gradient[0], correct: 1.0 });
        }
        Ok(())
    }

    fn evaluate(&mut self, _: &AdapterTensors, _: Option<usize>) -> Result<Evaluation, TrainError> {
        Err(TrainError::NoTestSet)
    }
}

fn known(plan: &VerifiedPlan, patients: usize, value: impl Fn(usize) -> f32) -> Known {
    let dimension = plan.derived().manifest.dimension();
    Known {
        gradients: (0..patients).map(|patient| vec![value(patient); dimension]).collect(),
        seen: Arc::default(),
    }
}

fn plan_that_draws(rate: f64) -> (VerifiedPlan, AdapterState) {
    let consortium = Consortium::with(|draft| {
        let privacy = &mut draft.plan.privacy;
        (privacy.sampling_rate, privacy.expected_lot, privacy.largest_lot) = (rate, 60.0 * rate, 20.0 * rate);
    });
    let plan = consortium.verified().1;
    let state = initial_state(&plan).unwrap();
    (plan, state)
}

fn encode(
    plan: &VerifiedPlan,
    state: &AdapterState,
    trainer: &mut dyn Trainer,
) -> Result<RingVector, LotFailed> {
    encode_lot(plan, trainer, state, &mut StdRng::seed_from_u64(7))
}

/// Everything that is logged at `level` while `run` runs.
fn logged(level: tracing::Level, run: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, run);
    let bytes = lines.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_patient_without_a_finite_gradient_is_dropped_and_the_round_is_not() {
    let (plan, state) = plan_that_draws(1.0);
    // What is dropped leaves no trace: the vector is that of the others, to the last bit, whatever was wrong with it.
    let mut without = known(&plan, 20, |_| 0.01);
    without.gradients.truncate(17);
    let others = encode(&plan, &state, &mut without).unwrap();
    for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut trainer = known(&plan, 20, |patient| if patient < 17 { 0.01 } else { wrong });
        let values = encode(&plan, &state, &mut trainer).unwrap();
        assert_eq!(values.values(), others.values(), "{wrong}");
    }
    let everybody = encode(&plan, &state, &mut known(&plan, 20, |_| f32::NAN)).unwrap();
    assert_eq!(everybody.len(), others.len(), "even then there is a vector, of noise");
}

#[test]
fn an_empty_lot_still_sends_noise() {
    let (plan, state) = plan_that_draws(1e-9);
    let mut trainer = known(&plan, 50, |_| 0.01);
    let vector = encode(&plan, &state, &mut trainer).unwrap();
    assert_eq!(trainer.seen.lock().unwrap().concat(), [0; 0], "nobody was drawn");
    assert_eq!(vector.len(), plan.derived().vector_len);
    let bits = plan.derived().ring.bits();
    let centered = consilium_crypto::encoding::centered_sum(vector.values(), bits);
    let spread =
        (centered.iter().map(|value| (value * value) as f64).sum::<f64>() / centered.len() as f64).sqrt();
    let sigma = plan.derived().sigma_share;
    assert!((spread / sigma - 1.0).abs() < 0.25, "{spread} and {sigma}");
}

#[test]
fn what_happened_to_patients_is_in_no_log_that_is_collected() {
    let (plan, state) = plan_that_draws(1.0);
    let run = |wrong: usize| {
        let mut trainer = known(&plan, 20, move |patient| if patient < wrong { f32::NAN } else { 0.01 });
        encode(&plan, &state, &mut trainer).unwrap();
    };
    for wrong in [0, 1, 13, 20] {
        assert_eq!(logged(tracing::Level::INFO, || run(wrong)), "", "{wrong} patients dropped");
    }
    // Even who looks for it on the machine itself learns that it happened, and not how often.
    let (once, often) = (logged(tracing::Level::DEBUG, || run(1)), logged(tracing::Level::DEBUG, || run(13)));
    let words = |text: &str| text.split("DEBUG").nth(1).unwrap().to_owned();
    assert_eq!(words(&once), words(&often));
    assert!(!words(&often).contains(|c: char| c.is_ascii_digit()), "{often}");
}

#[test]
fn who_has_opted_out_is_in_no_later_gradient() {
    let (plan, state) = plan_that_draws(1.0);
    let folder = tempfile::tempdir().unwrap();
    let rows: String = (0..20).map(|patient| format!("p{patient},text,fracture\n")).collect();
    fs::write(folder.path().join("data.csv"), format!("id,text,label\n{rows}")).unwrap();
    let [text_column, label_column, patient_column] = ["text", "label", "id"].map(str::to_owned);
    let config =
        DataConfig { path: folder.path().join("data.csv"), text_column, label_column, patient_column };
    let data = Dataset::load(&config, &["fracture".to_owned()], 4).unwrap();
    let list = folder.path().join("opt-out.txt");
    let trainer = known(&plan, 20, |_| 0.01);
    let seen = trainer.seen.clone();
    let mut trainer = Consenting::new(trainer, OptOut::new(list.clone(), &data));
    let mut lot = |lines: &str| {
        fs::write(&list, lines).unwrap();
        let quiet = logged(tracing::Level::INFO, || {
            encode(&plan, &state, &mut trainer).unwrap();
        });
        assert_eq!(quiet, "", "how many have opted out is not logged");
        seen.lock().unwrap().pop().unwrap()
    };
    assert_eq!(lot("").len(), 20);
    assert_eq!(lot("p3\np19\n"), (0..19).filter(|patient| *patient != 3).collect::<Vec<_>>());
    assert_eq!(lot("p3\np19\np0\n").len(), 17, "a line that is added counts from the next lot on");
    // Without its list the client does not take part: no gradient is computed at all.
    fs::remove_file(&list).unwrap();
    let before = seen.lock().unwrap().len();
    assert_eq!(encode(&plan, &state, &mut trainer).unwrap_err(), LotFailed("opt-out"));
    assert_eq!(seen.lock().unwrap().len(), before);
}
