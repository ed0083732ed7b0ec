//! Rows held against their bars: a table for people, `target/bench/summary.json` for programs.

use std::{fs, path::PathBuf};

use serde_json::{Map, Value, json};

use crate::Result;

/// On which side of its bar a row must be.
#[derive(Clone, Copy)]
pub enum Bar {
    AtMost(f64),
    AtLeast(f64),
    /// At most so many seconds, unless the operations that the row is made of cost that much here: it fails only if it
    /// also exceeds 1.4 times their cost.
    Seconds {
        most: f64,
        calibrated: f64,
    },
}

/// How far above the calibrated cost of its operations a row may be.
const ABOVE_CALIBRATED: f64 = 1.4;

/// A measured number.
pub struct Row {
    /// Where it stands in the summary; dots are nesting.
    pub key: &'static str,
    pub value: f64,
    pub bar: Bar,
}

impl Row {
    fn holds(&self) -> bool {
        match self.bar {
            Bar::AtMost(most) => self.value <= most,
            Bar::AtLeast(least) => self.value >= least,
            Bar::Seconds { most, calibrated } => {
                self.value <= most || self.value <= ABOVE_CALIBRATED * calibrated
            }
        }
    }

    fn print(&self) {
        let (key, value) = (self.key, self.value);
        let verdict = if self.holds() { "holds" } else { "FAILS" };
        match self.bar {
            Bar::AtMost(most) => println!("{key:<30} {value:>9.3}   ≤ {most:<7} {:>26} {verdict}", ""),
            Bar::AtLeast(least) => println!("{key:<30} {value:>9.3}   ≥ {least:<7} {:>26} {verdict}", ""),
            Bar::Seconds { most, calibrated } => println!(
                "{key:<30} {value:>7.3} s   ≤ {most:<5} s   {calibrated:>7.3} s, × {ABOVE_CALIBRATED} = {:>6.3} s  {verdict}",
                ABOVE_CALIBRATED * calibrated
            ),
        }
    }
}

/// Prints the table.
pub fn print(rows: &[Row]) {
    println!("\n{:<30} {:>9}   {:<9} {:>26} verdict", "row", "measured", "bar", "its operations cost");
    rows.iter().for_each(Row::print);
}

/// Where results go.
pub fn folder() -> Result<PathBuf> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench"));
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Puts rows, and whatever else there is to say, into the summary; what other programs put there stays.
pub fn merge(rows: &[Row], more: &[(&str, Value)]) -> Result<()> {
    let path = folder()?.join("summary.json");
    let mut summary = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
        Err(_) => Map::new(),
    };
    for row in rows {
        put(&mut summary, row.key, json!(row.value));
        let bar = match row.bar {
            Bar::AtMost(most) => json!({ "at_most": most, "holds": row.holds() }),
            Bar::AtLeast(least) => json!({ "at_least": least, "holds": row.holds() }),
            Bar::Seconds { most, calibrated } => {
                json!({ "at_most": most, "calibrated": calibrated, "holds": row.holds() })
            }
        };
        put(&mut summary, &format!("bars.{}", row.key), bar);
    }
    for (key, value) in more {
        put(&mut summary, key, value.clone());
    }
    fs::write(&path, serde_json::to_string_pretty(&summary)? + "\n")?;
    println!("\n{}", path.canonicalize().unwrap_or(path).display());
    Ok(())
}

fn put(into: &mut Map<String, Value>, key: &str, value: Value) {
    match key.split_once('.') {
        None => drop(into.insert(key.to_owned(), value)),
        Some((first, rest)) => {
            let inner = into.entry(first).or_insert_with(|| json!({}));
            if !inner.is_object() {
                *inner = json!({});
            }
            if let Some(inner) = inner.as_object_mut() {
                put(inner, rest, value);
            }
        }
    }
}
