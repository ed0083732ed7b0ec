//! Which fields a sweep varies, and over which seeds: the scenario's `[sweep]` table, which a single run does not look at.

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::text::{BadText, Draft};

/// What varies from run to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sweep {
    /// How many seeds each point is run with, from the scenario's `seed` on; or the seeds themselves. Default: 5.
    pub seeds: Seeds,
    /// Fields and their values: every combination is a point.
    #[serde(skip_serializing_if = "Table::is_empty")]
    pub grid: Table,
    /// Points one by one, each a table of fields; where there is a grid too, each is combined with all of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub list: Vec<Table>,
}

/// Seeds of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Seeds {
    /// So many, from the scenario's own on.
    Count(u32),
    /// These.
    These(Vec<u64>),
}

impl Default for Sweep {
    fn default() -> Self {
        Self { seeds: Seeds::Count(5), grid: Table::new(), list: Vec::new() }
    }
}

impl Sweep {
    /// Whether it says nothing.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// How many seeds it names, at most.
    pub fn count(&self) -> usize {
        match &self.seeds {
            Seeds::Count(count) => usize::try_from(*count).unwrap_or(usize::MAX),
            Seeds::These(seeds) => seeds.len(),
        }
    }

    /// The seeds, each once, in the order given.
    pub fn seeds(&self, own: u64) -> Vec<u64> {
        match &self.seeds {
            Seeds::Count(count) => (0..u64::from(*count)).map(|step| own.saturating_add(step)).collect(),
            Seeds::These(seeds) => {
                let mut seen = std::collections::BTreeSet::new();
                seeds.iter().copied().filter(|seed| seen.insert(*seed)).collect()
            }
        }
    }

    /// Adds a field with its values to the grid: `clients.dropout=0,0.1,0.3`, or any TOML list.
    ///
    /// # Errors
    ///
    /// [`BadText::Set`].
    pub fn vary(&mut self, assignment: &str) -> Result<(), BadText> {
        let bad = || BadText::Set(assignment.to_owned());
        let (field, text) = assignment.split_once('=').ok_or_else(bad)?;
        let values = match Draft::value(text.trim()) {
            Value::Array(values) => values,
            _ => text.split(',').map(|word| Draft::value(word.trim())).collect(),
        };
        if field.trim().is_empty() || values.is_empty() || values.contains(&Value::String(String::new())) {
            return Err(bad());
        }
        // The same field written as nested tables would stay beside it.
        self.grid = flat(&self.grid).into_iter().filter(|(path, _)| path != field.trim()).collect();
        self.grid.insert(field.trim().to_owned(), Value::Array(values));
        Ok(())
    }
}

/// Fields by their paths: what is no table is a leaf.
pub fn flat(table: &Table) -> Vec<(String, Value)> {
    let mut fields = Vec::new();
    for (name, value) in table {
        match value {
            Value::Table(inner) if !inner.is_empty() => {
                fields.extend(flat(inner).into_iter().map(|(path, value)| (format!("{name}.{path}"), value)));
            }
            leaf => fields.push((name.clone(), leaf.clone())),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_and_a_flag_say_the_same() {
        let text = "[grid]\nclients.dropout = [0.0, 0.1]\n\"privacy.unit\" = [\"patient\", \"none\"]\n";
        let written: Sweep = toml::from_str(text).unwrap();
        let mut said = Sweep::default();
        said.vary("clients.dropout=0.0,0.1").unwrap();
        said.vary("privacy.unit=[\"patient\", \"none\"]").unwrap();
        assert_eq!(flat(&written.grid), flat(&said.grid));
        said.vary("privacy.unit=none").unwrap();
        assert_eq!(said.grid.len(), 2);
        for bad in ["x", "=1", "x=", "x=1,,2", "x=[]"] {
            assert!(said.vary(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn seeds_are_counted_or_named() {
        let mut sweep = Sweep::default();
        assert_eq!(sweep.seeds(7), [7, 8, 9, 10, 11]);
        sweep.seeds = toml::from_str::<Sweep>("seeds = [3, 1, 3]").unwrap().seeds;
        assert_eq!(sweep.seeds(7), [3, 1]);
    }
}
