//! `run`: take part in the job.

use std::{io, path::Path};

use crate::{
    config::{Loaded, today},
    run::{Client, Outcome},
};
use consilium_proto::plan::PrivacyUnit;
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

use super::{Failure, export, logging};

/// Threads for the network, which waits most of the time. Training has a thread of its own.
const NETWORK_THREADS: usize = 1;

pub(crate) fn run(config: &Path) -> Result<(), Failure> {
    let loaded = Loaded::load(config, today())?;
    logging::start(loaded.config.log);
    tracing::info!(
        event = "loaded",
        organization = %loaded.config.organization,
        job = %loaded.plan.document().job,
        roster = %loaded.roster.digest(),
        plan = %loaded.plan.digest(),
        coordinator = loaded.config.coordinator,
    );
    if loaded.plan.document().privacy.unit == PrivacyUnit::None {
        tracing::error!(
            event = "no-privacy",
            "NO PRIVACY: this plan's unit is none: no noise is added, ε is none"
        );
    }
    let output = loaded.config.output.folder.clone();
    let runtime = Builder::new_multi_thread().worker_threads(NETWORK_THREADS).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::local(format!("the network threads: {error}")))?;
    // The lock is held until the last record is written.
    let (outcome, _lock) = runtime.block_on(async {
        let (client, lock) = Client::start(loaded)?;
        let shutdown = shutdown().map_err(Failure::local)?;
        Ok::<_, Failure>((client.run(shutdown).await?, lock))
    })?;
    match (outcome, output) {
        (Outcome::Finished, Some(folder)) => {
            let loaded = Loaded::load(config, today())?;
            let manifest = export::write(&loaded, &folder)?;
            tracing::info!(event = "exported", folder = %folder.display(), round = manifest.round);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Completes when the process is asked to end.
fn shutdown() -> io::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
