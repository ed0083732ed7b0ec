//! From a configuration to documents that have been verified.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
};

use consilium_crypto::digest::Digest;
use consilium_proto::{
    identity::Identity,
    ids::Id,
    pinning::day_of,
    plan::{MAX_START_BYTES, Plan, VerifiedPlan},
    roster::{
        Party, RosterError, Unlisted, VerifiedRoster,
        chain::{self, Seen, Version},
        revocation::Revocations,
        revocation_file, successor,
    },
    signed::{MAX_DOCUMENT_BYTES, Signatures},
};
use jiff::civil::Date;
use rustls::pki_types::UnixTime;

use super::{Config, ConfigError, check_tensors};
use crate::{
    files::{self, FileError},
    model::ModelFolder,
    policy::Policy,
};

/// A configuration and everything it names, verified against each other.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What this organization allows.
    pub policy: Policy,
    /// The organization's keys: those that the roster lists.
    pub identity: Identity,
    /// The roster: the newest version of a chain whose first is pinned and signed by every organization in it.
    pub roster: Arc<VerifiedRoster>,
    /// The plan: signed as the roster demands, and within this organization's policy.
    pub plan: Arc<VerifiedPlan>,
    /// The base model: the plan's, byte for byte, and one that the plan's adapter fits. With a trainer outside the client it may be
    /// absent, or of a kind that the client does not know.
    pub model: Option<ModelFolder>,
}

/// The day in UTC, by this machine's clock.
pub fn today() -> Date {
    day_of(UnixTime::now())
}

impl Loaded {
    /// The base model, for a command that runs it.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NoModel`].
    pub fn model(&self) -> Result<&ModelFolder, ConfigError> {
        self.model.as_ref().ok_or(ConfigError::NoModel)
    }

    /// Loads and verifies everything; `today` decides whether keys have expired.
    ///
    /// # Errors
    ///
    /// The first [`ConfigError`], in this order: config, policy, identity, roster, own entry, plan (and what the policy says of it),
    /// data paths, model.
    pub fn load(path: &Path, today: Date) -> Result<Self, ConfigError> {
        let config = Config::load(path)?;
        // Before any plan is looked at.
        let policy = config.open_policy()?;
        let identity = config.open_identity()?;
        let roster = config.open_roster()?;
        config.check_entry(&identity, &roster, today)?;
        let plan = config.open_plan(&roster)?;
        config.check_policy(&policy, &plan, &roster)?;
        config.check_paths(&plan)?;
        let model = config.open_model(&plan)?;
        Ok(Self { config, policy, identity, roster: Arc::new(roster), plan: Arc::new(plan), model })
    }
}

/// One check each, in the order in which [`Loaded::load`] makes them.
impl Config {
    /// Reads the identity, which must be private and this organization's.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Missing`], [`ConfigError::File`] (exposed), [`ConfigError::Identity`], [`ConfigError::OtherIdentity`].
    pub fn open_identity(&self) -> Result<Identity, ConfigError> {
        let path = &self.identity;
        exists("identity", "private identity file", path, "; make one with consilium-client keygen")?;
        let text = files::read_private(path)?;
        let identity = Identity::parse(text.expose())
            .map_err(|source| ConfigError::Identity { path: path.clone(), source })?;
        if identity.id != self.organization {
            let (organization, found) = (self.organization.clone(), identity.id);
            return Err(ConfigError::OtherIdentity { organization, path: path.clone(), found });
        }
        Ok(identity)
    }

    /// Reads and verifies the roster: the pinned first version, every later one beside it, and the revocations. A chain that is
    /// older than one accepted before is refused.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Missing`], [`ConfigError::Signatures`], [`ConfigError::Roster`].
    pub fn open_roster(&self) -> Result<VerifiedRoster, ConfigError> {
        let first = &self.roster;
        exists("roster", "roster", first, "; it comes from whoever drew up the consortium")?;
        let refused =
            |source: RosterError| ConfigError::Roster { path: successor(first, source.version()), source };
        let mut versions = Vec::new();
        for path in (1..).map(|version| successor(first, version)).take_while(|path| path.is_file()) {
            let text = files::read_text(&path, MAX_DOCUMENT_BYTES as u64)?;
            versions.push(Version { text, signatures: signatures(&path)? });
        }
        let path = revocation_file(first);
        let revocations = match path.is_file() {
            false => Revocations::default(),
            true => Revocations::parse(&files::read_text(&path, MAX_DOCUMENT_BYTES as u64)?)
                .map_err(|source| ConfigError::Roster { path, source })?,
        };
        let roster = chain::verify(&versions, &self.roster_pin, &revocations).map_err(refused)?;
        if let Some(seen) = self.roster_seen(&roster)? {
            seen.check(&roster).map_err(refused)?;
        }
        Ok(roster)
    }

    /// The newest version of this chain that was accepted before.
    fn roster_seen(&self, roster: &VerifiedRoster) -> Result<Option<Seen>, ConfigError> {
        let path = self.seen_file(roster);
        if !path.is_file() {
            return Ok(None);
        }
        let text = files::read_text(&path, super::MAX_CONFIG_BYTES)?;
        toml::from_str(&text).map(Some).map_err(|error| ConfigError::parse(&path, &error))
    }

    /// Makes a verified roster's version the least that this client accepts from now on.
    ///
    /// # Errors
    ///
    /// When it cannot be written down.
    pub fn remember_roster(&self, roster: &VerifiedRoster) -> Result<(), FileError> {
        let path = self.seen_file(roster);
        // Unwrap safety: a number and a fingerprint serialize to TOML.
        let text = toml::to_string(&Seen::of(roster)).unwrap_or_default();
        if path.is_file() && files::read_text(&path, super::MAX_CONFIG_BYTES)? == text {
            return Ok(());
        }
        files::write_atomic(&path, text.as_bytes())
    }

    /// One file for each chain: a data set's state folder may serve more than one consortium.
    fn seen_file(&self, roster: &VerifiedRoster) -> PathBuf {
        let genesis = roster.genesis().to_string();
        self.state.join(format!("roster-{}.toml", genesis.get(..16).unwrap_or(&genesis)))
    }

    /// Checks that the roster lists this identity's keys, that neither they nor the coordinator's have expired, and that they have
    /// not been revoked.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NotListed`], [`ConfigError::OtherKey`], [`ConfigError::Expired`] (revoked, too).
    pub fn check_entry(
        &self,
        identity: &Identity,
        roster: &VerifiedRoster,
        today: Date,
    ) -> Result<(), ConfigError> {
        let organization = self.organization.clone();
        let Some(entry) = roster.organization(&organization) else {
            let (consortium, listed) = (roster.document().consortium.clone(), roster.cohort());
            return Err(ConfigError::NotListed { organization, consortium, listed });
        };
        let Party { signing_key, tls_key, .. } = identity.party(entry.valid_until);
        let pairs = [
            ("signing key", signing_key.to_string(), entry.signing_key.to_string()),
            ("TLS key", tls_key.to_string(), entry.tls_key.to_string()),
        ];
        for (which, own, listed) in pairs {
            if own != listed {
                return Err(ConfigError::OtherKey { which, organization, own, listed });
            }
        }
        entry.valid_on(today).map_err(ConfigError::Expired)?;
        if roster.is_revoked(entry) {
            return Err(ConfigError::Expired(Unlisted::Revoked { id: organization }));
        }
        roster.coordinator().valid_on(today).map_err(ConfigError::Expired)
    }

    /// Reads and verifies the plan.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Missing`], [`ConfigError::Signatures`], [`ConfigError::Plan`].
    pub fn open_plan(&self, roster: &VerifiedRoster) -> Result<VerifiedPlan, ConfigError> {
        let path = &self.plan;
        exists("plan", "job plan", path, "; it comes from whoever proposes the job")?;
        let text = files::read_text(path, MAX_DOCUMENT_BYTES as u64)?;
        let refused = |source| ConfigError::Plan { path: path.clone(), source };
        let plan = Plan::verify(&text, &signatures(path)?, roster).map_err(refused)?;
        let start = match plan.document().adapter.start {
            Some(_) if start_path(path).is_file() => {
                Some(files::read_bytes(&start_path(path), MAX_START_BYTES)?)
            }
            _ => None,
        };
        plan.begin_from(start.as_deref()).map_err(refused)
    }

    /// Reads this organization's policy; one that forbids nothing, if it has none.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Missing`], or as [`Policy::load`].
    pub fn open_policy(&self) -> Result<Policy, ConfigError> {
        let Some(path) = &self.policy else { return Ok(Policy::default()) };
        exists("policy", "policy", path, "; policy.example.toml explains every line")?;
        Policy::load(path)
    }

    /// Checks the plan against this organization's policy.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Forbidden`], with the line that forbids it.
    pub fn check_policy(
        &self,
        policy: &Policy,
        plan: &VerifiedPlan,
        roster: &VerifiedRoster,
    ) -> Result<(), ConfigError> {
        Ok(policy.allows(plan, &|signers| self.valid_by(signers, roster))?)
    }

    /// Whether the plan would be valid if only the lines of `signers` counted; in words, why not.
    ///
    /// # Errors
    ///
    /// What the plan's verification says about those lines.
    pub fn valid_by(&self, signers: &[Id], roster: &VerifiedRoster) -> Result<(), String> {
        let text =
            files::read_text(&self.plan, MAX_DOCUMENT_BYTES as u64).map_err(|error| error.to_string())?;
        let signatures = signatures(&self.plan).map_err(|error| error.to_string())?.to_text();
        let theirs = |line: &&str| signers.iter().any(|id| line.split(' ').next() == Some(id.as_str()));
        let lines: String = signatures.lines().filter(theirs).flat_map(|line| [line, "\n"]).collect();
        let signatures = Signatures::parse(&lines).map_err(|error| error.to_string())?;
        Plan::verify(&text, &signatures, roster).map(drop).map_err(|error| error.to_string())
    }

    /// Checks that the data file is there, the list of who opted out, and the test set's if the plan needs one of this
    /// organization.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Missing`], [`ConfigError::NoEvaluation`].
    pub fn check_paths(&self, plan: &VerifiedPlan) -> Result<(), ConfigError> {
        exists("data.path", "data file", &self.data.path, "")?;
        if let Some(opt_out) = &self.data.opt_out {
            let cure = "; an empty file says that nobody has opted out, and a missing one says nothing";
            exists("data.opt_out", "list of patients who opted out", opt_out, cure)?;
        }
        match &self.evaluation {
            Some(evaluation) => exists("evaluation.path", "data file", &evaluation.path, ""),
            // A trainer outside the client has a test set of its own.
            None if self.is_external() => Ok(()),
            None if plan.document().evaluation.organization == self.organization => {
                Err(ConfigError::NoEvaluation { organization: self.organization.clone() })
            }
            None => Ok(()),
        }
    }

    /// Reads and checks the model folder; it must be the plan's, and the plan's tensors must be its own. With a trainer outside
    /// the client, there may be none; and one that the client cannot run is compared with the plan all the same.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Model`], [`ConfigError::OtherModel`], [`ConfigError::Tensors`].
    pub fn open_model(&self, plan: &VerifiedPlan) -> Result<Option<ModelFolder>, ConfigError> {
        if self.is_external() && !plan.document().adapter.local.is_empty() {
            return Err(ConfigError::Value {
                field: "training.trainer",
                value: "external".into(),
                rule: "the plan keeps heads at home (adapter.local), which the built-in trainer alone does: a trainer of your own can keep \
                       whatever it likes without the plan's leave",
            });
        }
        let Some(folder) = &self.model else { return Ok(None) };
        if !self.is_external() {
            return self.open_known_model(folder, plan).map(Some);
        }
        let expected = &plan.document().model;
        for (file, expected) in [
            ("config.json", expected.config),
            ("tokenizer.json", expected.tokenizer),
            ("model.safetensors", expected.weights),
        ] {
            let path = folder.join(file);
            let found = files::digest_or_nothing(&path)?;
            if found != expected {
                let name = plan.document().model.name.clone();
                return Err(ConfigError::OtherModel { path, found, expected, name });
            }
        }
        Ok(self.open_known_model(folder, plan).ok())
    }

    fn open_known_model(&self, folder: &Path, plan: &VerifiedPlan) -> Result<ModelFolder, ConfigError> {
        let model = ModelFolder::open(folder)?;
        let (found, expected) = (model.digests(), &plan.document().model);
        for (file, found, expected) in [
            ("config.json", found.config, expected.config),
            ("tokenizer.json", found.tokenizer, expected.tokenizer),
            ("model.safetensors", found.weights, expected.weights),
        ] {
            let found = Digest(found);
            if found != expected {
                let (path, name) = (folder.join(file), plan.document().model.name.clone());
                return Err(ConfigError::OtherModel { path, found, expected, name });
            }
        }
        check_tensors(plan.document(), model.config())?;
        Ok(model)
    }
}

/// The file in which a document's signatures stand: its own name with `.sig` added.
pub fn signature_path(document: &Path) -> PathBuf {
    let mut name = OsString::from(document.as_os_str());
    name.push(".sig");
    PathBuf::from(name)
}

/// The file from which a plan's adapter goes on: the plan's own name with `.start` added.
fn start_path(plan: &Path) -> PathBuf {
    let mut name = OsString::from(plan.as_os_str());
    name.push(".start");
    PathBuf::from(name)
}

/// The signatures beside a document; none, if there is no such file. How many are needed is for the verifier to say.
fn signatures(document: &Path) -> Result<Signatures, ConfigError> {
    let path = signature_path(document);
    if !path.exists() {
        return Ok(Signatures::default());
    }
    let text = files::read_text(&path, MAX_DOCUMENT_BYTES as u64)?;
    Signatures::parse(&text).map_err(|source| ConfigError::Signatures { path, source })
}

fn exists(
    field: &'static str,
    what: &'static str,
    path: &Path,
    cure: &'static str,
) -> Result<(), ConfigError> {
    if path.is_file() {
        return Ok(());
    }
    Err(ConfigError::Missing { field, what, path: path.to_path_buf(), cure })
}
