//! Lines between organizations and the coordinator: latency, bandwidth, and connections that break.
//!
//! A connection delivers in order, each way, like the TCP stream it stands for. What is under way when a connection breaks is
//! lost; what a dying process had sent still arrives, and then the end of the stream.

use chacha20::ChaCha20Rng;
use rand::RngExt as _;

use crate::{behaviour::Behaviour, seeds::Seeds};

/// Microseconds of virtual time.
pub type Micros = u64;

/// One organization's line.
#[derive(Debug)]
pub struct Line {
    latency: Micros,
    bytes_per_second: u64,
    loss: f64,
    rng: ChaCha20Rng,
    backoff: Micros,
    connection: Option<Connection>,
    opened: u64,
}

/// An open connection.
#[derive(Debug)]
struct Connection {
    number: u64,
    since: Micros,
    up: Pipe,
    down: Pipe,
}

/// One direction: when it is free to send, and when the last byte arrives.
#[derive(Clone, Copy, Debug)]
struct Pipe {
    free: Micros,
    arrived: Micros,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives then, on this connection.
    Arrives {
        /// When.
        at: Micros,
        /// On which connection.
        connection: u64,
    },
    /// The connection breaks.
    Breaks,
    /// There is no connection.
    Nowhere,
}

/// Shortest and longest time between two tries, as the client's link has them.
const BACKOFF: (Micros, Micros) = (100_000, 30_000_000);
/// A session that lasted this long resets the delay.
const STEADY: Micros = 10_000_000;

impl Line {
    /// The line of an organization that behaves so.
    pub fn new(seeds: Seeds, index: usize, behaviour: &Behaviour) -> Self {
        let mut rng = seeds.rng("network", index as u64, 0);
        let (least, most) = behaviour.latency;
        let latency = rng.random_range(least..=most.max(least)).max(1);
        Self {
            latency,
            bytes_per_second: behaviour.bytes_per_second,
            loss: behaviour.loss,
            rng,
            backoff: BACKOFF.0,
            connection: None,
            opened: 0,
        }
    }

    /// How long a byte is under way.
    pub fn latency(&self) -> Micros {
        self.latency
    }

    /// How long it takes to open a session: three ways and back for TCP and TLS.
    pub fn handshake(&self) -> Micros {
        6 * self.latency
    }

    /// Opens a connection; its number.
    pub fn open(&mut self, now: Micros) -> u64 {
        self.opened += 1;
        let idle = Pipe { free: now, arrived: now };
        self.connection = Some(Connection { number: self.opened, since: now, up: idle, down: idle });
        self.opened
    }

    /// The connection's number, while there is one.
    pub fn connection(&self) -> Option<u64> {
        self.connection.as_ref().map(|connection| connection.number)
    }

    /// Forgets the connection; how long until the next try.
    pub fn close(&mut self, now: Micros) -> Micros {
        if let Some(connection) = self.connection.take()
            && now.saturating_sub(connection.since) > STEADY
        {
            self.backoff = BACKOFF.0;
        }
        let part: f64 = self.rng.random_range(0.5..1.0);
        let wait = (self.backoff as f64 * part) as Micros;
        self.backoff = (self.backoff * 2).min(BACKOFF.1);
        wait
    }

    /// When the way to the coordinator has taken up all that was sent on it.
    pub fn free_up(&self) -> Option<Micros> {
        self.connection.as_ref().map(|connection| connection.up.free)
    }

    /// Sends bytes, towards the coordinator or from it.
    pub fn send(&mut self, up: bool, bytes: usize, now: Micros) -> Fate {
        let Some(connection) = &mut self.connection else { return Fate::Nowhere };
        if self.loss > 0.0 && self.rng.random_bool(self.loss) {
            return Fate::Breaks;
        }
        let pipe = if up { &mut connection.up } else { &mut connection.down };
        let sending = (bytes as u64).saturating_mul(1_000_000) / self.bytes_per_second;
        pipe.free = pipe.free.max(now) + sending;
        // Up to a tenth of the latency more, never overtaking.
        let jitter = self.rng.random_range(0..=self.latency / 10);
        pipe.arrived = pipe.arrived.max(pipe.free + self.latency + jitter);
        Fate::Arrives { at: pipe.arrived, connection: connection.number }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    fn line() -> Line {
        let mut scenario = Scenario::new(3, 1);
        scenario.network.latency_ms = (10.0, 10.0);
        scenario.network.bandwidth_mbit = 8.0;
        Line::new(Seeds::new(1), 0, &Behaviour::of_all(&scenario)[0])
    }

    #[test]
    fn messages_take_latency_and_bandwidth_and_keep_their_order() {
        let mut line = line();
        assert_eq!(line.send(true, 10, 0), Fate::Nowhere);
        assert_eq!(line.open(0), 1);
        let at = |fate| match fate {
            Fate::Arrives { at, connection: 1 } => at,
            other => panic!("{other:?}"),
        };
        let big = at(line.send(true, 1_000_000, 0));
        assert!((1_010_000..=1_011_000).contains(&big), "{big}");
        let small = at(line.send(true, 0, 5));
        assert!(small >= big);
        let other_way = at(line.send(false, 0, 5));
        assert!((10_005..=11_005).contains(&other_way), "{other_way}");
    }

    #[test]
    fn tries_are_further_and_further_apart() {
        let mut line = line();
        let waits: Vec<_> = (0..12).map(|_| line.close(0)).collect();
        assert!(
            (50_000..100_000).contains(&waits[0]) && (15_000_000..30_000_000).contains(&waits[11]),
            "{waits:?}"
        );
        line.open(0);
        assert!(line.close(STEADY + 1) < 100_000);
    }
}
