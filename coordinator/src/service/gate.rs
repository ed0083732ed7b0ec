//! Who is connected, and what each may still ask for.
//!
//! Strangers are many and nameless: they wait in a row of fixed length, and the oldest makes room for the newest, so that
//! an honest member, which shakes hands in a moment, gets through a flood of connections that say nothing. Parties of
//! the roster have an account each, which counts their connections and calls.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64, atomic::Ordering},
    time::{Duration, Instant},
};

use consilium_proto::{ids::Id, roster::Caller};
use tokio::sync::{Semaphore, oneshot, watch};
use tonic::Status;

use super::{
    Traffic,
    refusals::{Refusals, code},
};
use crate::limits::Limits;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everything that connections share.
pub(super) struct Gate {
    pub(super) limits: Limits,
    pub(super) refusals: Arc<Refusals>,
    /// Uploads that are read at full speed.
    pub(super) uploads: Arc<Semaphore>,
    strangers: Mutex<VecDeque<(u64, oneshot::Sender<()>)>>,
    accounts: Mutex<BTreeMap<(&'static str, Id), Arc<Account>>>,
    numbers: AtomicU64,
    draining: watch::Sender<bool>,
}

impl Gate {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            refusals: Arc::default(),
            uploads: Arc::new(Semaphore::new(limits.uploads as usize)),
            strangers: Mutex::default(),
            accounts: Mutex::default(),
            numbers: AtomicU64::new(0),
            draining: watch::Sender::new(false),
        })
    }

    /// A connection that has not shown a key. It is to end when the receiver does.
    pub(super) fn stranger(self: &Arc<Self>) -> (Stranger, oneshot::Receiver<()>) {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let (keep, replaced) = oneshot::channel();
        let mut strangers = locked(&self.strangers);
        strangers.push_back((number, keep));
        if strangers.len() > self.limits.strangers as usize {
            strangers.pop_front();
        }
        (Stranger { gate: self.clone(), number }, replaced)
    }

    /// A connection that showed its key. It is to end when the receiver does.
    pub(super) fn admit(self: &Arc<Self>, caller: Caller) -> (Peer, Connection, oneshot::Receiver<()>) {
        let (role, id) = (caller.role(), caller.id().clone());
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let (keep, replaced) = oneshot::channel();
        let account = {
            let mut accounts = locked(&self.accounts);
            let fresh = || Arc::new(Account::new(id.clone(), &self.limits, self.refusals.clone()));
            accounts.entry((role, id.clone())).or_insert_with(fresh).clone()
        };
        let mut connections = locked(&account.connections);
        connections.push_back((number, keep));
        if connections.len() > self.limits.connections as usize {
            connections.pop_front();
        }
        drop(connections);
        (Peer { caller, account: account.clone() }, Connection { account, number }, replaced)
    }

    /// Connections of parties.
    pub(super) fn connections(&self) -> usize {
        locked(&self.accounts).values().map(|account| locked(&account.connections).len()).sum()
    }

    /// Bytes from and to an organization since the process began.
    pub(super) fn bytes_of(&self, id: &str) -> (u64, u64) {
        let Ok(id) = id.parse::<Id>() else { return (0, 0) };
        let account = locked(&self.accounts).get(&("organization", id)).cloned();
        account.map_or((0, 0), |account| account.traffic.read())
    }

    /// Lets everybody finish what is under way.
    pub(super) fn drain(&self) {
        self.draining.send_replace(true);
    }

    pub(super) fn draining(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }

    /// Ends every connection.
    pub(super) fn close(&self) {
        locked(&self.strangers).clear();
        locked(&self.accounts).values().for_each(|account| locked(&account.connections).clear());
    }
}

/// Completes once the coordinator is to stop.
pub(super) async fn stopping(draining: &mut watch::Receiver<bool>) {
    // An error means that the gate is gone, and the service with it.
    drop(draining.wait_for(|stop| *stop).await);
}

/// A place in the row of strangers.
pub(super) struct Stranger {
    gate: Arc<Gate>,
    number: u64,
}

impl Drop for Stranger {
    fn drop(&mut self) {
        locked(&self.gate.strangers).retain(|(number, _)| *number != self.number);
    }
}

/// One of a party's connections.
pub(super) struct Connection {
    account: Arc<Account>,
    number: u64,
}

impl Drop for Connection {
    fn drop(&mut self) {
        locked(&self.account.connections).retain(|(number, _)| *number != self.number);
    }
}

/// Who makes a call: part of every request.
#[derive(Clone)]
pub(super) struct Peer {
    pub(super) caller: Caller,
    pub(super) account: Arc<Account>,
}

/// What one party uses.
pub(super) struct Account {
    pub(super) id: Id,
    /// Bytes over all its connections.
    pub(super) traffic: Arc<Traffic>,
    refusals: Arc<Refusals>,
    most_calls: usize,
    connections: Mutex<VecDeque<(u64, oneshot::Sender<()>)>>,
    calls: Mutex<(usize, Bucket)>,
    messages: Mutex<Bucket>,
    /// Number of the newest upload.
    pub(super) upload: watch::Sender<u64>,
}

impl Account {
    fn new(id: Id, limits: &Limits, refusals: Arc<Refusals>) -> Self {
        let now = Instant::now();
        Self {
            id,
            traffic: Arc::default(),
            refusals,
            most_calls: limits.calls as usize,
            connections: Mutex::default(),
            calls: Mutex::new((0, Bucket::new(limits.calls_per_s, now))),
            messages: Mutex::new(Bucket::new(limits.messages_per_s, now)),
            upload: watch::Sender::new(0),
        }
    }

    /// Begins a call, which lasts until the value is dropped.
    ///
    /// # Errors
    ///
    /// When too many are under way, or were begun in the last second.
    pub(super) fn call(self: &Arc<Self>) -> Result<Call, Status> {
        let mut calls = locked(&self.calls);
        let (open, bucket) = &mut *calls;
        if !bucket.take(Instant::now()) {
            drop(calls);
            return Err(self.refuse(code::CALLS_TOO_FAST, "slow down"));
        }
        if *open >= self.most_calls {
            drop(calls);
            return Err(self.refuse(code::TOO_MANY_CALLS, "end some calls first"));
        }
        *open += 1;
        Ok(Call(self.clone()))
    }

    fn refuse(&self, code: &'static str, why: &str) -> Status {
        self.refusals.note(code, Some(&self.id), why);
        Status::resource_exhausted(format!("{code}: {why}"))
    }

    /// How long the next session message has to wait.
    pub(super) fn message_delay(&self) -> Duration {
        let delay = locked(&self.messages).borrow(Instant::now());
        if !delay.is_zero() {
            self.refusals.note(code::MESSAGES_TOO_FAST, Some(&self.id), "its messages wait");
        }
        delay
    }
}

/// A call under way.
pub(super) struct Call(Arc<Account>);

impl Drop for Call {
    fn drop(&mut self) {
        locked(&self.0.calls).0 -= 1;
    }
}

/// A rate: so many a second, and twice as many after a silence.
struct Bucket {
    per_s: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    fn new(per_s: u32, now: Instant) -> Self {
        let per_s = f64::from(per_s);
        Self { per_s, level: 2.0 * per_s, at: now }
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.level = (self.level + passed * self.per_s).min(2.0 * self.per_s);
        self.at = now;
    }

    /// Takes one if there is one.
    fn take(&mut self, now: Instant) -> bool {
        self.fill(now);
        let there = self.level >= 1.0;
        self.level -= f64::from(u8::from(there));
        there
    }

    /// Takes one in any case; how long it takes until there was one.
    fn borrow(&mut self, now: Instant) -> Duration {
        self.fill(now);
        self.level -= 1.0;
        Duration::from_secs_f64((-self.level).max(0.0) / self.per_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_lets_through_twice_itself_at_once_and_then_itself() {
        let begin = Instant::now();
        let mut bucket = Bucket::new(10, begin);
        let taken = |bucket: &mut Bucket, at| (0..100).filter(|_| bucket.take(at)).count();
        assert_eq!(taken(&mut bucket, begin), 20);
        assert_eq!(taken(&mut bucket, begin + Duration::from_secs(1)), 10);
        assert_eq!(taken(&mut bucket, begin + Duration::from_secs(60)), 20);
        let later = begin + Duration::from_secs(60);
        assert_eq!(bucket.borrow(later), Duration::from_millis(100));
        assert_eq!(bucket.borrow(later), Duration::from_millis(200));
    }

    #[test]
    fn the_oldest_stranger_and_the_oldest_connection_make_room() {
        let gate = Gate::new(Limits { strangers: 2, connections: 2, ..Limits::default() });
        let mut strangers: Vec<_> = (0..3).map(|_| gate.stranger()).collect();
        let replaced = |ended: &mut oneshot::Receiver<()>| {
            matches!(ended.try_recv(), Err(oneshot::error::TryRecvError::Closed))
        };
        let gone: Vec<_> = strangers.iter_mut().map(|(_, ended)| replaced(ended)).collect();
        assert_eq!(gone, [true, false, false]);
        strangers.remove(1);
        let (_last, mut ended) = gate.stranger();
        assert!(!replaced(&mut ended) && !replaced(&mut strangers[1].1), "one had left");

        let party = |name: &str| Caller::Organization(name.parse().unwrap());
        let mut of_a: Vec<_> = (0..3).map(|_| gate.admit(party("a"))).collect();
        let mut of_b = gate.admit(party("b"));
        let gone: Vec<_> = of_a.iter_mut().map(|(_, _, ended)| replaced(ended)).collect();
        assert_eq!(gone, [true, false, false]);
        assert!(!replaced(&mut of_b.2), "another organization's is not touched");
    }

    #[test]
    fn calls_are_counted_over_all_connections_until_they_end() {
        let gate = Gate::new(Limits { calls: 3, ..Limits::default() });
        let caller = Caller::Operator("ada".parse().unwrap());
        let (first, _, _) = gate.admit(caller.clone());
        let (second, _, _) = gate.admit(caller);
        let calls = [first.account.call().unwrap(), second.account.call().unwrap()];
        let third = first.account.call().unwrap();
        let refused = second.account.call().err().unwrap();
        assert!(refused.message().starts_with("too-many-calls"), "{refused}");
        drop(third);
        assert!(second.account.call().is_ok());
        drop(calls);
    }
}
