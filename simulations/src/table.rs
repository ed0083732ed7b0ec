//! The short table on the terminal: one line for each point, means with 95 % intervals over its seeds.

use serde_json::{Value, json};

use crate::{
    left::{Left, Point, Points},
    stats::Mean,
};

/// A column: its heading, its key in JSON, digits, and what it is of a run.
pub struct Column {
    /// Heading for people.
    pub heading: &'static str,
    /// Key for scripts.
    pub key: &'static str,
    /// Digits behind the point.
    pub digits: usize,
    /// The number of one run.
    pub of: fn(&Left) -> Option<f64>,
}

/// What is said of every point.
pub const COLUMNS: [Column; 8] = [
    Column { heading: "accuracy", key: "accuracy", digits: 3, of: |run| run.last("accuracy") },
    Column { heading: "macro-F1", key: "macro_f1", digits: 3, of: |run| run.last("macro_f1") },
    Column { heading: "loss", key: "loss", digits: 3, of: |run| run.last("loss") },
    Column {
        heading: "ε, t_c collude",
        key: "epsilon",
        digits: 2,
        of: |run| run.last("epsilon.against_colluders"),
    },
    Column { heading: "released", key: "released", digits: 1, of: |run| Some(run.released().0 as f64) },
    Column { heading: "MB", key: "megabytes", digits: 2, of: |run| Some(bytes(run) / 1e6) },
    Column {
        heading: "virtual s",
        key: "virtual_seconds",
        digits: 1,
        of: |run| Some(run.sum("virtual_seconds")),
    },
    Column { heading: "CPU s", key: "cpu_seconds", digits: 2, of: |run| Some(run.sum("cpu_seconds")) },
];

/// Bytes on all lines, both ways.
pub fn bytes(run: &Left) -> f64 {
    run.sum("bytes_up") + run.sum("bytes_down")
}

/// Whether a run ended as its scenario says.
pub fn is_expected(run: &Left) -> bool {
    run.result.get("expected_end").and_then(Value::as_bool) == Some(true)
}

/// The table as text.
pub fn text(points: &Points) -> String {
    let mut rows = vec![headings(points)];
    rows.extend(points.points.iter().map(cells));
    let count = rows.first().map_or(0, Vec::len);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The headings of [`text`].
pub fn headings(points: &Points) -> Vec<String> {
    let fixed = ["runs".to_owned(), "as expected".to_owned()];
    points.axes.iter().cloned().chain(fixed).chain(COLUMNS.iter().map(|it| it.heading.to_owned())).collect()
}

/// The cells of a point in [`text`].
pub fn cells(point: &Point) -> Vec<String> {
    let expected = point.runs.iter().filter(|run| is_expected(run)).count();
    let fixed = [point.runs.len().to_string(), expected.to_string()];
    let mean =
        |column: &Column| point.mean(column.of).map_or("-".to_owned(), |mean| mean.text(column.digits));
    point.values.iter().cloned().chain(fixed).chain(COLUMNS.iter().map(mean)).collect()
}

/// The table for scripts: each number as its mean and its interval's ends.
pub fn json(points: &Points) -> Value {
    let mean = |mean: Option<Mean>| match mean {
        None => Value::Null,
        Some(mean) => {
            let (low, high) = mean.ends();
            let known = mean.half.is_some();
            json!({"mean": mean.mean, "low": known.then_some(low), "high": known.then_some(high), "runs": mean.count})
        }
    };
    let point = |point: &Point| {
        let fields: serde_json::Map<String, Value> =
            points.axes.iter().cloned().zip(point.values.iter().map(|value| json!(value))).collect();
        let mut row = json!({
            "fields": fields,
            "runs": point.runs.len(),
            "expected": point.runs.iter().filter(|run| is_expected(run)).count(),
        });
        for column in &COLUMNS {
            if let Some(row) = row.as_object_mut() {
                row.insert(column.key.to_owned(), mean(point.mean(column.of)));
            }
        }
        row
    };
    points.points.iter().map(point).collect()
}
