//! Who is not to be learned from: a text file with one patient id a line.
//!
//! It is read anew before every lot, so that a line that is added counts from the next lot on. What cannot be read is an
//! error and never an empty list: without its list the client does not take part. Whoever was listed once stays out
//! until the process starts again, so that a file that is being rewritten in place does not let anybody back in for a lot.
//!
//! How many are listed, and whether any of them is in the data, is told to nobody: not to the coordinator, not to the log.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    path::PathBuf,
};

use thiserror::Error;

use super::Dataset;
use crate::files::{self, FileError};

/// Largest list that is read, bytes: room for ten million ids.
const MAX_OPT_OUT_BYTES: u64 = 256 << 20;

/// The list could not be read. Shown to the organization's own operator only.
#[derive(Debug, Error)]
#[error(
    "the list of patients who opted out (data.opt_out) cannot be read, so this client does not take part: {0}; put the file \
     back, by renaming a complete one into its place: an empty file says that nobody has opted out"
)]
pub struct OptOutError(#[from] FileError);

/// The list, and the patients it is about.
pub struct OptOut {
    path: PathBuf,
    numbers: HashMap<String, usize>,
    listed: BTreeSet<usize>,
}

impl OptOut {
    /// The list at `path`, over the patients of `data`.
    pub fn new(path: PathBuf, data: &Dataset) -> Self {
        Self { path, numbers: data.numbers.clone(), listed: BTreeSet::new() }
    }

    /// Reads the list. Ids are compared as the data's are: without the space around them. Ids of others are passed over.
    ///
    /// # Errors
    ///
    /// [`OptOutError`] when the file is not there, not readable, not UTF-8 or too large.
    pub fn read(&mut self) -> Result<&BTreeSet<usize>, OptOutError> {
        let text = files::read_text(&self.path, MAX_OPT_OUT_BYTES)?;
        let lines = text.trim_start_matches('\u{feff}').lines();
        self.listed.extend(lines.filter_map(|line| self.numbers.get(line.trim()).copied()));
        Ok(&self.listed)
    }
}

impl fmt::Debug for OptOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OptOut").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::data::DataConfig;

    fn data(folder: &std::path::Path) -> Dataset {
        let path = folder.join("data.csv");
        fs::write(&path, "id,text,label\np-1,a,x\np-2,b,y\np-1,c,x\n p-3 ,d,y\n").unwrap();
        let [text_column, label_column, patient_column] = ["text", "label", "id"].map(str::to_owned);
        let config = DataConfig { path, text_column, label_column, patient_column };
        Dataset::load(&config, &["x".to_owned(), "y".to_owned()], 4).unwrap()
    }

    #[test]
    fn who_is_listed_is_out_from_the_next_reading_on_and_stays_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("opt-out.txt");
        let mut list = OptOut::new(path.clone(), &data(folder.path()));
        let mut after = |text: &str| {
            fs::write(&path, text).unwrap();
            list.read().unwrap().iter().copied().collect::<Vec<_>>()
        };
        assert_eq!(after(""), [0; 0]);
        assert_eq!(after("\u{feff}  p-3\r\n\r\nsomebody-else\n"), [2]);
        assert_eq!(after("p-1"), [0, 2], "the last line needs no end");
        assert_eq!(after(""), [0, 2], "a file that is being rewritten lets nobody back in");
        assert!(!format!("{list:?}").contains("p-1"));
    }

    #[test]
    fn a_list_that_cannot_be_read_is_never_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("opt-out.txt");
        let mut list = OptOut::new(path.clone(), &data(folder.path()));
        let mut refused = || {
            let text = list.read().unwrap_err().to_string();
            assert!(text.contains("data.opt_out") && text.contains("does not take part"), "{text}");
        };
        refused();
        fs::write(&path, [b'p', 0xff]).unwrap();
        refused();
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        refused();
    }
}
