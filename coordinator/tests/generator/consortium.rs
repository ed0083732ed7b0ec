//! A consortium of any size, in memory and on disk.

use std::{
    fs,
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use consilium_crypto::{digest::Digest, secagg::Params};
use consilium_proto::{
    identity::Identity,
    plan::{Plan, VerifiedPlan},
    roster::{Roster, VerifiedRoster},
    signed::{Kind, Signatures, fingerprint},
};

/// What differs between consortia.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Organizations.
    pub members: u16,
    /// Trained coordinates.
    pub dimension: u32,
    /// Bits of a ring element.
    pub ring_bits: u32,
    /// Rounds.
    pub rounds: u32,
    /// Seconds that each step may take.
    pub deadline_s: u32,
    /// Seconds after which a closed connection counts as gone.
    pub grace_s: u32,
    /// The same in the middle of an upload.
    pub upload_grace_s: u32,
    /// Server optimizer: with moments, which triple the coordinator's state, or without.
    pub adam: bool,
    /// Hours for which the plan keeps masked inputs; 0: it does not.
    pub keep_inputs_h: u32,
    /// Seconds to wait for members before an attempt.
    pub wait_s: u32,
    /// The plan's budget.
    pub epsilon: f64,
    /// Days that the first organizations' keys still count; all others': decades.
    pub key_days: &'static [i32],
    /// Further lines at the top of `coordinator.toml`.
    pub top: &'static str,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            members: 5,
            dimension: 200_000,
            ring_bits: 24,
            rounds: 3,
            deadline_s: 600,
            grace_s: 1,
            upload_grace_s: 1,
            adam: false,
            keep_inputs_h: 0,
            wait_s: 600,
            epsilon: 1000.0,
            key_days: &[],
            top: "",
        }
    }
}

/// Keys and documents.
pub struct Consortium {
    pub coordinator: Arc<Identity>,
    pub operator: Arc<Identity>,
    /// The keys that the coordinator may change to.
    pub next: Arc<Identity>,
    pub viewer: Arc<Identity>,
    /// The organizations, in the order of their ids.
    pub organizations: Vec<Arc<Identity>>,
    pub roster: Arc<VerifiedRoster>,
    pub plan: Arc<VerifiedPlan>,
    texts: [(String, String); 2],
    top: &'static str,
}

impl Consortium {
    /// Founds one.
    pub fn found(shape: &Shape) -> Self {
        let identity = |id: &str, seed: u16| {
            let mut bytes = [7; 32];
            bytes[..2].copy_from_slice(&seed.to_le_bytes());
            Arc::new(Identity::generate(id.parse().expect("an id"), bytes).expect("an identity"))
        };
        let organizations: Vec<_> =
            (0..shape.members).map(|index| identity(&format!("org-{index:04}"), index)).collect();
        let (coordinator, operator) = (identity("coordinator", 5000), identity("operator", 5001));
        let next = identity("coordinator", 5003);
        let viewer = identity("viewer", 5002);
        let until = jiff::civil::date(2099, 1, 1);
        let today = jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::now()).date();
        let ends = |index: usize| {
            let days = shape.key_days.get(index).map(|days| jiff::Span::new().days(*days));
            days.map_or(until, |days| today.checked_add(days).expect("a day"))
        };
        let roster = Roster {
            previous: None,
            version: 1,
            consortium: "generated".parse().expect("an id"),
            quorum: 2 * organizations.len() / 3 + 1,
            coordinator: coordinator.party(until),
            organizations: organizations
                .iter()
                .enumerate()
                .map(|(index, it)| it.party(ends(index)))
                .collect(),
            operators: vec![operator.party(until)],
            coordinator_next: Some(next.party(until)),
            viewers: vec![viewer.party(until)],
            plan_signers: Vec::new(),
            simulated: false,
        };
        let sign = |kind, text: &str| {
            let mut signatures = Signatures::default();
            organizations.iter().for_each(|it| signatures.add(kind, text, &it.id, it.signing_key()));
            signatures
        };
        let text = roster.to_text().expect("a roster");
        let signatures = sign(Kind::Roster, &text);
        let roster =
            Roster::verify(&text, &signatures, &fingerprint(Kind::Roster, &text)).expect("a signed roster");
        let roster_text = (text, signatures.to_text());
        let text = plan(shape, &roster.digest());
        let signatures = sign(Kind::Plan, &text);
        let plan = Plan::verify(&text, &signatures, &roster).expect("a signed plan");
        let texts = [roster_text, (text, signatures.to_text())];
        let (roster, plan) = (Arc::new(roster), Arc::new(plan));
        let top = shape.top;
        Self { coordinator, operator, viewer, next, organizations, roster, plan, texts, top }
    }

    /// Writes the identity that a coordinator process in a folder takes.
    pub fn write_identity(folder: &Path, identity: &Identity) {
        write_private(&folder.join("identity.toml"), identity);
    }

    /// Writes everything a coordinator process needs into a folder; the path of its configuration.
    pub fn write(&self, folder: &Path, listen: SocketAddr, limits: &str) -> PathBuf {
        for (name, (text, signatures)) in ["roster.toml", "plan.toml"].iter().zip(&self.texts) {
            fs::write(folder.join(name), text).expect("a file");
            fs::write(folder.join(format!("{name}.sig")), signatures).expect("a file");
        }
        Self::write_identity(folder, &self.coordinator);
        let pin = fingerprint(Kind::Roster, &self.texts[0].0);
        let config = folder.join("coordinator.toml");
        let text = format!(
            "listen = \"{listen}\"\nidentity = \"identity.toml\"\nroster = \"roster.toml\"\nroster_pin = \"{pin}\"\n\
             plan = \"plan.toml\"\nstate = \"state\"\n{}\n[limits]\n{limits}\n",
            self.top
        );
        fs::write(&config, text).expect("a file");
        config
    }

    /// Writes what an operator's terminal needs into the folder that [`Consortium::write`] filled: `operator.toml` and
    /// `viewer.toml`.
    pub fn write_terminals(&self, folder: &Path, coordinator: SocketAddr) {
        let pin = fingerprint(Kind::Roster, &self.texts[0].0);
        for (name, identity) in [("operator", &self.operator), ("viewer", &self.viewer)] {
            write_private(&folder.join(format!("{name}.identity.toml")), identity);
            let text = format!(
                "identity = \"{name}.identity.toml\"\nroster = \"roster.toml\"\npin = \"{pin}\"\n\
                 coordinator = \"{coordinator}\"\nplan = \"plan.toml\"\n"
            );
            fs::write(folder.join(format!("{name}.toml")), text).expect("a file");
        }
    }
}

fn write_private(path: &Path, identity: &Identity) {
    let mut private = fs::OpenOptions::new();
    let file = private.create(true).truncate(true).write(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(identity.to_text().expose().as_bytes())).expect("a private file");
}

/// A plan in which all coordinates are one tensor. Its numbers are those of a job with little noise to spare.
fn plan(shape: &Shape, roster: &Digest) -> String {
    let n = shape.members;
    let colluders = Params::default_colluders(n);
    let survivors = (n + colluders) / 2 + 1;
    let (d, bits, rounds) = (shape.dimension, shape.ring_bits, shape.rounds);
    let (step, grace, upload_grace) =
        (shape.deadline_s, shape.grace_s, shape.upload_grace_s.max(shape.grace_s));
    let (wait, epsilon) = (shape.wait_s, shape.epsilon);
    let none = Digest([0; 32]);
    let retention = match shape.keep_inputs_h {
        0 => String::new(),
        hours => format!("[retention]\nmasked_inputs_h = {hours}\n"),
    };
    let optimizer = if shape.adam {
        "kind = \"adam\"\nlearning_rate = 0.01\nbeta1 = 0.9\nbeta2 = 0.999\nepsilon = 1e-8"
    } else {
        "kind = \"sgd\"\nlearning_rate = 0.5"
    };
    format!(
        "version = 1\njob = \"generated\"\nroster = \"{roster}\"\nrounds = {rounds}\narithmetic = 1\n\
         [model]\nname = \"none\"\nconfig = \"{none}\"\ntokenizer = \"{none}\"\nweights = \"{none}\"\n\
         pooling = \"mean\"\nmax_tokens = 8\n\
         [task]\nlabels = [\"a\", \"b\"]\nmax_records_per_patient = 1\n\
         [cohort]\norganizations = {n}\ncolluders = {colluders}\nmin_survivors = {survivors}\n\
         [privacy]\nunit = \"patient\"\nnote = \"generated\"\ndelta = 1e-5\nepsilon = {epsilon:?}\nsampling_rate = 0.1\n\
         expected_lot = 50.0\nlargest_lot = 4.0\nclip = 1.0\nnoise_multiplier = 1.0\n\
         [encoding]\nscale = 64.0\nring_bits = {bits}\nmetrics_share = 0.05\nloss_max = 8.0\nrounding_beta = 0.01\n\
         [optimizer]\n{optimizer}\n\
         [evaluation]\norganization = \"org-0000\"\nevery_rounds = 1\nmax_examples = 10\n\
         [deadlines]\nwait_s = {wait}\nadvertise_s = {step}\nshare_s = {step}\ninput_s = {step}\nvote_s = {step}\n\
         unmask_s = {step}\ngrace_s = {grace}\nupload_grace_s = {upload_grace}\n\
         [retries]\nmax_attempts = 2\n{retention}\
         [adapter]\nmode = \"ffa\"\nrank = 1\nalpha = 1.0\nrslora = false\ntarget_modules = []\nseed = \"{none}\"\n\
         [[adapter.tensor]]\nname = \"head.weight\"\nshape = [{d}]\nbound = 0.0\ntrained = true\n"
    )
}
