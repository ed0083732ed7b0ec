//! ε against accuracy on the demo's task, without its processes: five organizations in one process, their real encodings
//! and noise, the plain sum of what they encode (which is what secure aggregation releases, bit for bit), the real release.
//!
//! `cargo run --release -p consilium-client --example privacy_accuracy -- DEMO JOB UNIT OUT.jsonl`, after `make demo`:
//! DEMO is `target/demo/work`, JOB `lora` or `head`, UNIT `patient` or `patient-local`. For each ε of 1, 2, 4, 8 and ∞ and
//! each of three seeds, one line of JSON is appended to OUT.jsonl; lines that are there already are not computed again.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use consilium_client::{
    config::{Config, Loaded, adapter_tensors_of, today, trainer_spec},
    data::{DataConfig, Dataset},
    run::lot::encode_lot,
    trainer::{TorchTrainer, Trainer as _},
};
use consilium_crypto::ring;
use consilium_proto::{
    identity::Identity,
    plan::{Local, Plan, PrivacyUnit, VerifiedPlan},
    release::{apply_sum, initial_state},
    roster::VerifiedRoster,
    signed::{Kind, Signatures},
};
use rand::{rand_core::UnwrapErr, rngs::SysRng};

type Failure = Box<dyn std::error::Error>;

const SITES: u32 = 5;
const EPSILONS: [f64; 5] = [1.0, 2.0, 4.0, 8.0, f64::INFINITY];
const SEEDS: u8 = 3;
/// The same for every ε, so that only the noise differs.
const ROUNDS: u32 = 30;
const LOT: f64 = 1536.0;
/// Noise that costs nothing: `ε = ∞`.
const NO_NOISE: f64 = 0.02;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [demo, job, unit, out] = arguments.as_slice() else {
        return Err("usage: privacy_accuracy DEMO lora|head patient|patient-local OUT.jsonl".into());
    };
    let unit = match unit.as_str() {
        "patient" => PrivacyUnit::Patient,
        "patient-local" => PrivacyUnit::PatientLocal,
        other => return Err(format!("no unit {other:?} here").into()),
    };
    let mut experiment = Experiment::new(Path::new(demo), job, unit)?;
    let out = PathBuf::from(out);
    let done = fs::read_to_string(&out).unwrap_or_default();
    for epsilon in EPSILONS {
        let multiplier = experiment.multiplier(epsilon)?;
        for seed in 1..=SEEDS {
            // JSON has no infinity.
            let key = format!(
                r#"{{"job":"{job}","unit":"{}","epsilon":{},"seed":{seed},"#,
                arguments[2],
                if epsilon.is_finite() { epsilon.to_string() } else { "null".into() },
            );
            if done.lines().any(|line| line.starts_with(&key)) {
                continue;
            }
            let (accuracy, macro_accuracy) = experiment.run(multiplier, seed)?;
            let line = format!(
                r#"{key}"noise_multiplier":{multiplier:.4},"accuracy":{accuracy:.4},"macro_accuracy":{macro_accuracy:.4}}}"#
            );
            println!("{line}");
            let mut file = fs::OpenOptions::new().create(true).append(true).open(&out)?;
            writeln!(file, "{line}")?;
        }
    }
    Ok(())
}

struct Experiment {
    roster: VerifiedRoster,
    signers: Vec<Identity>,
    plan: Plan,
    sites: Vec<TorchTrainer>,
}

impl Experiment {
    fn new(demo: &Path, job: &str, unit: PrivacyUnit) -> Result<Self, Failure> {
        let config = |site: u32| demo.join(format!("job-{job}/site-{site}.toml"));
        let first = Loaded::load(&config(1), today())?;
        let (mut signers, mut sites, mut patients, mut largest) = (Vec::new(), Vec::new(), 0, 0);
        for site in 1..=SITES {
            let config = Config::load(&config(site))?;
            signers.push(config.open_identity()?);
            let task = &first.plan.document().task;
            let records =
                Dataset::load(&config.data.source(), &task.labels, task.max_records_per_patient as usize)?;
            let test = DataConfig { path: demo.join("data/test.csv"), ..config.data.source() };
            // One site evaluates; whose adapter it is makes no difference.
            let test = (site == 1).then(|| Dataset::load(&test, &task.labels, usize::MAX)).transpose()?;
            let spec = trainer_spec(first.plan.document(), &config.training);
            sites.push(TorchTrainer::new(first.model()?, spec, &records, test.as_ref())?);
            patients += records.patients();
            largest = largest.max(records.patients());
        }
        let mut plan = first.plan.document().clone();
        let rate = LOT / patients as f64;
        (plan.rounds, plan.privacy.sampling_rate, plan.privacy.expected_lot) = (ROUNDS, rate, LOT);
        plan.privacy.unit = unit;
        plan.encoding.ring_bits = 32;
        match unit {
            PrivacyUnit::Patient => plan.privacy.largest_lot = rate * largest as f64,
            _ => {
                plan.privacy.largest_lot = 0.0;
                // One step a round: the server's Adam does not mind its size.
                plan.privacy.local = Some(Local {
                    steps: 1,
                    learning_rate: 1.0,
                    proximal: 0.0,
                    update_clip: Some(16.0),
                    update_scale: Some(16384.0),
                });
            }
        }
        // Enough for every ε below; what is spent is set by the noise.
        plan.privacy.epsilon = 1e6;
        let roster = Config::load(&config(1))?.open_roster()?;
        Ok(Self { roster, signers, plan, sites })
    }

    /// The least noise multiplier, to a thousandth, whose guarantee over all rounds is `epsilon`: against the coordinator
    /// and its colluder in `patient`, against everybody else in `patient-local` (where it is the same).
    fn multiplier(&self, epsilon: f64) -> Result<f64, Failure> {
        if epsilon.is_infinite() {
            return Ok(NO_NOISE);
        }
        let spent = |z: f64| -> Result<f64, Failure> {
            let mut plan = self.plan.clone();
            plan.privacy.noise_multiplier = z;
            Ok(plan.derive()?.guarantees(u64::from(ROUNDS), plan.privacy.delta)?.central)
        };
        let (mut low, mut high) = (0.3, 40.0);
        while high - low > 1e-3 {
            let middle = 0.5 * (low + high);
            if spent(middle)? <= epsilon { high = middle } else { low = middle }
        }
        Ok(high)
    }

    fn verified(&self, multiplier: f64, seed: u8) -> Result<VerifiedPlan, Failure> {
        let mut plan = self.plan.clone();
        plan.privacy.noise_multiplier = multiplier;
        plan.adapter.seed.0 = [seed; 32];
        let text = plan.to_text()?;
        let mut signatures = Signatures::default();
        for signer in &self.signers {
            signatures.add(Kind::Plan, &text, &signer.id, signer.signing_key());
        }
        Ok(Plan::verify(&text, &signatures, &self.roster)?)
    }

    /// One job; accuracy and macro accuracy on the whole test set.
    fn run(&mut self, multiplier: f64, seed: u8) -> Result<(f64, f64), Failure> {
        let plan = self.verified(multiplier, seed)?;
        let derived = plan.derived();
        let mut state = initial_state(&plan)?;
        for _ in 0..ROUNDS {
            let mut sum = vec![0u32; derived.vector_len];
            for site in &mut self.sites {
                let update = encode_lot(&plan, site, &state, &mut UnwrapErr(SysRng))
                    .map_err(|failed| format!("the lot failed: {}", failed.0))?;
                for (total, value) in sum.iter_mut().zip(update.values()) {
                    *total = total.wrapping_add(*value);
                }
            }
            let sum = ring::RingVector::reduced(derived.ring, sum);
            let mut packed = Vec::new();
            ring::pack(derived.ring, sum.values(), &mut packed);
            apply_sum(&plan, &mut state, &packed, SITES as usize)?;
        }
        let scored = self.sites[0].evaluate(&adapter_tensors_of(&state), None)?;
        Ok((scored.accuracy, scored.macro_accuracy))
    }
}
