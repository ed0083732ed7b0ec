//! Accuracy, macro-F1 and loss of an adapter on a test set.

use serde::Serialize;

/// How well an adapter does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Score {
    /// Mean cross-entropy, nats.
    pub loss: f64,
    /// Part scored right.
    pub accuracy: f64,
    /// F1 of each label that occurs among the examples or the answers, averaged (as scikit-learn's `macro`); none where the task
    /// has no labels.
    pub macro_f1: Option<f64>,
    /// Examples.
    pub examples: usize,
}

/// Counts on the way to a [`Score`].
pub(crate) struct Tally {
    /// By label: right, said of others, missed.
    labels: Vec<[usize; 3]>,
    loss: f64,
    examples: usize,
    right: usize,
}

impl Tally {
    pub(crate) fn new(labels: usize) -> Self {
        Self { labels: vec![[0; 3]; labels], loss: 0.0, examples: 0, right: 0 }
    }

    /// One example: its label, the answer, its loss.
    pub(crate) fn add(&mut self, label: usize, answer: usize, loss: f64) {
        self.examples += 1;
        self.loss += loss;
        let mut count = |of: usize, what: usize| {
            if let Some(count) = self.labels.get_mut(of).and_then(|counts| counts.get_mut(what)) {
                *count += 1;
            }
        };
        if label == answer {
            self.right += 1;
            count(label, 0);
        } else {
            count(answer, 1);
            count(label, 2);
        }
    }

    /// One example by its logits.
    #[cfg(feature = "torch")]
    pub(crate) fn add_logits(&mut self, label: usize, logits: &[f32]) {
        let start = (0, f32::NEG_INFINITY);
        let best = logits.iter().copied().enumerate();
        let (answer, top) = best.fold(start, |best, it| if it.1 > best.1 { it } else { best });
        let total: f64 = logits.iter().map(|logit| libm::exp(f64::from(logit - top))).sum();
        let own = logits.get(label).copied().unwrap_or(f32::NEG_INFINITY);
        self.add(label, answer, libm::log(total) - f64::from(own - top));
    }

    /// `None` without any example.
    pub(crate) fn score(&self) -> Option<Score> {
        if self.examples == 0 {
            return None;
        }
        let f1 = |[right, wrong, missed]: &[usize; 3]| {
            let all = 2 * right + wrong + missed;
            (all > 0).then(|| 2.0 * *right as f64 / all as f64)
        };
        let f1: Vec<f64> = self.labels.iter().filter_map(f1).collect();
        let examples = self.examples as f64;
        Some(Score {
            loss: self.loss / examples,
            accuracy: self.right as f64 / examples,
            macro_f1: Some(f1.iter().sum::<f64>() / f1.len().max(1) as f64),
            examples: self.examples,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macro_f1_is_scikit_learns() {
        let mut tally = Tally::new(5);
        for (label, answer) in [(0, 0), (0, 0), (0, 1), (1, 1), (2, 3)] {
            tally.add(label, answer, 1.0);
        }
        let score = tally.score().unwrap();
        // f1_score([0,0,0,1,2], [0,0,1,1,3], average="macro"): of 0 4/5, of 1 2/3, of 2 and 3 nothing; 4 does not occur.
        let expected = (0.8 + 2.0 / 3.0) / 4.0;
        assert!((score.macro_f1.unwrap() - expected).abs() < 1e-12);
        assert_eq!((score.accuracy, score.loss, score.examples), (0.6, 1.0, 5));
        assert_eq!(Tally::new(2).score(), None);
    }

    #[cfg(feature = "torch")]
    #[test]
    fn logits_give_cross_entropy() {
        let mut tally = Tally::new(3);
        tally.add_logits(2, &[1.0, 0.0, 3.0]);
        let score = tally.score().unwrap();
        let expected = -(3f64.exp() / (1f64.exp() + 1.0 + 3f64.exp())).ln();
        assert!((score.loss - expected).abs() < 1e-6 && score.accuracy == 1.0);
    }
}
