//! What the attempts cost, computed beside the engine.

use std::time::{Duration, Instant};

use consilium_proto::plan::Guarantees;

use super::{Core, queue::Request};
use crate::store::Store;

/// How many times as long as it worked the accountant rests, and how long at most.
const ACCOUNTANT_RESTS: u32 = 19;
const ACCOUNTANT_RESTS_AT_MOST: Duration = Duration::from_secs(10);

impl<S: Store> Core<S> {
    /// Computes what the attempts so far cost, on a thread of its own: nobody waits for it. It rests after each computation,
    /// so that rounds that follow one another in a moment do not share their processors with it.
    pub(super) fn account(&mut self) {
        let Some(attempts) = self.job.unknown_cost().filter(|_| !self.accounting) else { return };
        self.accounting = true;
        let (plan, requests) = (self.plan.clone(), self.requests.clone());
        let named = std::thread::Builder::new().name("accountant".into());
        let started = named.spawn(move || {
            let (began, delta) = (Instant::now(), plan.document().privacy.delta);
            // A loss that cannot be bounded is shown as what it is.
            let endless = Guarantees { central: f64::INFINITY, local: f64::INFINITY, delta };
            let cost = plan.derived().guarantees(attempts, delta).unwrap_or(endless);
            drop(requests.send(Request::Cost { attempts, cost }));
            std::thread::sleep(
                began.elapsed().saturating_mul(ACCOUNTANT_RESTS).min(ACCOUNTANT_RESTS_AT_MOST),
            );
            drop(requests.send(Request::AccountAgain));
        });
        // Without a thread there is nothing to show, and the next turn tries again.
        self.accounting = started.is_ok();
    }
}
