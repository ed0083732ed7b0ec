//! A line chart as SVG: no fonts, scripts or files but itself.

use std::fmt;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 440.0;
/// Left, right, top, bottom.
const MARGINS: (f64, f64, f64, f64) = (64.0, 24.0, 44.0, 52.0);
/// Colours that differ in lightness too, and dashes for whoever prints in grey.
const STYLES: [(&str, &str); 3] = [("#0b5394", "none"), ("#b45f06", "none"), ("#666666", "5 4")];

/// One line.
pub(super) struct Series {
    pub(super) name: String,
    /// Rounds and ε, in rising order of rounds.
    pub(super) points: Vec<(f64, f64)>,
}

/// ε over rounds.
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) series: Vec<Series>,
    pub(super) budget: Option<f64>,
}

impl fmt::Display for Chart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let most_x = points().fold(1.0f64, |most, point| most.max(point.0));
        let most_y = points().map(|point| point.1).chain(self.budget).fold(1e-9f64, f64::max);
        let (step_x, step_y) = (step(most_x).max(1.0), step(most_y));
        let (end_x, end_y) = (most_x, (most_y / step_y).ceil() * step_y);
        let (left, right, top, bottom) = MARGINS;
        let x = |rounds: f64| left + rounds / end_x * (WIDTH - left - right);
        let y = |epsilon: f64| HEIGHT - bottom - epsilon / end_y * (HEIGHT - top - bottom);
        let title = escape(&self.title);
        writeln!(
            f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             font-family=\"sans-serif\" font-size=\"12\">"
        )?;
        writeln!(f, "<title>{title}</title>")?;
        writeln!(f, "<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>")?;
        writeln!(f, "<text x=\"{left}\" y=\"24\" font-size=\"14\">{title}</text>")?;
        for tick in ticks(end_y, step_y) {
            let (at, label) = (y(tick), trimmed(tick));
            writeln!(
                f,
                "<line x1=\"{left}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#dddddd\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                WIDTH - right,
                left - 8.0,
                at + 4.0
            )?;
        }
        for tick in ticks(end_x, step_x) {
            let (at, label) = (x(tick), trimmed(tick));
            writeln!(
                f,
                "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
                HEIGHT - bottom + 18.0
            )?;
        }
        writeln!(
            f,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">rounds</text>",
            (left + WIDTH - right) / 2.0,
            HEIGHT - 12.0
        )?;
        writeln!(f, "<text x=\"16\" y=\"{:.1}\">ε</text>", (top + HEIGHT - bottom) / 2.0)?;
        if let Some(budget) = self.budget {
            let at = y(budget);
            writeln!(
                f,
                "<line x1=\"{left}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#cc0000\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#cc0000\">budget {budget}</text>",
                WIDTH - right,
                WIDTH - right,
                at - 5.0
            )?;
        }
        for (number, (series, (colour, dashes))) in self.series.iter().zip(STYLES).enumerate() {
            let path: Vec<_> = series.points.iter().map(|p| format!("{:.1},{:.1}", x(p.0), y(p.1))).collect();
            let at = top + 14.0 + 18.0 * number as f64;
            let style = format!("stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"");
            writeln!(f, "<polyline points=\"{}\" fill=\"none\" {style}/>", path.join(" "))?;
            writeln!(
                f,
                "<line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" {style}/>\
                 <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                left + 12.0,
                left + 40.0,
                left + 48.0,
                at + 4.0,
                escape(&series.name)
            )?;
        }
        writeln!(f, "</svg>")
    }
}

/// A distance between ticks, 1, 2 or 5 times a power of ten, that makes four to ten of them.
fn step(most: f64) -> f64 {
    let power = 10f64.powf((most / 5.0).log10().floor());
    let part = most / 5.0 / power;
    power
        * if part < 1.5 {
            1.0
        } else if part < 3.5 {
            2.0
        } else if part < 7.5 {
            5.0
        } else {
            10.0
        }
}

fn ticks(end: f64, step: f64) -> impl Iterator<Item = f64> {
    (0..=12u32).map(move |tick| f64::from(tick) * step).take_while(move |&tick| tick <= end * (1.0 + 1e-9))
}

/// A tick's number without the dust of binary fractions.
fn trimmed(value: f64) -> String {
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers() {
        for (most, expected) in [(60.0, 10.0), (7.3, 1.0), (0.04, 0.01), (1e6, 2e5), (12.0, 2.0), (1e9, 2e8)]
        {
            assert!((step(most) / expected - 1.0).abs() < 1e-9, "{most}: {}", step(most));
        }
        assert_eq!(ticks(7.0, 1.0).count(), 8);
        assert_eq!((trimmed(0.3000000004), trimmed(20.0)), ("0.3".to_owned(), "20".to_owned()));
    }

    #[test]
    fn every_point_is_inside_the_frame() {
        let series = Series { name: "a < b".into(), points: vec![(1.0, 0.5), (60.0, 2.9)] };
        let text = Chart { title: "t".into(), series: vec![series], budget: Some(6.0) }.to_string();
        assert!(text.contains("a &lt; b") && text.contains("budget 6") && text.ends_with("</svg>\n"));
        let points = text.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        for point in points.split(' ') {
            let (x, y) = point.split_once(',').unwrap();
            let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
            assert!((0.0..=WIDTH).contains(&x) && (0.0..=HEIGHT).contains(&y), "{point}");
        }
    }
}
