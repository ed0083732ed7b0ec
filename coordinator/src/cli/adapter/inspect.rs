//! `consilium adapter inspect`: what an adapter folder says, and how large its products are.

use std::{io::Write, path::PathBuf};

use clap::Args;
use serde_json::json;

use super::folder::{Folder, norm};
use crate::cli::{Failure, table::Table, write_json};

/// Shows what a PEFT folder says of itself, and for every adapted module the norms of A, B and s·B·A.
///
/// The norm of s·B·A is how far the module's weights are moved; 0 is a module that was never trained. Base weights are shown where the
/// folder names their digest, as those that this software writes do.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  consilium adapter inspect result/adapter
  consilium adapter inspect result/adapter --json | jq '.modules[] | select(.moved == 0) | .module'")]
pub(in crate::cli) struct Inspect {
    /// The adapter's folder.
    folder: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let folder = Folder::read(&self.folder)?;
        let scale = folder.scale();
        let mut table = Table::new(&["module", "in", "out", "|A|", "|B|", "|s·B·A|"]);
        let mut modules = Vec::new();
        for (module, pair) in folder.pairs() {
            let moved = scale * pair.inner(pair).unwrap_or_default().max(0.0).sqrt();
            let (a, b) = (norm(&pair.a.values), norm(&pair.b.values));
            let (inputs, outputs) = (pair.a.shape.last(), pair.b.shape.first());
            let size = |axis: Option<&usize>| axis.map_or(String::new(), usize::to_string);
            let cells =
                [size(inputs), size(outputs), format!("{a:.4}"), format!("{b:.4}"), format!("{moved:.4}")];
            table.row(std::iter::once(module.to_owned()).chain(cells));
            modules.push(json!({"module": module, "inputs": inputs, "outputs": outputs, "a": a, "b": b, "moved": moved}));
        }
        let numbers: usize = folder.tensors.values().map(|tensor| tensor.values.len()).sum();
        let others: Vec<_> = folder
            .others()
            .map(
                |(name, tensor)| json!({"tensor": name, "shape": tensor.shape, "norm": norm(&tensor.values)}),
            )
            .collect();
        if self.json {
            return write_json(
                out,
                &json!({
                    "adapter": self.folder, "config": folder.config, "scale": scale, "numbers": numbers,
                    "base_weights": folder.base, "modules": modules, "others": others,
                }),
            );
        }
        writeln!(out, "base model    {}", folder.said("base_model_name_or_path"))?;
        let base = folder.base.as_deref().unwrap_or("not named (as peft leaves it)");
        writeln!(out, "base weights  {base}")?;
        writeln!(out, "task          {}", folder.said("task_type"))?;
        let (rank, alpha) = (folder.rank, folder.alpha);
        let kind = if folder.rslora { "alpha/√r" } else { "alpha/r" };
        writeln!(out, "rank          {rank}, alpha {alpha}, s = {kind} = {scale}")?;
        writeln!(out, "targets       {}", folder.said("target_modules"))?;
        writeln!(out, "layers        {}", folder.said("layers_to_transform"))?;
        writeln!(out, "numbers       {numbers}\n")?;
        write!(out, "{table}")?;
        for (name, tensor) in folder.others() {
            writeln!(out, "{name}: {:?}, norm {:.4}", tensor.shape, norm(&tensor.values))?;
        }
        Ok(())
    }
}
