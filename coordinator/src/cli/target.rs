//! Which coordinator a command asks, and as whom: from flags, or from a small file.

use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use consilium_crypto::digest::Digest;
use consilium_proto::{
    MAX_MESSAGE_BYTES,
    identity::{Identity, key_digest},
    plan::{Plan, VerifiedPlan},
    roster::VerifiedRoster,
    wire::operator_client::OperatorClient,
};
use serde::Deserialize;
use tonic::{Code, Status, transport::Channel};

use super::{
    Failure, Link, connect, parse_digest, read_document, read_signatures, roster::verified,
    sign::read_identity, table::clean, today,
};

/// How long a plain question may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the coordinator is and who asks.
///
/// Each of these may stand in the file that --config names (identity, roster, pin, coordinator, plan; paths are relative
/// to that file). A flag goes before the file.
#[derive(Debug, Args)]
pub(super) struct TargetArgs {
    /// TOML file with the fields below.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Your private identity.toml, listed in the roster as operator or viewer.
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// The consortium's roster, with roster.toml.sig beside it.
    #[arg(long, value_name = "FILE")]
    roster: Option<PathBuf>,
    /// The roster's pinned fingerprint.
    #[arg(long, value_name = "FINGERPRINT", value_parser = parse_digest)]
    pin: Option<Digest>,
    /// The coordinator's address.
    #[arg(long, value_name = "HOST:PORT")]
    coordinator: Option<String>,
    /// The job's signed plan; its privacy note and budget are then shown as signed, not as the coordinator tells them.
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
}

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    identity: Option<PathBuf>,
    roster: Option<PathBuf>,
    pin: Option<String>,
    coordinator: Option<String>,
    plan: Option<PathBuf>,
}

/// What stands where.
pub(super) struct Named {
    pub(super) pin: Digest,
    pub(super) roster: PathBuf,
    pub(super) identity: PathBuf,
    pub(super) address: String,
    pub(super) plan: Option<PathBuf>,
}

/// Everything checked that can be checked without a connection.
pub(super) struct Target {
    pub(super) identity: Identity,
    pub(super) roster: Arc<VerifiedRoster>,
    pub(super) address: String,
    /// Verified under the roster.
    pub(super) plan: Option<VerifiedPlan>,
}

impl TargetArgs {
    /// Whether anything at all is given.
    pub(super) fn is_given(&self) -> bool {
        let files = [&self.config, &self.identity, &self.roster, &self.plan];
        files.iter().any(|file| file.is_some()) || self.pin.is_some() || self.coordinator.is_some()
    }

    /// What the flags and the file name, read but not opened.
    pub(super) fn named(&self) -> Result<Named, Failure> {
        let mut config = Config::default();
        if let Some(path) = &self.config {
            let text = read_document(path)?;
            config = toml::from_str(&text).map_err(|e| Failure::in_file(path, e))?;
            let beside = |file: Option<PathBuf>| file.map(|file| path.with_file_name("").join(file));
            config.identity = beside(config.identity);
            config.roster = beside(config.roster);
            config.plan = beside(config.plan);
        }
        let missing = |field: &str| {
            Failure::Refused(format!(
                "no {field} is given; use --{field}, or --config with a file that has it"
            ))
        };
        let pin = match (self.pin, config.pin) {
            (Some(pin), _) => pin,
            (None, Some(text)) => {
                parse_digest(&text).map_err(|why| Failure::Refused(format!("pin: {why}")))?
            }
            (None, None) => return Err(missing("pin")),
        };
        let given = |flag: &Option<PathBuf>, file: Option<PathBuf>| flag.clone().or(file);
        let roster = given(&self.roster, config.roster).ok_or_else(|| missing("roster"))?;
        let identity = given(&self.identity, config.identity).ok_or_else(|| missing("identity"))?;
        let address =
            self.coordinator.clone().or(config.coordinator).ok_or_else(|| missing("coordinator"))?;
        if address.rsplit_once(':').is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err())
        {
            return Err(Failure::Refused(format!(
                "coordinator \"{address}\" is not host:port, such as council.example:7433"
            )));
        }
        Ok(Named { pin, roster, identity, address, plan: given(&self.plan, config.plan) })
    }

    pub(super) fn resolve(self) -> Result<Target, Failure> {
        let Named { pin, roster: roster_path, identity: identity_path, address, plan } = self.named()?;
        let roster = verified(&roster_path, &pin)?;
        let identity = read_identity(&identity_path)?;
        // Said here in words; the coordinator would only close the connection.
        let listed = key_digest(identity.certificate()).map(|key| roster.caller(&key, today()));
        if let Some(Err(unlisted)) = listed {
            return Err(Failure::in_file(&identity_path, unlisted));
        }
        let plan = plan.map(|path| read_plan(&path, &roster)).transpose()?;
        Ok(Target { identity, roster: Arc::new(roster), address, plan })
    }
}

pub(super) fn read_plan(path: &Path, roster: &VerifiedRoster) -> Result<VerifiedPlan, Failure> {
    let text = read_document(path)?;
    let signatures = read_signatures(path)?;
    Plan::verify(&text, &signatures, roster).map_err(|e| Failure::in_file(path, e))
}

impl Target {
    /// A fresh connection.
    pub(super) async fn client(&self) -> Result<(OperatorClient<Channel>, Link), Failure> {
        let connected = connect::connect(&self.address, &self.identity, self.roster.clone()).await;
        let (channel, link) = connected.map_err(|e| {
            if e.is_unreachable() { Failure::Unreachable(e.to_string()) } else { Failure::refused(e) }
        })?;
        Ok((OperatorClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES), link))
    }
}

impl Link {
    /// The answer of one call, within [`CALL_TIMEOUT`].
    pub(super) async fn answer<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(CALL_TIMEOUT, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.failed(&status)),
            Err(_) => Err(Failure::Unreachable(format!(
                "the coordinator at {} took the connection and did not answer within {} s",
                self.address,
                CALL_TIMEOUT.as_secs()
            ))),
        }
    }

    /// What a failed call means.
    pub(super) fn failed(&self, status: &Status) -> Failure {
        if let Some(refused) = self.refused() {
            return Failure::refused(refused);
        }
        let said = clean(status.message());
        let address = &self.address;
        match status.code() {
            Code::PermissionDenied | Code::Unauthenticated => Failure::Refused(format!(
                "the coordinator at {address} does not answer this identity ({said}); operators and viewers are listed in the \
                 roster: use the identity of one"
            )),
            Code::Unimplemented => Failure::Refused(format!(
                "the coordinator at {address} does not know this question; it runs another version of the software"
            )),
            Code::InvalidArgument | Code::NotFound | Code::FailedPrecondition | Code::OutOfRange => {
                Failure::Refused(format!("the coordinator at {address} refuses: {said}"))
            }
            _ => {
                Failure::Unreachable(format!("the connection to the coordinator at {address} broke: {said}"))
            }
        }
    }
}

/// Runs a command's future on this thread.
pub(super) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::Refused(format!("the operating system gives no event loop: {e}")))?
        .block_on(future)
}
