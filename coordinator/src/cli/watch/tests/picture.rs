//! A picture of a test terminal: an SVG with one text for each run of cells of one colour.

use std::fmt::Write as _;

use ratatui::{
    buffer::{Buffer, Cell},
    style::{Color, Modifier},
};

const WIDTH: f32 = 8.4;
const HEIGHT: f32 = 17.0;

pub(super) fn svg(buffer: &Buffer) -> String {
    let area = buffer.area;
    let (width, height) = (f32::from(area.width) * WIDTH + 16.0, f32::from(area.height) * HEIGHT + 16.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"DejaVu Sans Mono, \
         Menlo, Consolas, monospace\" font-size=\"14\">\n<rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"#16181d\"/>\n"
    );
    for y in 0..area.height {
        let mut x = 0;
        while x < area.width {
            let look = look(&buffer[(x, y)]);
            let begin = x;
            let mut text = String::new();
            while x < area.width && self::look(&buffer[(x, y)]) == look {
                text.push_str(buffer[(x, y)].symbol());
                x += 1;
            }
            run(&mut svg, begin, y, x - begin, &text, look);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// Colour of the text, of the ground, and whether it is bold.
type Look = (&'static str, Option<&'static str>, bool);

fn look(cell: &Cell) -> Look {
    let ground = (cell.bg != Color::Reset).then(|| colour(cell.bg));
    (colour(cell.fg), ground, cell.modifier.contains(Modifier::BOLD))
}

fn colour(colour: Color) -> &'static str {
    match colour {
        Color::Black => "#16181d",
        Color::DarkGray => "#7d8590",
        Color::Green => "#57c26b",
        Color::Red => "#ff6b6b",
        Color::Yellow => "#e5b94e",
        Color::Cyan => "#4ec3d9",
        Color::Magenta => "#d38aea",
        _ => "#d9dde3",
    }
}

fn run(svg: &mut String, x: u16, y: u16, cells: u16, text: &str, (fill, ground, bold): Look) {
    let (left, top) = (8.0 + f32::from(x) * WIDTH, 8.0 + f32::from(y) * HEIGHT);
    let width = f32::from(cells) * WIDTH;
    if let Some(ground) = ground {
        let _ = writeln!(
            svg,
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{HEIGHT}\" fill=\"{ground}\"/>"
        );
    }
    if text.trim().is_empty() {
        return;
    }
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let weight = if bold { " font-weight=\"bold\"" } else { "" };
    // Told how wide it is, whichever font the reader has.
    let _ = writeln!(
        svg,
        "<text x=\"{left:.1}\" y=\"{:.1}\" fill=\"{fill}\"{weight} textLength=\"{width:.1}\" \
         lengthAdjust=\"spacingAndGlyphs\" xml:space=\"preserve\">{text}</text>",
        top + 13.0
    );
}
