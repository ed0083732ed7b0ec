//! `consilium adapter convert`: the same adapter in another element type, with another scale's name, under other names.

use std::{
    collections::HashMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

use super::folder::{BASE, CONFIG, Folder, MODEL, encode};
use crate::{
    cli::{Failure, write_json},
    files::{self, FileError},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Element {
    F32,
    F16,
    Bf16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scale {
    /// alpha/r
    Plain,
    /// alpha/√r
    Rslora,
}

/// Writes an adapter in other words: it does the same (up to the rounding of a narrower element type).
///
/// --scale changes whether alpha is divided by r or by √r, and alpha with it, so that the product stays. --prefix puts a name before
/// every module, as the same encoder inside a larger model has it (`bert` for BertForSequenceClassification); --strip takes one away.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  consilium adapter convert result/adapter --out half --element f16
  consilium adapter convert result/adapter --out classifier --prefix bert --task SEQ_CLS
  consilium adapter convert theirs --out ours --strip roberta --scale plain")]
pub(in crate::cli) struct Convert {
    /// The adapter's folder.
    folder: PathBuf,
    /// The new folder; never overwritten.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Element type of the tensors.
    #[arg(long, value_enum)]
    element: Option<Element>,
    /// How alpha is divided.
    #[arg(long, value_enum)]
    scale: Option<Scale>,
    /// Put this before every module's name.
    #[arg(long, value_name = "NAME")]
    prefix: Option<String>,
    /// Take this from the beginning of every module's name.
    #[arg(long, value_name = "NAME")]
    strip: Option<String>,
    /// `task_type` in the description.
    #[arg(long, value_name = "TASK")]
    task: Option<String>,
    /// Name or path of the base model in the description.
    #[arg(long, value_name = "NAME")]
    base: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Convert {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        if self.out.exists() {
            return Err(FileError::Exists { path: self.out }.into());
        }
        let mut folder = Folder::read(&self.folder)?;
        self.rescale(&mut folder);
        for (field, text) in [("task_type", &self.task), ("base_model_name_or_path", &self.base)] {
            if let Some(text) = text {
                folder.config.insert(field.into(), json!(text));
            }
        }
        let names = self.renamed(&mut folder)?;
        write(&folder, &names, self.element, &self.out)?;
        if self.json {
            return write_json(
                out,
                &json!({"adapter": self.out, "tensors": names.len(), "config": folder.config}),
            );
        }
        writeln!(out, "{}: {} tensors", self.out.display(), names.len())?;
        Ok(())
    }

    fn rescale(&self, folder: &mut Folder) {
        let rank = folder.rank as f64;
        let alpha = match (self.scale, folder.rslora) {
            (Some(Scale::Rslora), false) => folder.scale() * rank.sqrt(),
            (Some(Scale::Plain), true) => folder.scale() * rank,
            _ => return,
        };
        // `peft` declares an integer, and reads any number.
        let alpha = if alpha.fract() == 0.0 { json!(alpha as i64) } else { json!(alpha) };
        folder.config.insert("lora_alpha".into(), alpha);
        folder.config.insert("use_rslora".into(), json!(self.scale == Some(Scale::Rslora)));
    }

    /// The tensors' new names, in the order of the old ones; a pattern or whole names in the description change with them.
    fn renamed(&self, folder: &mut Folder) -> Result<Vec<String>, Failure> {
        let change = |module: &str| -> Result<String, Failure> {
            let module = match &self.strip {
                None => module,
                Some(strip) => {
                    module.strip_prefix(strip.as_str()).and_then(|rest| rest.strip_prefix('.')).ok_or_else(
                        || Failure::Refused(format!("--strip {strip}: `{module}` does not begin with it")),
                    )?
                }
            };
            Ok(self.prefix.as_ref().map_or_else(|| module.to_owned(), |prefix| format!("{prefix}.{module}")))
        };
        if self.strip.is_none() && self.prefix.is_none() {
            return Ok(folder.tensors.keys().cloned().collect());
        }
        let mut names = Vec::new();
        for name in folder.tensors.keys() {
            let module = name.strip_prefix("base_model.model.").ok_or_else(|| {
                Failure::Refused(format!(
                    "tensor `{name}` does not begin with base_model.model. and is not renamed"
                ))
            })?;
            names.push(format!("base_model.model.{}", change(module)?));
        }
        // Last parts of names still mean the same modules; names from their beginning on do not.
        let modules: Vec<String> = folder.pairs().keys().map(|&module| module.to_owned()).collect();
        if let Some(Value::Array(targets)) = folder.config.get_mut("target_modules") {
            for target in targets.iter_mut() {
                if let Some(whole) =
                    target.as_str().filter(|target| modules.iter().any(|module| module == target))
                {
                    *target = json!(change(whole)?);
                }
            }
        } else if folder.config.get("target_modules").is_some_and(Value::is_string) {
            // A pattern would have to be rewritten; the names of what it matched say the same.
            let names = modules.iter().map(|module| change(module)).collect::<Result<Vec<_>, _>>()?;
            folder.config.insert("target_modules".into(), json!(names));
        }
        Ok(names)
    }
}

fn write(folder: &Folder, names: &[String], element: Option<Element>, out: &Path) -> Result<(), Failure> {
    let dtype = |own: Dtype| match element {
        None => own,
        Some(Element::F32) => Dtype::F32,
        Some(Element::F16) => Dtype::F16,
        Some(Element::Bf16) => Dtype::BF16,
    };
    let encoded: Vec<(Dtype, &[usize], Vec<u8>)> = folder
        .tensors
        .values()
        .map(|tensor| {
            let dtype = dtype(tensor.dtype);
            (dtype, tensor.shape.as_slice(), encode(dtype, &tensor.values))
        })
        .collect();
    for ((name, tensor), (dtype, _, bytes)) in folder.tensors.iter().zip(&encoded) {
        let overflows = *dtype == Dtype::F16 && tensor.values.iter().any(|value| value.abs() > 65_504.0);
        if overflows || bytes.is_empty() {
            return Err(Failure::Refused(format!(
                "tensor `{name}` holds a number that F16 does not have; use bf16"
            )));
        }
    }
    let mut views = Vec::new();
    for (name, (dtype, shape, bytes)) in names.iter().zip(&encoded) {
        let view = TensorView::new(*dtype, shape.to_vec(), bytes);
        views.push((name.as_str(), view.map_err(|e| Failure::Refused(format!("tensor `{name}`: {e}")))?));
    }
    let mut metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    if let Some(base) = &folder.base {
        metadata.insert(BASE.into(), base.clone());
    }
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(Failure::refused)?;
    fs::create_dir_all(out).map_err(|e| Failure::in_file(out, e))?;
    files::write_atomic(&out.join(MODEL), &bytes)?;
    let text = serde_json::to_string_pretty(&folder.config).map_err(Failure::refused)?;
    Ok(files::write_atomic(&out.join(CONFIG), text.as_bytes())?)
}
