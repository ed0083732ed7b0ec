//! A desk: a folder to work in and the real binary to work with.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

pub struct Desk(tempfile::TempDir);

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Desk {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// The binary in this folder; arguments are the words of `line`.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_consilium"));
        command.current_dir(self.0.path()).args(line.split_whitespace()).stdin(Stdio::null());
        command
    }

    pub fn run(&self, line: &str) -> Said {
        said(self.command(line).output().unwrap())
    }

    /// As [`Desk::run`], for a line that must succeed; its output.
    pub fn ok(&self, line: &str) -> String {
        let said = self.run(line);
        assert_eq!(said.code, 0, "consilium {line}: {said:?}");
        assert_eq!(said.err, "", "consilium {line}");
        said.out
    }

    /// For a line that must be refused; its message.
    pub fn refused(&self, line: &str) -> String {
        let said = self.run(line);
        assert_eq!(said.code, 1, "consilium {line}: {said:?}");
        assert_eq!(said.out, "", "consilium {line}");
        assert!(said.err.starts_with("consilium: ") && !said.err.contains("panicked"), "{}", said.err);
        said.err
    }

    pub fn json(&self, line: &str) -> serde_json::Value {
        serde_json::from_str(&self.ok(line)).unwrap()
    }
}

pub fn said(output: Output) -> Said {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

pub fn vectors(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/trainer").join(name)
}

pub const TEMPLATE: &str = r#"
job = "chapters"
rounds = 10

[model]
name = "tiny"
pooling = "mean"
max_tokens = 32

[task]
labels = ["a", "b", "c", "d", "e"]

[privacy]
note = "a title stands for a patient"
epsilon = 6.0
delta = 1e-5
sampling_rate = 0.05
expected_lot = 100.0
largest_lot = 40.0
noise_multiplier = 0.7

[optimizer]
kind = "adam"
learning_rate = 0.02
beta1 = 0.9
beta2 = 0.999
epsilon = 1e-8

[evaluation]
organization = "site-1"

[adapter]
rank = 4
alpha = 8.0
target_modules = ["query", "value"]
"#;

/// Three organizations, a coordinator, an operator, a signed roster; its fingerprint.
pub fn consortium(desk: &Desk) -> String {
    for id in ["coordinator", "ada", "site-1", "site-2", "site-3"] {
        desk.ok(&format!("keygen --id {id} --out {id}"));
    }
    desk.ok("roster build --consortium heart --coordinator coordinator/party.toml \
         --organization site-3/party.toml site-1/party.toml --organization site-2/party.toml \
         --operator ada/party.toml --out roster.toml");
    for id in ["site-1", "site-2", "site-3"] {
        desk.ok(&format!("sign roster roster.toml --identity {id}/identity.toml"));
    }
    desk.ok("roster fingerprint roster.toml").trim().to_owned()
}

/// And a plan signed by the quorum.
pub fn plan(desk: &Desk) {
    desk.write("template.toml", TEMPLATE);
    let model = vectors("tiny");
    desk.ok(&format!(
        "plan new --template template.toml --roster roster.toml --model {} --out plan.toml",
        model.display()
    ));
    for id in ["site-1", "site-2", "site-3"] {
        desk.ok(&format!("sign plan plan.toml --identity {id}/identity.toml"));
    }
}

/// What making a plan says, from this template and that model.
pub fn new_plan(desk: &Desk, template: &str, model: &str) -> Said {
    desk.write("t.toml", template);
    let _ = std::fs::remove_file(desk.path("p.toml"));
    desk.run(&format!("plan new --template t.toml --roster roster.toml --model {model} --out p.toml"))
}
