//! A head at home: learns, is kept, and is in nothing that leaves.

use consilium_crypto::{encoding::centered_sum, noise::BulkRng};
use consilium_proto::{plan::PrivacyUnit, release::initial_state};

use super::*;
use crate::{
    config::support::{Consortium, set_unit},
    model::CheckedTensors,
    run::lot::encode_lot,
};

/// Every patient pulls every trained coordinate to 1: `g = w − 1`; the first `broken` ones have no numbers.
struct Pull {
    broken: usize,
    /// The head's first bias, lot by lot.
    heads: Vec<f32>,
}

impl Trainer for Pull {
    fn patients(&self) -> usize {
        6
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
        self.heads.push(adapter.values("head.bias").unwrap()[0]);
        let trained = adapter.iter().filter(|(name, _)| !name.contains("lora_A"));
        let gradient: Vec<f32> = trained.flat_map(|(_, values)| values).map(|weight| weight - 1.0).collect();
        assert_eq!(gradient.len(), 355);
        let nothing = vec![f32::NAN; 355];
        for &patient in patients {
            let gradient = if patient < self.broken { &nothing } else { &gradient };
            each(PatientGradient { patient, gradient, loss: 1.0, correct: 1.0 });
        }
        Ok(())
    }

    fn evaluate(&mut self, adapter: &AdapterTensors, _: Option<usize>) -> Result<Evaluation, TrainError> {
        let accuracy = f64::from(adapter.values("head.bias").unwrap()[0]);
        Ok(Evaluation { examples: 1, loss: 0.0, accuracy, macro_accuracy: accuracy, per_label: Vec::new() })
    }
}

fn plan(unit: PrivacyUnit, local: &[&str]) -> VerifiedPlan {
    let consortium = Consortium::with(|draft| {
        set_unit(&mut draft.plan, unit);
        draft.plan.privacy.sampling_rate = 1.0;
        draft.plan.adapter.local = local.iter().map(|&part| part.to_owned()).collect();
        if unit == PrivacyUnit::None {
            draft.plan.privacy.clip = 1000.0;
            draft.plan.encoding.ring_bits = 32;
        }
    });
    consortium.verified().1
}

fn at_home(plan: &VerifiedPlan, folder: &Path, keeps: bool, broken: usize) -> Personal<Pull> {
    let home = Home::open(plan, folder, keeps).unwrap().unwrap();
    Personal::new(Pull { broken, heads: Vec::new() }, home, plan)
}

/// What would leave, with everything drawn from `key`.
fn update(plan: &VerifiedPlan, trainer: &mut dyn Trainer, key: u8) -> Vec<u32> {
    let state = initial_state(plan).unwrap();
    encode_lot(plan, trainer, &state, &mut BulkRng::new([key; 32])).unwrap().values().to_vec()
}

#[test]
fn the_head_learns_and_is_kept_and_the_factors_alone_leave() {
    let plan = plan(PrivacyUnit::None, &["head"]);
    let folder = tempfile::tempdir().unwrap();
    let mut trainer = at_home(&plan, folder.path(), true, 0);
    assert_eq!(trainer.dimension(), 256);
    let sent = update(&plan, &mut trainer, 1);
    // 256 factors and two metrics; three steps with rate 1/4 leave (3/4)³ of the way from 0 to 1.
    assert_eq!(sent.len(), plan.derived().vector_len);
    assert_eq!(sent.len(), 258);
    let moved = 1.0 - 0.75f64.powi(3);
    let (derived, sum) = (plan.derived(), centered_sum(&sent, plan.derived().ring.bits()));
    let scale = derived.update.params().scale;
    assert!(sum[..256].iter().all(|&value| (value as f64 / scale - moved).abs() < 0.01));
    // Each lot saw the head where the one before left it.
    assert_eq!(trainer.trainer.heads, [0.0, 0.25, 0.4375]);
    assert!((trainer.evaluate(&AdapterTensors::new(), None).unwrap().accuracy - moved).abs() < 1e-6);
    // A restart, or the next round, goes on from there.
    let kept = Home::open(&plan, folder.path(), true).unwrap().unwrap();
    assert_eq!(kept.values(), trainer.home.values());
    assert!((f64::from(kept.values().values("head.bias").unwrap()[2]) - moved).abs() < 1e-6);
    // Whoever finds the file can see what it is.
    let file = CheckedTensors::open(&folder.path().join(HEAD_AT_HOME), 1 << 20).unwrap();
    assert!(file.metadata()["consilium.privacy"].starts_with("none: "), "{:?}", file.metadata());
    assert_eq!(file.tensors().len(), 2);
}

#[test]
fn what_leaves_is_the_same_whatever_the_head_is() {
    for unit in [PrivacyUnit::Organization, PrivacyUnit::None] {
        let plan = plan(unit, &["head"]);
        let folder = tempfile::tempdir().unwrap();
        let mut first = at_home(&plan, folder.path(), true, 0);
        let sent = update(&plan, &mut first, 7);
        // The same attempt again: another head by now, and not one bit of it in the update.
        let mut second = at_home(&plan, folder.path(), true, 0);
        assert_ne!(
            second.home.values(),
            Home::open(&plan, Path::new("nowhere"), false).unwrap().unwrap().values()
        );
        assert_eq!(update(&plan, &mut second, 7), sent);
    }
}

#[test]
fn a_rehearsal_leaves_the_head_where_it_is() {
    let plan = plan(PrivacyUnit::Organization, &["head"]);
    let folder = tempfile::tempdir().unwrap();
    update(&plan, &mut at_home(&plan, folder.path(), false, 0), 1);
    assert!(!folder.path().join(HEAD_AT_HOME).exists());
}

#[test]
fn broken_records_do_not_cost_the_head() {
    let plan = plan(PrivacyUnit::None, &["head"]);
    let folder = tempfile::tempdir().unwrap();
    let mut trainer = at_home(&plan, folder.path(), true, 2);
    update(&plan, &mut trainer, 1);
    assert_eq!(trainer.trainer.heads, [0.0, 0.25, 0.4375]);
    // Nobody left: no step.
    let mut nobody = at_home(&plan, tempfile::tempdir().unwrap().path(), false, 6);
    update(&plan, &mut nobody, 1);
    assert_eq!(nobody.trainer.heads, [0.0; 3]);
}

#[test]
fn it_starts_as_if_everything_were_shared_and_a_strange_file_is_refused() {
    let (local, shared) = (plan(PrivacyUnit::None, &["head"]), plan(PrivacyUnit::None, &[]));
    let folder = tempfile::tempdir().unwrap();
    let home = Home::open(&local, folder.path(), true).unwrap().unwrap();
    let drawn = initial_state(&shared).unwrap();
    for (tensor, values) in drawn.tensors().filter(|(tensor, _)| tensor.name.starts_with("head.")) {
        assert_eq!(home.values().values(&tensor.name), Some(values), "{}", tensor.name);
    }
    assert!(initial_state(&local).unwrap().tensors().all(|(tensor, _)| !tensor.name.starts_with("head.")));
    assert!(Home::open(&shared, folder.path(), true).unwrap().is_none());
    std::fs::write(folder.path().join(HEAD_AT_HOME), b"not safetensors").unwrap();
    Home::open(&local, folder.path(), true).unwrap_err();
}

#[test]
fn a_score_of_such_a_head_leaves_only_where_nothing_is_promised() {
    assert!(tells_scores(&plan(PrivacyUnit::None, &["head"])));
    assert!(!tells_scores(&plan(PrivacyUnit::Organization, &["head"])));
    assert!(tells_scores(&plan(PrivacyUnit::Organization, &[])));
    assert!(tells_scores(&plan(PrivacyUnit::Patient, &[])));
}
