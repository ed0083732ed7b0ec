//! Which runs a sweep consists of.

use std::collections::BTreeSet;

use thiserror::Error;
use toml::Value;

use crate::scenario::{
    Refused, Scenario, Sweep, flat,
    text::{BadText, Draft},
};

/// Most runs of a sweep.
pub const MAX_RUNS: usize = 100_000;

/// Why a sweep cannot be.
#[derive(Debug, Error)]
pub enum BadSweep {
    /// A field of it is no field.
    #[error(transparent)]
    Text(#[from] BadText),
    /// A field's values are no list.
    #[error(
        "sweep.grid.{field} is {value}: it must be a list of values that are not tables of others, and not empty"
    )]
    NoList {
        /// The field.
        field: String,
        /// What it holds.
        value: String,
    },
    /// A field that cannot vary.
    #[error("{0} cannot be varied: seeds are sweep.seeds, and names make no difference")]
    Fixed(String),
    /// Nothing to run.
    #[error("sweep.seeds gives no seed: at least 1")]
    NoSeeds,
    /// Too much to run.
    #[error("{points} points with {seeds} seeds each are more than the {MAX_RUNS} runs of a sweep")]
    TooMany {
        /// Points.
        points: usize,
        /// Seeds.
        seeds: usize,
    },
    /// A point that cannot work.
    #[error("point {point} ({values}): {why}")]
    Refused {
        /// Which, from 1.
        point: usize,
        /// Its values.
        values: String,
        /// Why.
        why: Box<Refused>,
    },
    /// A point whose fields do not fit.
    #[error("point {point} ({values}): {why}")]
    Unfit {
        /// Which, from 1.
        point: usize,
        /// Its values.
        values: String,
        /// Why.
        why: BadText,
    },
}

/// One run of a sweep.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Its point, from 1.
    pub point: usize,
    /// Fields that vary, with this run's values.
    pub values: Vec<(String, Value)>,
    /// What is run.
    pub scenario: Scenario,
    /// Name of its folder: the seed, and a digest over the scenario.
    pub id: String,
}

/// All runs, the first seed of every point first: whoever interrupts a sweep has a little of everything.
///
/// # Errors
///
/// [`BadSweep`]: every point is checked before any is run.
pub fn plan(draft: &Draft, sweep: &Sweep) -> Result<Vec<Planned>, BadSweep> {
    let points = points(sweep)?;
    if points.len().saturating_mul(sweep.count()) > MAX_RUNS {
        return Err(BadSweep::TooMany { points: points.len(), seeds: sweep.count() });
    }
    let seeds = sweep.seeds(draft.scenario()?.seed);
    if seeds.is_empty() {
        return Err(BadSweep::NoSeeds);
    }
    let mut scenarios = Vec::new();
    for (index, values) in points.into_iter().enumerate() {
        let (point, words) = (index + 1, words(&values));
        let unfit = |why| BadSweep::Unfit { point, values: words.clone(), why };
        let mut draft = draft.clone();
        // Kinds first: one that is set takes its table's other fields with it.
        let (kinds, rest): (Vec<_>, Vec<_>) = values.iter().partition(|(field, _)| is_kind(field));
        for (field, value) in kinds.into_iter().chain(rest) {
            let set = || BadText::Set(format!("{field}={value}"));
            draft.put(field, value.clone()).ok_or_else(set).map_err(unfit)?;
        }
        let scenario = Scenario { sweep: Sweep::default(), ..draft.scenario().map_err(unfit)? };
        let refused = |why| BadSweep::Refused { point, values: words.clone(), why: Box::new(why) };
        scenario.check().map_err(refused)?;
        scenarios.push((point, values, scenario));
    }
    let (mut runs, mut seen) = (Vec::new(), BTreeSet::new());
    for seed in seeds {
        for (point, values, scenario) in &scenarios {
            let scenario = Scenario { seed, ..scenario.clone() };
            let digest = scenario.digest().to_string();
            let id = format!("s{seed}-{}", digest.get(..16).unwrap_or(&digest));
            // Two points that come to the same are run once.
            if seen.insert(id.clone()) {
                runs.push(Planned { point: *point, values: values.clone(), scenario, id });
            }
        }
    }
    Ok(runs)
}

fn is_kind(field: &str) -> bool {
    field == "kind" || field.ends_with(".kind")
}

/// The combinations of list and grid, the last field of the grid turning fastest.
fn points(sweep: &Sweep) -> Result<Vec<Vec<(String, Value)>>, BadSweep> {
    let mut points: Vec<Vec<(String, Value)>> =
        if sweep.list.is_empty() { vec![Vec::new()] } else { sweep.list.iter().map(flat).collect() };
    for (field, value) in flat(&sweep.grid) {
        let values = match &value {
            Value::Array(values) if !values.is_empty() => values,
            _ => return Err(BadSweep::NoList { field, value: value.to_string() }),
        };
        if points.len().saturating_mul(values.len()) > MAX_RUNS {
            return Err(BadSweep::TooMany { points: points.len().saturating_mul(values.len()), seeds: 1 });
        }
        let with = |point: &Vec<(String, Value)>, value: &Value| {
            let mut point = point.clone();
            // The grid says more than the list where both name a field.
            point.retain(|(own, _)| *own != field);
            point.push((field.clone(), value.clone()));
            point
        };
        points = points.iter().flat_map(|point| values.iter().map(move |value| with(point, value))).collect();
    }
    let fixed = |field: &str| ["seed", "name", "sweep"].contains(&field.split('.').next().unwrap_or(field));
    match points.iter().flatten().find(|(field, _)| fixed(field)) {
        Some((field, _)) => Err(BadSweep::Fixed(field.clone())),
        None => Ok(points),
    }
}

/// A point's values as people read them.
pub fn words(values: &[(String, Value)]) -> String {
    let words: Vec<String> = values.iter().map(|(field, value)| format!("{field} = {value}")).collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(text: &str) -> Result<Vec<Planned>, BadSweep> {
        let draft = Draft::parse(text, "here").unwrap();
        let sweep = draft.scenario().unwrap().sweep;
        plan(&draft, &sweep)
    }

    const BASE: &str = "organizations = 4\nrounds = 1\n[sweep]\nseeds = 2\n";

    #[test]
    fn a_grid_is_every_combination_with_every_seed() {
        let text =
            format!("{BASE}[sweep.grid]\nclients.dropout = [0.0, 0.2]\nprotocol = [\"secure\", \"plain\"]\n");
        let runs = planned(&text).unwrap();
        let seen: Vec<_> = runs
            .iter()
            .map(|run| (run.scenario.seed, run.point, run.scenario.clients.dropout, run.scenario.protocol))
            .collect();
        use crate::scenario::Protocol::{Plain, Secure};
        let of = |seed| {
            [(seed, 1, 0.0, Secure), (seed, 2, 0.0, Plain), (seed, 3, 0.2, Secure), (seed, 4, 0.2, Plain)]
        };
        assert_eq!(seen, [of(1), of(2)].concat());
        let ids: BTreeSet<_> = runs.iter().map(|run| &run.id).collect();
        assert_eq!(ids.len(), 8);
        assert!(runs.iter().all(|run| run.scenario.sweep.is_default()));
    }

    #[test]
    fn a_list_is_taken_as_it_is_and_kinds_come_first() {
        let text = format!(
            "{BASE}[[sweep.list]]\norganizations = 5\n[[sweep.list]]\ntask.dimension = 9\ntask.kind = \"synthetic\"\n"
        );
        let runs = planned(&text).unwrap();
        assert_eq!(runs.len(), 4);
        assert_eq!(runs[0].scenario.organizations, 5);
        assert_eq!(runs[1].scenario.task, crate::scenario::TaskKind::Synthetic { dimension: 9 });
    }

    #[test]
    fn what_cannot_be_is_refused_before_anything_runs() {
        for (sweep, expected) in [
            (
                "[sweep.grid]\nclients.dropout = [0.0, 0.9]",
                "point 2 (clients.dropout = 0.9): clients.dropout is 0.9",
            ),
            ("[sweep.grid]\nclients.dropout = 0.1", "sweep.grid.clients.dropout is 0.1: it must be a list"),
            ("[sweep.grid]\nseed = [1, 2]", "seed cannot be varied"),
            ("[sweep.grid]\nnetwork.speed = [1]", "unknown field `speed`"),
            ("[sweep.grid]\nnetwork.loss = [\"much\"]", "point 1 (network.loss = \"much\")"),
        ] {
            let error = planned(&format!("{BASE}{sweep}\n")).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let many = BASE.replace("seeds = 2", "seeds = 200000");
        assert!(planned(&many).unwrap_err().to_string().contains("1 points with 200000 seeds each"));
        assert!(matches!(planned(&BASE.replace("= 2", "= 0")), Err(BadSweep::NoSeeds)));
    }

    #[test]
    fn points_that_come_to_the_same_are_run_once() {
        let text = format!("{BASE}[sweep.grid]\nclients.straggle = [3.0, 3.0]\n");
        assert_eq!(planned(&text).unwrap().len(), 2);
    }
}
