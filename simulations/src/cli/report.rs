//! `consilium-sim report`.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use serde_json::json;

use crate::{
    left::{Left, Unread},
    out::{OutError, write_whole},
    page::Page,
    scenario::text::Draft,
    sweep::planned::plan,
    table,
};

/// What to report on.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  consilium-sim report runs/epsilon
  consilium-sim report runs/hospitals --out papers/hospitals
  consilium-sim report runs/epsilon runs/n runs/d --out papers/all --json

Writes report.html, one page that needs nothing else, and figures/*.svg beside it. The table on the terminal has the same \
numbers.")]
pub(super) struct Report {
    /// Folders of runs or of sweeps.
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// Where the report goes. [the first folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print JSON instead of the table.
    #[arg(long)]
    json: bool,
}

impl Report {
    pub(super) fn main(&self) -> ExitCode {
        let (mut runs, mut missing) = (Vec::new(), 0);
        for folder in &self.folders {
            match read(folder) {
                Ok((own, without)) => {
                    runs.extend(own);
                    missing += without;
                }
                Err(why) => {
                    eprintln!("consilium-sim: {why}");
                    return ExitCode::from(2);
                }
            }
        }
        let page = Page::new(runs, missing);
        let out = self.out.as_ref().or(self.folders.first()).cloned().unwrap_or_default();
        let files = match write(&page, &out) {
            Ok(files) => files,
            Err(why) => {
                eprintln!("consilium-sim: {why}");
                return ExitCode::from(3);
            }
        };
        let text = if self.json {
            let points = table::json(page.points());
            json!({"report": out.join("report.html"), "figures": files, "missing": missing, "points": points})
                .to_string()
        } else {
            let table = table::text(page.points());
            format!("{table}\n{} and {} figures", out.join("report.html").display(), files.len())
        };
        // Whoever read the output may have gone: not a failure.
        drop(writeln!(std::io::stdout(), "{text}"));
        if missing > 0 {
            eprintln!(
                "consilium-sim: {missing} runs of these sweeps have not ended: the report is of those that have"
            );
        }
        ExitCode::SUCCESS
    }
}

/// The runs in a folder, and how many are planned there and have not ended.
fn read(folder: &Path) -> Result<(Vec<Left>, usize), Unread> {
    if let Some(run) = Left::read(folder)? {
        return Ok((vec![run], 0));
    }
    let unread = |why: String| Unread { path: folder.to_path_buf(), why };
    let path = folder.join("sweep.toml");
    if !path.exists() {
        return Err(unread(
            "no run has ended here, and no sweep was begun: there is neither result.json nor sweep.toml"
                .into(),
        ));
    }
    // The plan again, so that runs of an earlier sweep in the same folder stay out.
    let draft = Draft::read(&path).map_err(|error| unread(error.to_string()))?;
    let sweep = draft.scenario().map_err(|error| unread(error.to_string()))?.sweep;
    let plan = plan(&draft, &sweep).map_err(|error| unread(error.to_string()))?;
    let mut runs = Vec::new();
    for run in &plan {
        runs.extend(Left::read(&folder.join("runs").join(&run.id))?);
    }
    if runs.is_empty() {
        return Err(unread(format!("none of the {} runs of this sweep has ended", plan.len())));
    }
    let missing = plan.len() - runs.len();
    Ok((runs, missing))
}

fn write(page: &Page, out: &Path) -> Result<Vec<PathBuf>, OutError> {
    let kept = "the runs are as they were";
    let figures = out.join("figures");
    let failed = |source| OutError { path: figures.clone(), source, kept: kept.into() };
    std::fs::create_dir_all(&figures).map_err(failed)?;
    let mut files = Vec::new();
    for (name, svg) in page.pictures() {
        let path = figures.join(name);
        write_whole(&path, svg.as_bytes(), kept)?;
        files.push(path);
    }
    write_whole(&out.join("report.html"), page.html().as_bytes(), kept)?;
    Ok(files)
}
