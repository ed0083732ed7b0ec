//! What can be read out of gradients: a patient's features, and whether a patient was there.
//!
//! Both attacks are on softmax regression, where they are simple and strong. The gradient of one patient's loss by a label's row
//! of weights is `(p − [y]) · x`: the features themselves, but for a factor. So the direction of each row is a guess
//! (as in Zhu et al., *Deep Leakage from Gradients*, 2019, and Geiping et al., 2020, for a linear layer). And a sum of gradients
//! correlates with the gradient of every patient in it (the inner-product score of Ye et al., *Enhanced Membership Inference*,
//! 2022, and of tracing attacks on means before it). The attacker knows the adapter, and for membership the patient's record.

use crate::task::convex::Shape;

/// A ring vector as numbers around zero, its trained part only.
pub(super) fn centred(values: &[u32], bits: u32, dimension: usize) -> Vec<f64> {
    let whole = 2f64.powi(i32::try_from(bits).unwrap_or(32));
    let centre = |value: &u32| {
        let value = f64::from(*value);
        if value >= whole / 2.0 { value - whole } else { value }
    };
    values.iter().take(dimension).map(centre).collect()
}

fn dot(one: &[f64], two: &[f64]) -> f64 {
    one.iter().zip(two).map(|(a, b)| a * b).sum()
}

fn cosine(one: &[f64], two: &[f64]) -> f64 {
    let size = (dot(one, one) * dot(two, two)).sqrt();
    if size > 0.0 { (dot(one, two) / size).abs() } else { 0.0 }
}

/// Rows of weights in a gradient: after the biases, one for each label.
fn rows(gradient: &[f64], shape: Shape) -> impl Iterator<Item = &[f64]> {
    let weights = gradient.get(shape.labels as usize..).unwrap_or_default();
    weights.chunks_exact((shape.features as usize).max(1))
}

/// Inverts a view: how like the patients' features the best guesses are, as the mean over patients of the best absolute cosine
/// between a row of the view and the patient's features. 1: they are known but for their length.
pub(super) fn invert(view: &[f64], patients: &[Vec<f64>], shape: Shape) -> f64 {
    let best = |gradient: &Vec<f64>| {
        // Every row of a single patient's own gradient is its features times a number: the longest is the clearest.
        let longest = rows(gradient, shape).max_by(|one, two| dot(one, one).total_cmp(&dot(two, two)));
        let features = longest.unwrap_or_default();
        rows(view, shape).map(|row| cosine(row, features)).fold(0.0, f64::max)
    };
    patients.iter().map(best).sum::<f64>() / patients.len().max(1) as f64
}

/// Scores of candidates: how much a view is like each one's gradient. `sign` is −1 where a view is a step down the gradient.
pub(super) fn scores(view: &[f64], candidates: &[Vec<f64>], sign: f64) -> Vec<f64> {
    candidates
        .iter()
        .map(|gradient| sign * dot(view, gradient) / dot(gradient, gradient).sqrt().max(1e-12))
        .collect()
}

/// The area under the curve: the probability that a member scores above one who is none. 0.5: as good as a coin.
pub(super) fn auc(members: &[f64], others: &[f64]) -> f64 {
    let wins: f64 = members
        .iter()
        .flat_map(|member| others.iter().map(move |other| (member, other)))
        .map(|(member, other)| {
            if member > other {
                1.0
            } else if member < other {
                0.0
            } else {
                0.5
            }
        })
        .sum();
    let pairs = members.len() * others.len();
    if pairs == 0 { 0.5 } else { wins / pairs as f64 }
}

/// The best true-positive rate minus false-positive rate of any threshold.
pub(super) fn advantage(members: &[f64], others: &[f64]) -> f64 {
    let above = |scores: &[f64], bar: f64| {
        scores.iter().filter(|score| **score >= bar).count() as f64 / scores.len().max(1) as f64
    };
    members.iter().map(|bar| above(members, *bar) - above(others, *bar)).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_gradient_gives_its_features_and_a_random_view_does_not() {
        let shape = Shape { labels: 2, features: 3 };
        // Biases, then (p − [y]) · x for both labels.
        let gradient = vec![-0.5, 0.5, -0.5, -1.0, 1.5, 0.5, 1.0, -1.5];
        assert!((invert(&gradient, std::slice::from_ref(&gradient), shape) - 1.0).abs() < 1e-12);
        let other = vec![9.0, 9.0, 3.0, 0.0, 1.0, 3.0, 0.0, 1.0];
        assert!(invert(&other, &[gradient], shape) < 1e-12);
    }

    #[test]
    fn areas_are_those_of_the_textbook() {
        assert_eq!(auc(&[2.0, 3.0], &[0.0, 1.0]), 1.0);
        assert_eq!(auc(&[0.0], &[0.0]), 0.5);
        assert_eq!(auc(&[1.0, 0.0], &[0.5]), 0.5);
        assert_eq!(advantage(&[2.0, 3.0], &[0.0, 2.5]), 0.5);
        assert_eq!(centred(&[1, 255, 128, 7], 8, 3), [1.0, -1.0, -128.0]);
    }
}
