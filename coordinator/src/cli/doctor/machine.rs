//! The coordinator's own machine: its files, its folder, its limits.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _, path::Path};

use super::{Checks, keys};
use crate::{
    cli::{Failure, table::bytes, today},
    config::Config,
    store::{InputLayout, SqliteStore, StoreError, StoredJob},
};

/// Less free space than this many rounds' worth is a warning.
const ROUNDS_OF_SPACE: u64 = 10;

pub(super) fn look(config: &Path, checks: &mut Checks) {
    let loaded = Config::load(config).map_err(|e| Failure::in_file(config, e));
    let Some(loaded) = checks.keep("coordinator", loaded) else { return };
    checks.ok("coordinator", "its configuration, identity, roster and plan hold");
    keys(&loaded.roster, today(), checks);
    let files = loaded.limits.raise_open_files();
    let needed =
        u64::from(loaded.plan.document().cohort.organizations) * 3 + u64::from(loaded.limits.strangers);
    if files < needed {
        checks.warn(
            "open files",
            format!("{files} are allowed, and {needed} may be needed"),
            "raise the hard limit: LimitNOFILE in the unit, or `ulimit -Hn`",
        );
    } else {
        checks.ok("open files", format!("{files} are allowed"));
    }
    let job = StoredJob { plan: loaded.plan.digest(), input: InputLayout::of_plan(loaded.plan.derived()) };
    folder(&loaded.state, &job, loaded.plan.cohort().len(), checks);
    match TcpListener::bind(loaded.listen) {
        Ok(_) => checks.ok("port", format!("{} is free: no coordinator runs", loaded.listen)),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            checks.ok(
                "port",
                format!("something listens on {}; that should be the coordinator", loaded.listen),
            );
        }
        Err(error) => checks.wrong(
            "port",
            format!("cannot listen on {}: {error}", loaded.listen),
            "change `listen`, or allow this user the port",
        ),
    }
}

fn folder(state: &Path, job: &StoredJob, members: usize, checks: &mut Checks) {
    let Ok(metadata) = fs::metadata(state) else {
        checks.ok("state", format!("{} is not there yet: the first start makes it", state.display()));
        return;
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        checks.warn(
            "state",
            format!("{} lets others in (mode {mode:04o})", state.display()),
            format!("chmod 700 {}", state.display()),
        );
    }
    match SqliteStore::walk(state, job) {
        Ok(events) => checks.ok("record", format!("{events} events, their chain holds")),
        Err(StoreError::Corrupt { what }) => checks.wrong(
            "record",
            format!("its chain does not hold: {what}"),
            "stop the coordinator, keep this folder, and restore the newest backup",
        ),
        Err(error) => checks.wrong("record", error.to_string(), ""),
    }
    let Ok(disk) = rustix::fs::statvfs(state) else { return };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let round = (job.input.total_bytes() as u64).saturating_mul(members as u64 + 1);
    if free < round.saturating_mul(ROUNDS_OF_SPACE) {
        checks.wrong(
            "disk",
            format!("{} free, and one round needs up to {}", bytes(free), bytes(round)),
            "free space on this disk, or move the state folder to a larger one while the coordinator is stopped",
        );
    } else {
        checks.ok("disk", format!("{} free; one round needs up to {}", bytes(free), bytes(round)));
    }
}
