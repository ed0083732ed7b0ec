//! A consortium's files: identities, a signed roster, a signed plan, records, configurations.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use consilium_client::config::{Loaded, today};
use consilium_crypto::digest::Digest;
use consilium_proto::{
    identity::Identity,
    ids::Id,
    plan::{
        Adapter, AdapterMode, Cohort, Deadlines, Encoding, Evaluation, Model, Optimizer, Plan, Pooling,
        Privacy, PrivacyUnit, Retries, Task, Tensor,
    },
    roster::Roster,
    signed::{Kind, Signatures, fingerprint},
};
use jiff::civil::date;

/// The labels of the generated records.
pub const LABELS: [&str; 3] = ["eye", "heart", "skin"];

/// What differs between tests.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Rounds in the plan.
    pub rounds: u32,
    /// Seconds to wait for the minimum of members.
    pub wait_s: u32,
    /// Records of each organization.
    pub records: usize,
    /// Labels: three that are learnt, and as many more as it takes to make the masked vector long.
    pub labels: usize,
    /// Seconds that a closed connection is waited for.
    pub grace_s: u32,
    /// The same in the middle of an upload.
    pub upload_grace_s: Option<u32>,
    /// Privacy budget: more rounds spend more.
    pub epsilon: f64,
    /// Lines of the coordinator's `[limits]`.
    pub limits: &'static str,
    /// Whether everybody writes spans.
    pub traces: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            rounds: 4,
            wait_s: 60,
            records: 120,
            labels: 3,
            grace_s: 1,
            upload_grace_s: None,
            epsilon: 50.0,
            limits: "",
            traces: false,
        }
    }
}

/// Five organizations, a coordinator and an operator, on disk.
pub struct Consortium {
    folder: tempfile::TempDir,
    identities: Vec<Identity>,
    /// The signed plan.
    pub plan: Plan,
    /// The coordinator's address.
    pub address: String,
    traces: bool,
}

impl Consortium {
    /// Founds one.
    pub fn found(shape: &Shape) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let names = ["coordinator", "operator", "site-1", "site-2", "site-3", "site-4", "site-5"];
        let identities: Vec<_> = (1u8..)
            .zip(names)
            .map(|(seed, name)| Identity::generate(id(name), [seed; 32]).expect("an identity"))
            .collect();
        let until = date(2099, 1, 1);
        let roster = Roster {
            version: 1,
            consortium: id("tests"),
            previous: None,
            quorum: 4,
            coordinator: identities[0].party(until),
            organizations: identities[2..].iter().map(|identity| identity.party(until)).collect(),
            operators: vec![identities[1].party(until)],
            coordinator_next: None,
            viewers: Vec::new(),
            plan_signers: Vec::new(),
            simulated: false,
        };
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|probe| probe.local_addr()).expect("a port").port();
        let text = roster.to_text().expect("a roster");
        let plan = plan(fingerprint(Kind::Roster, &text), shape);
        let consortium =
            Self { folder, identities, plan, address: format!("127.0.0.1:{port}"), traces: shape.traces };
        consortium.write("labels.txt", &consortium.plan.task.labels.join("\n"));
        consortium.sign(Kind::Roster, "roster.toml", &text);
        consortium.sign(Kind::Plan, "plan.toml", &consortium.plan.to_text().expect("a plan"));
        for identity in &consortium.identities {
            consortium.write_private(&format!("{}.identity.toml", identity.id), identity.to_text().expose());
        }
        for site in 1..=5usize {
            consortium.write(&format!("site-{site}.csv"), &records(site, shape.records));
            consortium.configure(site, "plan.toml");
        }
        consortium.write("test.csv", &records(9, 60));
        let pin = fingerprint(Kind::Roster, &text);
        let address = &consortium.address;
        consortium.write(
            "coordinator.toml",
            &format!(
                "listen = \"{address}\"\nidentity = \"coordinator.identity.toml\"\nroster = \"roster.toml\"\n\
                 roster_pin = \"{pin}\"\nplan = \"plan.toml\"\nstate = \"coordinator\"\n{}[limits]\n{}\n",
                if shape.traces { "[observe]\ntraces = \"traces.jsonl\"\n" } else { "" },
                shape.limits
            ),
        );
        consortium
    }

    /// Writes a site's configuration, under a plan.
    pub fn configure(&self, site: usize, plan: &str) {
        self.configure_at(site, plan, &self.address);
    }

    /// The same, with the coordinator at another address: that of a line to it.
    pub fn configure_at(&self, site: usize, plan: &str, address: &str) {
        let roster = fs::read_to_string(self.path("roster.toml")).expect("the roster");
        let pin = fingerprint(Kind::Roster, &roster);
        let columns = "text_column = \"text\"\nlabel_column = \"label\"\npatient_column = \"patient\"\n";
        let evaluation =
            if site == 1 { format!("[evaluation]\npath = \"test.csv\"\n{columns}") } else { String::new() };
        let model = model();
        let model = model.display();
        let traces = if self.traces { format!("traces = \"traces-{site}.jsonl\"\n") } else { String::new() };
        self.write(
            &format!("site-{site}.toml"),
            &format!(
                "organization = \"site-{site}\"\nidentity = \"site-{site}.identity.toml\"\ncoordinator = \"{address}\"\n\
                 roster = \"roster.toml\"\nroster_pin = \"{pin}\"\nplan = \"{plan}\"\nstate = \"state-{site}\"\n\
                 model = \"{model}\"\napproval = \"auto\"\nlog = \"json\"\n{traces}\
                 [data]\nname = \"records-{site}\"\npath = \"site-{site}.csv\"\n{columns}{evaluation}"
            ),
        );
    }

    /// Signs a document by all organizations and writes it with its signatures.
    pub fn sign(&self, kind: Kind, name: &str, text: &str) {
        let mut signatures = Signatures::default();
        for identity in &self.identities[2..] {
            signatures.add(kind, text, &identity.id, identity.signing_key());
        }
        self.write(name, text);
        self.write(&format!("{name}.sig"), &signatures.to_text());
    }

    /// Changes the plan, and has everybody sign it again.
    pub fn replan(&mut self, change: impl FnOnce(&mut Plan)) {
        change(&mut self.plan);
        self.write("labels.txt", &self.plan.task.labels.join("\n"));
        self.sign(Kind::Plan, "plan.toml", &self.plan.to_text().expect("a plan"));
    }

    /// Replaces `from`, which must be there, in a file.
    pub fn edit(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(name)).expect("a file");
        assert!(text.contains(from), "{name} does not contain {from}");
        self.write(name, &text.replace(from, to));
    }

    /// The client's configuration of a site, as the client reads it.
    pub fn loaded(&self, site: usize) -> Loaded {
        Loaded::load(&self.path(&format!("site-{site}.toml")), today()).expect("a configuration")
    }

    /// A path in the consortium's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file");
    }

    fn write_private(&self, name: &str, text: &str) {
        let mut options = fs::OpenOptions::new();
        let file = options.create(true).truncate(true).write(true).mode(0o600).open(self.path(name));
        std::io::Write::write_all(&mut file.expect("a file"), text.as_bytes()).expect("a file");
    }

    /// One party's keys.
    pub fn identity(&self, name: &str) -> &Identity {
        self.identities.iter().find(|identity| identity.id.as_str() == name).expect("a known party")
    }
}

fn id(text: &str) -> Id {
    text.parse().expect("an id")
}

/// The tiny encoder that ships with the tests.
pub fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/trainer/tiny")
}

fn digest_of(name: &str) -> Digest {
    Digest::of(&fs::read(model().join(name)).expect("the tiny model"))
}

/// Records whose words tell the label, in the tiny vocabulary.
fn records(site: usize, count: usize) -> String {
    let mut text = String::from("patient,text,label\n");
    for index in 0..count {
        let label = LABELS[(index + site) % 3];
        let word = ["acute", "chronic", "left", "right", "initial", "other"][(index / 3 + site) % 6];
        text += &format!("p{site}-{index},{word} {label} disease,{label}\n");
    }
    text
}

fn plan(roster: Digest, shape: &Shape) -> Plan {
    let lora = |module: &str, factor: &str| {
        format!("base_model.model.encoder.layer.1.attention.self.{module}.lora_{factor}.weight")
    };
    let tensor = |name: String, shape: [u32; 2], bound, trained| Tensor {
        name,
        shape: shape.to_vec(),
        bound,
        trained,
    };
    let more = (LABELS.len()..shape.labels).map(|index| format!("other-{index}"));
    let labels: Vec<String> = LABELS.map(str::to_owned).into_iter().chain(more).collect();
    let mut tensors = vec![
        tensor(lora("query", "A"), [4, 32], 0.176_776_7, false),
        tensor(lora("query", "B"), [32, 4], 0.0, true),
        tensor(lora("value", "A"), [4, 32], 0.176_776_7, false),
        tensor(lora("value", "B"), [32, 4], 0.0, true),
        tensor("head.weight".into(), [labels.len() as u32, 32], 0.176_776_7, true),
        Tensor { name: "head.bias".into(), shape: vec![labels.len() as u32], bound: 0.0, trained: true },
    ];
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    Plan {
        version: 1,
        job: id("small"),
        roster,
        rounds: shape.rounds,
        arithmetic: 1,
        model: Model {
            name: "tiny".into(),
            config: digest_of("config.json"),
            tokenizer: digest_of("tokenizer.json"),
            weights: digest_of("model.safetensors"),
            pooling: Pooling::Mean,
            max_tokens: 16,
        },
        task: Task { labels, max_records_per_patient: 1, ..Task::default() },
        cohort: Cohort { organizations: 5, colluders: 1, min_survivors: 4, allow_no_colluders: false },
        privacy: Privacy {
            unit: PrivacyUnit::Patient,
            note: "generated records".into(),
            delta: 1e-5,
            epsilon: shape.epsilon,
            sampling_rate: 0.2,
            expected_lot: 0.2 * 5.0 * shape.records as f64,
            largest_lot: 0.2 * shape.records as f64,
            clip: 1.0,
            noise_multiplier: 1.0,
            i_accept_no_privacy: false,
            local: None,
        },
        encoding: Encoding {
            scale: 256.0,
            ring_bits: 20,
            metrics_share: 0.05,
            loss_max: if shape.labels > 3 { 2.0 * (shape.labels as f64).ln().ceil() } else { 4.0 },
            rounding_beta: 0.01,
        },
        optimizer: Optimizer::Adam { learning_rate: 0.02, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
        evaluation: Evaluation { organization: id("site-1"), every_rounds: 2, max_examples: 60 },
        deadlines: Deadlines {
            wait_s: shape.wait_s,
            advertise_s: 20,
            share_s: 20,
            input_s: 60,
            vote_s: 20,
            unmask_s: 20,
            grace_s: shape.grace_s,
            upload_grace_s: shape.upload_grace_s,
        },
        retries: Retries { max_attempts: 2, reserve: None },
        hours: Vec::new(),
        retention: None,
        data: Vec::new(),
        adapter: Adapter {
            mode: AdapterMode::Ffa,
            rank: 4,
            alpha: 8.0,
            rslora: false,
            target_modules: ["query", "value"].into(),
            layers: Some(vec![1]),
            dropout: 0.0,
            local: Vec::new(),
            start: None,
            seed: Digest([7; 32]),
            tensors,
        },
    }
}
