//! The view in place, on a terminal of four sequences.

use super::*;

/// Understands what the display writes: up, return, clear line, clear below, text, newline.
#[derive(Default)]
struct Screen {
    rows: Vec<String>,
    row: usize,
}

impl Screen {
    fn feed(&mut self, text: &str) {
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if let Some(escape) = rest.strip_prefix("\x1b[") {
                let end = escape
                    .find(|c: char| c.is_ascii_alphabetic())
                    .expect("an escape sequence ends in a letter");
                let (number, letter) = (&escape[..end], &escape[end..=end]);
                match letter {
                    "A" => self.row -= number.parse::<usize>().expect("a number of lines"),
                    "K" => self.set(String::new()),
                    "J" => self.rows.truncate(self.row),
                    other => panic!("the display wrote {other}"),
                }
                rest = &escape[end + 1..];
                continue;
            }
            match c {
                '\r' => {}
                '\n' => self.row += 1,
                c => {
                    let line = self.rows.get(self.row).cloned().unwrap_or_default();
                    self.set(line + &c.to_string());
                }
            }
            rest = &rest[c.len_utf8()..];
        }
    }

    fn set(&mut self, line: String) {
        while self.rows.len() <= self.row {
            self.rows.push(String::new());
        }
        self.rows[self.row] = line;
    }
}

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

fn show(run: impl FnOnce(&mut Display<'_>)) -> Screen {
    let mut bytes = Vec::new();
    run(&mut Display { mode: Mode::InPlace { drawn: 0 }, out: &mut bytes });
    let mut screen = Screen::default();
    screen.feed(&String::from_utf8(bytes).unwrap());
    screen
}

#[test]
fn a_view_replaces_the_one_before_it() {
    let one = show(|display| display.update(&status("vote", 1), None).unwrap());
    let many = show(|display| {
        // Longer views before it must leave nothing behind.
        for rounds in [0, 3, 2] {
            display.update(&status("input", rounds), None).unwrap();
        }
        display.tick(&status("input", 2), Duration::from_secs(5), None).unwrap();
        display.update(&status("vote", 1), None).unwrap();
    });
    assert_eq!(many.rows, one.rows);
    assert!(
        one.rows[0].starts_with("job: running, round 2 of 10, attempt 1, step vote for 1.0 s"),
        "{}",
        one.rows[0]
    );
    assert!(one.rows[1].contains("1/10 rounds, 10 %, about 18.0 s left"), "{}", one.rows[1]);
}

#[test]
fn clocks_run_between_updates() {
    let screen = show(|display| {
        display.update(&status("input", 1), None).unwrap();
        display.tick(&status("input", 1), Duration::from_secs(5), None).unwrap();
    });
    assert!(screen.rows[0].contains("step input for 6.0 s, 25.0 s to the deadline"), "{}", screen.rows[0]);
}

#[test]
fn a_break_is_written_below_the_view_and_the_next_view_below_that() {
    let screen = show(|display| {
        display.update(&status("input", 1), None).unwrap();
        display.lost("the line is dead", Duration::from_secs(2)).unwrap();
        display.update(&status("vote", 1), None).unwrap();
    });
    let at = screen.rows.iter().position(|row| row == "the line is dead; trying again in 2.0 s").unwrap();
    assert!(
        screen.rows[0].contains("step input") && screen.rows[at + 1].contains("step vote"),
        "{:?}",
        screen.rows
    );
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
fn no_line_is_wider_than_the_terminal() {
    assert_eq!(cut("abc", 80), "abc");
    assert_eq!(cut(&"x".repeat(300), 80).len(), 80);
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
