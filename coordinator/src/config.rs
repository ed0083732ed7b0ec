//! `coordinator.toml`: what a coordinator process needs to know.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use consilium_crypto::digest::Digest;
use consilium_proto::{
    identity::{Identity, IdentityError},
    inspected,
    plan::{MAX_START_BYTES, Plan, PlanError, VerifiedPlan},
    roster::VerifiedRoster,
    signed::{SignatureError, Signatures},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde::Deserialize;
use thiserror::Error;

use crate::{
    chain::{self, ChainError},
    disk,
    files::{self, FileError},
    limits::{LimitError, Limits},
    service::Inspected,
};

/// The file, as written. Relative paths are relative to the file's folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address to listen on, `host:port`. `127.0.0.1` keeps it on this machine; `0.0.0.0` serves every network card.
    pub listen: SocketAddr,
    /// The coordinator's private identity file, mode 0600.
    pub identity: PathBuf,
    /// The roster's first version; later ones (`roster.2.toml` …) and revocations (`roster.toml.revoked`) are found beside it, and
    /// the signatures of each in the same name with `.sig` added.
    pub roster: PathBuf,
    /// Fingerprint of the first version, compared out of band.
    pub roster_pin: String,
    /// The signed plan; its signatures stand beside it in `<plan>.sig`.
    pub plan: PathBuf,
    /// Folder for the job's state, on a disk that keeps what it acknowledged. One folder per job.
    pub state: PathBuf,
    /// A second address, for members whose own network opens TLS. Absent: there is none.
    pub inspected: Option<InspectedConfig>,
    /// When the first attempt begins; see [`Start`].
    #[serde(default)]
    pub start: Start,
    /// What other machines may watch.
    #[serde(default)]
    pub observe: Observe,
    /// What anybody may use of this machine; each limit has a default.
    #[serde(default)]
    pub limits: Limits,
    /// How much of the disk is kept free.
    #[serde(default)]
    pub disk: disk::Settings,
}

/// `[inspected]`: where members dial whose own network opens TLS (`transport = "inspected"` in theirs). Their box sees what the
/// coordinator sees of them; nobody else's connection is touched.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InspectedConfig {
    /// Address to listen on, `host:port`.
    pub listen: SocketAddr,
    /// Certificate chain, PEM, that those boxes accept: of a public authority, or of one that they were given. Nobody trusts it
    /// for more than the way: members show who they are by a signature.
    pub certificate: PathBuf,
    /// Its private key, PEM, mode 0600.
    pub key: PathBuf,
}

/// What other machines may watch: the `[observe]` table. Nothing, unless it is named here.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Observe {
    /// Address of `/metrics` for Prometheus: plain HTTP, so a loopback address; what reads it from elsewhere is put before it.
    pub metrics: Option<SocketAddr>,
    /// File that OpenTelemetry spans are appended to, OTLP's JSON, a line for each attempt that ends; about 3 KB each.
    pub traces: Option<PathBuf>,
    /// Seconds between two looks at disk and backups: 60. The forecast of the disk is made from the last 61 looks.
    pub look_s: u32,
    /// Seconds between two walks along the record's chain: 3600. Each reads the whole record from the disk.
    pub walk_s: u32,
}

impl Default for Observe {
    fn default() -> Self {
        Self { metrics: None, traces: None, look_s: 60, walk_s: 3600 }
    }
}

/// When a job's first attempt begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// As soon as enough members are online.
    #[default]
    Automatic,
    /// When an operator has given `consilium job start`.
    Manual,
}

/// Everything loaded and verified.
pub struct Loaded {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// The second address, if there is one.
    pub inspected: Option<Inspected>,
    /// Folder for the job's state.
    pub state: PathBuf,
    /// Own keys.
    pub identity: Arc<Identity>,
    /// Who belongs.
    pub roster: Arc<VerifiedRoster>,
    /// What is done.
    pub plan: Arc<VerifiedPlan>,
    /// What anybody may use.
    pub limits: Limits,
    /// The first attempt begins when an operator says so.
    pub wait_for_start: bool,
    /// What other machines may watch.
    pub observe: Observe,
    /// How much of the disk is kept free.
    pub disk: disk::Settings,
    /// Where the documents stand.
    pub documents: Documents,
}

/// Files of signed documents; signatures stand beside each.
#[derive(Clone, Debug)]
pub struct Documents {
    /// The roster's first version.
    pub roster: PathBuf,
    /// The plan.
    pub plan: PathBuf,
}

impl Documents {
    /// The values that the plan goes on from, where it names some.
    pub fn start(&self) -> PathBuf {
        let mut name = self.plan.as_os_str().to_owned();
        name.push(".start");
        name.into()
    }
}

/// Why a configuration was refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A public file cannot be read.
    #[error("cannot read {path}: {source}; correct the path in the config or restore the file")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not TOML of this shape.
    #[error("{path} does not parse: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, column and field.
        source: Box<toml::de::Error>,
    },
    /// `roster_pin` is not a fingerprint.
    #[error(
        "roster_pin = \"{0}\" is not 64 hexadecimal digits; copy what `consilium roster fingerprint` prints"
    )]
    Pin(String),
    /// Metrics are not for everybody who can reach the machine.
    #[error(
        "observe.metrics = \"{0}\" is not a loopback address, and /metrics has neither TLS nor names; write 127.0.0.1 or [::1], and \
         put what authenticates its readers before it"
    )]
    Metrics(SocketAddr),
    /// The certificate for inspected connections is none.
    #[error(
        "inspected.certificate = \"{certificate}\" and inspected.key do not make a TLS server: {why}; both are PEM files, the \
         certificate's chain first, and belong together"
    )]
    Inspected {
        /// The certificate's file.
        certificate: PathBuf,
        /// What does not hold.
        why: String,
    },
    /// A limit is out of range.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The identity is malformed.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The identity is not the roster's coordinator.
    #[error(
        "the identity is {id}'s, and its keys are not the ones that the roster lists for the coordinator {listed}"
    )]
    OtherIdentity {
        /// In the identity file.
        id: String,
        /// In the roster.
        listed: String,
    },
    /// A signature file is malformed.
    #[error("{path}: {source}")]
    Signatures {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: SignatureError,
    },
    /// The roster is refused.
    #[error(transparent)]
    Roster(#[from] Box<ChainError>),
    /// The plan is refused.
    #[error(transparent)]
    Plan(#[from] Box<PlanError>),
}

impl Config {
    /// Reads, verifies and checks everything the file names.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the file, the field and the cure.
    pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
        let config: Self = toml::from_str(&read(path)?)
            .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })?;
        config.limits.check()?;
        if let Some(address) = config.observe.metrics.filter(|address| !address.ip().is_loopback()) {
            return Err(ConfigError::Metrics(address));
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        let pin: Digest =
            config.roster_pin.parse().map_err(|_| ConfigError::Pin(config.roster_pin.clone()))?;
        let identity = Identity::parse(files::read_private(&folder.join(&config.identity))?.expose())?;
        let roster = chain::open(&folder.join(&config.roster), &pin).map_err(Box::new)?;
        let listed = roster.coordinator();
        let own = identity.party(listed.valid_until);
        let own = (own.signing_key, own.tls_key);
        if !roster.coordinator_keys().any(|party| own == (party.signing_key, party.tls_key)) {
            let (id, listed) = (identity.id.to_string(), listed.id.to_string());
            return Err(ConfigError::OtherIdentity { id, listed });
        }
        let (plan_text, plan_signatures) = signed(&folder.join(&config.plan))?;
        let plan = Plan::verify(&plan_text, &plan_signatures, &roster).map_err(Box::new)?;
        let start = start(&folder.join(&config.plan), &plan)?;
        let plan = plan.begin_from(start.as_deref()).map_err(Box::new)?;
        Ok(Loaded {
            listen: config.listen,
            inspected: config.inspected.map(|it| it.open(folder)).transpose()?,
            state: folder.join(&config.state),
            identity: Arc::new(identity),
            roster: Arc::new(roster),
            plan: Arc::new(plan),
            limits: config.limits,
            disk: config.disk,
            documents: Documents { roster: folder.join(&config.roster), plan: folder.join(&config.plan) },
            wait_for_start: config.start == Start::Manual,
            observe: Observe {
                traces: config.observe.traces.map(|path| folder.join(path)),
                ..config.observe
            },
        })
    }
}

impl InspectedConfig {
    fn open(self, folder: &Path) -> Result<Inspected, ConfigError> {
        let chain = read(&folder.join(&self.certificate))?;
        let key = files::read_private(&folder.join(&self.key))?;
        let refused = |why: String| ConfigError::Inspected { certificate: self.certificate.clone(), why };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|e| refused(e.to_string()))?;
        let key =
            PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).map_err(|e| refused(e.to_string()))?;
        let tls = inspected::server_config(chain, key).map_err(|e| refused(e.to_string()))?;
        Ok(Inspected { listen: self.listen, tls: Arc::new(tls) })
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

/// A signed document and the signatures beside it.
fn signed(path: &Path) -> Result<(String, Signatures), ConfigError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".sig");
    let beside = PathBuf::from(beside);
    let signatures = Signatures::parse(&read(&beside)?)
        .map_err(|source| ConfigError::Signatures { path: beside.clone(), source })?;
    Ok((read(path)?, signatures))
}

/// The values that the plan's adapter goes on from, beside the plan; nothing if it names none, or if the file is not there.
fn start(plan: &Path, verified: &VerifiedPlan) -> Result<Option<Vec<u8>>, ConfigError> {
    if verified.document().adapter.start.is_none() {
        return Ok(None);
    }
    let mut path = plan.as_os_str().to_owned();
    path.push(".start");
    let path = PathBuf::from(path);
    let io = |source| ConfigError::Read { path: path.clone(), source };
    if !path.is_file() {
        return Ok(None);
    }
    // One byte more than allowed: the plan refuses what is too large.
    let mut bytes = Vec::new();
    let file = fs::File::open(&path).map_err(io)?;
    std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_START_BYTES + 1), &mut bytes)
        .map_err(io)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_sample_parses_and_a_misspelt_field_is_named() {
        let sample = include_str!("../coordinator.example.toml");
        let config: Config = toml::from_str(sample).unwrap();
        assert_eq!(config.listen.port(), 7433);
        assert_eq!(config.limits, Limits::default(), "the sample shows the defaults");
        assert_eq!(config.disk, disk::Settings::default(), "the sample shows the defaults");
        let error = toml::from_str::<Config>(&sample.replace("listen", "lisen")).unwrap_err().to_string();
        assert!(error.contains("unknown field `lisen`") && error.contains("expected one of"), "{error}");
    }
}
