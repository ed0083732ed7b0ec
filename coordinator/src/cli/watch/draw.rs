//! The full-screen view, drawn from the [`Model`] alone: the same on a terminal, in a test, and in the manual's picture.

use consilium_proto::wire;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    symbols::Marker,
    text::{Line, Span},
    widgets::{Axis, Block, Cell, Chart, Dataset, Gauge, GraphType, Paragraph, Row, Table},
};

use super::model::Model;
use crate::cli::{
    json::TRAINING_VIEW,
    members,
    paint::NO_PRIVACY,
    table::{bytes, clean, epsilon},
    view, words,
};

const DIM: Style = Style::new().fg(Color::DarkGray);
const GOOD: Style = Style::new().fg(Color::Green);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const LATE: Style = Style::new().fg(Color::Yellow);
const TRAIN: Style = Style::new().fg(Color::Cyan);
const TEST: Style = Style::new().fg(Color::Magenta);

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let [head, middle, low, notes, foot] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Min(8),
        Constraint::Length(9),
        Constraint::Length(5),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let [left, right] =
        Layout::horizontal([Constraint::Percentage(58), Constraint::Percentage(42)]).areas(middle);
    let [loss, accuracy] = Layout::vertical([Constraint::Fill(1), Constraint::Fill(1)]).areas(right);
    let [rounds, facts] =
        Layout::horizontal([Constraint::Percentage(58), Constraint::Percentage(42)]).areas(low);
    header(frame, head, model);
    member_table(frame, left, model);
    let status = &model.status;
    curve(frame, loss, " loss ", status, |r| r.train_loss, |r| r.test_loss);
    curve(frame, accuracy, " accuracy ", status, |r| r.train_accuracy, |r| r.test_accuracy);
    round_table(frame, rounds, model);
    frame.render_widget(Paragraph::new(facts_of(model)).block(boxed(" privacy and traffic ")), facts);
    note_list(frame, notes, model);
    let view = format!(
        " q leaves │ as the coordinator at {} sees it; train: {TRAINING_VIEW}; test: the evaluator's",
        model.address
    );
    frame.render_widget(Paragraph::new(view).style(DIM), foot);
}

fn boxed(title: &str) -> Block<'_> {
    Block::bordered().border_style(DIM).title(title)
}

/// What goes on, and how far the job is.
fn header(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let [line, bar, warning] =
        Layout::vertical([Constraint::Length(1), Constraint::Length(1), Constraint::Length(1)]).areas(area);
    let mut status = model.status.clone();
    let since = model.since.as_secs_f64();
    status.step_seconds += since;
    status.deadline_seconds = (status.deadline_seconds - since).max(0.0);
    let old = Span::styled(if model.stale { "OLD, no connection  " } else { "" }, BAD);
    let spans = vec![old, Span::styled(view::now(&status), Style::new().add_modifier(Modifier::BOLD))];
    frame.render_widget(Paragraph::new(Line::from(spans)), line);
    let rounds = status.rounds.max(1);
    let done = if status.state == "finished" { rounds } else { status.round.saturating_sub(1).min(rounds) };
    let gauge = Gauge::default()
        .gauge_style(GOOD)
        .ratio(f64::from(done) / f64::from(rounds))
        .label(format!("{done} of {rounds} rounds{}", view::left(&status)));
    frame.render_widget(gauge, bar);
    let mut warnings = Vec::new();
    if status.privacy_unit.split(' ').next() == Some("none") {
        warnings.push(format!("{NO_PRIVACY}: no noise is added"));
    }
    warnings.extend(view::warnings(&status));
    frame.render_widget(Paragraph::new(warnings.join("  ")).style(BAD), warning);
}

fn member_table(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let status = &model.status;
    let mut all: Vec<_> = status.members.iter().collect();
    // Who is late stands first, whoever else is out of sight when there are many.
    all.sort_by_key(|member| (!member.awaited, member.online, member.id.as_str()));
    let rows = all.iter().map(|member| {
        let (state, style) = match members::state(member) {
            state @ ("awaited" | "away, awaited") => (state, LATE),
            state @ "done" => (state, GOOD),
            state @ "away" => (state, DIM),
            state => (state, Style::new()),
        };
        let code = clean(&member.refusal);
        Row::new([
            Cell::from(clean(&member.id)),
            Cell::from(state).style(style),
            Cell::from(members::seen(member, status.now_ms)),
            Cell::from(clean(&member.step)),
            Cell::from(bytes(member.bytes_in)),
            Cell::from(code).style(BAD),
        ])
    });
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(13),
        Constraint::Length(11),
        Constraint::Length(9),
        Constraint::Length(8),
        Constraint::Fill(1),
    ];
    let online = status.members.iter().filter(|member| member.online).count();
    let title = format!(
        " members: {online} of {} online; this step has {} of {} answers ",
        status.members.len(),
        status.answers,
        status.needed
    );
    let headings = Row::new(["id", "state", "last seen", "step", "sent", "code"]).style(DIM);
    frame.render_widget(Table::new(rows, widths).header(headings).block(boxed(&title)), area);
}

/// A curve of all organizations' training and one of the evaluator's tests.
fn curve(
    frame: &mut Frame<'_>,
    area: Rect,
    title: &str,
    status: &wire::JobStatus,
    train: impl Fn(&wire::RoundSummary) -> Option<f64>,
    test: impl Fn(&wire::RoundSummary) -> Option<f64>,
) {
    let points = |pick: &dyn Fn(&wire::RoundSummary) -> Option<f64>| -> Vec<(f64, f64)> {
        let all = status.recent.iter().filter_map(|round| Some((f64::from(round.round), pick(round)?)));
        all.filter(|(_, value)| value.is_finite()).collect()
    };
    let (train, test) = (points(&train), points(&test));
    let values = || train.iter().chain(&test);
    let title = match (train.last(), test.last()) {
        (Some((_, train)), Some((_, test))) => format!("{title}train {train:.3}, test {test:.3} "),
        (Some((_, train)), None) => format!("{title}train {train:.3} "),
        _ => title.to_owned(),
    };
    if values().next().is_none() {
        frame.render_widget(Paragraph::new("no round yet").style(DIM).block(boxed(&title)), area);
        return;
    }
    let bound =
        |pick: fn(f64, f64) -> f64, start, of: fn(&(f64, f64)) -> f64| values().map(of).fold(start, pick);
    let (low, high) = (bound(f64::min, f64::MAX, |p| p.1), bound(f64::max, f64::MIN, |p| p.1));
    let (first, last) = (bound(f64::min, f64::MAX, |p| p.0), bound(f64::max, f64::MIN, |p| p.0));
    // A flat curve is drawn in the middle.
    let (low, high) = if high - low < 1e-6 { (low - 0.5, high + 0.5) } else { (low, high) };
    let line = |data, style, marker| {
        Dataset::default().data(data).style(style).marker(marker).graph_type(GraphType::Line)
    };
    let sets = vec![line(&train, TRAIN, Marker::Braille), line(&test, TEST, Marker::Braille)];
    let axis = |low: f64, high: f64, digits: usize| {
        Axis::default()
            .bounds([low, high])
            .style(DIM)
            .labels([format!("{low:.digits$}"), format!("{high:.digits$}")])
    };
    let chart = Chart::new(sets)
        .block(boxed(&title))
        .x_axis(axis(first, last.max(first + 1.0), 0))
        .y_axis(axis(low, high, 2))
        .legend_position(None);
    frame.render_widget(chart, area);
}

fn round_table(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
    let fits = usize::from(area.height.saturating_sub(3));
    let recent = &model.status.recent;
    let rows = recent.iter().skip(recent.len().saturating_sub(fits)).map(|round| {
        let style = if round.outcome == "released" { Style::new() } else { BAD };
        let spent = round.spent.as_ref().map_or("-".to_owned(), |spent| epsilon(spent.epsilon));
        Row::new([
            Cell::from(format!("{}.{}", round.round, round.attempt)),
            Cell::from(clean(&round.outcome)).style(style),
            Cell::from(format!("{}/{}", round.survivors.len(), model.status.members.len())),
            Cell::from(number(round.train_loss)),
            Cell::from(number(round.train_accuracy)),
            Cell::from(number(round.test_accuracy)),
            Cell::from(spent),
            Cell::from(round.epsilon_wasted.map_or("-".to_owned(), epsilon)),
            Cell::from(format!("{:.0} s", round.seconds)),
        ])
    });
    let widths = [5, 17, 4, 5, 5, 5, 6, 6, 7].map(Constraint::Length);
    let headings =
        Row::new(["round", "outcome", "surv", "loss", "acc", "test", "ε", "wasted", "took"]).style(DIM);
    frame.render_widget(Table::new(rows, widths).header(headings).block(boxed(" last attempts ")), area);
}

/// ε spent and left, bytes and rates.
fn facts_of(model: &Model) -> Vec<Line<'static>> {
    let status = &model.status;
    let mut lines = Vec::new();
    let budget = model.epsilon_budget();
    if let Some(spent) = &status.spent {
        let left = budget.map(|budget| (budget - spent.epsilon).max(0.0));
        let left_words = left.map_or(String::new(), |left| {
            format!(", {} left of {}", (left * 100.0).floor() / 100.0, budget.unwrap_or_default())
        });
        let tight = left.zip(budget).is_some_and(|(left, budget)| left < 0.1 * budget);
        let style = if tight { BAD } else { Style::new() };
        lines.push(Line::styled(format!("ε {} spent{left_words}", epsilon(spent.epsilon)), style));
        lines.push(Line::raw(format!(
            "ε {} against everybody else, δ = {:e}",
            epsilon(spent.epsilon_local),
            spent.delta
        )));
    } else {
        lines.push(Line::styled("ε is being computed", DIM));
    }
    if let Some(wasted) = status.wasted.as_ref().filter(|wasted| wasted.epsilon > 0.0) {
        lines.push(Line::styled(
            format!("ε {} of it for nothing, {} retries left", epsilon(wasted.epsilon), status.reserve_left),
            LATE,
        ));
    }
    if !model.note.is_empty() {
        lines.push(Line::styled(format!("({})", clean(&model.note)), DIM));
    }
    let rate = |rate: f64| format!("{}/s", bytes(rate.max(0.0) as u64));
    let (rate_in, rate_out) = model.rates.map_or(("-".into(), "-".into()), |(a, b)| (rate(a), rate(b)));
    lines.push(Line::raw(format!("in   {:>9}  {rate_in:>11}", bytes(status.bytes_in))));
    lines.push(Line::raw(format!("out  {:>9}  {rate_out:>11}", bytes(status.bytes_out))));
    lines.push(Line::raw(format!("masked inputs {}", bytes(status.upload_bytes))));
    lines
}

/// What went wrong: refusals that the coordinator counts, and what happened while somebody watched.
fn note_list(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let status = &model.status;
    let declined = status.members.iter().filter(|member| !member.refusal.is_empty()).map(|member| {
        let code = clean(&member.refusal);
        format!("{}: {code}: {}", clean(&member.id), words::absence(&code))
    });
    let problems = status.problems.iter().map(|problem| {
        let who = if problem.who.is_empty() { "strangers" } else { problem.who.as_str() };
        format!(
            "refused {} times in the last hour: {} of {}",
            problem.last_hour,
            clean(&problem.code),
            clean(who)
        )
    });
    let fits = usize::from(area.height.saturating_sub(2));
    let newest = model.notes.iter().rev().cloned();
    let lines: Vec<_> = newest.chain(declined).chain(problems).take(fits).map(Line::raw).collect();
    let style = if lines.is_empty() { DIM } else { LATE };
    let lines = if lines.is_empty() { vec![Line::raw("nothing")] } else { lines };
    frame.render_widget(Paragraph::new(lines).style(style).block(boxed(" errors ")), area);
}
