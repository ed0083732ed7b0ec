//! Processor time, and the middle of several measurements.
//!
//! Everything here is the calling thread's time on a processor, so that a busy machine does not count against a row.
//! What it cannot take away is what neighbours do to caches, memory bandwidth and frequency.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Processor time that this thread has used.
pub fn now() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Seconds of processor time that `work` takes.
pub fn seconds(work: impl FnOnce()) -> f64 {
    let start = now();
    work();
    (now() - start).as_secs_f64()
}

/// The shortest of `times` runs, in seconds: what the machine can do when nobody disturbs it.
pub fn best_of(times: usize, mut work: impl FnMut()) -> f64 {
    (0..times).map(|_| seconds(&mut work)).fold(f64::INFINITY, f64::min)
}

/// The middle value.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Seconds by name, in order of first use.
#[derive(Clone, Default)]
pub struct Steps(pub Vec<(&'static str, f64)>);

impl Steps {
    /// Does `work` and adds its time under `name`.
    pub fn time<T>(&mut self, name: &'static str, work: impl FnOnce() -> T) -> T {
        let start = now();
        let out = work();
        let spent = (now() - start).as_secs_f64();
        match self.0.iter_mut().find(|(seen, _)| *seen == name) {
            Some((_, total)) => *total += spent,
            None => self.0.push((name, spent)),
        }
        out
    }

    /// All of it.
    pub fn total(&self) -> f64 {
        self.0.iter().map(|(_, spent)| spent).sum()
    }

    /// What was spent under `name`.
    pub fn of(&self, name: &str) -> f64 {
        self.0.iter().find(|(seen, _)| *seen == name).map_or(0.0, |(_, spent)| *spent)
    }
}

/// The run whose total is the middle one.
pub fn median_run(mut runs: Vec<Steps>) -> Steps {
    runs.sort_by(|a, b| a.total().total_cmp(&b.total()));
    runs.get(runs.len() / 2).cloned().unwrap_or_default()
}
