//! The manual's check tables against the code and the tests: every number that a function named `check` returns has a row, every
//! row's number is returned by one, its code is where the row says, and its tests exist and carry the number in their name.

#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

const SERIES: &str = "ADHVTLCSRJ";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All Rust files of the packages that check anything, by path from the root.
fn sources() -> BTreeMap<String, String> {
    let (root, mut all) = (root(), BTreeMap::new());
    let mut folders: Vec<PathBuf> = [
        "crypto/src",
        "crypto/tests",
        "proto/src",
        "client/src",
        "client/tests",
        "coordinator/src",
        "coordinator/tests",
    ]
    .iter()
    .map(|folder| root.join(folder))
    .collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
                all.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    all
}

/// `A1` and the like: a letter of the series and a number.
fn is_number(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|series| SERIES.contains(series))
        && (1..=2).contains(&chars.as_str().len())
        && chars.all(|digit| digit.is_ascii_digit())
}

/// The numbers among the string literals of every function named `check`.
fn returned(sources: &BTreeMap<String, String>) -> BTreeSet<String> {
    let mut numbers = BTreeSet::new();
    for text in sources.iter().filter(|(name, _)| name.contains("/src/")).map(|(_, text)| text) {
        for body in text.split("fn check(").skip(1) {
            // A method's body ends where a brace stands in the method's own column.
            let body = body.split("\n    }\n").next().unwrap_or(body);
            numbers.extend(body.split('"').skip(1).step_by(2).filter(|it| is_number(it)).map(str::to_owned));
        }
    }
    numbers
}

struct Row {
    number: String,
    /// Quoted words of the column "code".
    code: Vec<String>,
    /// Quoted words of the column "test".
    tests: Vec<String>,
}

fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Every row of a table that has the columns "id", "code" and "test".
fn rows() -> Vec<Row> {
    let manual = fs::read_to_string(root().join("crypto/docs/secure-aggregation.md")).unwrap();
    let (mut rows, mut columns): (Vec<Row>, Option<(usize, usize)>) = (Vec::new(), None);
    for line in manual.lines() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        if !line.starts_with('|') {
            columns = None;
        } else if cells[1] == "id" {
            let at = |name: &str| cells.iter().position(|cell| cell.split(' ').next() == Some(name)).unwrap();
            columns = Some((at("code"), at("test")));
        } else if let Some((code, test)) = columns
            && is_number(cells[1])
        {
            rows.push(Row {
                number: cells[1].to_owned(),
                code: quoted(cells[code]),
                tests: quoted(cells[test]),
            });
        }
    }
    rows
}

#[test]
fn every_check_in_code_has_one_row_and_every_row_a_check() {
    let returned = returned(&sources());
    let mut listed = BTreeSet::new();
    for row in rows() {
        assert!(listed.insert(row.number.clone()), "{} has two rows", row.number);
    }
    // Returned where the attempt fails, not by a refusal: see `Offence`.
    assert!(returned.len() > 60, "{returned:?}");
    assert_eq!(listed, returned);
}

#[test]
fn every_rows_code_is_where_it_says() {
    let sources = sources();
    for row in rows() {
        assert!(!row.code.is_empty(), "{} names no code", row.number);
        let mut file: Option<&String> = None;
        for word in &row.code {
            if word.contains('*') {
                file = None;
            } else if word.ends_with(".rs") {
                let found = [word.clone(), format!("crypto/src/secagg/{word}")];
                file = found.iter().find_map(|name| sources.get(name));
                assert!(file.is_some(), "{}: there is no {word}", row.number);
            } else if let Some(file) = file {
                let name = word.rsplit("::").next().unwrap();
                let there = ["fn", "struct"].iter().any(|kind| file.contains(&format!("{kind} {name}")));
                assert!(there, "{}: {word} is not in its file", row.number);
            }
        }
    }
}

#[test]
fn every_rows_tests_exist_and_carry_its_number() {
    let sources = sources();
    let is_test = |name: &str| {
        let head = format!("fn {name}(");
        sources
            .values()
            .any(|text| text.match_indices(&head).any(|(at, _)| text[..at].trim_end().ends_with("#[test]")))
    };
    for Row { number, tests, .. } in rows() {
        assert!(!tests.is_empty(), "{number} has no test");
        for test in tests {
            assert!(is_test(&test), "{number}: there is no test {test}");
            let own = test.starts_with(&format!("{}_", number.to_lowercase()));
            assert!(own || within(&test, &number), "{number}: {test} does not carry the number");
        }
    }
}

/// `s13_to_s19_…` carries S13 to S19.
fn within(test: &str, number: &str) -> bool {
    let mut words = test.split('_');
    let (Some(first), Some("to"), Some(last)) = (words.next(), words.next(), words.next()) else {
        return false;
    };
    let value = |word: &str| word.get(1..).and_then(|digits| digits.parse::<u32>().ok());
    let same = |word: &str| number.to_lowercase().chars().next().is_some_and(|first| word.starts_with(first));
    let (Some(first_value), Some(last_value), Some(own)) = (value(first), value(last), value(number)) else {
        return false;
    };
    same(first) && same(last) && (first_value..=last_value).contains(&own)
}
