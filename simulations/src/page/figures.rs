//! Which pictures runs give: those whose axis varies among them. What is left out is said, with what would draw it.

use std::collections::BTreeMap;

use super::chart::{Axis, Chart, Look, MOST, Series};
use crate::{
    left::{Left, Point, Points, number},
    stats::Mean,
    table::bytes,
};

/// Pictures, and which are missing.
#[derive(Debug, Default)]
pub struct Figures {
    /// In the order of the page.
    pub charts: Vec<Chart>,
    /// Why others are not there.
    pub missing: Vec<String>,
}

/// The three scores: key, name.
const SCORES: [(&str, &str); 3] =
    [("accuracy", "accuracy"), ("macro_f1", "macro-F1"), ("loss", "loss (cross-entropy, nats)")];

impl Figures {
    /// All that these runs give.
    pub fn of(points: &Points) -> Self {
        let mut figures = Self::default();
        for (key, name) in SCORES {
            figures.add(
                by_round(points, key, name),
                "no round was evaluated twice: more rounds draw learning curves",
            );
        }
        for (key, name) in SCORES {
            let why = "epsilon is the same everywhere: vary privacy.noise_multiplier to see what it buys";
            figures.add(by_epsilon(points, key, name), why);
        }
        for (field, letter, what) in
            [("organizations", "n", "organizations n"), ("", "d", "trained parameters d")]
        {
            let vary = if field.is_empty() { "task.dimension" } else { field };
            for cost in &COSTS {
                let why = format!("one {letter} only: vary {vary} to see time and bytes against it");
                figures.add(by_size(points, letter, what, cost), &why);
            }
        }
        for chart in by_dropout(points) {
            figures.add(chart, "one dropout rate only: vary clients.dropout to see what is tolerated");
        }
        for (key, name) in SCORES {
            let why = "organizations were not scored: set evaluation.organizations = true";
            figures.add(by_organization(points, key, name), why);
        }
        figures
    }

    fn add(&mut self, chart: Chart, why: &str) {
        if chart.is_worth_it() {
            self.charts.push(chart);
        } else if !self.missing.iter().any(|missing| missing == why) {
            self.missing.push(why.to_owned());
        }
    }
}

/// At most so many, evenly from first to last, and a word where that leaves some out.
fn few(points: &[Point]) -> (Vec<&Point>, String) {
    if points.len() <= MOST {
        return (points.iter().collect(), String::new());
    }
    let last = (points.len() - 1) as f64;
    let at = |number: usize| (number as f64 * last / (MOST - 1) as f64).round() as usize;
    let some = (0..MOST).filter_map(|number| points.get(at(number))).collect();
    (some, format!("{MOST} of {} points.", points.len()))
}

fn named(point: &Point, axes: &[String]) -> String {
    if axes.is_empty() { "all runs".into() } else { point.name(axes) }
}

fn by_round(points: &Points, key: &str, name: &str) -> Chart {
    let (some, note) = few(&points.points);
    let series = some.into_iter().map(|point| {
        let mut rounds: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        for row in point.runs.iter().flat_map(|run| &run.rounds) {
            let round = row.get("round").and_then(serde_json::Value::as_u64);
            if let (Some(round), Some(value)) = (round, number(row, key)) {
                rounds.entry(round).or_default().push(value);
            }
        }
        let mean = |(round, values): (u64, Vec<f64>)| Some((round as f64, Mean::of(values)?));
        Series { name: named(point, &points.axes), points: rounds.into_iter().filter_map(mean).collect() }
    });
    Chart {
        id: format!("{}-by-round", key.replace('_', "-")),
        title: format!("Learning curve: {} on the public test set", short(name)),
        x: Axis { label: "round".into(), whole: true, ..Axis::default() },
        y: Axis { label: name.into(), part: key != "loss", ..Axis::default() },
        look: Look::Band,
        series: series.collect(),
        note,
    }
}

fn short(name: &str) -> &str {
    name.split(" (").next().unwrap_or(name)
}

/// Lines over points: those that agree in all axes but the ones that move along `x`.
fn lines(
    points: &Points,
    moves: impl Fn(&str) -> bool,
    x: impl Fn(&Point) -> Option<f64>,
    y: impl Fn(&Left) -> Option<f64>,
) -> (Vec<Series>, String) {
    let stays: Vec<usize> =
        (0..points.axes.len()).filter(|at| points.axes.get(*at).is_some_and(|it| !moves(it))).collect();
    let of = |values: &[String]| stays.iter().filter_map(|at| values.get(*at).cloned()).collect::<Vec<_>>();
    let axes = of(&points.axes);
    let mut series: Vec<Series> = Vec::new();
    for point in &points.points {
        let (Some(x), Some(mean)) = (x(point), point.mean(&y)) else { continue };
        let rest = Point { values: of(&point.values), runs: Vec::new() };
        let name = named(&rest, &axes);
        match series.iter_mut().find(|series| series.name == name) {
            Some(series) => series.points.push((x, mean)),
            None => series.push(Series { name, points: vec![(x, mean)] }),
        }
    }
    series.iter_mut().for_each(|series| series.points.sort_by(|one, two| one.0.total_cmp(&two.0)));
    // Where some have a course, a lone point beside them says nothing.
    if series.iter().any(|series| series.points.len() > 1) {
        series.retain(|series| series.points.len() > 1);
    }
    let note = if series.len() > MOST {
        format!("The first {MOST} of {} lines.", series.len())
    } else {
        String::new()
    };
    series.truncate(MOST);
    (series, note)
}

fn by_epsilon(points: &Points, key: &str, name: &str) -> Chart {
    let epsilon = |point: &Point| {
        let mean = point.mean(|run| run.last("epsilon.against_colluders"))?;
        (mean.mean > 0.0).then_some(mean.mean)
    };
    let (series, note) = lines(points, |axis| axis.starts_with("privacy."), epsilon, |run| run.last(key));
    let note = format!(
        "ε of the whole job, against the coordinator with the tolerated colluders, at the scenario's δ; {} after the last \
         evaluated round. {note}",
        short(name)
    );
    Chart {
        id: format!("{}-by-epsilon", key.replace('_', "-")),
        title: format!("What a budget buys: {}", short(name)),
        x: Axis { label: "ε (logarithmic)".into(), log: true, ..Axis::default() },
        y: Axis { label: name.into(), part: key != "loss", ..Axis::default() },
        look: Look::Bars,
        series,
        note: note.trim().to_owned(),
    }
}

/// What a round costs: key, title, label, and the number of a run.
struct Cost {
    key: &'static str,
    title: &'static str,
    label: &'static str,
    of: fn(&Left) -> Option<f64>,
}

const COSTS: [Cost; 3] = [
    Cost {
        key: "cpu",
        title: "Processor time of a round, everybody's together",
        label: "CPU seconds (logarithmic)",
        of: |run| per_round(run, run.sum("cpu_seconds")),
    },
    Cost {
        key: "time",
        title: "Virtual time of a round",
        label: "virtual seconds (logarithmic)",
        of: |run| per_round(run, run.sum("virtual_seconds")),
    },
    Cost {
        key: "bytes",
        title: "Bytes of a round on an organization's line",
        label: "kilobytes, both ways (logarithmic)",
        of: |run| per_round(run, bytes(run) / 1e3 / f64::from(run.organizations.max(1))),
    },
];

fn per_round(run: &Left, sum: f64) -> Option<f64> {
    let rounds = run.rounds.len();
    (rounds > 0 && sum > 0.0).then(|| sum / rounds as f64)
}

fn by_size(points: &Points, letter: &str, what: &str, cost: &Cost) -> Chart {
    let is_n = letter == "n";
    let moves = |axis: &str| if is_n { axis == "organizations" } else { axis.starts_with("task.") };
    let size = |point: &Point| {
        let first = point.runs.first()?;
        if is_n { Some(f64::from(first.organizations)) } else { first.dimension() }
    };
    let (series, note) = lines(points, moves, size, cost.of);
    Chart {
        id: format!("{}-by-{letter}", cost.key),
        title: format!("{}, against {letter}", cost.title),
        x: Axis { label: format!("{what} (logarithmic)"), log: true, ..Axis::default() },
        y: Axis { label: cost.label.into(), log: true, ..Axis::default() },
        look: Look::Bars,
        series,
        note,
    }
}

fn by_dropout(points: &Points) -> [Chart; 2] {
    let field = "clients.dropout";
    let rate = |point: &Point| {
        let value = point.runs.first()?.fields.get(field)?;
        value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64))
    };
    let released = |run: &Left| {
        let (released, begun) = run.released();
        (begun > 0).then(|| released as f64 / begun as f64)
    };
    let chart = |id: &str, title: &str, label: &str, of: &dyn Fn(&Left) -> Option<f64>| {
        let (series, note) = lines(points, |axis| axis == field, rate, of);
        Chart {
            id: id.to_owned(),
            title: title.to_owned(),
            x: Axis { label: "part of the organizations that die in each attempt".into(), ..Axis::default() },
            y: Axis { label: label.to_owned(), part: true, ..Axis::default() },
            look: Look::Bars,
            series,
            note,
        }
    };
    [
        chart(
            "released-by-dropout",
            "Dropout tolerance: rounds that were released",
            "part of the rounds",
            &released,
        ),
        chart("accuracy-by-dropout", "Dropout tolerance: accuracy", "accuracy", &|run| run.last("accuracy")),
    ]
}

/// Organizations by size: the largest of every run first.
fn by_organization(points: &Points, key: &str, name: &str) -> Chart {
    let kinds = [
        ("alone", "alone, without noise"),
        ("federated", "federated"),
        ("federated_then_fine_tuned", "federated, then fine-tuned locally"),
    ];
    let runs = points.points.first().map_or(&[][..], |point| &point.runs);
    let series = kinds.into_iter().map(|(kind, word)| {
        let mut ranks: Vec<Vec<f64>> = Vec::new();
        for run in runs {
            let mut members: Vec<_> = run.members.iter().collect();
            members.sort_by(|one, two| size(two).total_cmp(&size(one)));
            for (rank, member) in members.into_iter().enumerate() {
                let Some(value) = number(member, &format!("{kind}.{key}")) else { continue };
                if ranks.len() <= rank {
                    ranks.resize(rank + 1, Vec::new());
                }
                ranks.get_mut(rank).into_iter().for_each(|values| values.push(value));
            }
        }
        let mean = |(rank, values): (usize, Vec<f64>)| Some(((rank + 1) as f64, Mean::of(values)?));
        Series { name: word.to_owned(), points: ranks.into_iter().enumerate().filter_map(mean).collect() }
    });
    let which = points.points.first().map(|point| named(point, &points.axes)).unwrap_or_default();
    let note = if points.points.len() > 1 { format!("The first point: {which}. ") } else { String::new() };
    Chart {
        id: format!("organizations-{}", key.replace('_', "-")),
        title: format!("Each organization on its own test set: {}", short(name)),
        x: Axis { label: "organizations, the largest first".into(), whole: true, ..Axis::default() },
        y: Axis { label: name.into(), part: key != "loss", ..Axis::default() },
        look: Look::Dots,
        series: series.collect(),
        note: note + "Means over seeds of the organizations of one rank.",
    }
}

fn size(member: &serde_json::Value) -> f64 {
    number(member, "examples").unwrap_or(0.0)
}
