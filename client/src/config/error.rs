//! What can be wrong before a client runs. Each message names the field or file, the value, and the cure.

use std::path::{Path, PathBuf};

use consilium_crypto::digest::Digest;
use consilium_proto::{
    identity::IdentityError,
    ids::Id,
    plan::PlanError,
    roster::{RosterError, Unlisted},
    signed::SignatureError,
};
use thiserror::Error;

use crate::{
    files::FileError, link::ConnectError, model::ModelError, policy::Forbidden,
    trainer::external::tls::KeyError,
};

/// Why a configuration, or a document it names, was refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file does not read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not TOML of this shape.
    #[error("{}: {problem}{}", path.display(), hint.as_ref().map(|near| format!("did you mean `{near}`?\n")).unwrap_or_default())]
    Parse {
        /// The config file.
        path: PathBuf,
        /// What the parser said, with line and column.
        problem: String,
        /// The known field nearest to an unknown one.
        hint: Option<String>,
    },
    /// A value out of range.
    #[error("config: {field} = {value}: {rule}")]
    Value {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
    /// The authorities of inspected connections are none.
    #[error(
        "config: inspection_ca = {path}: {why}; it is a PEM file, with the certificate of the authority whose box opens TLS"
    )]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The coordinator cannot be dialled so.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A path leads nowhere.
    #[error("config: {field}: there is no {what} at {}; correct the path{cure}", path.display())]
    Missing {
        /// The field.
        field: &'static str,
        /// What should be there.
        what: &'static str,
        /// Where it was looked for.
        path: PathBuf,
        /// Where it comes from.
        cure: &'static str,
    },
    /// The identity file's content.
    #[error("{}: {source}", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: IdentityError,
    },
    /// The identity is another party's.
    #[error("config: organization = {organization}, and the identity in {} is {found}'s; correct one of the two", path.display())]
    OtherIdentity {
        /// In the config.
        organization: Id,
        /// The file.
        path: PathBuf,
        /// In the file.
        found: Id,
    },
    /// Lines of a signature file.
    #[error("{}: {source}", path.display())]
    Signatures {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: SignatureError,
    },
    /// The roster does not verify.
    #[error("{}: {source}", path.display())]
    Roster {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: RosterError,
    },
    /// The plan does not verify.
    #[error("{}: {source}", path.display())]
    Plan {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: PlanError,
    },
    /// The roster does not list this organization.
    #[error(
        "{organization} is not in the roster of {consortium}; it lists {}; correct `organization`, or ask the consortium to \
         sign a roster with it",
        listed.iter().map(Id::as_str).collect::<Vec<_>>().join(", ")
    )]
    NotListed {
        /// In the config.
        organization: Id,
        /// The roster's name.
        consortium: Id,
        /// Whom it lists.
        listed: Vec<Id>,
    },
    /// The roster lists other keys for this organization.
    #[error(
        "the {which} of {organization}'s identity is {own}, and the roster lists {listed}; use the identity that was \
         made for this roster, or ask the consortium to sign a roster with the new keys"
    )]
    OtherKey {
        /// "signing key" or "TLS key".
        which: &'static str,
        /// Whose.
        organization: Id,
        /// In the identity file.
        own: String,
        /// In the roster.
        listed: String,
    },
    /// A key's time is over, or its organization has revoked it.
    #[error(transparent)]
    Expired(Unlisted),
    /// The model folder.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model is not the plan's.
    #[error(
        "{}: its digest is {found}, and the plan was made for {expected} ({name}); get the very file the plan was made for",
        path.display()
    )]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// Its digest.
        found: Digest,
        /// The plan's.
        expected: Digest,
        /// The model's name in the plan.
        name: String,
    },
    /// A command that runs the model itself, and a config without one.
    #[error(
        "this needs the base model, and the config names none that this client can run; name `model` in the config"
    )]
    NoModel,
    /// The keys between client and trainer.
    #[error("external.keys: {0}")]
    TrainerKeys(#[from] KeyError),
    /// The plan's tensors do not fit its model.
    #[error(
        "the plan's tensor {tensor} {problem}; the plan was not made for its own model and must be made again"
    )]
    Tensors {
        /// The first one that differs.
        tensor: String,
        /// How.
        problem: String,
    },
    /// The plan wants this organization to evaluate, and it has nothing to evaluate on.
    #[error(
        "the plan names {organization} as evaluator: add [evaluation] with the public test set to the config"
    )]
    NoEvaluation {
        /// This organization.
        organization: Id,
    },
    /// A line of the policy holds what it must not.
    #[error("{}:{line}: `{text}`: {rule}", path.display())]
    PolicyLine {
        /// The policy's file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Its text.
        text: String,
        /// What it must be.
        rule: String,
    },
    /// The organization's own policy forbids the plan.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
}

impl ConfigError {
    pub(crate) fn parse(path: &Path, error: &toml::de::Error) -> Self {
        Self::Parse { path: path.to_path_buf(), problem: error.to_string(), hint: nearest(error.message()) }
    }
}

/// The known field nearest to the unknown one that serde's message names: "unknown field `x`, expected one of `a`, `b`".
fn nearest(message: &str) -> Option<String> {
    let message =
        message.strip_prefix("unknown field ").or_else(|| message.strip_prefix("unknown variant "))?;
    // Odd parts of a split at backticks are the quoted ones.
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = quoted.next()?;
    let (distance, known) = quoted.map(|known| (edits(unknown, known), known)).min()?;
    // Half of it different is another word, not a misspelling.
    (distance * 2 <= unknown.chars().count().max(2)).then(|| known.to_owned())
}

/// Fewest insertions, deletions, replacements and swaps of neighbours from one word to the other (optimal string
/// alignment).
fn edits(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows = vec![vec![0; to.len() + 1]; from.len() + 1];
    for i in 0..=from.len() {
        for j in 0..=to.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
                let swapped = i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1];
                let best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if swapped { best.min(rows[i - 2][j - 2] + 1) } else { best }
            };
        }
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_names_find_their_neighbour() {
        let message = |unknown| {
            format!("unknown field `{unknown}`, expected one of `organization`, `roster`, `roster_pin`")
        };
        assert_eq!(nearest(&message("organisation")).as_deref(), Some("organization"));
        assert_eq!(nearest(&message("rosetr")).as_deref(), Some("roster"));
        assert_eq!(nearest(&message("roster-pin")).as_deref(), Some("roster_pin"));
        assert_eq!(nearest(&message("password")), None, "nothing near");
        assert_eq!(nearest("invalid type: integer"), None);
        assert_eq!((edits("", "abc"), edits("abc", "abc"), edits("abcd", "acbd")), (3, 0, 1));
    }
}
