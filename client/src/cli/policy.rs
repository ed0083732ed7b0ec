//! `policy`: what each line of this organization's policy means, and what it says about the plan at hand.

use crate::{
    config::{Config, ConfigError},
    policy::Verdict,
};
use consilium_proto::ids::Id;
use serde::Serialize;

use super::{ConfiguredJson, Failure, output};

#[derive(Serialize)]
struct Shown {
    file: String,
    /// The plan that was looked at; absent: it could not be read or verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<String>,
    allowed: Option<bool>,
    lines: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    line: usize,
    text: String,
    meaning: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    forbids: Option<String>,
}

impl From<Verdict> for Line {
    fn from(verdict: Verdict) -> Self {
        let Verdict { line, text, meaning, forbids } = verdict;
        Self { line, text, meaning, forbids }
    }
}

pub(crate) fn policy(command: &ConfiguredJson) -> Result<(), Failure> {
    let config = Config::load(&command.configured.config)?;
    let policy = config.open_policy()?;
    if policy.path().as_os_str().is_empty() {
        return Err(Failure::refused(
            "config: there is no `policy`, so whatever is signed is allowed; policy.example.toml shows what a policy can say",
        ));
    }
    let documents = || -> Result<_, ConfigError> {
        let roster = config.open_roster()?;
        let plan = config.open_plan(&roster)?;
        Ok((roster, plan))
    };
    let documents = documents();
    let explained = match &documents {
        Ok((roster, plan)) => {
            let valid_by = |signers: &[Id]| config.valid_by(signers, roster);
            policy.explain(Some((plan, &valid_by)))
        }
        Err(_) => policy.explain(None),
    };
    let lines: Vec<Line> = explained.into_iter().map(Line::from).collect();
    let forbidden = lines.iter().any(|line| line.forbids.is_some());
    let shown = Shown {
        file: policy.path().display().to_string(),
        plan: documents.as_ref().ok().map(|(_, plan)| plan.digest().to_string()),
        allowed: documents.is_ok().then_some(!forbidden),
        lines,
    };
    if command.json {
        output::print_json(&shown)?;
    } else {
        let why = documents.as_ref().err().map(ToString::to_string);
        output::print(&shown.text(why))?;
    }
    if forbidden { Err(Failure::Printed) } else { Ok(()) }
}

impl Shown {
    fn text(&self, no_plan: Option<String>) -> String {
        let mut text = format!("{}\n", self.file);
        for Line { line, text: own, meaning, forbids } in &self.lines {
            text += &format!("{line:>4}  {own}\n      {meaning}\n");
            if let Some(why) = forbids {
                text += &format!("      FORBIDS the plan: {}\n", why.trim_end().replace('\n', "\n      "));
            }
        }
        text + &match (self.allowed, no_plan) {
            (Some(true), _) => "No line forbids the plan.\n".to_owned(),
            (Some(false), _) => "The plan is forbidden here.\n".to_owned(),
            (None, why) => {
                format!("There is no plan to hold it against: {}\n", why.unwrap_or_default().trim_end())
            }
        }
    }
}
