//! From an error to a message and an exit code.

use std::{fmt, io, process::ExitCode};

use crate::{
    config::ConfigError,
    data::DataError,
    decisions::DecisionError,
    files::FileError,
    journal::JournalError,
    ledger::LedgerError,
    link::ProxyError,
    result::ResultError,
    run::{RunError, StartError},
    trainer::TrainError,
};

/// What ends a command. The codes stand in `--help`.
#[derive(Debug)]
pub(crate) enum Failure {
    /// This machine failed.
    Local(String),
    /// Something that was handed in was refused.
    Refused(String),
    /// The ledger does not verify, or the budget is spent.
    Ledger(String),
    /// The coordinator or another party cannot be worked with.
    Peer(String),
    /// What is wrong has been printed already.
    Printed,
}

impl Failure {
    pub(crate) fn refused(why: impl fmt::Display) -> Self {
        Self::Refused(why.to_string())
    }

    pub(crate) fn local(why: impl fmt::Display) -> Self {
        Self::Local(why.to_string())
    }

    /// The message alone.
    pub(crate) fn words(self) -> String {
        match self {
            Self::Local(why) | Self::Refused(why) | Self::Ledger(why) | Self::Peer(why) => why,
            Self::Printed => String::new(),
        }
    }

    /// Prints the message and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        let (code, why) = match self {
            Self::Local(why) => (1, why),
            Self::Refused(why) => (3, why),
            Self::Ledger(why) => (4, why),
            Self::Peer(why) => (5, why),
            Self::Printed => return ExitCode::from(3),
        };
        eprintln!("error: {}", why.trim_end());
        ExitCode::from(code)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::refused(error)
    }
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        Self::refused(error)
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        match &error {
            FileError::Io { source, .. } if source.kind() != io::ErrorKind::NotFound => Self::local(error),
            _ => Self::refused(error),
        }
    }
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Foreign { .. } => Self::refused(error),
            error => Self::local(error),
        }
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        match error {
            // A disk that is full or gone, not a ledger that is wrong.
            LedgerError::Journal(
                error @ (JournalError::File(_) | JournalError::Write { .. } | JournalError::Sync { .. }),
            ) => Self::local(error),
            error => Self::Ledger(error.to_string()),
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Config(error) => (*error).into(),
            StartError::File(error) => error.into(),
            StartError::Journal(error) => error.into(),
            StartError::Ledger(error) => error.into(),
            StartError::Data(error) => error.into(),
            StartError::Train(error) => error.into(),
            StartError::Proxy(error) => error.into(),
            StartError::Restored(why) => Self::Ledger(why),
            error => Self::refused(error),
        }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Journal(error) => error.into(),
            RunError::Ledger(error) => error.into(),
            RunError::File(error) => error.into(),
            RunError::Decision(error) => error.into(),
            RunError::Stopped(why) => Self::Peer(why),
            RunError::Restored(why) => Self::Ledger(why),
            error => Self::local(error),
        }
    }
}

impl From<DecisionError> for Failure {
    fn from(error: DecisionError) -> Self {
        match error {
            DecisionError::Journal(error) => error.into(),
            error => Self::refused(error),
        }
    }
}

impl From<ProxyError> for Failure {
    fn from(error: ProxyError) -> Self {
        match error {
            ProxyError::File(error) => error.into(),
            error => Self::refused(error),
        }
    }
}

impl From<ResultError> for Failure {
    fn from(error: ResultError) -> Self {
        match error {
            ResultError::File(error) => error.into(),
            error => Self::refused(error),
        }
    }
}

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Self {
        match error {
            TrainError::Torch(_) | TrainError::External(_) => Self::local(error),
            error => Self::refused(error),
        }
    }
}
