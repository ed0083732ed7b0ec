//! The list of a record's files, in one form only, so that no byte of it can change unseen.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::File,
    io::{self, Read as _},
    path::{Component, Path, PathBuf},
};

use consilium_crypto::{
    digest::{Digest, Hasher},
    sign::{Signature, SigningKey, sign},
};
use consilium_proto::{plan::VerifiedPlan, roster::VerifiedRoster};

use super::{SIGNED_AS, context};

/// The list's own file, and its signature's.
pub(crate) const CONTENTS: &str = "contents";
pub(crate) const SIGNATURE: &str = "contents.sig";
const FIRST_LINE: &str = "consilium record 1";
/// Longest list that is read, bytes: about ten thousand files of each of a thousand members.
pub(super) const MAX_BYTES: u64 = 1 << 30;

/// A listed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// SHA-256.
    pub digest: Digest,
    /// Length.
    pub bytes: u64,
}

/// The files of a record, by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents(BTreeMap<String, Listed>);

impl Contents {
    /// Lists a file; its path is relative, with `/` between parts.
    pub fn add(&mut self, path: String, listed: Listed) {
        self.0.insert(path, listed);
    }

    /// All paths, sorted.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// A listed file.
    pub fn get(&self, path: &str) -> Option<&Listed> {
        self.0.get(path)
    }

    /// How many files are listed.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The list's text.
    pub fn to_text(&self) -> String {
        let mut text = format!("{FIRST_LINE}\n");
        for (path, Listed { digest, bytes }) in &self.0 {
            // Unwrap safety: writing to a String does not fail.
            let _ = writeln!(text, "{digest} {bytes} {path}");
        }
        text
    }

    /// Reads a list that is written exactly as [`Contents::to_text`] writes it.
    ///
    /// # Errors
    ///
    /// The first line that is not.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        if lines.next() != Some(FIRST_LINE) {
            return Err(format!("line 1 is not \"{FIRST_LINE}\""));
        }
        let mut contents = Self::default();
        for (number, line) in (2..).zip(lines) {
            let bad = || format!("line {number} is not `<sha256> <bytes> <path>`");
            let mut parts = line.splitn(3, ' ');
            let mut part = || parts.next().ok_or_else(bad);
            let digest = part()?.parse().map_err(|_| bad())?;
            let bytes = part()?.parse().map_err(|_| bad())?;
            let path = part()?;
            if !plain(path) {
                return Err(format!("line {number} names a path that is not plain and relative"));
            }
            contents.add(path.to_owned(), Listed { digest, bytes });
        }
        if contents.to_text() != text {
            return Err("its lines are not sorted, not unique, or not written as they must be".into());
        }
        Ok(contents)
    }

    /// The signature's text, by the coordinator.
    pub fn sign(&self, roster: &VerifiedRoster, plan: &VerifiedPlan, key: &SigningKey) -> String {
        let id = roster.coordinator().id.as_str();
        let signature = sign(key, SIGNED_AS, &context(&plan.digest()), id, self.to_text().as_bytes());
        format!("{id} {}\n", hex::encode(signature.0))
    }

    /// Checks a signature's text, byte for byte.
    ///
    /// # Errors
    ///
    /// In words.
    pub fn verify(
        &self,
        signature: &str,
        roster: &VerifiedRoster,
        plan: &VerifiedPlan,
    ) -> Result<(), &'static str> {
        let id = roster.coordinator().id.as_str();
        let digits = signature.strip_prefix(id).and_then(|rest| rest.strip_prefix(' '));
        let digits = digits.and_then(|rest| rest.strip_suffix('\n'));
        let digits = digits.ok_or("it is not one line of the coordinator's id and 128 hexadecimal digits")?;
        let mut bytes = [0; 64];
        if hex::decode_to_slice(digits, &mut bytes).is_err() || hex::encode(bytes) != digits {
            return Err("it is not one line of the coordinator's id and 128 hexadecimal digits");
        }
        let (ctx, text) = (context(&plan.digest()), self.to_text());
        roster
            .coordinator_signed(SIGNED_AS, &ctx, text.as_bytes(), &Signature(bytes))
            .map_err(|_| "the roster's coordinator did not sign these contents")
    }
}

/// Letters, digits, `.`, `_` and `-` between slashes, no part `.` or `..`.
fn plain(path: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    let parts = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    !path.is_empty() && path.chars().all(allowed) && parts && !path.ends_with('/') && !path.contains("//")
}

/// Digest and length of a file, read once through.
pub(crate) fn measure(path: &Path) -> io::Result<Listed> {
    let (mut file, mut hasher) = (File::open(path)?, Hasher::new());
    let (mut buffer, mut bytes) = (vec![0; 1 << 16], 0);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Listed { digest: hasher.finish(), bytes }),
            read => {
                hasher.update(buffer.get(..read).unwrap_or_default());
                bytes += read as u64;
            }
        }
    }
}

/// Every file below a folder, as listed paths; what is not a plain file counts as one, so that it is noticed.
pub(crate) fn walk(folder: &Path) -> io::Result<Vec<String>> {
    let (mut found, mut todo) = (Vec::new(), vec![(PathBuf::from(folder), String::new())]);
    while let Some((folder, before)) = todo.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let path = format!("{before}{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                todo.push((entry.path(), format!("{path}/")));
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_one_form() {
        let mut contents = Contents::default();
        for path in ["b/c.sum", "a"] {
            contents.add(path.into(), Listed { digest: Digest::of(path.as_bytes()), bytes: 7 });
        }
        let text = contents.to_text();
        assert_eq!(Contents::parse(&text), Ok(contents));
        let other = text.replace(" 7 ", " 07 ");
        for bad in [
            other.as_str(),
            text.trim_end(),
            &text.to_uppercase(),
            &text.replace("b/c", "b/../c"),
            &text.replace("b/c", "/b/c"),
            "",
        ] {
            assert!(Contents::parse(bad).is_err(), "{bad}");
        }
    }
}
