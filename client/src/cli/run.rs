//! `run`: take part in the job, once a person here has said yes to its plan.

use std::{io, path::Path, time::Duration};

use crate::{
    config::{Loaded, today},
    decisions::{Decided, Leave, Watch},
    files::FileError,
    live::{Live, LiveFile},
    run::{Client, Outcome},
};
use consilium_proto::plan::PrivacyUnit;
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

use super::{Failure, export, logging};

/// How often a client that waits looks whether it has been answered.
const LOOK: Duration = Duration::from_millis(200);

/// Threads for the network, which waits most of the time. Training has a thread of its own.
const NETWORK_THREADS: usize = 1;

pub(crate) fn run(config: &Path) -> Result<(), Failure> {
    let runtime = Builder::new_multi_thread().worker_threads(NETWORK_THREADS).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::local(format!("the network threads: {error}")))?;
    // Before anything is opened: from here on, being asked to stop never ends the process by the signal.
    let shutdown = runtime.block_on(async { shutdown() }).map_err(Failure::local)?;
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
    // The lock is held until the last record is written.
    let (outcome, _lock) = runtime.block_on(async {
        tokio::pin!(shutdown);
        let allowed = tokio::select! {
            allowed = allowed(&loaded) => allowed?,
            () = &mut shutdown => false,
        };
        if !allowed {
            tracing::info!(event = "interrupted");
            return Ok::<_, Failure>((Outcome::Interrupted, None));
        }
        let (client, lock) = Client::start(loaded)?;
        Ok((client.run(shutdown).await?, Some(lock)))
    })?;
    match (outcome, output) {
        (Outcome::Ended(decided), _) => {
            let Decided { act, by, .. } = &decided;
            tracing::warn!(event = "ended", code = act.code(), by);
            Ok(())
        }
        (Outcome::Finished, Some(folder)) => {
            let loaded = Loaded::load(config, today())?;
            let manifest = export::write(&loaded, &folder)?;
            tracing::info!(event = "exported", folder = %folder.display(), round = manifest.round);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Waits until a person here has approved the plan, if that is asked for. Nothing is dialled before.
async fn allowed(loaded: &Loaded) -> Result<bool, Failure> {
    let Loaded { config, identity, plan, .. } = loaded;
    let (job, digest) = (&plan.document().job, plan.digest());
    let mut watch = Watch::new(&config.state, identity, job, digest, config.approval.asks());
    let mut waiting = None;
    loop {
        match watch.look()? {
            Some(Leave::Go | Leave::Pause(_)) => return Ok(true),
            Some(Leave::End(Decided { act, by, time, reason, .. })) => {
                return Err(Failure::refused(format!(
                    "job {job} was {} here by {by} on {time:.0} ({reason}); `consilium-client plan explain` says what can be done",
                    act.code()
                )));
            }
            Some(Leave::Wait) if waiting.is_none() => {
                let folder = config.job_folder(plan);
                std::fs::create_dir_all(&folder)
                    .map_err(|source| FileError::io("create", &folder, source))?;
                let mut live = LiveFile::new(&folder, Live::new(plan, "waiting-for-approval"));
                live.flush()?;
                waiting = Some(live);
                tracing::warn!(event = "waiting-for-approval", job = %job, plan = %digest, "read it with `consilium-client plan explain`");
            }
            Some(Leave::Wait) | None => {}
        }
        tokio::time::sleep(LOOK).await;
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
