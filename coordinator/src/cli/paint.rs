//! Red for what nobody may overlook.
//!
//! Every view that tells of a job without privacy says so in a line with [`NO_PRIVACY`]. On a terminal this writer makes such
//! lines red; elsewhere the words alone must do. Views know nothing of colours, so widths and transcripts stay right.

use std::io::{self, Write};

/// Begins the line that says that nothing protects anybody.
pub(super) const NO_PRIVACY: &str = "NO PRIVACY";

const RED: &[u8] = b"\x1b[31;1m";
const PLAIN: &[u8] = b"\x1b[0m";

/// Passes lines on, red ones between two escape sequences.
pub(super) struct Paint<W> {
    out: W,
    line: Vec<u8>,
}

impl<W: Write> Paint<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, line: Vec::new() }
    }

    fn pass(&mut self) -> io::Result<()> {
        let line = std::mem::take(&mut self.line);
        let red = line.windows(NO_PRIVACY.len()).any(|part| part == NO_PRIVACY.as_bytes());
        if !red {
            return self.out.write_all(&line);
        }
        let (text, end) = line.split_at(line.len() - usize::from(line.ends_with(b"\n")));
        [RED, text, PLAIN, end].into_iter().try_for_each(|part| self.out.write_all(part))
    }
}

impl<W: Write> Write for Paint<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                self.pass()?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pass()?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_line_that_says_so_is_red() {
        let mut bytes = Vec::new();
        let mut paint = Paint::new(&mut bytes);
        // However the text is cut into writes.
        for part in ["one\nNO PRI", "VACY: none\ntwo", "\nlast NO PRIVACY"] {
            paint.write_all(part.as_bytes()).unwrap();
        }
        paint.flush().unwrap();
        drop(paint);
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text, "one\n\x1b[31;1mNO PRIVACY: none\x1b[0m\ntwo\n\x1b[31;1mlast NO PRIVACY\x1b[0m");
    }
}
