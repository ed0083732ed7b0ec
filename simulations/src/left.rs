//! What runs left in their folders, read back: for tables, plots and sweeps that go on.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
    path::{Path, PathBuf},
};

use serde_json::Value;
use thiserror::Error;

use crate::scenario::{Scenario, flat};

/// Largest file of a run that is read, bytes.
const MAX_BYTES: u64 = 1 << 30;

/// A file that is not what a run leaves.
#[derive(Debug, Error)]
#[error("{path}: {why}")]
pub struct Unread {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub why: String,
}

/// A run that came to its end.
#[derive(Clone, Debug)]
pub struct Left {
    /// Its folder.
    pub folder: PathBuf,
    /// Its scenario's fields by their paths, defaults included.
    pub fields: BTreeMap<String, toml::Value>,
    /// Organizations.
    pub organizations: u32,
    /// `result.json`.
    pub result: Value,
    /// The lines of `rounds.jsonl`.
    pub rounds: Vec<Value>,
    /// The lines of `organizations.jsonl`.
    pub members: Vec<Value>,
}

impl Left {
    /// Reads a run's folder; `None` if no run came to its end there.
    ///
    /// # Errors
    ///
    /// [`Unread`].
    pub fn read(folder: &Path) -> Result<Option<Self>, Unread> {
        let path = folder.join("result.json");
        if !path.exists() {
            return Ok(None);
        }
        let result = json(&path, &text(&path)?)?;
        let path = folder.join("scenario.toml");
        let bad = |source: toml::de::Error| Unread { path: path.clone(), why: source.to_string() };
        let written = text(&path)?;
        let scenario: Scenario = toml::from_str(&written).map_err(bad)?;
        let table: toml::Table = toml::from_str(&written).map_err(bad)?;
        Ok(Some(Self {
            folder: folder.to_path_buf(),
            fields: flat(&table).into_iter().collect(),
            organizations: scenario.organizations,
            result,
            rounds: lines(&folder.join("rounds.jsonl"))?,
            members: lines(&folder.join("organizations.jsonl"))?,
        }))
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.result.get("seed").and_then(Value::as_u64).unwrap_or_default()
    }

    /// A number of the last round that has one: `accuracy`, `epsilon.all_honest`.
    pub fn last(&self, field: &str) -> Option<f64> {
        self.rounds.iter().rev().find_map(|row| number(row, field))
    }

    /// A number over all rounds.
    pub fn sum(&self, field: &str) -> f64 {
        self.rounds.iter().filter_map(|row| number(row, field)).sum()
    }

    /// Rounds with a sum, of all that were begun.
    pub fn released(&self) -> (usize, usize) {
        let released = |row: &&Value| row.get("outcome").and_then(Value::as_str) == Some("released");
        (self.rounds.iter().filter(released).count(), self.rounds.len())
    }

    /// Mean number of organizations in a released sum.
    pub fn survivors(&self) -> Option<f64> {
        let counts =
            self.rounds.iter().filter_map(|row| number(row, "survivors")).filter(|count| *count > 0.0);
        crate::stats::Mean::of(counts).map(|mean| mean.mean)
    }

    /// What was trained, in parameters.
    pub fn dimension(&self) -> Option<f64> {
        number(&self.result, "dimension")
    }
}

/// A number of a line, by its path; `None` where it is null or missing.
pub fn number(row: &Value, field: &str) -> Option<f64> {
    field.split('.').try_fold(row, |at, name| at.get(name))?.as_f64()
}

fn text(path: &Path) -> Result<String, Unread> {
    let failed = |source: std::io::Error| Unread { path: path.to_path_buf(), why: source.to_string() };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    let bytes = file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(failed)? as u64;
    if bytes > MAX_BYTES {
        let why = format!("it has more than the {MAX_BYTES} bytes that are read");
        return Err(Unread { path: path.to_path_buf(), why });
    }
    Ok(text)
}

fn json(path: &Path, text: &str) -> Result<Value, Unread> {
    serde_json::from_str(text).map_err(|source| Unread { path: path.to_path_buf(), why: source.to_string() })
}

fn lines(path: &Path) -> Result<Vec<Value>, Unread> {
    let line = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|source| Unread {
            path: path.to_path_buf(),
            why: format!("line {}: {source}", number + 1),
        })
    };
    text(path)?.lines().enumerate().map(line).collect()
}

/// Runs that differ in nothing but the seed.
#[derive(Clone, Debug)]
pub struct Point {
    /// What it has of each field that varies, in the order of [`Points::axes`].
    pub values: Vec<String>,
    /// Its runs, by seed.
    pub runs: Vec<Left>,
}

/// All runs, by what they differ in.
#[derive(Clone, Debug)]
pub struct Points {
    /// Fields that are not the same in all runs.
    pub axes: Vec<String>,
    /// In the order in which they were found.
    pub points: Vec<Point>,
}

/// What no two points differ in: names, seeds, and where files are kept.
const NO_AXES: [&str; 4] = ["name", "seed", "task.model", "task.titles"];

impl Points {
    /// Puts runs together. One that is in two sweeps counts once: twice the same says no more than once.
    pub fn of(mut runs: Vec<Left>) -> Self {
        let mut seen = BTreeSet::new();
        runs.retain(|run| match run.result.get("scenario_digest").and_then(Value::as_str) {
            Some(digest) => seen.insert(digest.to_owned()),
            None => true,
        });
        let paths: BTreeSet<&String> = runs.iter().flat_map(|run| run.fields.keys()).collect();
        let paths = paths.into_iter().filter(|path| !NO_AXES.contains(&path.as_str()));
        let differs =
            |path: &&String| runs.windows(2).any(|two| value(two.first(), path) != value(two.last(), path));
        let axes: Vec<String> = paths.filter(differs).cloned().collect();
        let mut points: Vec<Point> = Vec::new();
        for run in runs {
            let values: Vec<String> = axes.iter().map(|axis| value(Some(&run), axis)).collect();
            match points.iter_mut().find(|point| point.values == values) {
                Some(point) => point.runs.push(run),
                None => points.push(Point { values, runs: vec![run] }),
            }
        }
        Self { axes, points }
    }

    /// The points' values of one field, if it varies.
    pub fn axis(&self, field: &str) -> Option<usize> {
        self.axes.iter().position(|axis| axis == field)
    }
}

/// A field as people read it.
fn value(run: Option<&Left>, path: &str) -> String {
    match run.and_then(|run| run.fields.get(path)) {
        None => "-".into(),
        Some(toml::Value::String(word)) => word.clone(),
        Some(value) => value.to_string(),
    }
}

impl Point {
    /// A name from what varies: `dropout 0.1, unit none`.
    pub fn name(&self, axes: &[String]) -> String {
        let short = |axis: &String| axis.rsplit('.').next().unwrap_or(axis).replace('_', " ");
        let pairs: Vec<String> =
            axes.iter().zip(&self.values).map(|(axis, value)| format!("{} {value}", short(axis))).collect();
        pairs.join(", ")
    }

    /// Over this point's runs.
    pub fn mean(&self, of: impl Fn(&Left) -> Option<f64>) -> Option<crate::stats::Mean> {
        crate::stats::Mean::of(self.runs.iter().filter_map(of))
    }
}
