//! A line to the coordinator that can be slow, lossy, cut, or half open: a forwarder on loopback, by TCP.
//!
//! Loss, as TCP lets programs see it: bytes come late, all that follow with them, or the connection breaks and what was under
//! way is gone.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{sleep, spawn},
    time::{Duration, Instant},
};

/// What the line does to bytes. The default does nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Each way.
    pub delay: Duration,
    /// Bytes a second each way; 0: as many as come.
    pub bytes_per_s: u64,
    /// One in so many pieces comes a retransmission later; 0: none.
    pub late_one_in: u64,
    /// One in so many pieces breaks its connection instead; 0: none.
    pub break_one_in: u64,
}

/// What a retransmission takes.
const RETRANSMISSION: Duration = Duration::from_millis(250);
/// Bytes that are passed on at once.
const PIECE: usize = 16 << 10;

struct Shared {
    weather: Mutex<Weather>,
    /// New connections are refused.
    cut: AtomicBool,
    /// The number of new connections; it goes up whenever something happens to all there are.
    number: AtomicU64,
    /// Connections of an earlier number end.
    ended: AtomicU64,
    /// Over connections of an earlier number nothing passes, and nothing closes them.
    frozen: AtomicU64,
    random: Mutex<u64>,
    passed: AtomicU64,
    over: AtomicBool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// A draw that is true once in so many times.
    fn one_in(&self, many: u64) -> bool {
        let mut state = locked(&self.random);
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        many != 0 && state.is_multiple_of(many)
    }

    fn weather(&self) -> Weather {
        *locked(&self.weather)
    }

    /// Whether a connection of this number is to go on.
    fn goes_on(&self, number: u64) -> bool {
        number >= self.ended.load(Ordering::Relaxed) && !self.over.load(Ordering::Relaxed)
    }

    /// Sets a limit below which all connections lie that there are, and no later one.
    fn all_below(&self, limit: &AtomicU64) {
        limit.store(self.number.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

/// A line.
pub struct Line {
    address: String,
    shared: Arc<Shared>,
}

impl Line {
    /// A line to an address.
    pub fn to(target: &str, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let shared = Arc::new(Shared {
            weather: Mutex::default(),
            cut: AtomicBool::new(false),
            number: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            frozen: AtomicU64::new(0),
            random: Mutex::new(0x9e37_79b9_7f4a_7c15 ^ (seed + 1).wrapping_mul(0x2545_f491_4f6c_dd1d)),
            passed: AtomicU64::new(0),
            over: AtomicBool::new(false),
        });
        let (target, of_line) = (target.to_owned(), shared.clone());
        spawn(move || accept(&listener, &target, &of_line));
        Self { address, shared }
    }

    /// Where to dial.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Changes the weather.
    pub fn weather(&self, weather: Weather) {
        *locked(&self.shared.weather) = weather;
    }

    /// Closes every connection and refuses new ones.
    pub fn cut(&self) {
        self.shared.cut.store(true, Ordering::Relaxed);
        self.reset();
    }

    /// Lets new connections through again.
    pub fn mend(&self) {
        self.shared.cut.store(false, Ordering::Relaxed);
    }

    /// Half open: over the connections that there are nothing passes any more, nothing closes them, and both ends believe in
    /// them. New ones are as ever.
    pub fn freeze(&self) {
        self.shared.all_below(&self.shared.frozen);
    }

    /// Closes every connection; what was under way is gone.
    pub fn reset(&self) {
        self.shared.all_below(&self.shared.ended);
    }

    /// Bytes passed on so far, both ways.
    pub fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::Relaxed)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(&self.address));
    }
}

fn accept(listener: &TcpListener, target: &str, shared: &Arc<Shared>) {
    for near in listener.incoming().map_while(Result::ok) {
        if shared.over.load(Ordering::Relaxed) {
            return;
        }
        if shared.cut.load(Ordering::Relaxed) {
            continue;
        }
        let number = shared.number.load(Ordering::Relaxed);
        // Nobody there: the dialler sees a connection that ends.
        let Ok(far) = TcpStream::connect(target) else { continue };
        for stream in [&near, &far] {
            drop(stream.set_nodelay(true));
            drop(stream.set_read_timeout(Some(Duration::from_millis(20))));
            drop(stream.set_write_timeout(Some(Duration::from_secs(5))));
        }
        let (Ok(near_again), Ok(far_again)) = (near.try_clone(), far.try_clone()) else { continue };
        for (from, to) in [(near, far), (far_again, near_again)] {
            // What is on the line: a second's worth at most, so that a slow line slows its sender.
            let (put, take) = sync_channel(64);
            let (Ok(source), reading, writing) = (from.try_clone(), shared.clone(), shared.clone()) else {
                continue;
            };
            spawn(move || read(source, &put, &reading, number));
            spawn(move || write(&take, to, from, &writing, number));
        }
    }
}

fn read(mut from: TcpStream, put: &SyncSender<(Instant, Vec<u8>)>, shared: &Shared, number: u64) {
    let mut bytes = vec![0; PIECE];
    while shared.goes_on(number) {
        match from.read(&mut bytes) {
            Ok(0) => break,
            Ok(length) => {
                if put.send((Instant::now(), bytes[..length].to_vec())).is_err() {
                    break;
                }
            }
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
}

fn write(
    pieces: &Receiver<(Instant, Vec<u8>)>,
    mut to: TcpStream,
    from: TcpStream,
    shared: &Shared,
    number: u64,
) {
    while shared.goes_on(number) {
        let (came, bytes) = match pieces.recv_timeout(Duration::from_millis(20)) {
            Ok(piece) => piece,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let weather = shared.weather();
        if shared.one_in(weather.break_one_in) {
            break;
        }
        let late = if shared.one_in(weather.late_one_in) { RETRANSMISSION } else { Duration::ZERO };
        sleep((came + weather.delay + late).saturating_duration_since(Instant::now()));
        if let Some(ms) = (bytes.len() as u64 * 1000).checked_div(weather.bytes_per_s) {
            sleep(Duration::from_millis(ms));
        }
        while number < shared.frozen.load(Ordering::Relaxed) && shared.goes_on(number) {
            sleep(Duration::from_millis(10));
        }
        if !shared.goes_on(number) || to.write_all(&bytes).is_err() {
            break;
        }
        shared.passed.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }
    for stream in [&to, &from] {
        drop(stream.shutdown(Shutdown::Both));
    }
}
