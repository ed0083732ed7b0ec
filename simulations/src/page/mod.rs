//! The report: one HTML page that needs nothing but itself, and its pictures as files for papers.

pub mod chart;
pub mod figures;

use std::fmt::Write as _;

use crate::{
    left::{Left, Points, number},
    table,
};
use chart::escape;
use figures::Figures;

/// What a report is made of.
#[derive(Debug)]
pub struct Page {
    points: Points,
    figures: Figures,
    /// Runs that were planned and have not ended.
    missing: usize,
}

/// Nothing may be fetched, nothing may run.
const HEAD: &str = "<!doctype html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<link rel=\"icon\" href=\"data:,\">
<style>
body { font: 15px/1.5 Helvetica, Arial, sans-serif; color: #1a1a1a; margin: 2rem auto; max-width: 84rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; }
h2 { font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid #ccc; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(26rem, 100%), 1fr)); gap: 1.2rem; }
figure { margin: 0; border: 1px solid #ddd; border-radius: 6px; padding: .6rem; }
figcaption { font-size: .85rem; color: #444; }
svg { width: 100%; height: auto; display: block; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #e4e4e4; white-space: nowrap; }
th { border-bottom: 2px solid #888; }
pre { background: #f6f6f6; padding: .8rem; overflow-x: auto; font-size: .85rem; }
.bad { color: #a00000; font-weight: bold; }
</style>
";

impl Page {
    /// Of these runs; `missing` were planned as well and have not ended.
    pub fn new(runs: Vec<Left>, missing: usize) -> Self {
        let points = Points::of(runs);
        let figures = Figures::of(&points);
        Self { points, figures, missing }
    }

    /// The runs.
    pub fn points(&self) -> &Points {
        &self.points
    }

    /// The pictures: name of the file, and what is in it.
    pub fn pictures(&self) -> impl Iterator<Item = (String, String)> {
        self.figures.charts.iter().map(|chart| (format!("{}.svg", chart.id), chart.svg()))
    }

    fn runs(&self) -> impl Iterator<Item = &Left> {
        self.points.points.iter().flat_map(|point| &point.runs)
    }

    fn title(&self) -> String {
        let name =
            |run: &Left| run.result.get("name").and_then(|it| it.as_str()).unwrap_or("unnamed").to_owned();
        let mut names: Vec<String> = self.runs().map(name).collect();
        names.sort();
        names.dedup();
        names.join(", ")
    }

    /// The page.
    pub fn html(&self) -> String {
        let mut html = HEAD.to_owned();
        let title = escape(&self.title());
        let mut put = |text: std::fmt::Arguments<'_>| {
            let _infallible = html.write_fmt(text);
            html.push('\n');
        };
        let (count, points) = (self.runs().count(), self.points.points.len());
        put(format_args!("<title>{title} – Consilium simulation</title>\n</head>\n<body>\n<h1>{title}</h1>"));
        put(format_args!(
            "<p>{count} simulations, {points} points. Numbers are means over seeds ± half of the 95&nbsp;% interval by \
             Student's t; bars and bands show the same.</p>"
        ));
        if self.missing > 0 {
            put(format_args!(
                "<p class=\"bad\">{} more runs were planned and have not ended: this is part of a sweep.</p>",
                self.missing
            ));
        }
        let unexpected = self.runs().filter(|run| !table::is_expected(run)).count();
        if unexpected > 0 {
            put(format_args!("<p class=\"bad\">{unexpected} runs did not end as their scenario says.</p>"));
        }
        put(format_args!("<h2>Points</h2>\n<div class=\"wide\">{}</div>", self.table()));
        put(format_args!("<h2>Figures</h2>\n<div class=\"figures\">"));
        for chart in &self.figures.charts {
            let (id, note) = (escape(&chart.id), escape(&chart.note));
            put(format_args!(
                "<figure id=\"{id}\">\n{}<figcaption>{note}</figcaption></figure>",
                chart.svg()
            ));
        }
        put(format_args!("</div>"));
        if !self.figures.missing.is_empty() {
            let items: String =
                self.figures.missing.iter().map(|it| format!("<li>{}</li>", escape(it))).collect();
            put(format_args!("<h2>Not drawn</h2>\n<ul>{items}</ul>"));
        }
        if let Some(gains) = self.organizations() {
            put(format_args!("<h2>Organizations</h2>\n<div class=\"wide\">{gains}</div>"));
        }
        put(format_args!("<h2>How it was made</h2>\n{}\n</body>\n</html>", self.made()));
        html
    }

    fn table(&self) -> String {
        let cells = |tag: &str, cells: &[String]| -> String {
            cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect()
        };
        let rows: String = self
            .points
            .points
            .iter()
            .map(|point| format!("<tr>{}</tr>\n", cells("td", &table::cells(point))))
            .collect();
        format!("<table>\n<tr>{}</tr>\n{rows}</table>", cells("th", &table::headings(&self.points)))
    }

    /// Means over organizations, for every point; `None` where nobody was scored.
    fn organizations(&self) -> Option<String> {
        const KINDS: [&str; 3] = ["alone", "federated", "federated_then_fine_tuned"];
        let mean = |run: &Left, field: &str| {
            let values = run.members.iter().filter_map(|member| number(member, field));
            crate::stats::Mean::of(values).map(|mean| mean.mean)
        };
        self.runs().find_map(|run| mean(run, "alone.accuracy"))?;
        let mut html = String::from("<table>\n<tr><th>point</th>");
        for score in ["accuracy", "macro-F1", "loss"] {
            for kind in ["alone", "federated", "fine-tuned"] {
                let _infallible = write!(html, "<th>{score}, {kind}</th>");
            }
        }
        html += "</tr>\n";
        for point in &self.points.points {
            let name =
                if self.points.axes.is_empty() { "all runs".into() } else { point.name(&self.points.axes) };
            let _infallible = write!(html, "<tr><td>{}</td>", escape(&name));
            for score in ["accuracy", "macro_f1", "loss"] {
                for kind in KINDS {
                    let own = point.mean(|run| mean(run, &format!("{kind}.{score}")));
                    let _infallible = write!(html, "<td>{}</td>", own.map_or("-".into(), |own| own.text(3)));
                }
            }
            html += "</tr>\n";
        }
        Some(html + "</table>\n<p>Means over organizations, each on its own test set.</p>")
    }

    fn made(&self) -> String {
        let Some(run) = self.runs().next() else { return String::new() };
        let versions = run.result.get("versions").map(ToString::to_string).unwrap_or_default();
        let seeds: std::collections::BTreeSet<u64> = self.runs().map(Left::seed).collect();
        let seeds: Vec<String> = seeds.iter().map(ToString::to_string).collect();
        let scenario = std::fs::read_to_string(run.folder.join("scenario.toml")).unwrap_or_default();
        format!(
            "<p>Seeds {}. Software {}. Every run repeats with <code>consilium-sim run FOLDER/scenario.toml</code>.</p>\n\
             <details><summary>The scenario of the first run</summary><pre>{}</pre></details>",
            escape(&seeds.join(", ")),
            escape(&versions),
            escape(&scenario)
        )
    }
}
