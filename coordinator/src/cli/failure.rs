//! Why a command ended without doing its work, and with which exit code.

use std::{fmt, io, path::Path};

use crate::files::FileError;

/// A command's failure. Its text is for a person and names the cure.
#[derive(Debug)]
pub enum Failure {
    /// Something is wrong with what was given or found: exit code 1.
    Refused(String),
    /// The command line does not say enough to do it: exit code 2.
    Usage(String),
    /// The coordinator cannot be reached: exit code 3.
    Unreachable(String),
    /// Whoever read the output has gone (`| head`): not a failure, exit code 0.
    Closed,
}

impl Failure {
    /// The process's exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Refused(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 3,
            Self::Closed => 0,
        }
    }

    pub(super) fn refused(why: impl fmt::Display) -> Self {
        Self::Refused(why.to_string())
    }

    /// With the file's name before the text.
    pub(super) fn in_file(path: &Path, why: impl fmt::Display) -> Self {
        Self::Refused(format!("{}: {why}", path.display()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) | Self::Usage(why) | Self::Unreachable(why) => f.write_str(why),
            Self::Closed => f.write_str("the output was closed"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        Self::refused(error)
    }
}

impl From<io::Error> for Failure {
    /// Of writing the output.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Refused(format!("the output cannot be written: {error}")),
        }
    }
}
