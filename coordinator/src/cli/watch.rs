//! `consilium watch`: the view, kept up to date until the job is finished.
//!
//! On a terminal the view fills the screen; elsewhere each ended attempt is one line. The coordinator pushes; nothing is polled. A connection that was there once and breaks is dialled
//! again with growing pauses, because a coordinator that restarts goes on with the same round.

mod draw;
mod model;
mod screen;

use std::{
    io::Write,
    time::{Duration, Instant},
};

use clap::Args;
use consilium_proto::{plan::VerifiedPlan, wire};
use rand::RngExt as _;

use super::{
    Failure, json,
    paint::NO_PRIVACY,
    table::{bytes, clean, epsilon, span},
    target::{Target, TargetArgs, block_on},
    view,
};
use model::Model;
use screen::{Asked, Screen};

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A coordinator that was started at the same moment as this command is given so long to listen.
const STARTING: Duration = Duration::from_secs(3);

/// Follows the job until it is finished.
///
/// On a terminal, a view that fills the screen: rounds, step, who is late, curves, privacy, traffic, errors; q leaves it.
/// Elsewhere, or with --plain, a line for each round that ends. Goes on by itself when the coordinator restarts.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  consilium watch --config operator.toml
  consilium watch --config operator.toml --plain | tee job.log
  consilium watch --config operator.toml --json | jq .round

Ends with exit code 0 when the job is finished or you leave, 3 when the coordinator cannot be reached.")]
pub(super) struct Watch {
    #[command(flatten)]
    target: TargetArgs,
    /// A line for each round that ends, also on a terminal.
    #[arg(long, conflicts_with = "json")]
    plain: bool,
    /// A JSON object for each update, one a line.
    #[arg(long)]
    json: bool,
    /// How long to wait for a coordinator that was there and went away, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    give_up_s: u32,
    /// Wait as long for a coordinator that is not there yet; without this, three seconds.
    #[arg(long)]
    wait: bool,
}

impl Watch {
    pub(super) fn run(self, out: &mut dyn Write, terminal: bool) -> Result<(), Failure> {
        let patience = Duration::from_secs(self.give_up_s.into());
        let target = self.target.resolve()?;
        let mode = match (self.json, terminal && !self.plain) {
            (true, _) => Mode::Json,
            (false, true) => {
                let model = Model::new(&target.address, target.plan.as_ref());
                Mode::Screen(Box::new(Screen::take(model)?))
            }
            (false, false) => Mode::Plain(Printed::default()),
        };
        let mut display = Display { mode, out };
        block_on(follow(&target, &mut display, patience, self.wait))
    }
}

async fn follow(
    target: &Target,
    display: &mut Display<'_>,
    patience: Duration,
    wait: bool,
) -> Result<(), Failure> {
    let mut pause = FIRST_PAUSE;
    let mut last_seen = Instant::now();
    let mut patience_now = if wait { patience } else { STARTING.min(patience) };
    loop {
        let mut seen = false;
        let broken = match one_connection(target, display, &mut seen).await {
            Ok(()) => return display.farewell(target.plan.as_ref()),
            Err(Failure::Unreachable(why)) => why,
            Err(failure) => return Err(failure),
        };
        if seen {
            (last_seen, pause, patience_now) = (Instant::now(), FIRST_PAUSE, patience);
        }
        if last_seen.elapsed() >= patience_now {
            return Err(Failure::Unreachable(broken));
        }
        display.lost(&broken, pause)?;
        // Spread, so that a restarted coordinator does not meet everybody at once.
        let pause_now = tokio::time::sleep(pause.mul_f64(rand::rng().random_range(0.75..1.25)));
        tokio::select! {
            () = pause_now => {}
            () = display.left() => return Ok(()),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Until the job is finished, or an error. `seen`: whether an update arrived.
async fn one_connection(target: &Target, display: &mut Display<'_>, seen: &mut bool) -> Result<(), Failure> {
    let (mut client, link) = tokio::select! {
        client = target.client() => client?,
        () = display.left() => return Ok(()),
    };
    let mut updates = link.answer(client.watch(wire::StatusRequest {})).await?;
    let mut clock = tokio::time::interval(Duration::from_secs(1));
    let mut last: Option<Instant> = None;
    loop {
        tokio::select! {
            update = updates.message() => {
                let Some(status) = update.map_err(|status| link.failed(&status))? else {
                    let address = &link.address;
                    return Err(Failure::Unreachable(format!("the coordinator at {address} closed the connection")));
                };
                *seen = true;
                display.update(&status, target.plan.as_ref())?;
                if status.state == "finished" {
                    return Ok(());
                }
                last = Some(Instant::now());
            }
            _ = clock.tick() => {
                if let Some(at) = &last {
                    display.tick(at.elapsed())?;
                }
            }
            () = display.left() => return Ok(()),
        }
    }
}

struct Display<'a> {
    mode: Mode,
    out: &'a mut dyn Write,
}

enum Mode {
    Screen(Box<Screen>),
    Plain(Printed),
    Json,
}

/// What plain mode has said already: a round, and later its test result.
#[derive(Default)]
struct Printed {
    /// Last attempt with a line.
    last: Option<(u32, u32)>,
    /// Round and attempt whose line had no test result yet.
    untested: Vec<(u32, u32)>,
}

impl Display<'_> {
    fn update(&mut self, status: &wire::JobStatus, plan: Option<&VerifiedPlan>) -> Result<(), Failure> {
        match &mut self.mode {
            Mode::Screen(screen) => {
                screen.model.update(status.clone());
                screen.draw()?;
            }
            Mode::Plain(printed) => {
                for line in printed.lines(status, plan) {
                    writeln!(self.out, "{line}")?;
                }
            }
            Mode::Json => {
                let text = serde_json::to_string(&json::status(status, plan)).map_err(Failure::refused)?;
                writeln!(self.out, "{text}")?;
            }
        }
        self.out.flush()?;
        Ok(())
    }

    /// Lets a screen's clocks run between updates.
    fn tick(&mut self, since: Duration) -> Result<(), Failure> {
        if let Mode::Screen(screen) = &mut self.mode {
            screen.model.since = since;
            screen.draw()?;
        }
        Ok(())
    }

    fn lost(&mut self, why: &str, pause: Duration) -> Result<(), Failure> {
        let line = format!("{why}; trying again in {}", span(pause.as_secs_f64()));
        match &mut self.mode {
            Mode::Screen(screen) => {
                screen.model.stale = true;
                screen.model.note(line);
                screen.draw()?;
            }
            Mode::Plain(_) | Mode::Json => {
                let _ = writeln!(std::io::stderr(), "consilium: {line}");
            }
        }
        Ok(())
    }

    /// Completes when a person wants to leave; never without a screen.
    async fn left(&mut self) {
        let Mode::Screen(screen) = &mut self.mode else { return std::future::pending().await };
        loop {
            match screen.asked().await {
                Asked::Leave => return,
                // A terminal that cannot be drawn on says so at the next update.
                Asked::Redraw => drop(screen.draw()),
            }
        }
    }

    /// Gives the terminal back, with the last view on it in plain lines.
    fn farewell(&mut self, plan: Option<&VerifiedPlan>) -> Result<(), Failure> {
        let Mode::Screen(screen) = &mut self.mode else { return Ok(()) };
        let status = std::mem::take(&mut screen.model.status);
        self.mode = Mode::Json;
        if !status.job.is_empty() {
            for line in view::frame(&status, plan, 5) {
                writeln!(self.out, "{line}")?;
            }
        }
        Ok(())
    }
}

impl Printed {
    fn lines(&mut self, status: &wire::JobStatus, plan: Option<&VerifiedPlan>) -> Vec<String> {
        let mut lines = Vec::new();
        if self.last.is_none() {
            let note = plan.map(|plan| plan.document().privacy.note.as_str()).filter(|note| !note.is_empty());
            lines.push(format!("{}; training metrics are of {}", view::now(status), json::TRAINING_VIEW));
            lines.extend(note.map(|note| format!("note: {}", clean(note))));
            if status.privacy_unit.split(' ').next() == Some("none") {
                lines.push(format!("{NO_PRIVACY}: no noise is added; ε is none"));
            }
            self.last = Some((0, 0));
        }
        for (index, round) in status.recent.iter().enumerate() {
            let key = (round.round, round.attempt);
            if self.last < Some(key) {
                // The coordinator computes ε beside the rounds; the newest line waits for it.
                let newest = index + 1 == status.recent.len() && status.state != "finished";
                if newest && round.spent.is_none() {
                    break;
                }
                lines.push(round_line(status, round));
                self.last = Some(key);
                if round.test_accuracy.is_none() {
                    self.untested.push(key);
                }
            } else if round.test_accuracy.is_some() && self.untested.contains(&key) {
                self.untested.retain(|other| *other != key);
                lines.push(format!("round {}/{}  {}", round.round, status.rounds, test(round)));
            }
        }
        if status.state == "finished" {
            lines.push(format!("{}: finished, {}", clean(&status.job), view::progress(status)));
        }
        lines
    }
}

/// One ended attempt in one line.
fn round_line(status: &wire::JobStatus, round: &wire::RoundSummary) -> String {
    let mut parts = vec![format!("round {}/{}", round.round, status.rounds)];
    if round.attempt > 1 || round.outcome != "released" {
        parts.push(format!("attempt {}", round.attempt));
    }
    parts.push(clean(&round.outcome));
    if !round.culprits.is_empty() {
        parts.push(format!("named: {}", clean(&round.culprits.join(", "))));
    }
    if !round.survivors.is_empty() {
        parts.push(format!("{}/{} survivors", round.survivors.len(), status.members.len()));
    }
    if let Some((loss, accuracy)) = round.train_loss.zip(round.train_accuracy) {
        parts.push(format!("train (all, noisy) loss {loss:.3} accuracy {accuracy:.3}"));
    }
    if round.test_accuracy.is_some() {
        parts.push(test(round));
    }
    if let Some(spent) = &round.spent {
        parts.push(format!("ε {} (others {})", epsilon(spent.epsilon), epsilon(spent.epsilon_local)));
    }
    parts.push(bytes(round.upload_bytes));
    parts.push(span(round.seconds));
    parts.join("  ")
}

fn test(round: &wire::RoundSummary) -> String {
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
    format!(
        "test ({}) loss {} accuracy {} macro {}",
        clean(&round.evaluator),
        number(round.test_loss),
        number(round.test_accuracy),
        number(round.test_macro_accuracy)
    )
}

#[cfg(test)]
mod tests;
