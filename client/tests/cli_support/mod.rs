//! A small consortium on disk: three organizations, a signed roster and plan, a tiny model, data, and configs.
//! Shared by the command-line tests and, through `#[path]`, by unit tests of the library.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use consilium_crypto::digest::Digest;
use consilium_proto::{
    identity::Identity,
    ids::Id,
    plan::{
        Adapter, AdapterMode, Cohort, Deadlines, Encoding, Evaluation, Local, Model, Optimizer, Plan,
        Pooling, Privacy, PrivacyUnit, Retries, Task, Tensor, VerifiedPlan,
    },
    roster::{Roster, VerifiedRoster},
    signed::{Kind, Signatures, fingerprint},
};
use jiff::civil::{Date, date};

/// The tiny model's folder; a package elsewhere that includes this file names it in its build script.
pub const MODEL: &str = match option_env!("CONSILIUM_TINY_MODEL") {
    Some(folder) => folder,
    None => concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/trainer/tiny"),
};
pub const LABELS: [&str; 3] = ["infection", "fracture", "neoplasm"];

pub fn id(text: &str) -> Id {
    text.parse().unwrap()
}

/// The last day on which the consortium's keys count.
pub fn valid_until() -> Date {
    date(2099, 12, 31)
}

/// What may be changed before anything is signed and written.
pub struct Draft {
    pub roster: Roster,
    pub plan: Plan,
    /// Who signs the plan.
    pub signers: Vec<&'static str>,
}

pub struct Consortium {
    pub folder: tempfile::TempDir,
    pub identities: Vec<Identity>,
    pub roster: Roster,
    pub plan: Plan,
}

impl Consortium {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// Writes everything below a temporary folder: `site-N.key`, `roster.toml`, `plan.toml`, their `.sig`, `site-N.csv`,
    /// `test.csv`, `site-N.toml`.
    pub fn with(change: impl FnOnce(&mut Draft)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let names = ["site-1", "site-2", "site-3", "coordinator"];
        let identities: Vec<Identity> = (1u8..)
            .zip(names)
            .map(|(seed, name)| Identity::generate(id(name), [seed; 32]).unwrap())
            .collect();
        let party = |index: usize| identities[index].party(valid_until());
        let roster = Roster {
            version: 1,
            consortium: id("clinics"),
            previous: None,
            quorum: 3,
            coordinator: party(3),
            organizations: (0..3).map(party).collect(),
            operators: Vec::new(),
            coordinator_next: None,
            viewers: Vec::new(),
            plan_signers: Vec::new(),
            simulated: false,
        };
        let mut draft = Draft { roster, plan: plan("demo"), signers: vec!["site-1", "site-2", "site-3"] };
        change(&mut draft);
        let Draft { roster, mut plan, signers } = draft;

        for identity in &identities {
            let path = at(&format!("{}.key", identity.id));
            fs::write(&path, identity.to_text().expose()).unwrap();
            set_mode(&path, 0o600);
        }
        let text = roster.to_text().unwrap();
        plan.roster = fingerprint(Kind::Roster, &text);
        sign(&at("roster.toml"), Kind::Roster, &text, identities.iter().take(3));
        let pin = plan.roster;
        let text = plan.to_text().unwrap();
        let signing = identities.iter().filter(|identity| signers.contains(&identity.id.as_str()));
        sign(&at("plan.toml"), Kind::Plan, &text, signing);

        for (name, begin) in [("site-1", 0), ("site-2", 7), ("site-3", 14), ("test", 21)] {
            fs::write(at(&format!("{name}.csv")), rows(begin)).unwrap();
        }
        for name in &names[..3] {
            fs::write(at(&format!("{name}.toml")), config(name, &pin)).unwrap();
        }
        Self { folder, identities, roster, plan }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces `from`, which must be there, in a file.
    pub fn edit(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(from), "{name} does not contain {from}");
        fs::write(self.path(name), text.replacen(from, to, 1)).unwrap();
    }

    pub fn pin(&self) -> Digest {
        fingerprint(Kind::Roster, &self.roster.to_text().unwrap())
    }

    pub fn verified(&self) -> (VerifiedRoster, VerifiedPlan) {
        let read = |name: &str| fs::read_to_string(self.path(name)).unwrap();
        let signatures = |name| Signatures::parse(&read(name)).unwrap();
        let roster =
            Roster::verify(&read("roster.toml"), &signatures("roster.toml.sig"), &self.pin()).unwrap();
        let plan = Plan::verify(&read("plan.toml"), &signatures("plan.toml.sig"), &roster).unwrap();
        (roster, plan)
    }
}

pub fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn sign<'a>(path: &Path, kind: Kind, text: &str, signers: impl Iterator<Item = &'a Identity>) {
    let mut signatures = Signatures::default();
    signers.for_each(|signer| signatures.add(kind, text, &signer.id, signer.signing_key()));
    fs::write(path, text).unwrap();
    fs::write(format!("{}.sig", path.display()), signatures.to_text()).unwrap();
}

/// 36 records of 18 patients; the label shows in the text.
fn rows(begin: usize) -> String {
    let words = [
        ["fever of the lung", "acute infection"],
        ["broken left arm", "fracture of the hand"],
        ["malignant growth", "neoplasm of the skin"],
    ];
    let mut text = "patient_id,text,label\n".to_owned();
    for row in begin..begin + 36 {
        let label = row % 3;
        let (words, which) = (words[label][row / 3 % 2], LABELS[label]);
        text += &format!("p{},\"{words}, visit {row}\",{which}\n", begin + (row - begin) / 2);
    }
    text
}

fn config(name: &str, pin: &Digest) -> String {
    format!(
        r#"organization = "{name}"
identity = "{name}.key"
coordinator = "127.0.0.1:7400"
roster = "roster.toml"
roster_pin = "{pin}"
plan = "plan.toml"
state = "{name}-state"
model = "{MODEL}"

[data]
name = "titles"
path = "{name}.csv"
text_column = "text"
label_column = "label"
patient_column = "patient_id"

[evaluation]
path = "test.csv"
text_column = "text"
label_column = "label"
patient_column = "patient_id"
"#
    )
}

/// Gives a plan another privacy unit, with the fields that it has.
pub fn set_unit(plan: &mut Plan, unit: PrivacyUnit) {
    let fine = unit == PrivacyUnit::PatientLocal;
    let only = |holds: bool, value: f64| if holds { value } else { 0.0 };
    let (none, patients) = (unit == PrivacyUnit::None, unit == PrivacyUnit::Patient || fine);
    let p = &mut plan.privacy;
    (p.unit, p.i_accept_no_privacy) = (unit, none);
    (p.delta, p.epsilon) = (only(!none, p.delta), only(!none, p.epsilon));
    p.noise_multiplier = only(!none, p.noise_multiplier);
    p.expected_lot = only(patients, p.expected_lot);
    p.largest_lot = only(unit == PrivacyUnit::Patient, p.largest_lot);
    plan.encoding.rounding_beta = only(!none, plan.encoding.rounding_beta);
    if unit.sends_deltas() {
        let (update_clip, update_scale) = (fine.then_some(100.0), fine.then_some(256.0));
        p.local = Some(Local { steps: 3, learning_rate: 0.25, proximal: 0.0, update_clip, update_scale });
        plan.optimizer = Optimizer::FedAvg { learning_rate: 1.0 };
    }
}

/// A plan for the tiny model, not yet bound to a roster.
pub fn plan(job: &str) -> Plan {
    let digest = |file: &str| Digest::of(&fs::read(Path::new(MODEL).join(file)).unwrap());
    let tensor = |name: String, shape: [u32; 2], bound: f32, trained| {
        let shape = shape.into_iter().filter(|&axis| axis > 0).collect();
        Tensor { name, shape, bound, trained }
    };
    let mut tensors = Vec::new();
    for module in ["query", "value"] {
        let path = format!("base_model.model.encoder.layer.1.attention.self.{module}");
        tensors.push(tensor(format!("{path}.lora_A.weight"), [4, 32], 0.176, false));
        tensors.push(tensor(format!("{path}.lora_B.weight"), [32, 4], 0.0, true));
    }
    tensors.push(tensor("head.bias".to_owned(), [3, 0], 0.0, true));
    tensors.push(tensor("head.weight".to_owned(), [3, 32], 0.176, true));
    Plan {
        version: 1,
        job: id(job),
        roster: Digest([0; 32]),
        rounds: 20,
        arithmetic: 1,
        model: Model {
            name: "tiny".to_owned(),
            config: digest("config.json"),
            tokenizer: digest("tokenizer.json"),
            weights: digest("model.safetensors"),
            pooling: Pooling::Mean,
            max_tokens: 32,
        },
        task: Task {
            labels: LABELS.map(str::to_owned).to_vec(),
            max_records_per_patient: 4,
            ..Task::default()
        },
        cohort: Cohort { organizations: 3, colluders: 1, min_survivors: 3, allow_no_colluders: false },
        privacy: Privacy {
            unit: PrivacyUnit::Patient,
            note: "a title stands for a patient".to_owned(),
            delta: 1e-5,
            epsilon: 6.0,
            sampling_rate: 0.1,
            expected_lot: 6.0,
            largest_lot: 2.0,
            clip: 1.0,
            noise_multiplier: 1.0,
            i_accept_no_privacy: false,
            local: None,
        },
        encoding: Encoding {
            scale: 256.0,
            ring_bits: 24,
            metrics_share: 0.05,
            loss_max: 3.0,
            rounding_beta: 0.01,
        },
        optimizer: Optimizer::Adam { learning_rate: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
        evaluation: Evaluation { organization: id("site-1"), every_rounds: 5, max_examples: 100 },
        deadlines: Deadlines {
            wait_s: 10,
            advertise_s: 10,
            share_s: 10,
            input_s: 10,
            vote_s: 10,
            unmask_s: 10,
            grace_s: 1,
            upload_grace_s: None,
        },
        retries: Retries { max_attempts: 3, reserve: None },
        hours: Vec::new(),
        retention: None,
        data: Vec::new(),
        adapter: Adapter {
            mode: AdapterMode::Ffa,
            rank: 4,
            alpha: 8.0,
            rslora: false,
            target_modules: ["query", "value"].into(),
            dropout: 0.0,
            local: Vec::new(),
            start: None,
            layers: Some(vec![1]),
            seed: Digest([7; 32]),
            tensors,
        },
    }
}
