//! Plain tables, and words for numbers.

use std::fmt;

/// A table whose columns are as wide as they must be.
pub(super) struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(headings: &[&str]) -> Self {
        Self { headings: headings.iter().map(|&heading| heading.to_owned()).collect(), rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let all = || std::iter::once(&self.headings).chain(&self.rows);
        let width =
            |column| all().filter_map(|row| row.get(column)).map(|cell: &String| cell.chars().count()).max();
        let widths: Vec<_> = (0..self.headings.len()).map(|column| width(column).unwrap_or(0)).collect();
        // A column of numbers is read from its right edge.
        let right: Vec<_> = (0..self.headings.len())
            .map(|column| self.rows.iter().filter_map(|row| row.get(column)).all(|cell| is_number(cell)))
            .collect();
        all()
            .map(|row| {
                let cells = row.iter().zip(&widths).zip(&right).map(|((cell, &width), &right)| {
                    if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
                });
                cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
            })
            .collect()
    }
}

fn is_number(cell: &str) -> bool {
    cell.is_empty() || cell == "-" || cell.starts_with(|c: char| c.is_ascii_digit())
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines().iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// Text that came from elsewhere, made harmless to a terminal and short.
pub(super) fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// A number of bytes, for a person.
pub(super) fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 {
            return if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

/// A time span, for a person.
pub(super) fn span(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "-".to_owned();
    }
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round().min(1e15) as u64;
    let (hours, minutes, rest) = (whole / 3600, whole / 60 % 60, whole % 60);
    if hours > 0 { format!("{hours} h {minutes:02} min") } else { format!("{minutes} min {rest:02} s") }
}

/// An ε. An upper bound stays one: rounded up. Where nothing bounds it (unit `none`, or more than the accountant can count):
/// "none".
pub(super) fn epsilon(value: f64) -> String {
    if !value.is_finite() {
        return "none".to_owned();
    }
    // The last term turns −0 into 0.
    format!("{:.2}", (value * 100.0 - 1e-9).ceil() / 100.0 + 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_right_and_words_left() {
        let mut table = Table::new(&["id", "bytes"]);
        table.row(["a".into(), "5".into()]);
        table.row(["site-1".into(), "1200".into()]);
        assert_eq!(table.to_string(), "id      bytes\na           5\nsite-1   1200\n");
    }

    #[test]
    fn a_bound_is_never_rounded_down() {
        assert_eq!(epsilon(4.801), "4.81");
        assert_eq!(epsilon(4.8), "4.80");
        assert_eq!(epsilon(0.0), "0.00");
        assert_eq!(epsilon(f64::INFINITY), "none");
    }

    #[test]
    fn spans_and_sizes_read_well() {
        assert_eq!(span(3.26), "3.3 s");
        assert_eq!(span(75.0), "1 min 15 s");
        assert_eq!(span(7325.0), "2 h 02 min");
        assert_eq!(span(f64::NAN), "-");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(118_002), "118.0 kB");
        assert_eq!(clean("a\x1b[2Jb\n"), "a[2Jb");
    }
}
