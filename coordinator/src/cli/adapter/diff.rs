//! `consilium adapter diff`: how far two adapters are apart in what they do, whatever their factors are.

use std::{collections::BTreeSet, io::Write, path::PathBuf};

use clap::Args;
use serde_json::json;

use super::folder::{Folder, Pair};
use crate::cli::{Failure, table::Table, write_json};

/// Compares what two adapters add to the weights, module by module: s·B·A of one with s·B·A of the other.
///
/// Ranks, alphas and the factors themselves may differ; only the products count. `apart` is the norm of the difference over the larger of
/// the two norms: 0 for equal products, 1 for one against nothing, 2 for opposite ones. `cosine` is 1 where both move the weights the same way.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  consilium adapter diff round-10/adapter round-20/adapter
  consilium adapter diff theirs ours --within 1e-5     # ends with 1 if they are further apart")]
pub(in crate::cli) struct Diff {
    /// The one folder.
    first: PathBuf,
    /// The other.
    second: PathBuf,
    /// Fail if a module's products are further apart than this.
    #[arg(long, value_name = "APART")]
    within: Option<f64>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// One module's comparison.
struct Row {
    module: String,
    first: f64,
    second: f64,
    apart: f64,
    /// Absent where one of the two is nothing.
    cosine: Option<f64>,
}

impl Diff {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let (first, second) = (Folder::read(&self.first)?, Folder::read(&self.second)?);
        let rows = rows(&first, &second)?;
        let furthest = rows.iter().map(|row| row.apart).fold(0.0, f64::max);
        let other_bases = match (&first.base, &second.base) {
            (Some(one), Some(other)) => one != other,
            _ => false,
        };
        if self.json {
            let modules: Vec<_> = rows
                .iter()
                .map(|row| {
                    json!({"module": row.module, "first": row.first, "second": row.second, "apart": row.apart, "cosine": row.cosine})
                })
                .collect();
            write_json(
                out,
                &json!({"furthest_apart": furthest, "other_base_weights": other_bases, "modules": modules}),
            )?;
        } else {
            if other_bases {
                writeln!(
                    out,
                    "The two were made for different base weights: equal products would not do the same.\n"
                )?;
            }
            let mut table = Table::new(&["module", "first", "second", "apart", "cosine"]);
            for row in &rows {
                let cosine = row.cosine.map_or_else(|| "-".to_owned(), |cosine| format!("{cosine:.4}"));
                let numbers = [row.first, row.second, row.apart].map(|number| format!("{number:.4}"));
                table.row(std::iter::once(row.module.clone()).chain(numbers).chain([cosine]));
            }
            write!(out, "{table}\nfurthest apart: {furthest:.3e}\n")?;
        }
        match self.within {
            Some(within) if furthest > within || furthest.is_nan() => {
                Err(Failure::Refused(format!("the adapters are {furthest:.3e} apart, more than {within:e}")))
            }
            _ => Ok(()),
        }
    }
}

fn rows(first: &Folder, second: &Folder) -> Result<Vec<Row>, Failure> {
    let (ones, others) = (first.pairs(), second.pairs());
    let (s, t) = (first.scale(), second.scale());
    let square = |scale: f64, pair: Option<&Pair<'_>>| {
        pair.map_or(0.0, |pair| scale * scale * pair.inner(*pair).unwrap_or_default().max(0.0))
    };
    let modules: BTreeSet<&str> = ones.keys().chain(others.keys()).copied().collect();
    let mut rows = Vec::new();
    for module in modules {
        let (one, other) = (ones.get(module), others.get(module));
        let (p, q) = (square(s, one), square(t, other));
        let product = match (one, other) {
            (Some(one), Some(other)) => s * t * one.inner(*other).ok_or_else(|| {
                Failure::Refused(format!(
                    "`{module}` is {:?} by {:?} in {}, and of another size in {}: adapters of different models",
                    one.b.shape.first(),
                    one.a.shape.last(),
                    first.path.display(),
                    second.path.display()
                ))
            })?,
            _ => 0.0,
        };
        let larger = p.max(q).sqrt();
        let apart = if larger > 0.0 { (p + q - 2.0 * product).max(0.0).sqrt() / larger } else { 0.0 };
        let cosine = (p > 0.0 && q > 0.0).then(|| product / (p.sqrt() * q.sqrt()));
        rows.push(Row { module: module.to_owned(), first: p.sqrt(), second: q.sqrt(), apart, cosine });
    }
    Ok(rows)
}
