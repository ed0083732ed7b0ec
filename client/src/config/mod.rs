//! `client.toml`: everything this organization decides about its client, and everything that is checked before it runs.
//!
//! Unknown fields are refused with the nearest known one. Relative paths begin at the config file's folder. The file holds
//! no secret: keys come by a file of their own. [`Config::load`] reads it; [`Loaded::load`] goes on to the documents it names
//! (identity, roster, plan, model) and believes none of them before its signature or digest has been checked.
//!
//! What is fixed for the whole job stands in the signed plan, not here. What this organization alone decides (its data,
//! its threads, and in a file of its own its [`crate::policy`]) stands here and is never sent.

mod error;
mod external;
mod fit;
mod loaded;
#[cfg(test)]
#[path = "../../tests/cli_support/mod.rs"]
pub(crate) mod support;
#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use consilium_crypto::digest::Digest;
use consilium_proto::{
    identity::Identity, ids::Id, pinning::SERVER_NAME, plan::VerifiedPlan, roster::VerifiedRoster,
};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde::{Deserialize, Deserializer, de::Error as _};

pub use error::ConfigError;
pub use external::{External, TrainerKind};
pub use fit::{
    DeltaError, adapter_spec, adapter_tensors_of, check_delta, check_tensors, delta_of_patients, trained,
    trainer_spec,
};
pub use loaded::{Loaded, signature_path, today};

use crate::{
    data::DataConfig,
    files,
    ledger::LEDGER_FILE,
    link::{ConnectError, Proxy, ProxyError, Route, Signer, Target, server_name},
    trainer::{Base, Device},
};

/// Largest config file that is read, bytes.
pub const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// The client's configuration, its paths resolved and its numbers in range. The files it names have not been looked at.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// This organization's id in the roster.
    pub organization: Id,
    /// File with the organization's private keys, mode 0600, made by `consilium-client keygen`.
    pub identity: PathBuf,
    /// Where the coordinator listens, `host:port`. The only address this client ever connects to. Who answers there must
    /// hold the TLS key in the roster, so a wrong address costs a refused connection and nothing else.
    pub coordinator: String,
    /// The roster's first version, `roster.toml`. Later ones are found beside it (`roster.2.toml`, `roster.3.toml` …), and so are
    /// revocations (`roster.toml.revoked`); the signatures of each stand in the same name with `.sig` added.
    pub roster: PathBuf,
    /// The first version's fingerprint, 64 hexadecimal digits, compared with the other organizations by telephone. Turning this
    /// without a telephone call is how a consortium gets a member that nobody chose.
    #[serde(deserialize_with = "digest")]
    pub roster_pin: Digest,
    /// The job plan. Its signatures are read from the same name with `.sig` added.
    pub plan: PathBuf,
    /// Folder for what must survive a restart: the privacy ledger, and what this client has said in each job. One for all
    /// jobs of one data set; another folder is another ledger, and forgets what was spent.
    pub state: PathBuf,
    /// The base model's folder: `config.json`, `tokenizer.json`, `model.safetensors`, byte for byte as the plan names them. May be
    /// left out with a trainer outside the client: then that trainer answers for the model.
    pub model: Option<PathBuf>,
    /// This organization's own records.
    pub data: Data,
    /// The public test set; needed only by the organization that the plan names as evaluator.
    pub evaluation: Option<DataConfig>,
    /// What this organization allows, whatever the plan says: see [`crate::policy`]. Absent: whatever is signed is allowed.
    pub policy: Option<PathBuf>,
    /// Whether a person here says yes to each plan. Turning it to `auto` lets whatever is signed, and within the policy, begin by itself.
    #[serde(default)]
    pub approval: Approval,
    /// The proxy on the way out. Absent: HTTPS_PROXY and NO_PROXY say, if they are set.
    pub proxy: Option<ProxyConfig>,
    /// Who shows on the way to the coordinator who they are, and how. Turning this to `inspected` lets a box of this hospital's own network
    /// read what is sent.
    #[serde(default)]
    pub transport: Transport,
    /// PEM file with the authorities that sign that box's certificates; with `transport = "inspected"` and no other.
    pub inspection_ca: Option<PathBuf>,
    /// File that OpenTelemetry spans of each attempt are appended to, OTLP's JSON, about 2 KB each; nothing is sent. Absent: none.
    pub traces: Option<PathBuf>,
    /// How this machine trains.
    #[serde(default)]
    pub training: Training,
    /// The trainer outside the client; only with `training.trainer = "external"`.
    pub external: Option<External>,
    /// Where results go.
    #[serde(default)]
    pub output: Output,
    /// How the log on standard error looks.
    #[serde(default)]
    pub log: LogFormat,
}

/// `[data]`: the organization's own records. Nothing of them leaves this machine but clipped, noisy, masked sums.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// A name for the data set, the same for ever: its privacy ledger belongs to it. Two files with the same patients are one
    /// data set; under two names each would spend a budget of its own on the same people.
    pub name: Id,
    /// The file; its extension says the format: `csv`, `jsonl` (or `ndjson`), `parquet`.
    pub path: PathBuf,
    /// Column with the text. With a trainer outside the client it may be left out: only the patients' ids are read then.
    #[serde(default)]
    pub text_column: String,
    /// Column with the label, spelled as in the plan's label list; where a text may have several, `;` separates them, and nothing stands for none.
    /// Absent: there are no labels, because the plan learns the next token, or the records are a trainer's outside the client.
    #[serde(default)]
    pub label_column: String,
    /// Column with the patient's id. Records of one patient under two ids are protected as if they were two patients: less.
    pub patient_column: String,
    /// Patient ids, one a line, who are not to be learned from: read anew before every lot, so that a line counts from the next
    /// round on. While the file cannot be read, this client does not take part. Absent: nobody has opted out.
    pub opt_out: Option<PathBuf>,
}

/// Whether a person here says yes to each plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Approval {
    /// A new or changed plan waits for `consilium-client plan approve`; nothing is dialled before.
    #[default]
    Manual,
    /// Whatever is signed, and within the policy, runs.
    Auto,
}

impl Approval {
    /// Whether a plan waits for a person.
    pub fn asks(self) -> bool {
        self == Self::Manual
    }

    /// The word in the config.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Auto => "auto",
        }
    }
}

/// How both ends of the connection know each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// By their TLS keys, which the roster lists. Nobody on the way sees more than times and sizes.
    #[default]
    Pinned,
    /// A box of this hospital's own network opens TLS. It is known by its authority, this organization by a signature over a
    /// challenge; the coordinator by what it signs.
    Inspected,
}

/// `[proxy]`: the proxy on the way out. It resolves the coordinator's name, and opens a tunnel to it with CONNECT.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyConfig {
    /// `host:port` or `http://host:port`; `none` dials directly whatever the environment says.
    pub address: String,
    /// File of mode 0600 with one line, `user:password`, for Basic authentication. The proxy is spoken to in plain HTTP: who can listen on
    /// that stretch reads the password.
    pub credentials: Option<PathBuf>,
}

/// `[training]`: how this machine trains. Nothing here changes a result (`base` and `device`: beyond the last digits of this organization's
/// own gradients), only how long it takes and what it needs.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Training {
    /// Who computes gradients: the client itself, or a process of this organization's own, which then clips them too.
    pub trainer: TrainerKind,
    /// libtorch threads, 1 to 256. More than one only if this client has the machine to itself: on busy cores two threads
    /// made a step 7 to 15 times slower.
    pub threads: u32,
    /// Most memory for states of the frozen layers, MiB. 0 computes them anew in every round; with room for all records
    /// (tokens × hidden size × 4 bytes each) a round takes about half the time.
    pub cache_mib: u64,
    /// Most records whose gradients are in memory together, 1 to 65,536. Fewer need less memory (`4 × trained parameters` bytes each) and
    /// more time; the result is the same to the last bit.
    pub max_physical_batch: u32,
    /// How the frozen base model is held: `"f32"`, or `"bf16"`, which takes half the memory and, where the processor multiplies it by
    /// itself, a fraction of the time. Gradients then carry three digits, far above the noise.
    pub base: Base,
    /// `"cpu"`, or `"cuda:0"` with a libtorch built for CUDA.
    pub device: Device,
}

impl Training {
    /// Threads unless the config says otherwise.
    pub const DEFAULT_THREADS: u32 = 1;
    /// Cache unless the config says otherwise, MiB: room for 25,000 short texts of a small encoder.
    pub const DEFAULT_CACHE_MIB: u64 = 512;
    /// Records together unless the config says otherwise: as many as a block of short texts holds.
    pub const DEFAULT_PHYSICAL_BATCH: u32 = 48;

    /// [`Training::cache_mib`] in bytes.
    pub fn cache_bytes(&self) -> u64 {
        self.cache_mib << 20
    }
}

impl Default for Training {
    fn default() -> Self {
        Self {
            trainer: TrainerKind::BuiltIn,
            threads: Self::DEFAULT_THREADS,
            cache_mib: Self::DEFAULT_CACHE_MIB,
            max_physical_batch: Self::DEFAULT_PHYSICAL_BATCH,
            base: Base::default(),
            device: Device::default(),
        }
    }
}

/// `[output]`: where results go.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Folder that receives the finished adapter when the job ends. Absent: none is written, and
    /// `consilium-client export` writes it at any time.
    pub folder: Option<PathBuf>,
}

/// How the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line, for machines.
    #[default]
    Json,
    /// Lines for people.
    Text,
}

fn digest<'de, D: Deserializer<'de>>(from: D) -> Result<Digest, D::Error> {
    String::deserialize(from)?.parse().map_err(D::Error::custom)
}

impl Config {
    /// Reads the file, resolves its paths and checks its numbers.
    ///
    /// # Errors
    ///
    /// [`ConfigError`]: not readable, an unknown field (with the nearest known one), a value out of range.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = files::read_text(path, MAX_CONFIG_BYTES)?;
        let mut config: Self = toml::from_str(&text).map_err(|error| ConfigError::parse(path, &error))?;
        config.resolve(path.parent().unwrap_or(Path::new("")));
        config.check()?;
        Ok(config)
    }

    fn resolve(&mut self, folder: &Path) {
        let paths =
            [&mut self.identity, &mut self.roster, &mut self.plan, &mut self.state, &mut self.data.path];
        let (socket, keys) = match &mut self.external {
            Some(external) => (external.socket.as_mut(), external.keys.as_mut()),
            None => (None, None),
        };
        let optional = [
            self.model.as_mut(),
            socket,
            keys,
            self.policy.as_mut(),
            self.inspection_ca.as_mut(),
            self.traces.as_mut(),
            self.data.opt_out.as_mut(),
            self.evaluation.as_mut().map(|set| &mut set.path),
            self.output.folder.as_mut(),
            self.proxy.as_mut().and_then(|proxy| proxy.credentials.as_mut()),
        ];
        for path in paths.into_iter().chain(optional.into_iter().flatten()) {
            // An absolute path replaces the folder.
            *path = folder.join(&*path);
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let rule = |holds: bool, field, value: &dyn ToString, rule| {
            let refuse = || ConfigError::Value { field, value: value.to_string(), rule };
            if holds { Ok(()) } else { Err(refuse()) }
        };
        let address = self.coordinator.rsplit_once(':');
        let dialable = address.is_some_and(|(host, port)| {
            let bracketed = host.starts_with('[') && host.ends_with(']');
            !host.is_empty()
                && (bracketed || !host.contains(':'))
                && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        rule(
            dialable,
            "coordinator",
            &self.coordinator,
            "write host:port, as in coordinator.example.org:7400 or [2001:db8::1]:7400",
        )?;
        self.check_trainer()?;
        let named = self.inspection_ca.as_ref().map_or("none".into(), |path| path.display().to_string());
        rule(
            self.inspection_ca.is_some() == (self.transport == Transport::Inspected),
            "inspection_ca",
            &named,
            "it goes with transport = \"inspected\", and only with it: the PEM file of the authority whose box opens TLS",
        )?;
        let (threads, cache) = (self.training.threads, self.training.cache_mib);
        rule((1..=256).contains(&threads), "training.threads", &threads, "it must be 1 to 256")?;
        let batch = self.training.max_physical_batch;
        rule((1..=65_536).contains(&batch), "training.max_physical_batch", &batch, "it must be 1 to 65536")?;
        rule(cache <= 1 << 20, "training.cache_mib", &cache, "it must be at most 1048576, a tebibyte")
    }

    /// The way to the coordinator: by the config, or by the environment where it says nothing.
    ///
    /// # Errors
    ///
    /// [`ProxyError`].
    pub fn route(&self) -> Result<Route, ProxyError> {
        match &self.proxy {
            None => Route::from_environment(&self.coordinator),
            Some(proxy) if proxy.address == "none" => Ok(Route::Direct),
            Some(proxy) => Ok(Route::Through(Proxy::new(&proxy.address, proxy.credentials.as_deref())?)),
        }
    }

    /// The coordinator, by a way and as this organization, for the job with this plan.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Authorities`], [`ConfigError::Connect`].
    pub fn target(
        &self,
        route: Route,
        identity: &Arc<Identity>,
        roster: &Arc<VerifiedRoster>,
        plan: &Digest,
    ) -> Result<Target, ConfigError> {
        let Some(path) = &self.inspection_ca else {
            return Ok(Target::new(&self.coordinator, route, identity, roster.clone())?);
        };
        let refused = |why: String| ConfigError::Authorities { path: path.clone(), why };
        let text = files::read_text(path, MAX_CONFIG_BYTES)?;
        let authorities: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| refused(error.to_string()))?;
        if authorities.is_empty() {
            return Err(refused("no certificate is in it".into()));
        }
        let signer = Signer { identity: identity.clone(), plan: *plan };
        Ok(Target::inspected(&self.coordinator, route, authorities, signer)?)
    }

    /// The name that is asked for at the coordinator's address.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Address`].
    pub fn asked_name(&self) -> Result<ServerName<'static>, ConnectError> {
        match self.transport {
            Transport::Inspected => server_name(&self.coordinator),
            Transport::Pinned => {
                ServerName::try_from(SERVER_NAME).map_err(|_| ConnectError::Address(self.coordinator.clone()))
            }
        }
    }

    /// Where a job's own state is kept, inside the state folder.
    pub fn job_folder(&self, plan: &VerifiedPlan) -> PathBuf {
        self.state.join(plan.document().job.as_str())
    }

    /// The data set's privacy ledger, in the state folder: one for all jobs.
    pub fn ledger(&self) -> PathBuf {
        self.state.join(LEDGER_FILE)
    }
}

impl Data {
    /// File and columns, as the reader takes them.
    pub fn source(&self) -> DataConfig {
        DataConfig {
            path: self.path.clone(),
            text_column: self.text_column.clone(),
            label_column: self.label_column.clone(),
            patient_column: self.patient_column.clone(),
        }
    }
}
