//! Means over seeds, and how sure they are.

/// The mean of some values with its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// Half the width of the interval by Student's t; none from a single value.
    pub half: Option<f64>,
    /// How many values.
    pub count: usize,
}

/// Quantiles 0.975 of Student's t with 1, 2, 3 … 30 degrees of freedom.
const T: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

impl Mean {
    /// Of the values that are numbers; `None` without any.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        let count = values.len();
        if count == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / count as f64;
        let half = (count > 1).then(|| {
            let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
            let deviation = (squares / (count - 1) as f64).sqrt();
            // Beyond the table its last entry: a little wider than need be.
            let t = T.get(count - 2).copied().unwrap_or(2.042);
            t * deviation / (count as f64).sqrt()
        });
        Some(Self { mean, half, count })
    }

    /// The interval's ends; the mean twice, where there is none.
    pub fn ends(&self) -> (f64, f64) {
        let half = self.half.unwrap_or(0.0);
        (self.mean - half, self.mean + half)
    }

    /// As `0.531 ± 0.020`.
    pub fn text(&self, digits: usize) -> String {
        match self.half {
            Some(half) => format!("{:.digits$} ± {half:.digits$}", self.mean),
            None => format!("{:.digits$}", self.mean),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_seeds_have_students_interval() {
        let mean = Mean::of([1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        // scipy.stats.t.interval(0.95, 4, 3, sqrt(2.5)/sqrt(5)): 3 ± 1.9632
        assert!((mean.mean - 3.0).abs() < 1e-12 && (mean.half.unwrap() - 1.9632).abs() < 1e-3, "{mean:?}");
        assert_eq!(mean.text(2), "3.00 ± 1.96");
        assert_eq!(Mean::of([2.0, f64::NAN]).unwrap(), Mean { mean: 2.0, half: None, count: 1 });
        assert_eq!(Mean::of([]), None);
    }
}
