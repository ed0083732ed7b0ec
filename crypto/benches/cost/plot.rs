//! Two panels of lines on logarithmic axes, as SVG.

use std::fmt::Write as _;

/// A line and its name.
pub struct Line {
    pub name: String,
    /// `x` and `y`, both above 0.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 60.0;
const GAP: f64 = 110.0;
/// Dark to light, told apart in grey as well; the names stand at the lines' ends.
const COLOURS: [&str; 5] = ["#1b4965", "#2a7f9e", "#4c9f70", "#d08c3c", "#b23a48"];
/// Powers of ten that the axes span.
const X: (i32, i32) = (4, 7);
const Y: (i32, i32) = (-4, 2);

/// The picture. Elements go to the right, seconds go up.
pub fn draw(title: &str, panels: [(&str, &[Line]); 2]) -> String {
    let (width, height) = (LEFT + 2.0 * (WIDTH + GAP), TOP + HEIGHT + 60.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\"><rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{title}</text>\n"
    );
    for (index, (name, lines)) in panels.into_iter().enumerate() {
        panel(&mut svg, LEFT + index as f64 * (WIDTH + GAP), name, lines);
    }
    svg + "</svg>\n"
}

fn panel(svg: &mut String, left: f64, name: &str, lines: &[Line]) {
    let x = |value: f64| left + WIDTH * share(value, X);
    let y = |value: f64| TOP + HEIGHT * (1.0 - share(value, Y));
    let (right, bottom) = (left + WIDTH, TOP + HEIGHT);
    put(svg, format_args!("<text x=\"{left}\" y=\"{}\">seconds, {name}</text>", TOP - 10.0));
    put(svg, format_args!("<text x=\"{right}\" y=\"{}\" text-anchor=\"end\">elements</text>", bottom + 38.0));
    for power in X.0..=X.1 {
        let at = x(10f64.powi(power));
        put(svg, format_args!("<path d=\"M{at} {TOP}V{bottom}\" stroke=\"#ddd\"/>"));
        put(
            svg,
            format_args!(
                "<text x=\"{at}\" y=\"{}\" text-anchor=\"middle\">10<tspan dy=\"-5\" font-size=\"9\">{power}</tspan></text>",
                bottom + 18.0
            ),
        );
    }
    for power in Y.0..=Y.1 {
        let at = y(10f64.powi(power));
        put(svg, format_args!("<path d=\"M{left} {at}H{right}\" stroke=\"#ddd\"/>"));
        put(
            svg,
            format_args!(
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
                left - 6.0,
                at + 4.0,
                10f64.powi(power)
            ),
        );
    }
    for (line, colour) in lines.iter().zip(COLOURS) {
        let path: Vec<String> =
            line.points.iter().map(|(px, py)| format!("{:.1} {:.1}", x(*px), y(*py))).collect();
        put(
            svg,
            format_args!(
                "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                path.join("L")
            ),
        );
        for (px, py) in &line.points {
            put(
                svg,
                format_args!("<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>", x(*px), y(*py)),
            );
        }
        if let Some((px, py)) = line.points.last() {
            let (at, up, name) = (x(*px) + 8.0, y(*py) + 4.0, &line.name);
            put(svg, format_args!("<text x=\"{at:.1}\" y=\"{up:.1}\" fill=\"{colour}\">{name}</text>"));
        }
    }
}

/// How far along a logarithmic axis a value lies, from 0 to 1.
fn share(value: f64, (low, high): (i32, i32)) -> f64 {
    ((value.log10() - f64::from(low)) / f64::from(high - low)).clamp(0.0, 1.0)
}

fn put(svg: &mut String, element: std::fmt::Arguments<'_>) {
    // Writing into a string does not fail.
    let _ = writeln!(svg, "{element}");
}
