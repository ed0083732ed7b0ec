//! `evaluate`: an adapter on a labelled file.

use std::path::PathBuf;

use crate::{
    config::{Loaded, today, trainer_spec},
    result,
    trainer::{Evaluation, TorchModel},
};
use clap::Args;
use serde::Serialize;

use super::{Failure, data, output};

#[derive(Debug, Args)]
pub(crate) struct Evaluate {
    /// The client's configuration: plan, model, columns.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The adapter: a PEFT folder, or a result folder with `adapter/` in it.
    #[arg(long, value_name = "DIR")]
    adapter: PathBuf,
    /// The head, if it is not the `head.safetensors` beside the PEFT folder.
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,
    /// The labelled file; columns as in the config's `[evaluation]`, or `[data]` without one.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Also print the accuracy that the per-label results give under the label mix of this file (columns as in `[data]`).
    #[arg(long, value_name = "FILE")]
    mix_of: Option<PathBuf>,
    /// Score at most this many records, evenly spread over the file.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Scores {
    examples: usize,
    loss: f64,
    accuracy: f64,
    macro_accuracy: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    mix_accuracy: Option<f64>,
    /// Part of the mix whose labels occur in the scored file; the rest could not be scored.
    #[serde(skip_serializing_if = "Option::is_none")]
    mix_covered: Option<f64>,
    per_label: Vec<LabelRow>,
}

#[derive(Serialize)]
struct LabelRow {
    label: String,
    examples: usize,
    correct: usize,
}

impl Evaluate {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let loaded = Loaded::load(&self.config, today())?;
        let plan = loaded.plan.document();
        let adapter = result::read_files(&self.adapter, self.head.as_deref(), &loaded)?;
        let test = data::test_set(&loaded, &self.data)?;
        let mix = self.mix_of.as_deref().map(|path| data::whole(&loaded, path)).transpose()?;
        let model = TorchModel::load(loaded.model()?, trainer_spec(plan, &loaded.config.training))?;
        let mut prepared = model.prepare(&test)?;
        let scored = model.evaluate(&adapter, &mut prepared, self.limit)?;
        let mix = mix.map(|mix| under_mix(&scored, &mix.label_counts()));
        let rows = plan.task.labels.iter().zip(&scored.per_label);
        let scores = Scores {
            examples: scored.examples,
            loss: scored.loss,
            accuracy: scored.accuracy,
            macro_accuracy: scored.macro_accuracy,
            mix_accuracy: mix.map(|(accuracy, _)| accuracy),
            mix_covered: mix.map(|(_, covered)| covered),
            per_label: rows
                .map(|(label, score)| LabelRow {
                    label: label.clone(),
                    examples: score.examples,
                    correct: score.correct,
                })
                .collect(),
        };
        if self.json { output::print_json(&scores) } else { output::print(&scores.text()) }
    }
}

/// Accuracy if labels occurred as in `mix`, from the per-label accuracies; and which part of the mix that covers.
fn under_mix(scored: &Evaluation, mix: &[usize]) -> (f64, f64) {
    let all: usize = mix.iter().sum();
    let (mut covered, mut correct) = (0.0, 0.0);
    for (score, &weight) in scored.per_label.iter().zip(mix) {
        if score.examples > 0 {
            covered += weight as f64;
            correct += weight as f64 * score.correct as f64 / score.examples as f64;
        }
    }
    if covered == 0.0 { (0.0, 0.0) } else { (correct / covered, covered / all as f64) }
}

impl Scores {
    fn text(&self) -> String {
        let mut text = format!(
            "examples        {}\nloss            {:.4}\naccuracy        {:.4}\nmacro accuracy  {:.4}\n",
            self.examples, self.loss, self.accuracy, self.macro_accuracy
        );
        if let (Some(accuracy), Some(covered)) = (self.mix_accuracy, self.mix_covered) {
            text += &format!("under the mix   {accuracy:.4} (over {:.1} % of it)\n", covered * 100.0);
        }
        let mut rows = vec![["label", "examples", "accuracy"].map(str::to_owned).to_vec()];
        rows.extend(self.per_label.iter().map(|row| {
            let accuracy = match row.examples {
                0 => "-".to_owned(),
                examples => format!("{:.4}", row.correct as f64 / examples as f64),
            };
            vec![row.label.clone(), row.examples.to_string(), accuracy]
        }));
        text + "\n" + &output::table(&rows)
    }
}

#[cfg(test)]
mod tests {
    use crate::trainer::LabelScore;

    use super::*;

    #[test]
    fn a_mix_weighs_labels_and_leaves_out_what_was_not_scored() {
        let score = |examples, correct| LabelScore { examples, correct };
        let scored = Evaluation::from_counts(vec![score(10, 5), score(4, 4), score(0, 0)], 1.0).unwrap();
        assert_eq!(under_mix(&scored, &[1, 1, 0]), (0.75, 1.0));
        assert_eq!(under_mix(&scored, &[3, 1, 4]), (0.625, 0.5));
        assert_eq!(under_mix(&scored, &[0, 0, 4]), (0.0, 0.0));
    }
}
