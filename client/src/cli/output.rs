//! Tables for people, JSON for machines.

use std::io::{self, IsTerminal as _, Write};

use serde::Serialize;

use super::Failure;

/// Prints text on standard output. A reader that has gone away (`| head`) is no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::local(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints one JSON document.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(Failure::local)?;
    print(&(text + "\n"))
}

/// An ε, or "none" where nothing bounds it.
pub(crate) fn epsilon(value: f64) -> String {
    if value.is_finite() { format!("{value:.4}") } else { "none".to_owned() }
}

/// Text that nobody may overlook: red on a terminal, unless `NO_COLOR` asks for none (no-color.org).
pub(crate) fn red(text: &str) -> String {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if plain || !io::stdout().is_terminal() { text.to_owned() } else { format!("\x1b[31;1m{text}\x1b[0m") }
}

/// Columns padded to their widest cell; the first row is the head. Numbers stand on the right.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let numeric = |column: usize| {
        let mut cells =
            rows.iter().skip(1).filter_map(|row| row.get(column)).filter(|cell| *cell != "-").peekable();
        cells.peek().is_some() && cells.all(|cell| cell.parse::<f64>().is_ok())
    };
    let layout: Vec<(usize, bool)> = (0..columns).map(|column| (width(column), numeric(column))).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, (width, right)) in row.iter().zip(&layout) {
            let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
            line += &if *right { format!("{padding}{cell}  ") } else { format!("{cell}{padding}  ") };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_numbers_stand_on_the_right() {
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect();
        let text = table(&[row(&["job", "ε"]), row(&["demo", "4.8"]), row(&["ä", "12.0"])]);
        assert_eq!(text, "job      ε\ndemo   4.8\nä     12.0\n");
        assert_eq!(table(&[]), "");
    }
}
