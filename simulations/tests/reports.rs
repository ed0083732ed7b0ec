//! `consilium-sim report` on a small sweep: a page that needs nothing but itself, its pictures, and the notebook beside it.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

const SIM: &str = env!("CARGO_BIN_EXE_consilium-sim");

/// Sizes, noise and dropouts vary, so that there is every picture.
const SMALL: &str = "
name = \"a <small> study\"
organizations = 5
rounds = 2
[task]
kind = \"convex\"
dimension = 40
[privacy]
lot = 5.0
[cohort]
colluders = 1
min_survivors = 4
[evaluation]
organizations = true
[sweep]
seeds = 2
[[sweep.list]]
clients.dropout = 0.0
[[sweep.list]]
clients.dropout = 0.2
[[sweep.list]]
privacy.noise_multiplier = 4.0
[[sweep.list]]
organizations = 8
cohort.min_survivors = 5
[[sweep.list]]
task.dimension = 80
";

fn sim(words: &[&str]) -> Output {
    let output = Command::new(SIM).args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn swept(folder: &Path) -> PathBuf {
    let (scenario, out) = (folder.join("small.toml"), folder.join("out"));
    fs::write(&scenario, SMALL).unwrap();
    sim(&["sweep", scenario.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    out
}

const FIGURES: [&str; 17] = [
    "accuracy-by-dropout",
    "accuracy-by-epsilon",
    "accuracy-by-round",
    "bytes-by-d",
    "bytes-by-n",
    "cpu-by-d",
    "cpu-by-n",
    "loss-by-epsilon",
    "loss-by-round",
    "macro-f1-by-epsilon",
    "macro-f1-by-round",
    "organizations-accuracy",
    "organizations-loss",
    "organizations-macro-f1",
    "released-by-dropout",
    "time-by-d",
    "time-by-n",
];

#[test]
fn a_sweeps_report_has_every_picture_and_needs_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let out = swept(folder.path());
    let said = sim(&["report", out.to_str().unwrap(), "--json"]);
    let said: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!((said["points"].as_array().unwrap().len(), said["missing"].as_u64()), (5, Some(0)));
    let mut files: Vec<_> = fs::read_dir(out.join("figures"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    files.sort();
    assert_eq!(files, FIGURES);
    let html = fs::read_to_string(out.join("report.html")).unwrap();
    for name in FIGURES {
        assert!(html.contains(&format!("<figure id=\"{name}\">")), "{name}");
        let svg = fs::read_to_string(out.join(format!("figures/{name}.svg"))).unwrap();
        assert!(html.contains(&svg), "{name} is drawn as it is saved");
        assert!(svg.starts_with("<svg xmlns=") && svg.matches("<circle").count() >= 3, "{name}: {svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{name}: {svg}");
    }
    assert!(html.contains("a &lt;small&gt; study") && !html.contains("<small>"));
    // Nothing is fetched and nothing runs: the only address is the name of SVG.
    for bad in ["<script", "src=", "url(", "@import", "https://"] {
        assert!(!html.contains(bad), "{bad}");
    }
    assert_eq!(html.matches("http://").count(), html.matches("xmlns=\"http://www.w3.org/2000/svg\"").count());
    assert!(html.contains("default-src 'none'"));
    // The page's numbers are those of the runs.
    let runs = fs::read_to_string(out.join("runs.jsonl")).unwrap();
    let runs: Vec<Value> = runs.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of: Vec<f64> = runs
        .iter()
        .filter(|row| row["privacy.noise_multiplier"].as_f64() == Some(4.0))
        .map(|row| row["accuracy"].as_f64().unwrap())
        .collect();
    let (mean, half) = ((of[0] + of[1]) / 2.0, 12.706 * (of[0] - of[1]).abs() / 2.0);
    let expected = format!("<td>{mean:.3} ± {half:.3}</td>");
    assert!(html.contains(&expected), "{expected}");
    in_a_browser(&out.join("report.html"));
}

#[test]
fn a_run_that_is_in_two_sweeps_counts_once() {
    let folder = tempfile::tempdir().unwrap();
    let out = swept(folder.path());
    let again = folder.path().join("again");
    std::os::unix::fs::symlink(&out, &again).unwrap();
    let page = folder.path().join("page");
    let [out, again, page] = [&out, &again, &page].map(|path| path.to_str().unwrap());
    let output = sim(&["report", out, again, "--out", page, "--json"]);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let points = said["points"].as_array().unwrap();
    assert_eq!(points.len(), 5);
    for point in points {
        assert_eq!((&point["runs"], &point["accuracy"]["runs"]), (&2.into(), &2.into()), "{point}");
    }
}

/// Says what could not be tried on this machine; where everything should be there (`CONSILIUM_NO_SKIPS`), that is a failure.
fn skipped(why: &str) {
    assert!(std::env::var_os("CONSILIUM_NO_SKIPS").is_none(), "{why}");
    eprintln!("{why}");
}

/// Looks at the page in a real browser, where there is one: `CHROMIUM`, or one in the path.
fn in_a_browser(page: &Path) {
    let named = std::env::var("CHROMIUM").ok();
    let known = ["chromium", "chromium-browser", "google-chrome"].map(str::to_owned);
    let runs =
        |name: &String| Command::new(name).arg("--version").output().is_ok_and(|it| it.status.success());
    let Some(browser) = named.into_iter().chain(known).find(runs) else {
        return skipped("no Chromium here: the page was not looked at in a browser");
    };
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"])
        .arg(format!("--user-data-dir={}", page.with_file_name("profile").display()))
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    let (dom, errors) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(!errors.contains("CONSOLE"), "{errors}");
    assert_eq!(dom.matches("<svg").count(), FIGURES.len(), "{errors}");
    assert_eq!(dom.matches("</figure>").count(), FIGURES.len());
}

#[test]
fn one_run_has_a_report_too_and_says_what_it_cannot_draw() {
    let folder = tempfile::tempdir().unwrap();
    let (run, out) = (folder.path().join("run"), folder.path().join("paper"));
    let (run, out) = (run.to_str().unwrap(), out.to_str().unwrap());
    sim(&["run", "--organizations", "4", "--rounds", "3", "--dimension", "40", "--out", run]);
    let said = sim(&["report", run, "--out", out]);
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(text.starts_with("runs  as expected  accuracy"), "{text}");
    assert!(text.contains("report.html and 3 figures"), "{text}");
    let html = fs::read_to_string(Path::new(out).join("report.html")).unwrap();
    assert!(
        html.contains("one n only: vary organizations") && html.contains("evaluation.organizations = true")
    );
}

#[test]
fn part_of_a_sweep_is_called_that_and_nothing_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = swept(folder.path());
    let one = fs::read_dir(out.join("runs")).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(one.join("result.json")).unwrap();
    sim(&["report", out.to_str().unwrap()]);
    let html = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(html.contains("1 more runs were planned and have not ended"));
    let refused = Command::new(SIM).args(["report", folder.path().to_str().unwrap()]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(text.contains("no run has ended here, and no sweep was begun"), "{text}");
}

/// The notebook's own code, on a sweep of this software; and what is committed was executed.
#[test]
fn the_notebook_opens_a_sweep_unchanged() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/sweep.ipynb");
    let notebook: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let cells = notebook["cells"].as_array().unwrap();
    let code: Vec<&Value> = cells.iter().filter(|cell| cell["cell_type"] == "code").collect();
    let mut script = String::new();
    for (number, cell) in code.iter().enumerate() {
        assert_eq!(cell["execution_count"].as_u64(), Some(number as u64 + 1), "executed from top to bottom");
        let outputs = cell["outputs"].as_array().unwrap();
        assert!(
            !outputs.is_empty() && outputs.iter().all(|output| output["output_type"] != "error"),
            "{cell}"
        );
        let lines = cell["source"].as_array().unwrap().iter().map(|line| line.as_str().unwrap());
        script.extend(lines);
        script.push('\n');
    }
    assert!(script.contains("pd.read_json(") && script.contains("pd.read_parquet("));
    let named = std::env::var("TABLES_PYTHON").ok();
    let has = |python: &String| {
        let found = Command::new(python).args(["-c", "import pandas, pyarrow"]).output();
        found.is_ok_and(|it| it.status.success())
    };
    let Some(python) = named.into_iter().chain(["python3".to_owned()]).find(has) else {
        return skipped("no Python with pandas and pyarrow here: the notebook was read, not executed");
    };
    let folder = tempfile::tempdir().unwrap();
    let out = swept(folder.path());
    let output = Command::new(python).args(["-c", &script]).env("SWEEP", &out).output().unwrap();
    assert!(output.status.success(), "{}\n{script}", String::from_utf8_lossy(&output.stderr));
}
