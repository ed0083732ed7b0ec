//! The rows of a sweep's tables, from what its runs left.

use serde_json::Value;

use super::{
    planned::Planned,
    table::{Cell, Table},
};
use crate::left::Left;

/// One row for each run.
pub fn runs(runs: &[(Planned, Left)]) -> Table {
    let mut table = Table::default();
    for (run, left) in runs {
        let (released, begun) = left.released();
        let of = |field: &str| Cell::json(left.result.get(field));
        let last = |field: &str| Cell::number(left.last(field));
        let sum = |field: &str| Cell::count(left.sum(field) as u64);
        let mut row = head(run);
        let mut add = |name: &str, cell: Cell| row.push((name.to_owned(), cell));
        add("n", Cell::count(left.organizations.into()));
        add("d", of("dimension"));
        for field in ["end", "expected_end", "why"] {
            add(field, of(field));
        }
        add("released", Cell::count(released as u64));
        add("begun", Cell::count(begun as u64));
        add("attempts", sum("attempts"));
        add("survivors", Cell::number(left.survivors()));
        for field in ["loss", "accuracy", "macro_f1"] {
            add(field, last(field));
        }
        for who in EPSILONS {
            add(&format!("epsilon_{who}"), last(&format!("epsilon.{who}")));
        }
        add("delta", last("delta"));
        add("bytes_up", sum("bytes_up"));
        add("bytes_down", sum("bytes_down"));
        for field in ["virtual_seconds", "seconds", "cpu_seconds", "adapter_digest", "log_digest"] {
            add(field, of(field));
        }
        if let Some(attack) = left.result.get("attack") {
            flat("attack_", attack, &mut row);
        }
        let mut add = |name: &str, cell: Cell| row.push((name.to_owned(), cell));
        for field in ["plan_digest", "scenario_digest"] {
            add(field, of(field));
        }
        table.add(row);
    }
    table
}

const EPSILONS: [&str; 3] = ["all_honest", "against_colluders", "against_everybody_else"];

/// One row for each round of each run.
pub fn rounds(runs: &[(Planned, Left)]) -> Table {
    of_lines(runs, |left| &left.rounds)
}

/// One row for each organization of each run.
pub fn organizations(runs: &[(Planned, Left)]) -> Table {
    of_lines(runs, |left| &left.members)
}

fn of_lines(runs: &[(Planned, Left)], lines: impl Fn(&Left) -> &Vec<Value>) -> Table {
    let mut table = Table::default();
    for (run, left) in runs {
        for line in lines(left) {
            let mut row = head(run);
            flat("", line, &mut row);
            table.add(row);
        }
    }
    table
}

/// What every row begins with: run, point, seed, and the fields that vary by their paths.
fn head(run: &Planned) -> Vec<(String, Cell)> {
    let mut row = vec![
        ("run".to_owned(), Cell::Text(run.id.clone())),
        ("point".to_owned(), Cell::count(run.point as u64)),
        ("seed".to_owned(), Cell::count(run.scenario.seed)),
    ];
    row.extend(run.values.iter().map(|(field, value)| (field.clone(), Cell::toml(value))));
    row
}

/// Objects become columns: `epsilon.all_honest` is `epsilon_all_honest`. Lists stay lists, as text.
fn flat(before: &str, value: &Value, row: &mut Vec<(String, Cell)>) {
    let Some(object) = value.as_object() else { return };
    for (name, value) in object {
        let name = format!("{before}{name}");
        match value {
            Value::Object(_) => flat(&format!("{name}_"), value, row),
            value => row.push((name, Cell::json(Some(value)))),
        }
    }
}
