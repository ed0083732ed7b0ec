//! `doctor`: what is wrong with this installation, and how to mend it.

use std::time::Duration;

use clap::Args;
use consilium_proto::roster::VerifiedRoster;
use jiff::Timestamp;
use serde::Serialize;

use super::{
    ConfiguredJson, Failure,
    egress::open_ledger,
    output,
    status::{days_left, disk_free},
};
use crate::{
    config::{Config, Transport, today},
    decisions::{Decisions, Leave},
    egress::{self, Left, Numbered},
    files::FolderLock,
    link::{Route, Seen, look},
};

/// Days before a key's end from which it is a warning.
const EXPIRY_DAYS: i32 = 30;
/// Least free disk, bytes, below which it is a warning.
const LEAST_DISK: u64 = 1 << 30;
/// How long the look at the coordinator's address may take.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    common: ConfiguredJson,
    /// Open no connection.
    #[arg(long)]
    offline: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    Ok,
    Warning,
    Failed,
}

#[derive(Serialize)]
struct Finding {
    what: &'static str,
    verdict: Verdict,
    detail: String,
    /// What mends it.
    #[serde(skip_serializing_if = "str::is_empty")]
    cure: String,
}

#[derive(Default, Serialize)]
struct Report {
    findings: Vec<Finding>,
    /// A letter to whoever runs the box that opens TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    exemption_request: Option<String>,
}

impl Report {
    fn note(&mut self, what: &'static str, verdict: Verdict, detail: impl ToString, cure: impl ToString) {
        self.findings.push(Finding { what, verdict, detail: detail.to_string(), cure: cure.to_string() });
    }

    /// A check whose error says its cure itself.
    fn check<T>(
        &mut self,
        what: &'static str,
        result: Result<T, impl ToString>,
        detail: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        match result {
            Ok(value) => {
                self.note(what, Verdict::Ok, detail(&value), "");
                Some(value)
            }
            Err(error) => {
                self.note(what, Verdict::Failed, error, "");
                None
            }
        }
    }

    fn failed(&self) -> bool {
        self.findings.iter().any(|finding| finding.verdict == Verdict::Failed)
    }
}

impl Doctor {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let mut report = Report::default();
        let path = &self.common.configured.config;
        if let Some(config) = report.check("config", Config::load(path), |_| path.display().to_string()) {
            look_around(&config, &mut report);
            self.look_outside(&config, &mut report)?;
        }
        if self.common.json {
            output::print_json(&report)?;
        } else {
            output::print(&report.text())?;
        }
        if report.failed() { Err(Failure::Printed) } else { Ok(()) }
    }

    fn look_outside(&self, config: &Config, report: &mut Report) -> Result<(), Failure> {
        let way = |route: &Route| match route.proxy() {
            None => format!("{}, directly", config.coordinator),
            Some(proxy) => {
                format!("{}, through the proxy {} ({})", config.coordinator, proxy.address(), proxy.source())
            }
        };
        let Some(route) = report.check("way out", config.route(), way) else { return Ok(()) };
        let Ok(roster) = config.open_roster() else { return Ok(()) };
        if self.offline {
            return Ok(());
        }
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::local)?;
        let Ok(name) = config.asked_name() else { return Ok(()) };
        let seen = runtime.block_on(async {
            tokio::time::timeout(PATIENCE, look(&config.coordinator, &route, name))
                .await
                .unwrap_or_else(|_| Err(std::io::Error::other("nobody answered in 20 seconds")))
        });
        match seen {
            Err(error) => report.note(
                "who answers",
                Verdict::Failed,
                error,
                format!("the firewall must let TCP out to {} and to nothing else; if it does, ask the operator whether the coordinator runs", config.coordinator),
            ),
            Ok(Seen { subject, issuer, .. }) if config.transport == Transport::Inspected => report.note(
                "who answers",
                Verdict::Warning,
                format!("a certificate for {subject}, signed by {issuer}: transport = \"inspected\", so what is sent can be read there"),
                "client/docs/guide.md says what can be read; an exemption from inspection is better",
            ),
            Ok(seen) if seen.key == Some(roster.coordinator().tls_key) => {
                report.note("who answers", Verdict::Ok, "the coordinator, with the key that the roster lists; nobody opens TLS on the way", "");
            }
            Ok(seen) => {
                let Seen { subject, issuer, .. } = &seen;
                report.note(
                    "who answers",
                    Verdict::Failed,
                    format!("a certificate for {subject}, signed by {issuer}; it is not the coordinator's, whose key the roster lists"),
                    "usually a TLS inspection box of your own network: send the request below to whoever runs it. If nobody knows it, \
                     somebody is listening",
                );
                report.exemption_request = Some(exemption(config, &roster, &seen));
            }
        }
        Ok(())
    }
}

fn look_around(config: &Config, report: &mut Report) {
    let identity =
        report.check("identity", config.open_identity(), |identity| format!("{}, private", identity.id));
    let roster = report.check("roster", config.open_roster(), |roster| {
        format!(
            "{} version {}, fingerprint {}",
            roster.document().consortium,
            roster.version(),
            roster.digest()
        )
    });
    let Some(roster) = roster else { return };
    if let Some(identity) = &identity
        && report
            .check("own keys", config.check_entry(identity, &roster, today()), |()| "listed".into())
            .is_some()
    {
        let (own, coordinator) = days_left(config, &roster);
        for (whose, days, cure) in [
            (
                "own keys",
                own,
                "make new ones with keygen and ask for the next version of the roster: `consilium roster propose --party`",
            ),
            (
                "coordinator",
                coordinator,
                "ask the operator: the roster's next version extends the coordinator's keys or brings new ones",
            ),
        ] {
            let verdict = if days <= EXPIRY_DAYS { Verdict::Warning } else { Verdict::Ok };
            report.note(
                whose,
                verdict,
                format!("keys count for {days} more days"),
                if verdict == Verdict::Ok { "" } else { cure },
            );
        }
    }
    let Some(policy) =
        report.check("policy", config.open_policy(), |policy| match policy.path().as_os_str().is_empty() {
            true => "none: whatever is signed is allowed".to_owned(),
            false => policy.path().display().to_string(),
        })
    else {
        return;
    };
    let Some(plan) = report.check("plan", config.open_plan(&roster), |plan| {
        format!("{}, fingerprint {}", plan.document().job, plan.digest())
    }) else {
        return;
    };
    report.check("allowed", config.check_policy(&policy, &plan, &roster), |()| {
        "no line of the policy forbids the plan".into()
    });
    report
        .check("paths", config.check_paths(&plan), |()| "data and test set are where the config says".into());
    report.check("model", config.open_model(&plan), |_| "the plan's, byte for byte".into());
    let decisions = report.check("decisions", Decisions::read(&config.state, &config.organization), |all| {
        format!("{} signed by this organization", all.all().len())
    });
    if let (Some(decisions), Some(identity)) = (&decisions, &identity) {
        let key = identity.signing_key().verifying_key();
        let standing = decisions.standing(&plan.document().job, &plan.digest(), &key);
        let (verdict, detail, cure) = match standing.leave(config.approval.asks()) {
            Leave::Go => (Verdict::Ok, "the plan may run".to_owned(), ""),
            Leave::Wait => (
                Verdict::Warning,
                "nobody has approved the plan; the client waits".into(),
                "consilium-client plan explain",
            ),
            Leave::Pause(it) => {
                (Verdict::Warning, format!("paused by {}: {}", it.by, it.reason), "consilium-client resume")
            }
            Leave::End(it) => (
                Verdict::Warning,
                format!("{} by {}: {}", it.act.code(), it.by, it.reason),
                "consilium-client plan explain",
            ),
        };
        report.note("approval", verdict, detail, cure);
    }
    let held = FolderLock::is_held(&config.state);
    report.note(
        "process",
        Verdict::Ok,
        if held { "a client is running" } else { "no client is running" },
        "",
    );
    let ledger = report.check("ledger", open_ledger(config).map_err(|failure| failure.words()), |ledger| {
        format!("{} debits, every line follows from the one before", ledger.length())
    });
    let left = report.check("what left", egress::read(&config.state, &config.organization), |left| {
        format!("{} messages, every line follows from the one before", left.lines.len())
    });
    if let (Some(ledger), Some(Left { lines, .. })) = (&ledger, &left) {
        report.check("paid for", egress::verify(lines, ledger), |_| {
            "every masked byte has its entry in the ledger".into()
        });
        clock(lines, report);
    }
    if let Some(free) = disk_free(config, &plan) {
        let verdict = if free < LEAST_DISK { Verdict::Warning } else { Verdict::Ok };
        let cure = if verdict == Verdict::Ok {
            ""
        } else {
            "free some: without room for its journals the client sends nothing"
        };
        report.note("disk", verdict, format!("{} MiB free where the state is", free >> 20), cure);
    }
}

/// A clock that stands before what was written last goes back and forth, or has lost its battery.
fn clock(lines: &[Numbered], report: &mut Report) {
    let now = Timestamp::now();
    match lines.iter().map(|it| it.line.time).max().filter(|last| *last > now) {
        None => report.note("clock", Verdict::Ok, format!("{now:.0}"), ""),
        Some(last) => report.note(
            "clock",
            Verdict::Warning,
            format!("it says {now:.0}, and something left at {last:.0}"),
            "set it by NTP: expiry of keys and policy.hours go by it",
        ),
    }
}

/// What the people who run the box need to know, and nothing that they do not.
fn exemption(config: &Config, roster: &VerifiedRoster, seen: &Seen) -> String {
    let Seen { fingerprint, subject, issuer, above, .. } = seen;
    let chain = above.last().map_or_else(String::new, |root| format!("\n  under             {root}"));
    format!(
        "Request to exempt one destination from TLS inspection\n\n  destination       {}, TCP, outgoing only\n  protocol          TLS 1.3 with a \
         certificate on either side, HTTP/2 (ALPN h2)\n  expected key      SHA-256 of its public key: {}\n  seen instead      {fingerprint}\n  \
         naming            {subject}\n  signed by         {issuer}{chain}\n\nBoth ends check each other's key against a list that the hospitals of \
         {} have signed, so that nobody in between can pass for one of them. Inspection makes this connection impossible; it \
         cannot be told apart from an attack. What could be inspected is masked: the coordinator itself learns only sums over \
         several hospitals. What left is recorded message by message at the client (`consilium-client egress list`).\n",
        config.coordinator,
        roster.coordinator().tls_key,
        roster.document().consortium
    )
}

impl Report {
    fn text(&self) -> String {
        let mut text = String::new();
        for Finding { what, verdict, detail, cure } in &self.findings {
            let mark = match verdict {
                Verdict::Ok => "ok     ",
                Verdict::Warning => "WARNING",
                Verdict::Failed => "FAILED ",
            };
            let detail = detail.trim_end().replace('\n', "\n                      ");
            text += &format!("{mark}  {what:<11}  {detail}\n");
            if !cure.is_empty() {
                text += &format!("                      cure: {cure}\n");
            }
        }
        if let Some(request) = &self.exemption_request {
            text += &format!("\n{request}");
        }
        text
    }
}
