//! A file of whole lines: what a full disk leaves is the lines that fitted, not a torn one.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
};

use super::OutError;

/// A file to which lines are added, each as soon as it is known.
#[derive(Debug)]
pub struct Lines {
    path: PathBuf,
    file: File,
    whole: u64,
    count: u64,
}

impl Lines {
    /// An empty file.
    ///
    /// # Errors
    ///
    /// [`OutError`].
    pub fn create(path: &Path) -> Result<Self, OutError> {
        let failed = |source| OutError {
            path: path.to_path_buf(),
            source,
            kept: "what was written before it is whole".into(),
        };
        Ok(Self { path: path.to_path_buf(), file: File::create(path).map_err(failed)?, whole: 0, count: 0 })
    }

    /// Adds a line.
    ///
    /// # Errors
    ///
    /// [`OutError`]; the lines before it are whole, and nothing is after them.
    pub fn add(&mut self, line: &str) -> Result<(), OutError> {
        let text = format!("{line}\n");
        match self.file.write_all(text.as_bytes()) {
            Ok(()) => {
                self.whole += text.len() as u64;
                self.count += 1;
                Ok(())
            }
            Err(source) => {
                // Making a file shorter needs no room; if even this fails, the last line is torn and readers see it.
                drop(self.file.set_len(self.whole));
                let kept = format!("its first {} lines are whole", self.count);
                Err(OutError { path: self.path.clone(), source, kept })
            }
        }
    }
}
