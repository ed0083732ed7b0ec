//! How far a sweep is, and how long it still takes.

use std::{collections::BTreeMap, fmt::Write as _, time::Instant};

use super::{Done, planned::Planned};

/// How far a sweep is.
#[derive(Debug)]
pub struct Progress {
    all: usize,
    done: usize,
    reused: usize,
    unexpected: usize,
    jobs: usize,
    started: Instant,
    /// Points of the runs that are still to come, by their number in the plan.
    missing: BTreeMap<usize, usize>,
    /// Seconds that runs of a point took: their sum, and how many.
    took: BTreeMap<usize, (f64, u32)>,
}

impl Progress {
    /// Before the first run.
    pub(super) fn new(
        plan: &[Planned],
        reused: usize,
        missing: impl Iterator<Item = usize>,
        jobs: usize,
    ) -> Self {
        let missing = missing.filter_map(|at| Some((at, plan.get(at)?.point))).collect();
        let (all, done, started) = (plan.len(), reused, Instant::now());
        Self { all, done, reused, unexpected: 0, jobs, started, missing, took: BTreeMap::new() }
    }

    pub(super) fn ended(&mut self, at: usize, run: &Done) {
        self.done += 1;
        self.unexpected += usize::from(!run.expected);
        self.missing.remove(&at);
        let took = self.took.entry(run.point).or_default();
        *took = (took.0 + run.seconds, took.1 + 1);
    }

    /// Seconds that are left: what each point's runs took so far, or all runs', where a point has had none; `None` before the
    /// first run has ended.
    pub fn remaining(&self) -> Option<f64> {
        let (sum, count) = self.took.values().fold((0.0, 0), |all, took| (all.0 + took.0, all.1 + took.1));
        if count == 0 {
            return None;
        }
        let of = |point: &usize| match self.took.get(point) {
            Some((sum, count)) => sum / f64::from(*count),
            None => sum / f64::from(count),
        };
        Some(self.missing.values().map(of).sum::<f64>() / self.jobs.max(1) as f64)
    }

    /// One line: bar, runs, time gone, time left.
    pub fn line(&self) -> String {
        const WIDTH: usize = 24;
        let full = self.done * WIDTH / self.all.max(1);
        let mut line = format!(
            "[{}{}] {}/{} runs",
            "#".repeat(full),
            ".".repeat(WIDTH.saturating_sub(full)),
            self.done,
            self.all
        );
        if self.reused > 0 {
            let _infallible = write!(line, ", {} from before", self.reused);
        }
        if self.unexpected > 0 {
            let _infallible = write!(line, ", {} not as expected", self.unexpected);
        }
        let _infallible = write!(line, ", {} gone", clock(self.started.elapsed().as_secs_f64()));
        match self.remaining() {
            _ if self.done == self.all => line,
            Some(left) => line + &format!(", about {} left", clock(left)),
            None => line + ", time left unknown until a run has ended",
        }
    }
}

/// `1:05`, `2:03:00`.
fn clock(seconds: f64) -> String {
    let seconds = seconds.round().max(0.0) as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn what_is_left_follows_from_what_each_points_runs_took() {
        let run =
            |point| Planned { point, values: Vec::new(), scenario: Scenario::new(3, 1), id: String::new() };
        let plan = [run(1), run(2), run(1), run(2), run(3)];
        let mut progress = Progress::new(&plan, 1, 1..5, 2);
        assert_eq!(progress.remaining(), None);
        assert!(progress.line().contains("] 1/5 runs, 1 from before") && progress.line().contains("unknown"));
        let done = |point, seconds| Done {
            point,
            seed: 1,
            end: "released".into(),
            expected: true,
            seconds,
            scenario: Default::default(),
        };
        progress.ended(1, &done(2, 40.0));
        // Three runs at what the only one took, two at a time.
        assert_eq!(progress.remaining(), Some(60.0));
        progress.ended(2, &Done { expected: false, ..done(1, 20.0) });
        // Point 2 took 40; point 3 is taken for the mean of both.
        assert_eq!(progress.remaining(), Some(35.0));
        let line = progress.line();
        assert!(line.starts_with("[##############..........] 3/5 runs"), "{line}");
        assert!(line.contains("1 not as expected") && line.ends_with("about 0:35 left"), "{line}");
    }

    #[test]
    fn clocks_have_hours_if_need_be() {
        assert_eq!([clock(5.4), clock(65.0), clock(7380.0)], ["0:05", "1:05", "2:03:00"]);
    }
}
