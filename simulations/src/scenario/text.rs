//! A scenario as a TOML file, and single fields of it set from a command line or a sweep.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use consilium_crypto::digest::Digest;
use thiserror::Error;
use toml::{Table, Value};

use super::{Scenario, Sweep, TaskKind, Texts};

/// Largest scenario that is read, bytes.
pub const MAX_BYTES: u64 = 1 << 20;

/// Why a text is no scenario.
#[derive(Debug, Error)]
pub enum BadText {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is too large.
    #[error("{path} has {bytes} bytes or more; at most {MAX_BYTES} are read")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// It is no TOML of this shape.
    #[error("{place}: {source}")]
    Parse {
        /// The file, or what was set.
        place: String,
        /// Why.
        source: Box<toml::de::Error>,
    },
    /// What should be set is no `field=value`.
    #[error("{0:?} sets nothing: write field=value, as in clients.dropout=0.2 or task.kind=synthetic")]
    Set(String),
    /// A file that the scenario names is nowhere.
    #[error(
        "{field} is {path}, and there is no such file in the scenario's folder, in the working folder or in one above; \
         make setup fetches it"
    )]
    NoFile {
        /// The field.
        field: &'static str,
        /// The path.
        path: PathBuf,
    },
}

/// A scenario's text, read and not yet typed: fields may be set in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Draft {
    table: Table,
    folder: PathBuf,
    place: String,
}

impl Draft {
    /// Reads a file. Paths in it begin at its folder.
    ///
    /// # Errors
    ///
    /// [`BadText`].
    pub fn read(path: &Path) -> Result<Self, BadText> {
        let failed = |source| BadText::Read { path: path.to_path_buf(), source };
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(failed)?;
        let bytes = file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(failed)? as u64;
        if bytes > MAX_BYTES {
            return Err(BadText::TooLarge { path: path.to_path_buf(), bytes });
        }
        let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        Ok(Self { folder, ..Self::parse(&text, &path.display().to_string())? })
    }

    /// Parses a text; `place` is where errors say that it stands.
    ///
    /// # Errors
    ///
    /// [`BadText::Parse`].
    pub fn parse(text: &str, place: &str) -> Result<Self, BadText> {
        let failed = |source| BadText::Parse { place: place.to_owned(), source: Box::new(source) };
        let table = text.parse::<Table>().map_err(failed)?;
        // Errors with their lines, which the table does not know any more.
        toml::from_str::<Scenario>(text).map_err(failed)?;
        Ok(Self { table, folder: PathBuf::new(), place: place.to_owned() })
    }

    /// Sets one field: `clients.dropout=0.2`. What is no TOML value is a word. Setting a `kind` leaves nothing of what the other
    /// kind had.
    ///
    /// # Errors
    ///
    /// [`BadText::Set`].
    pub fn set(&mut self, assignment: &str) -> Result<(), BadText> {
        let bad = || BadText::Set(assignment.to_owned());
        let (field, value) = assignment.split_once('=').ok_or_else(bad)?;
        self.put(field.trim(), Self::value(value.trim())).ok_or_else(bad)
    }

    /// A TOML value; what is none is a word.
    pub fn value(text: &str) -> Value {
        let parsed = format!("value = {text}").parse::<Table>().ok().and_then(|mut it| it.remove("value"));
        parsed.unwrap_or_else(|| Value::String(text.to_owned()))
    }

    /// As [`Draft::set`], with a value at hand. `None` if there can be no such field.
    pub fn put(&mut self, field: &str, value: Value) -> Option<()> {
        let (mut table, mut rest) = (&mut self.table, field);
        while let Some((first, after)) = rest.split_once('.') {
            let inner = table.entry(first).or_insert_with(|| Value::Table(default_kind(first)));
            (table, rest) = (inner.as_table_mut()?, after);
        }
        if rest.is_empty() {
            return None;
        }
        if rest == "kind" && table.get("kind") != Some(&value) {
            table.clear();
        }
        table.insert(rest.to_owned(), value);
        Some(())
    }

    /// The scenario that the text describes, its files found.
    ///
    /// # Errors
    ///
    /// [`BadText::Parse`], [`BadText::NoFile`].
    pub fn scenario(&self) -> Result<Scenario, BadText> {
        let parsed: Result<Scenario, _> = self.table.clone().try_into();
        let mut scenario = parsed
            .map_err(|source| BadText::Parse { place: self.place.clone(), source: Box::new(source) })?;
        if let TaskKind::Texts(texts) = &mut scenario.task {
            texts.model = self.find("task.model", &texts.model)?;
            texts.titles = self.find("task.titles", &texts.titles)?;
        }
        Ok(scenario)
    }

    fn find(&self, field: &'static str, path: &Path) -> Result<PathBuf, BadText> {
        let beside = std::path::absolute(&self.folder).unwrap_or_default();
        let working = std::env::current_dir().unwrap_or_default();
        let folders = beside.ancestors().chain(working.ancestors());
        let found = folders.map(|folder| folder.join(path)).find(|found| found.exists());
        found.ok_or_else(|| BadText::NoFile { field, path: path.to_path_buf() })
    }
}

/// What a table holds that is not written: its kind, where it has kinds.
fn default_kind(table: &str) -> Table {
    let mut kind = Table::new();
    if table == "task" {
        kind.insert("kind".into(), Value::String("convex".into()));
    }
    kind
}

impl Scenario {
    /// The scenario as a TOML file.
    pub fn to_text(&self) -> String {
        // Unwrap safety: numbers, words, lists and tables; a test writes every kind of field.
        toml::to_string(self).unwrap_or_default()
    }

    /// A digest over everything but where files are kept, how the scenario is called and what a sweep varies.
    pub fn digest(&self) -> Digest {
        let mut bare = Self { name: String::new(), sweep: Sweep::default(), ..self.clone() };
        if let TaskKind::Texts(texts) = &mut bare.task {
            let Texts { model, titles, .. } = Texts::default();
            (texts.model, texts.titles) = (model, titles);
        }
        Digest::of(bare.to_text().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use consilium_crypto::secagg::Step;
    use consilium_proto::plan::{Optimizer, PrivacyUnit};

    use super::{
        super::{Accident, Cut, End, Mishap, Partition, Profile, Protocol},
        *,
    };

    #[test]
    fn every_field_survives_its_text() {
        let mut scenario = Scenario::new(20, 2);
        (scenario.cohort.colluders, scenario.cohort.sampling) = (Some(3), 0.9);
        scenario.adapter.local = vec!["head".into()];
        scenario.protocol = Protocol::Plain;
        scenario.optimizer =
            Some(Optimizer::Adam { learning_rate: 0.02, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 });
        scenario.partition = Partition::Dirichlet { alpha: 0.3 };
        scenario.task = TaskKind::Synthetic { dimension: 7 };
        scenario.privacy.unit = PrivacyUnit::PatientLocal;
        scenario.network.cuts =
            vec![Cut { from_s: 1.5, until_s: 9.0, organizations: vec![0, 19], part: 0.0 }];
        scenario.profiles = vec![Profile { part: 0.1, training_s: Some(40.0), ..Profile::default() }];
        scenario.faults.coordinator = [3, 9].into();
        scenario.faults.clients = [(1, [2].into())].into();
        scenario.faults.late = [(3, Duration::from_secs(60)), (4, Duration::MAX)].into();
        scenario.faults.forgetful = [0].into();
        let what = Accident::LostAfter;
        scenario.faults.mishaps =
            vec![Mishap { organization: 2, round: 1, step: Step::Vote, up: true, what }];
        scenario.expect.end = End::Stopped;
        let text = scenario.to_text();
        assert_eq!(Draft::parse(&text, "here").unwrap().scenario().unwrap(), scenario, "{text}");
        assert!(text.contains("organizations = [1, 20]") && text.contains("by_s = \"never\""), "{text}");
    }

    #[test]
    fn two_entries_of_one_organization_are_refused() {
        for fault in ["clients]]\norganization = 2\nafter = [1]", "late]]\norganization = 2\nby_s = 1.0"] {
            let once = format!("[[faults.{fault}\n");
            assert!(Draft::parse(&once, "here").unwrap().scenario().is_ok(), "{once}");
            let error = Draft::parse(&once.repeat(2), "here").unwrap_err().to_string();
            assert!(error.contains("organization 2 has two entries"), "{error}");
        }
    }

    #[test]
    fn fields_are_set_by_their_paths() {
        let mut draft = Draft::parse("seed = 3\n[task]\nkind = \"convex\"\ndimension = 9\n", "here").unwrap();
        for assignment in [
            "clients.dropout=0.2",
            "task.kind=synthetic",
            "task.dimension=12",
            "network.latency_ms=[1, 2]",
            "privacy.unit=none",
        ] {
            draft.set(assignment).unwrap();
        }
        let mut empty = Draft::default();
        empty.set("task.dimension=7").unwrap();
        assert_eq!(empty.scenario().unwrap().task, TaskKind::Convex { dimension: 7 });
        let scenario = draft.scenario().unwrap();
        assert_eq!((scenario.seed, scenario.clients.dropout), (3, 0.2));
        assert_eq!(scenario.task, TaskKind::Synthetic { dimension: 12 });
        assert_eq!(scenario.network.latency_ms, (1.0, 2.0));
        assert_eq!(scenario.privacy.unit, PrivacyUnit::None);
        for bad in ["seed", "seed.x=1", "=1", "task.=1"] {
            assert!(matches!(draft.clone().set(bad), Err(BadText::Set(_))), "{bad}");
        }
        draft.set("clients.drop=1").unwrap();
        assert!(draft.scenario().unwrap_err().to_string().contains("unknown field `drop`"));
    }

    #[test]
    fn the_digest_is_of_what_counts() {
        let scenario = Scenario::new(5, 1);
        assert_eq!(Scenario { name: "other".into(), ..scenario.clone() }.digest(), scenario.digest());
        assert_ne!(Scenario { seed: 2, ..scenario.clone() }.digest(), scenario.digest());
        let texts = |titles: &str| {
            let task = TaskKind::Texts(Texts { titles: titles.into(), ..Texts::default() });
            Scenario { task, ..scenario.clone() }.digest()
        };
        assert_eq!(texts("/a"), texts("/b"));
    }
}
