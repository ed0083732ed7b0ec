//! An organization's own records: CSV, JSON Lines or Parquet in, patients out.
//!
//! The unit that is protected is the patient (see the manual's privacy page), so records are grouped by the patient column as they
//! are read, in order of first appearance, and at most `R` of each patient are kept: the first in the file's order.
//! The three formats give the same [`Dataset`] for the same rows.
//!
//! Who has opted out is listed in a file of its own, [`OptOut`].
//!
//! Nothing here leaves the process: texts and ids are never logged (`Debug` shows counts only), and errors quote a label or
//! an id shortened, a text never. It does not clean, split or balance.

mod delimited;
mod error;
mod json_lines;
mod opt_out;
mod parquet_rows;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use consilium_proto::plan::TaskKind;
use serde::{Deserialize, Serialize};

pub use error::DataError;
pub use opt_out::{OptOut, OptOutError};

/// Longest text of one record, in bytes.
pub const MAX_TEXT_BYTES: usize = 1 << 20;
/// Longest label or patient id, in bytes.
pub const MAX_ID_BYTES: usize = 1 << 10;
/// Between two labels of one text; no label of a plan that allows several contains it.
const SEPARATOR: char = ';';
/// Most records of one file.
pub const MAX_RECORDS: usize = 50_000_000;

/// Where the records are and which columns to read. Unknown fields are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// The file; its extension says the format: `csv`, `jsonl` (or `ndjson`), `parquet`.
    pub path: PathBuf,
    /// Column with the text.
    pub text_column: String,
    /// Column with the label, spelled as in the plan's label list; where a text may have several, `;` separates them, and nothing stands for none.
    /// Absent: there are no labels, because the plan learns the next token.
    #[serde(default)]
    pub label_column: String,
    /// Column with the patient's id. Two records of one patient must carry the same id, or each is protected only alone.
    pub patient_column: String,
}

/// One record: a text and its labels.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// The text.
    pub text: String,
    /// Indices into the plan's label list, ascending: one with `single-label`, any number with `multi-label`, none with `next-token`.
    pub labels: Vec<u32>,
}

/// Records grouped by patient. Patients are numbered from 0 in order of first appearance.
#[derive(Clone, PartialEq, Eq)]
pub struct Dataset {
    records: Vec<Record>,
    patients: Vec<Range<usize>>,
    labels: usize,
    dropped: usize,
    /// Patients by their ids, for [`OptOut`].
    numbers: HashMap<String, usize>,
}

impl fmt::Debug for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dataset")
            .field("patients", &self.patients.len())
            .field("records", &self.records.len())
            .field("labels", &self.labels)
            .field("dropped", &self.dropped)
            .finish()
    }
}

impl Dataset {
    /// Reads a file in which every text has one label. `labels` is the plan's list; `max_records_per_patient` is its `R`, at least 1.
    ///
    /// # Errors
    /// As [`Dataset::load_for`].
    pub fn load(
        config: &DataConfig,
        labels: &[String],
        max_records_per_patient: usize,
    ) -> Result<Self, DataError> {
        Self::load_for(config, TaskKind::SingleLabel, labels, max_records_per_patient)
    }

    /// Reads the file for a task. `labels` is the plan's list; `max_records_per_patient` is its `R`, at least 1.
    ///
    /// # Errors
    /// [`DataError`], naming file, row, column, value and cure: no such file or column, an unknown extension, a missing or empty
    /// text, label or id, a label that is not in the list, a field that is too large or not UTF-8, no records at all.
    pub fn load_for(
        config: &DataConfig,
        task: TaskKind,
        labels: &[String],
        max_records_per_patient: usize,
    ) -> Result<Self, DataError> {
        let mut config = config.clone();
        if task == TaskKind::NextToken {
            // Whatever it names is not looked at.
            config.label_column.clear();
        } else if config.label_column.is_empty() {
            return Err(DataError::NoLabelColumn { file: config.path });
        }
        let mut grouping = Grouping::new(&config, task, labels, max_records_per_patient)?;
        match Format::of(&config)? {
            Format::Csv => delimited::read(&config, &mut grouping)?,
            Format::JsonLines => json_lines::read(&config, &mut grouping)?,
            Format::Parquet => parquet_rows::read(&config, &mut grouping)?,
        }
        grouping.finish()
    }

    /// Reads the patient column alone, for a client whose records are a trainer's affair: patients, and no records. The other
    /// two columns of `config` are not looked at.
    ///
    /// # Errors
    /// As [`Dataset::load`], as far as the patient column goes.
    pub fn load_patients(config: &DataConfig) -> Result<Self, DataError> {
        // A column without a name is not looked for.
        let config = DataConfig { text_column: String::new(), label_column: String::new(), ..config.clone() };
        let mut grouping = Grouping::of_patients(&config);
        match Format::of(&config)? {
            Format::Csv => delimited::read(&config, &mut grouping)?,
            Format::JsonLines => json_lines::read(&config, &mut grouping)?,
            Format::Parquet => parquet_rows::read(&config, &mut grouping)?,
        }
        grouping.finish()
    }

    /// The patients' ids, by their numbers.
    pub fn patient_ids(&self) -> Vec<String> {
        let mut ids = vec![String::new(); self.patients.len()];
        for (id, &number) in &self.numbers {
            // Numbers are indices of `patients`.
            ids[number].clone_from(id);
        }
        ids
    }

    /// How many patients.
    pub fn patients(&self) -> usize {
        self.patients.len()
    }

    /// One patient's records, 1 to `R`; none if there is no such patient.
    pub fn records(&self, patient: usize) -> &[Record] {
        // `patients` holds ranges of `records` only.
        self.patients.get(patient).map_or(&[], |range| &self.records[range.clone()])
    }

    /// How many records are kept.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Never: a data set without records does not load.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// How many labels the plan has.
    pub fn labels(&self) -> usize {
        self.labels
    }

    /// The same without these patients, for whoever trains on all that is there.
    #[must_use]
    pub fn without(&self, out: &BTreeSet<usize>) -> Self {
        let mut kept = Self {
            records: Vec::new(),
            patients: Vec::new(),
            labels: self.labels,
            dropped: self.dropped,
            numbers: HashMap::new(),
        };
        let mut renumbered = HashMap::new();
        for patient in (0..self.patients()).filter(|patient| !out.contains(patient)) {
            let begin = kept.records.len();
            kept.records.extend_from_slice(self.records(patient));
            renumbered.insert(patient, kept.patients.len());
            kept.patients.push(begin..kept.records.len());
        }
        let number = |(id, patient): (&String, &usize)| Some((id.clone(), *renumbered.get(patient)?));
        kept.numbers = self.numbers.iter().filter_map(number).collect();
        kept
    }

    /// How many records were left out because their patient already had `R`.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// Records per label. For local use: it is as private as the data, and is never sent.
    pub fn label_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.labels];
        for label in self.records.iter().flat_map(|record| &record.labels) {
            // Labels were looked up in the list of that length.
            counts[*label as usize] += 1;
        }
        counts
    }
}

enum Format {
    Csv,
    JsonLines,
    Parquet,
}

impl Format {
    fn of(config: &DataConfig) -> Result<Self, DataError> {
        let extension = config.path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
        match extension.as_str() {
            "csv" => Ok(Self::Csv),
            "jsonl" | "ndjson" => Ok(Self::JsonLines),
            "parquet" => Ok(Self::Parquet),
            _ => Err(DataError::UnknownFormat { file: config.path.clone(), extension }),
        }
    }
}

/// Where a row is, in the words of its format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line of a text file, counted from 1.
    Line(u64),
    /// A row of a table, counted from 1.
    Row(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Row(row) => write!(f, "row {row}"),
        }
    }
}

/// Collects rows into patients.
struct Grouping<'a> {
    config: &'a DataConfig,
    task: TaskKind,
    /// Rows are patients, and nothing else of them is kept.
    patients_only: bool,
    labels: HashMap<&'a str, u32>,
    per_patient: usize,
    numbers: HashMap<String, usize>,
    patients: Vec<Vec<Record>>,
    records: usize,
    dropped: usize,
}

impl<'a> Grouping<'a> {
    fn new(
        config: &'a DataConfig,
        task: TaskKind,
        labels: &'a [String],
        per_patient: usize,
    ) -> Result<Self, DataError> {
        if per_patient == 0 {
            return Err(DataError::NoRecordsAllowed);
        }
        let mut known = HashMap::new();
        for (index, label) in labels.iter().enumerate() {
            let index =
                u32::try_from(index).map_err(|_| DataError::LabelTwice { label: shortened(label) })?;
            if known.insert(label.as_str(), index).is_some() {
                return Err(DataError::LabelTwice { label: shortened(label) });
            }
        }
        let columns = [&config.text_column, &config.label_column, &config.patient_column];
        for (index, column) in columns.iter().enumerate() {
            if columns[..index].contains(column) {
                return Err(DataError::ColumnTwice { column: (*column).clone() });
            }
        }
        Ok(Self {
            config,
            task,
            patients_only: false,
            labels: known,
            per_patient,
            numbers: HashMap::new(),
            patients: Vec::new(),
            records: 0,
            dropped: 0,
        })
    }

    fn of_patients(config: &'a DataConfig) -> Self {
        Self {
            config,
            task: TaskKind::NextToken,
            patients_only: true,
            labels: HashMap::new(),
            per_patient: 1,
            numbers: HashMap::new(),
            patients: Vec::new(),
            records: 0,
            dropped: 0,
        }
    }

    /// Adds a row. Fields are as the file has them; `None` is a null or an absent field.
    fn add(&mut self, place: Place, row: [Option<&str>; 3]) -> Result<(), DataError> {
        let config = self.config;
        let [text, label, patient] = row;
        if self.patients_only {
            let patient = self.field(place, &config.patient_column, patient, MAX_ID_BYTES)?.trim();
            self.count_record()?;
            if !self.numbers.contains_key(patient) {
                self.numbers.insert(patient.to_owned(), self.patients.len());
                self.patients.push(Vec::new());
            }
            return Ok(());
        }
        let text = self.field(place, &config.text_column, text, MAX_TEXT_BYTES)?;
        let labels = self.labels_of(place, label)?;
        let patient = self.field(place, &config.patient_column, patient, MAX_ID_BYTES)?.trim();
        let number = match self.numbers.get(patient) {
            Some(&number) => number,
            None => {
                self.numbers.insert(patient.to_owned(), self.patients.len());
                self.patients.push(Vec::new());
                self.patients.len() - 1
            }
        };
        // Indexing safety: `numbers` holds indices of `patients`.
        let records = &mut self.patients[number];
        if records.len() == self.per_patient {
            self.dropped += 1;
            return Ok(());
        }
        records.push(Record { text: text.to_owned(), labels });
        self.count_record()
    }

    fn count_record(&mut self) -> Result<(), DataError> {
        if self.records == MAX_RECORDS {
            return Err(DataError::TooManyRecords { file: self.config.path.clone(), most: MAX_RECORDS });
        }
        self.records += 1;
        Ok(())
    }

    /// What the label column holds, as indices into the list.
    fn labels_of(&self, place: Place, value: Option<&str>) -> Result<Vec<u32>, DataError> {
        let column = &self.config.label_column;
        let known = |label: &str| {
            self.labels.get(label).copied().ok_or_else(|| DataError::UnknownLabel {
                file: self.config.path.clone(),
                place,
                column: column.clone(),
                label: shortened(label),
                known: self.labels.len(),
            })
        };
        match self.task {
            TaskKind::NextToken => Ok(Vec::new()),
            TaskKind::SingleLabel => Ok(vec![known(self.field(place, column, value, MAX_ID_BYTES)?.trim())?]),
            TaskKind::MultiLabel => {
                let Some(value) = value.filter(|value| !value.trim().is_empty()) else {
                    return Ok(Vec::new());
                };
                let value = self.field(place, column, Some(value), MAX_TEXT_BYTES)?;
                let mut labels = value
                    .split(SEPARATOR)
                    .map(str::trim)
                    .filter(|label| !label.is_empty())
                    .map(known)
                    .collect::<Result<Vec<u32>, _>>()?;
                labels.sort_unstable();
                labels.dedup();
                Ok(labels)
            }
        }
    }

    fn field<'t>(
        &self,
        place: Place,
        column: &str,
        value: Option<&'t str>,
        most: usize,
    ) -> Result<&'t str, DataError> {
        let (file, column) = (self.config.path.clone(), column.to_owned());
        match value {
            Some(value) if value.len() > most => {
                Err(DataError::TooLong { file, place, column, bytes: value.len(), most })
            }
            Some(value) if !value.trim().is_empty() => Ok(value),
            _ => Err(DataError::Missing { file, place, column }),
        }
    }

    fn finish(self) -> Result<Dataset, DataError> {
        if self.records == 0 {
            return Err(DataError::Empty { file: self.config.path.clone() });
        }
        let kept = if self.patients_only { 0 } else { self.records };
        let mut records = Vec::with_capacity(kept);
        let mut patients = Vec::with_capacity(self.patients.len());
        for of_patient in self.patients {
            let begin = records.len();
            records.extend(of_patient);
            patients.push(begin..records.len());
        }
        let (labels, dropped, numbers) = (self.labels.len(), self.dropped, self.numbers);
        Ok(Dataset { records, patients, labels, dropped, numbers })
    }
}

/// The names of the wanted columns, in the order in which rows are handed to [`Grouping::add`]. An empty name is no column.
fn wanted(config: &DataConfig) -> [&str; 3] {
    [&config.text_column, &config.label_column, &config.patient_column]
}

/// At most 40 characters of a value, for an error message.
fn shortened(value: &str) -> String {
    if value.chars().count() <= 40 {
        return value.to_owned();
    }
    let mut short: String = value.chars().take(40).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests;
