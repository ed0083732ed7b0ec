//! From a simulation to a deployment: the plan that a scenario's numbers make, for a roster of real organizations.
//!
//! The plan is the simulated one but for whose it is: roster, job's name and evaluator are real. The organizations that the roster
//! lists, sorted by id, take the places of organizations 1, 2, … of the scenario. With it come the records that each of them had
//! in the simulation, so that one job can be run both ways; a hospital's client reads its own instead.

use std::{
    io,
    path::{Path, PathBuf},
};

use consilium_proto::{
    ids::Id,
    plan::Plan,
    roster::{Roster, RosterError},
    signed::{Kind, fingerprint},
};
use thiserror::Error;

use crate::{
    consortium::{Whose, organization, plan_for},
    out::OutError,
    scenario::{Protocol, Refused, Scenario, TaskKind},
    task::Study,
};

/// Why nothing was exported.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The roster does not hold.
    #[error("the roster: {0}")]
    Roster(#[from] RosterError),
    /// The scenario cannot be deployed.
    #[error("{field} is {value}, and {why}")]
    NotDeployable {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: String,
        /// Why no deployment has it.
        why: String,
    },
    /// The scenario cannot work, or no plan follows from it.
    #[error(transparent)]
    Refused(Refused),
    /// A file could not be written.
    #[error("{path} could not be written: {source}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The folder holds something.
    #[error("{0} exists already and is not overwritten; name another folder")]
    Exists(PathBuf),
}

impl From<Refused> for ExportError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Write(OutError { path, source, .. }) => Self::Write { path, source },
            refused => Self::Refused(refused),
        }
    }
}

/// What was written.
#[derive(Debug)]
pub struct Exported {
    /// The plan, not signed yet.
    pub plan: Plan,
    /// Its file.
    pub path: PathBuf,
    /// Folder with each organization's records.
    pub data: PathBuf,
    /// Why the plan would not last as long as its rounds, if it would not: whoever signs should know.
    pub warning: Option<String>,
}

/// Writes `plan.toml` and `data/` into a new folder. `roster` is the text of the roster's newest version.
///
/// # Errors
///
/// [`ExportError`]; nothing is left then but an empty folder.
pub fn export(scenario: &Scenario, roster: &str, job: Id, folder: &Path) -> Result<Exported, ExportError> {
    scenario.check()?;
    deployable(scenario)?;
    let digest = fingerprint(Kind::Roster, roster);
    let roster = Roster::parse(roster)?;
    let mut ids: Vec<Id> = roster.organizations.into_iter().map(|party| party.id).collect();
    ids.sort();
    let (listed, wanted) = (ids.len(), scenario.organizations);
    if listed != wanted as usize {
        return Err(ExportError::NotDeployable {
            field: "organizations",
            value: wanted.to_string(),
            why: format!("the roster lists {listed}: all of a roster's organizations are in every cohort"),
        });
    }
    let path = folder.join("plan.toml");
    let (data, simulated) = (folder.join("data"), folder.join("data.simulated"));
    if let Some(there) = [&path, &data, &simulated].into_iter().find(|path| path.exists()) {
        return Err(ExportError::Exists(there.clone()));
    }
    make(&simulated)?;
    let written = || -> Result<Plan, ExportError> {
        let study = Study::new(scenario, &simulated)?;
        let evaluator = ids.first().cloned().unwrap_or_else(|| organization(0));
        let plan = plan_for(scenario, &study, Whose { roster: digest, job, evaluator })?;
        let text = plan.to_text().map_err(Refused::from)?;
        rename(&simulated, &data, &ids)?;
        std::fs::write(&path, text).map_err(|source| ExportError::Write { path: path.clone(), source })?;
        Ok(plan)
    };
    let plan = written().inspect_err(|_| {
        // Whoever tries again finds no half of it. What cannot be removed is named then.
        for part in [&simulated, &data] {
            drop(std::fs::remove_dir_all(part));
        }
        drop(std::fs::remove_file(&path));
    })?;
    let warning = plan.check().err().map(|error| error.to_string());
    Ok(Exported { plan, path, data, warning })
}

/// Refuses what no client and no coordinator has.
fn deployable(scenario: &Scenario) -> Result<(), ExportError> {
    let refuse = |field, value: &str, why: &str| {
        Err(ExportError::NotDeployable { field, value: value.to_owned(), why: why.to_owned() })
    };
    if scenario.protocol == Protocol::Plain {
        return refuse(
            "protocol",
            "plain",
            "no deployment adds up vectors in the clear: set protocol=secure",
        );
    }
    if scenario.sampled() < scenario.organizations {
        let why = "no deployed client draws lots whether to take part: leave cohort.sampling out";
        return refuse("cohort.sampling", &scenario.cohort.sampling.to_string(), why);
    }
    if let Some(attack) = &scenario.attack {
        return refuse("attack.kind", attack.name(), "nobody is asked to sign an attack: leave [attack] out");
    }
    let made_up = "its patients are made up and no client trains on them: only \"texts\" is deployed";
    match scenario.task {
        TaskKind::Convex { .. } => refuse("task.kind", "convex", made_up),
        TaskKind::Synthetic { .. } => refuse("task.kind", "synthetic", made_up),
        TaskKind::Texts(_) => Ok(()),
    }
}

fn make(folder: &Path) -> Result<(), ExportError> {
    std::fs::create_dir_all(folder)
        .map_err(|source| ExportError::Write { path: folder.to_path_buf(), source })
}

/// Gives every organization's records its real name.
fn rename(from: &Path, to: &Path, ids: &[Id]) -> Result<(), ExportError> {
    make(to)?;
    let given = |name: &str| {
        for (index, id) in (0..).zip(ids) {
            let simulated = organization(index);
            for end in [".csv", "-test.csv"] {
                if name == format!("{simulated}{end}") {
                    return format!("{id}{end}");
                }
            }
        }
        name.to_owned()
    };
    let moved = || -> io::Result<()> {
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            std::fs::rename(entry.path(), to.join(given(&name)))?;
        }
        std::fs::remove_dir(from)
    };
    moved().map_err(|source| ExportError::Write { path: to.to_path_buf(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Texts;

    #[test]
    fn what_no_deployment_has_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let job: Id = "job".parse().unwrap();
        let refused = |scenario: &Scenario| {
            export(scenario, "", job.clone(), folder.path()).map(|_| ()).unwrap_err().to_string()
        };
        let scenario = Scenario::new(5, 1);
        assert!(refused(&scenario).starts_with("task.kind is convex, and its patients are made up"));
        let texts = Scenario { task: TaskKind::Texts(Texts::default()), ..scenario };
        assert!(refused(&texts).starts_with("the roster: "), "{}", refused(&texts));
        let mut some = Scenario { task: TaskKind::Texts(Texts::default()), ..Scenario::new(5, 1) };
        some.cohort.sampling = 0.8;
        assert!(refused(&some).starts_with("cohort.sampling is 0.8, and no deployed client"));
        let plain = Scenario { protocol: Protocol::Plain, ..texts };
        assert!(refused(&plain).starts_with("protocol is plain, and no deployment"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
