//! A chart as SVG: means, their 95 % intervals, and nothing but itself: no fonts, scripts or files.

use std::fmt::Write as _;

use crate::stats::Mean;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 56.0;
const LEGEND: f64 = 18.0;
/// Okabe and Ito's colours, which the colour-blind tell apart, each with its own dashes for whoever prints in grey.
const STYLES: [(&str, &str); 8] = [
    ("#0072b2", "none"),
    ("#d55e00", "7 3"),
    ("#009e73", "2 3"),
    ("#cc79a7", "9 3 2 3"),
    ("#56b4e9", "none"),
    ("#e69f00", "7 3"),
    ("#000000", "2 3"),
    ("#8a8a00", "9 3 2 3"),
];

/// Most lines that a chart has.
pub const MOST: usize = STYLES.len();

/// One axis.
#[derive(Clone, Debug, Default)]
pub struct Axis {
    /// What it measures, with its unit.
    pub label: String,
    /// Whether equal distances are equal factors. Only where every value is above 0.
    pub log: bool,
    /// Whether it measures parts of a whole: nothing is drawn below 0 or above 1.
    pub part: bool,
    /// Whether it counts: no ticks between whole numbers.
    pub whole: bool,
}

/// How a series shows its intervals, and whether its points are joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Look {
    /// A line, with bars at its points.
    #[default]
    Bars,
    /// A line in a band.
    Band,
    /// Points without a line.
    Dots,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// In rising order of `x`.
    pub points: Vec<(f64, Mean)>,
}

/// A chart.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Name of its file.
    pub id: String,
    /// Title.
    pub title: String,
    /// What goes to the right.
    pub x: Axis,
    /// What goes up.
    pub y: Axis,
    /// How series look.
    pub look: Look,
    /// Lines, [`MOST`] at most.
    pub series: Vec<Series>,
    /// What a reader has to know beside the picture.
    pub note: String,
}

/// Values to places on the paper.
struct Scale {
    low: f64,
    high: f64,
    log: bool,
    /// Between ticks; nothing on a logarithmic axis.
    step: f64,
    from: f64,
    to: f64,
}

impl Scale {
    fn new(axis: &Axis, values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let inside = |value: f64| if axis.part { value.clamp(0.0, 1.0) } else { value };
        let (mut low, mut high) = values
            .filter(|value| value.is_finite() && (!axis.log || *value > 0.0))
            .map(inside)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            (low, high) = (0.5, 1.0);
        }
        let mut distance = 0.0;
        if axis.log {
            // So that there are two ticks.
            let room = (high / low).powf(0.04).max(1.1);
            (low, high) = (low / room, high * room);
        } else {
            if high - low < 1e-12 {
                let room = (high.abs() * 0.1).max(1e-3);
                (low, high) = (inside(low - room), inside(high + room));
            }
            distance = step(high - low).max(if axis.whole { 1.0 } else { 0.0 });
            low = (low / distance + 1e-9).floor() * distance;
            high = (high / distance - 1e-9).ceil() * distance;
        }
        Self { low, high, log: axis.log, step: distance, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let share = if self.log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    fn ticks(&self) -> Vec<f64> {
        if !self.log {
            let count = ((self.high - self.low) / self.step + 1e-9).floor() as u32;
            return (0..=count.min(20)).map(|tick| self.low + f64::from(tick) * self.step).collect();
        }
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let decades = last - first;
        let marks: &[f64] = if decades <= 3 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let all = (first..=last).flat_map(|power| marks.iter().map(move |mark| mark * 10f64.powi(power)));
        all.filter(|tick| (self.low..=self.high).contains(tick)).collect()
    }
}

/// A distance between ticks, 1, 2 or 5 times a power of ten, that makes four to ten of them.
fn step(range: f64) -> f64 {
    let power = 10f64.powf((range / 5.0).log10().floor());
    let part = range / 5.0 / power;
    power * [1.0, 2.0, 5.0].into_iter().find(|step| part < step * 1.5).unwrap_or(10.0)
}

/// A number as people write it.
pub fn plain(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e7).contains(&size) {
        return format!("{value:e}");
    }
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Text in HTML and SVG.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

impl Chart {
    /// Whether a picture says anything: two places on its axis at least.
    pub fn is_worth_it(&self) -> bool {
        let xs: Vec<f64> = self.series.iter().flat_map(|series| &series.points).map(|(x, _)| *x).collect();
        // The same number computed twice may differ in its last digits.
        xs.iter().any(|x| xs.first().is_some_and(|first| (x - first).abs() > 1e-6 * first.abs()))
    }

    /// The picture.
    pub fn svg(&self) -> String {
        let bottom = HEIGHT - BOTTOM;
        let height = HEIGHT + LEGEND * (self.series.len() as f64 + 0.5);
        let points = || self.series.iter().flat_map(|series| &series.points);
        let x = Scale::new(&self.x, points().map(|(x, _)| *x), LEFT, WIDTH - RIGHT);
        let ends = points().flat_map(|(_, mean)| {
            let (low, high) = mean.ends();
            [low, mean.mean, high]
        });
        let y = Scale::new(&self.y, ends, bottom, TOP);
        let mut svg = String::new();
        let title = escape(&self.title);
        let mut put = |text: std::fmt::Arguments<'_>| {
            let _infallible = svg.write_fmt(text);
            svg.push('\n');
        };
        put(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\" \
             font-family=\"Helvetica, Arial, sans-serif\" font-size=\"12\">"
        ));
        put(format_args!("<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>"));
        put(format_args!("<text x=\"{LEFT}\" y=\"22\" font-size=\"15\" font-weight=\"bold\">{title}</text>"));
        for tick in y.ticks() {
            let (at, end, label) = (y.at(tick), WIDTH - RIGHT, plain(tick));
            put(format_args!("<path d=\"M{LEFT} {at:.1}H{end}\" stroke=\"#dddddd\"/>"));
            put(format_args!(
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                LEFT - 7.0,
                at + 4.0
            ));
        }
        for tick in x.ticks() {
            let (at, label) = (x.at(tick), plain(tick));
            put(format_args!("<path d=\"M{at:.1} {bottom}v5\" stroke=\"#555555\"/>"));
            put(format_args!(
                "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
                bottom + 19.0
            ));
        }
        put(format_args!(
            "<path d=\"M{LEFT} {TOP}V{bottom}H{}\" fill=\"none\" stroke=\"#555555\"/>",
            WIDTH - RIGHT
        ));
        put(format_args!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            (LEFT + WIDTH - RIGHT) / 2.0,
            bottom + 40.0,
            escape(&self.x.label)
        ));
        let middle = (TOP + bottom) / 2.0;
        put(format_args!(
            "<text transform=\"translate(18 {middle}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            escape(&self.y.label)
        ));
        for (number, (series, (colour, dashes))) in self.series.iter().zip(STYLES).enumerate() {
            let dashes = if self.series.len() == 1 { "none" } else { dashes };
            put(format_args!(
                "<g fill=\"{colour}\" stroke=\"{colour}\">{}</g>",
                self.draw(series, &x, &y, dashes)
            ));
            let at = HEIGHT + LEGEND * (number as f64 + 0.25);
            put(format_args!(
                "<path d=\"M{LEFT} {at}h28\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/>\
                 <circle cx=\"{}\" cy=\"{at}\" r=\"3.5\" fill=\"{colour}\"/>\
                 <text x=\"{}\" y=\"{}\">{}</text>",
                LEFT + 14.0,
                LEFT + 36.0,
                at + 4.0,
                escape(&series.name)
            ));
        }
        svg + "</svg>\n"
    }

    fn draw(&self, series: &Series, x: &Scale, y: &Scale, dashes: &str) -> String {
        let mut out = String::new();
        let mut put = |text: std::fmt::Arguments<'_>| {
            let _infallible = out.write_fmt(text);
        };
        let place = |value: f64, up: f64| format!("{:.1},{:.1}", x.at(value), y.at(up));
        if self.look == Look::Band && series.points.iter().any(|(_, mean)| mean.half.is_some()) {
            let above = series.points.iter().map(|(at, mean)| place(*at, mean.ends().1));
            let below = series.points.iter().rev().map(|(at, mean)| place(*at, mean.ends().0));
            let around: Vec<String> = above.chain(below).collect();
            put(format_args!(
                "<polygon points=\"{}\" stroke=\"none\" fill-opacity=\"0.15\"/>",
                around.join(" ")
            ));
        }
        if self.look != Look::Dots {
            let line: Vec<String> = series.points.iter().map(|(at, mean)| place(*at, mean.mean)).collect();
            put(format_args!(
                "<polyline points=\"{}\" fill=\"none\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/>",
                line.join(" ")
            ));
        }
        for (at, mean) in &series.points {
            let (low, high) = mean.ends();
            if self.look != Look::Band && mean.half.is_some() {
                let (place, low, high) = (x.at(*at), y.at(low), y.at(high));
                put(format_args!(
                    "<path d=\"M{place:.1} {low:.1}V{high:.1}m-4 0h8M{:.1} {low:.1}h8\" fill=\"none\" stroke-width=\"1.2\"/>",
                    place - 4.0
                ));
            }
            let radius = if self.look == Look::Band { 2.0 } else { 3.5 };
            let said = format!("{}: {}, {}, {} runs", series.name, plain(*at), mean.text(4), mean.count);
            put(format_args!(
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius}\"><title>{}</title></circle>",
                x.at(*at),
                y.at(mean.mean),
                escape(&said)
            ));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>, log: bool) -> Chart {
        let mean = |mean: f64| Mean { mean, half: Some(mean / 10.0), count: 5 };
        let points = points.into_iter().map(|(x, y)| (x, mean(y))).collect();
        let axis = Axis { label: "a < b".into(), log, ..Axis::default() };
        let (id, title, note) = ("it".to_owned(), "x & y".to_owned(), String::new());
        let series = vec![Series { name: "one".into(), points }];
        Chart { id, title, x: axis.clone(), y: axis, look: Look::Bars, series, note }
    }

    #[test]
    fn everything_is_inside_the_frame_and_escaped() {
        for log in [false, true] {
            for look in [Look::Bars, Look::Band, Look::Dots] {
                let points = vec![(1.0, 0.001), (30.0, 7.0), (1000.0, 12345.0)];
                let svg = Chart { look, ..chart(points, log) }.svg();
                assert!(
                    svg.contains("x &amp; y") && svg.contains("a &lt; b") && !svg.contains("a < b"),
                    "{svg}"
                );
                let numbers = |name: &str| -> Vec<f64> {
                    let before = format!(" {name}=\"");
                    svg.split(before.as_str())
                        .skip(1)
                        .map(|it| it.split('"').next().unwrap().parse().unwrap())
                        .collect()
                };
                let (xs, ys) = (numbers("cx"), numbers("cy"));
                assert_eq!((xs.len(), ys.len()), (4, 4));
                assert!(xs.iter().all(|x| (LEFT - 0.1..=WIDTH - RIGHT + 0.1).contains(x)), "{xs:?}");
                assert!(ys.iter().take(3).all(|y| (TOP - 0.1..=HEIGHT - BOTTOM + 0.1).contains(y)), "{ys:?}");
                // Rising values rise on the paper.
                assert!(xs[0] < xs[1] && xs[1] < xs[2] && ys[0] >= ys[1] && ys[1] > ys[2], "{xs:?} {ys:?}");
                assert_eq!(svg.matches("<polygon").count(), usize::from(look == Look::Band));
                assert_eq!(svg.matches("<polyline").count(), usize::from(look != Look::Dots));
            }
        }
    }

    #[test]
    fn ticks_are_round_numbers_within_the_axis() {
        let axis = |log, whole| Axis { label: String::new(), log, whole, part: false };
        let ticks = |axis: &Axis, values: [f64; 2]| -> Vec<String> {
            Scale::new(axis, values.into_iter(), 0.0, 1.0).ticks().into_iter().map(plain).collect()
        };
        assert_eq!(
            ticks(&axis(false, false), [0.31, 0.58]),
            ["0.3", "0.35", "0.4", "0.45", "0.5", "0.55", "0.6"]
        );
        assert_eq!(ticks(&axis(false, true), [1.0, 3.0]), ["1", "2", "3"]);
        let part = Axis { part: true, ..Axis::default() };
        assert_eq!(ticks(&part, [0.3, 1.4]), ["0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1"]);
        assert_eq!(ticks(&part, [1.0, 1.0]).last().unwrap(), "1");
        // A range that grows to round ends keeps the ticks that made them.
        assert_eq!(ticks(&axis(false, false), [1.749, 1.893])[..2], ["1.74", "1.76"]);
        assert_eq!(ticks(&axis(true, false), [1.0, 10_000.0]), ["1", "10", "100", "1000", "10000"]);
        assert_eq!(ticks(&axis(true, false), [3.0, 30.0]), ["5", "10", "20"]);
        // One value only, and nothing at all, still have an axis.
        assert!(ticks(&axis(false, false), [0.5, 0.5]).len() > 2);
        assert!(!Scale::new(&axis(true, false), std::iter::empty(), 0.0, 1.0).ticks().is_empty());
        assert!(!chart(vec![(1.0, 2.0)], false).is_worth_it());
    }
}
