//! What can be wrong with a data file; each message names the file, the row, the column, the value and the cure.
//! Shown to the organization's own operator only.

use std::path::PathBuf;

use super::Place;

/// Why a data file was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// Reading failed.
    #[error("data file {}: cannot be read: {source}; check data.path in the client's config", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The extension is not one of ours.
    #[error("data file {}: unknown extension `{extension}`; use csv, jsonl, ndjson or parquet", file.display())]
    UnknownFormat {
        /// The file.
        file: PathBuf,
        /// Its extension.
        extension: String,
    },
    /// The file does not parse as its extension says.
    #[error("data file {}, {place}: {problem}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// Where.
        place: Place,
        /// What the parser said.
        problem: String,
    },
    /// A Parquet file does not parse.
    #[error("data file {}: not a readable Parquet file: {problem}", file.display())]
    Parquet {
        /// The file.
        file: PathBuf,
        /// What the parser said, with the cure where one is known.
        problem: String,
    },
    /// A configured column is not in the file.
    #[error(
        "data file {}: no column `{column}`; the file has {}; correct the column names in the client's config",
        file.display(),
        found.join(", ")
    )]
    NoColumn {
        /// The file.
        file: PathBuf,
        /// The column that was wanted.
        column: String,
        /// The columns that are there, shortened.
        found: Vec<String>,
    },
    /// The plan learns labels, and the configuration names no column for them.
    #[error("data file {}: label_column is not named in the client's config, and the plan learns labels; name it", file.display())]
    NoLabelColumn {
        /// The file.
        file: PathBuf,
    },
    /// A column name appears twice, in the file's head or in the configuration.
    #[error(
        "data: column `{column}` is named twice; text, label and patient must be three columns with names of their own"
    )]
    ColumnTwice {
        /// The column.
        column: String,
    },
    /// A column's type cannot be a text, a label or an id.
    #[error("data file {}, {place}, column `{column}`: is {found}; expected text{}", file.display(), if *integers { " or a whole number" } else { "" })]
    WrongType {
        /// The file.
        file: PathBuf,
        /// Where.
        place: Place,
        /// The column.
        column: String,
        /// What is there.
        found: &'static str,
        /// Whether whole numbers would do.
        integers: bool,
    },
    /// A text, label or id is absent, null or blank.
    #[error("data file {}, {place}, column `{column}`: is empty; every record needs a text, a label and a patient id: fill it in or remove the row", file.display())]
    Missing {
        /// The file.
        file: PathBuf,
        /// Where.
        place: Place,
        /// The column.
        column: String,
    },
    /// A label is not in the plan's list.
    #[error("data file {}, {place}, column `{column}`: label `{label}` is not among the plan's {known} labels; spell it as the plan does or remove the row", file.display())]
    UnknownLabel {
        /// The file.
        file: PathBuf,
        /// Where.
        place: Place,
        /// The column.
        column: String,
        /// The label, shortened.
        label: String,
        /// How many labels the plan has.
        known: usize,
    },
    /// A field is too long.
    #[error("data file {}, {place}, column `{column}`: {bytes} bytes, at most {most} are read; cut it (an unclosed quote can look like this too)", file.display())]
    TooLong {
        /// The file.
        file: PathBuf,
        /// Where.
        place: Place,
        /// The column.
        column: String,
        /// Its length.
        bytes: usize,
        /// The cap.
        most: usize,
    },
    /// A field is not UTF-8.
    #[error("data file {}, {place}, column `{column}`: is not UTF-8; save the file again as UTF-8", file.display())]
    NotUtf8 {
        /// The file.
        file: PathBuf,
        /// Where.
        place: Place,
        /// The column.
        column: String,
    },
    /// More records than one process holds.
    #[error("data file {}: more than {most} records; split it", file.display())]
    TooManyRecords {
        /// The file.
        file: PathBuf,
        /// The cap.
        most: usize,
    },
    /// No records.
    #[error("data file {}: holds no records", file.display())]
    Empty {
        /// The file.
        file: PathBuf,
    },
    /// The plan's label list names a label twice.
    #[error("plan: label `{label}` is listed twice")]
    LabelTwice {
        /// The label, shortened.
        label: String,
    },
    /// `R = 0`.
    #[error("plan: max_records_per_patient = 0 leaves nothing to train on; it must be at least 1")]
    NoRecordsAllowed,
}
