//! The full-screen view on a test terminal, its picture, and the lines of plain mode.

mod picture;

use ratatui::{Terminal, backend::TestBackend, buffer::Buffer};

use super::{draw::draw, *};

fn status(step: &str, rounds: u32) -> wire::JobStatus {
    let recent = (1..=rounds)
        .map(|round| wire::RoundSummary {
            round,
            attempt: 1,
            outcome: "released".into(),
            seconds: 2.0,
            ..Default::default()
        })
        .collect();
    wire::JobStatus {
        job: "job".into(),
        state: "running".into(),
        round: rounds + 1,
        rounds: 10,
        attempt: 1,
        step: step.into(),
        step_seconds: 1.0,
        deadline_seconds: 30.0,
        recent,
        ..Default::default()
    }
}

/// What a model looks like on a terminal of this size.
fn shown(model: &Model, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model)).unwrap();
    terminal.backend().buffer().clone()
}

fn rows(buffer: &Buffer) -> Vec<String> {
    let area = buffer.area;
    let row = |y| (0..area.width).map(|x| buffer[(x, y)].symbol()).collect();
    (0..area.height).map(row).collect()
}

/// A job in the middle of a round, with everything that can be late or wrong.
fn busy() -> Model {
    let mut model = Model::new("council:7433", None);
    model.note = "a title stands for a patient".into();
    let curve = |round: u32, from: f64, to: f64| to + (from - to) * (-f64::from(round) / 6.0).exp();
    let mut now = status("input", 0);
    (now.job, now.round, now.rounds, now.attempt) = ("chapters".into(), 23, 60, 2);
    (now.answers, now.needed, now.now_ms) = (3, 4, 1_800_000_000_000);
    (now.step_seconds, now.deadline_seconds, now.privacy_unit) = (42.0, 78.0, "patient".into());
    for round in 1..=22u32 {
        now.recent.push(wire::RoundSummary {
            round,
            attempt: 1,
            outcome: "released".into(),
            survivors: (1..=5).map(|site| format!("site-{site}")).collect(),
            train_loss: Some(curve(round, 3.1, 1.2)),
            train_accuracy: Some(curve(round, 0.05, 0.71)),
            test_accuracy: (round % 2 == 0).then(|| curve(round, 0.04, 0.69)),
            test_loss: (round % 2 == 0).then(|| curve(round, 3.2, 1.3)),
            spent: Some(wire::Privacy {
                epsilon: 0.19 * f64::from(round),
                epsilon_local: 0.5 * f64::from(round),
                delta: 1e-5,
            }),
            seconds: 2.1,
            ..Default::default()
        });
    }
    now.recent.push(wire::RoundSummary {
        round: 23,
        attempt: 1,
        outcome: "too-few-answers".into(),
        spent: Some(wire::Privacy { epsilon: 4.37, epsilon_local: 11.5, delta: 1e-5 }),
        debited: true,
        epsilon_wasted: Some(0.19),
        seconds: 120.4,
        ..Default::default()
    });
    let member = |site: u32, online, done, awaited, step: &str, seen: u64| wire::MemberStatus {
        id: format!("site-{site}"),
        online,
        done,
        awaited,
        step: step.into(),
        last_seen_ms: 1_800_000_000_000 - seen,
        bytes_in: 1_100_000 + u64::from(site) * 7_000,
        ..Default::default()
    };
    now.members = vec![
        member(1, true, true, false, "input", 9_000),
        member(2, true, false, true, "share", 41_000),
        member(3, true, true, false, "input", 7_000),
        member(4, false, false, false, "share", 38_000),
        member(5, true, true, false, "input", 12_000),
    ];
    now.members[3].refusal = "restarted".into();
    (now.bytes_in, now.bytes_out, now.upload_bytes) = (5_600_000, 3_900_000, 5_100_000);
    now.spent = Some(wire::Privacy { epsilon: 4.37, epsilon_local: 11.5, delta: 1e-5 });
    now.wasted = Some(wire::Privacy { epsilon: 0.19, epsilon_local: 0.5, delta: 1e-5 });
    (now.epsilon_budget, now.reserve_left) = (6.0, 5);
    now.problems =
        vec![wire::Problem { code: "handshake-bad".into(), who: String::new(), total: 4, last_hour: 2 }];
    let mut before = now.clone();
    (before.now_ms, before.bytes_in, before.bytes_out) = (before.now_ms - 2_000, 5_000_000, 3_880_000);
    before.recent.pop();
    model.update(before);
    model.update(now);
    model
}

#[test]
fn the_screen_shows_what_goes_on_who_is_late_what_was_learned_and_what_it_cost() {
    let text = rows(&shown(&busy(), 120, 40)).join("\n");
    for words in [
        "chapters: running, round 23 of 60, attempt 2, step input for 42.0 s, 1 min 18 s to the deadline",
        "22 of 60 rounds, about",
        "4 of 5 online; this step has 3 of 4 answers",
        "awaited       41.0 s ago  share",
        "away          38.0 s ago  share",
        "restarted",
        "loss train",
        "accuracy train",
        "23.1  too-few-answers",
        "ε 4.37 spent, 1.63 left of 6",
        "ε 0.19 of it for nothing, 5 retries left",
        "5.6 MB   300.0 kB/s",
        "3.9 MB    10.0 kB/s",
        "round 23, attempt 1: too-few-answers",
        "site-4: restarted: it restarted in the middle of the attempt",
        "refused 2 times in the last hour: handshake-bad of strangers",
        "as the coordinator at council:7433 sees it",
    ] {
        assert!(text.contains(words), "\"{words}\" is not in\n{text}");
    }
    let late = text.find("site-2").unwrap();
    assert!(late < text.find("site-1").unwrap(), "who is late stands first\n{text}");
    assert!(text.chars().any(|c| ('\u{2801}'..='\u{28ff}').contains(&c)), "no curve is drawn\n{text}");
}

#[test]
fn clocks_run_between_updates_and_a_lost_connection_is_said() {
    let mut model = busy();
    model.since = Duration::from_secs(5);
    model.stale = true;
    model.note("the line is dead; trying again in 2.0 s");
    let rows = rows(&shown(&model, 120, 40));
    assert!(rows[0].contains("step input for 47.0 s, 1 min 13 s to the deadline"), "{}", rows[0]);
    assert!(rows[0].starts_with("OLD, no connection"), "{}", rows[0]);
    assert!(rows.iter().any(|row| row.contains("the line is dead; trying again")), "{rows:?}");
}

#[test]
fn no_size_of_terminal_and_no_status_upsets_it() {
    let mut strange = busy();
    let recent = &mut strange.status.recent;
    (recent[0].train_loss, recent[1].train_loss, recent[2].test_loss) =
        (Some(f64::NAN), Some(f64::INFINITY), Some(-1e300));
    strange.status.members[0].id = "\x1b[2J".repeat(50);
    for model in [busy(), Model::default(), strange] {
        for (width, height) in [(1, 1), (10, 3), (40, 12), (80, 24), (300, 100)] {
            let rows = rows(&shown(&model, width, height));
            assert!(rows.iter().all(|row| !row.contains('\x1b')));
        }
    }
}

#[test]
fn the_screen_of_a_job_without_noise_says_so_in_red() {
    let mut model = busy();
    model.status.privacy_unit = "none (public titles)".into();
    let buffer = shown(&model, 120, 40);
    assert!(rows(&buffer)[2].starts_with("NO PRIVACY: no noise is added"));
    assert_eq!(buffer[(0, 2)].fg, ratatui::style::Color::Red);
}

/// The README's picture. `UPDATE=1 cargo test -p consilium-coordinator --lib watch` writes it.
#[test]
fn the_picture_in_the_readme_is_what_the_screen_shows() {
    let picture = picture::svg(&shown(&busy(), 120, 40));
    let kept = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/watch.svg");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&kept, &picture).unwrap();
    }
    let kept = std::fs::read_to_string(kept).unwrap_or_default();
    assert!(kept == picture, "stale: run with UPDATE=1 and commit");
}

#[test]
fn a_line_waits_for_its_epsilon_but_not_for_ever() {
    let with = |rounds, spent: Option<f64>, state: &str| {
        let mut status = status("input", rounds);
        status.state = state.into();
        let spent = spent.map(|epsilon| wire::Privacy { epsilon, epsilon_local: 2.0, delta: 1e-5 });
        status.recent.iter_mut().for_each(|round| round.spent = spent);
        status
    };
    let mut printed = Printed::default();
    assert_eq!(printed.lines(&with(1, None, "running"), None).len(), 1, "the heading alone");
    let lines = printed.lines(&with(1, Some(1.0), "running"), None);
    assert!(
        lines[0].starts_with("round 1/10  released") && lines[0].contains("ε 1.00 (others 2.00)"),
        "{lines:?}"
    );
    assert!(printed.lines(&with(2, None, "running"), None).is_empty());
    let lines = printed.lines(&with(3, None, "running"), None);
    assert!(lines.len() == 1 && lines[0].starts_with("round 2/10"), "a later round pushes it out: {lines:?}");
    assert_eq!(printed.lines(&with(3, None, "finished"), None).len(), 2, "and so does the end");
}

#[test]
fn a_job_without_noise_says_so_in_every_view() {
    let mut status = status("input", 1);
    status.privacy_unit = "none (public titles)".into();
    let endless = wire::Privacy { epsilon: f64::INFINITY, epsilon_local: f64::INFINITY, delta: 0.0 };
    status.spent = Some(endless);
    status.recent.iter_mut().for_each(|round| round.spent = Some(endless));
    let lines = view::frame(&status, None, 5);
    assert!(lines.iter().any(|line| line.starts_with("NO PRIVACY: unit none (public titles)")), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("released") && line.contains("none  none")), "{lines:?}");
    assert!(view::rounds_table(&status.recent).last().unwrap().starts_with(NO_PRIVACY));
    let lines = Printed::default().lines(&status, None);
    assert!(lines.iter().any(|line| line.starts_with(NO_PRIVACY)), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("ε none (others none)")), "{lines:?}");
    let json = json::status(&status, None);
    assert!(
        json["spent"]["epsilon"].is_null() && json["recent"][0]["spent"]["epsilon_local"].is_null(),
        "{json}"
    );
    // A job with a guarantee has no such line.
    status.privacy_unit = "patient-local".into();
    let spent = wire::Privacy { epsilon: 2.0, epsilon_local: 2.0, delta: 1e-5 };
    status.spent = Some(spent);
    status.recent.iter_mut().for_each(|round| round.spent = Some(spent));
    let text = view::frame(&status, None, 5).join("\n");
    assert!(
        !text.contains(NO_PRIVACY) && text.contains("privacy of one patient, whoever colludes: ε = 2.00"),
        "{text}"
    );
}
