//! What happened, line by line, and a digest over all of it.

use std::io::Write;

use consilium_crypto::digest::{Digest, Hasher};

use crate::network::Micros;

/// The event log. Lines are hashed as they come; they are written only if somebody wants to read them.
#[derive(Default)]
pub struct Log {
    hasher: Hasher,
    lines: u64,
    out: Option<Box<dyn Write>>,
    failed: Option<std::io::Error>,
}

impl Log {
    /// A log that also writes its lines.
    pub fn to(out: Box<dyn Write>) -> Self {
        Self { out: Some(out), ..Self::default() }
    }

    /// Adds a line: when, who, what, and a digest of the bytes concerned.
    pub(crate) fn line(&mut self, at: Micros, who: &str, what: &str, bytes: &[u8]) {
        self.line_of(at, who, what, &Digest::of(bytes));
    }

    /// Adds a line about bytes whose digest is known.
    pub(crate) fn line_of(&mut self, at: Micros, who: &str, what: &str, digest: &Digest) {
        let line = format!("{at} {who} {what} {digest}\n");
        self.hasher.update(line.as_bytes());
        self.lines += 1;
        if let Some(out) = &mut self.out
            && let Err(error) = out.write_all(line.as_bytes())
        {
            // The simulation goes on; the digest does not need the file.
            self.failed = Some(error);
            self.out = None;
        }
    }

    /// Lines so far.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// The digest over all lines so far.
    pub fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }

    /// Writes what is buffered.
    ///
    /// # Errors
    ///
    /// The first error of writing.
    pub fn flush(&mut self) -> std::io::Result<()> {
        match (self.failed.take(), &mut self.out) {
            (Some(error), _) => Err(error),
            (None, Some(out)) => out.flush(),
            (None, None) => Ok(()),
        }
    }
}
