//! What happens to processes: they start, die, come back, and dial.

use std::sync::Arc;

use consilium_client::session::Input as ToClient;
use consilium_coordinator::round::Input as ToCoordinator;

use super::{SimulationError, World, queue::Happening};
use crate::{
    behaviour::cut_off, client_host::ClientHost, coordinator_host::Surroundings, network::Fate,
    scenario::micros,
};

impl World {
    pub(super) fn happen(&mut self, what: Happening) -> Result<(), SimulationError> {
        match what {
            Happening::CoordinatorStarts => {
                let mut around = Surroundings { now: self.now, log: &mut self.log, watch: &mut self.watch };
                let turn = self.coordinator.start(&mut around);
                let turn = turn.map_err(|error| SimulationError::Start {
                    who: "the coordinator".into(),
                    why: error.to_string(),
                })?;
                self.coordinator_turn(turn);
            }
            Happening::Tick => {
                if self.tick.is_some_and(|at| at <= self.now) {
                    self.tick = None;
                    self.tell_coordinator(ToCoordinator::Tick);
                }
            }
            Happening::Starts(index) => self.starts(index)?,
            Happening::Dies(index) => self.dies(index),
            Happening::CutBegins(number) => self.cuts(number),
            Happening::CutEnds(number) => {
                for index in cut_off(&self.scenario, number) {
                    self.barred.get_mut(index).into_iter().for_each(|barred| *barred -= 1);
                }
            }
            Happening::Dials(index) => {
                if self.clients.get(index).is_some_and(ClientHost::is_up)
                    && let Some(line) = self.lines.get(index)
                {
                    let at = self.now + line.handshake();
                    self.queue.push(at, Happening::Connects(index));
                }
            }
            Happening::Connects(index) => self.connects(index),
            Happening::Up { from, connection, bytes, after } => {
                self.arrives_up(from, connection, &bytes);
                if after {
                    self.breaks(from);
                }
            }
            Happening::Down { to, connection, packet, after } => {
                self.arrives_down(to, connection, &packet);
                if after {
                    self.breaks(to);
                }
            }
            Happening::Part { from, connection, part } => self.part(from, connection, part),
            Happening::NextPart { from, upload } => self.send_chunk(from, upload),
            Happening::Asked { from, connection, round } => self.asked(from, connection, round),
            Happening::Release { to, connection, release } => {
                if self.is_connected(to, connection) {
                    let (head, sum) = Arc::unwrap_or_clone(release);
                    self.tell_client(to, ToClient::Release { head, sum });
                }
            }
            Happening::Released { to, connection, start } => self.fetched(to, connection, start),
            Happening::Gone { from, connection } => {
                if self.sessions.get(&from) == Some(&connection) {
                    self.sessions.remove(&from);
                    let from = self.id(from);
                    self.tell_coordinator(ToCoordinator::Gone { from });
                }
            }
            Happening::Lost { to, connection } => {
                if self.is_connected(to, connection) {
                    self.hangs_up(to);
                }
            }
            Happening::Trained { organization, ticket } => {
                let mut around = Surroundings { now: self.now, log: &mut self.log, watch: &mut self.watch };
                let host = self.clients.get_mut(organization);
                if let Some(input) = host.and_then(|host| host.train(ticket, &mut around)) {
                    self.tell_client(organization, input);
                }
            }
            Happening::Evaluated { organization, start, round, adapter } => {
                let same = |host: &&mut ClientHost| host.is_up() && host.starts() == start;
                if let Some(host) = self.clients.get_mut(organization).filter(same) {
                    let input = host.evaluate(round, &adapter);
                    self.tell_client(organization, input);
                }
            }
        }
        match self.stopped.take() {
            Some((who, why)) => Err(SimulationError::Stopped { who, why }),
            None => Ok(()),
        }
    }

    pub(super) fn starts(&mut self, index: usize) -> Result<(), SimulationError> {
        let mut around = Surroundings { now: self.now, log: &mut self.log, watch: &mut self.watch };
        let Some(host) = self.clients.get_mut(index) else { return Ok(()) };
        let who = host.name().to_owned();
        host.start(&mut around).map_err(|why| SimulationError::Start { who, why })?;
        self.queue.push(self.now, Happening::Dials(index));
        Ok(())
    }

    /// A cut of the network begins.
    fn cuts(&mut self, number: usize) {
        for index in cut_off(&self.scenario, number) {
            self.barred.get_mut(index).into_iter().for_each(|barred| *barred += 1);
            self.breaks(index);
        }
    }

    /// A process dies by itself; what it had sent arrives, and then the end of its stream.
    pub(super) fn dies(&mut self, index: usize) {
        let mut around = Surroundings { now: self.now, log: &mut self.log, watch: &mut self.watch };
        match self.clients.get_mut(index) {
            Some(host) if host.is_up() => host.die(&mut around),
            _ => return,
        }
        self.after_death(index);
    }

    pub(super) fn after_death(&mut self, index: usize) {
        self.leaves(index);
        let away = self.behaviour.get(index).map_or(0, |behaviour| behaviour.restart);
        self.queue.push(self.now + away, Happening::Starts(index));
    }

    /// The client's process closes its connection, in good order.
    pub(super) fn leaves(&mut self, index: usize) {
        if let Some(line) = self.lines.get_mut(index)
            && let Some(connection) = line.connection()
        {
            let at = match line.send(true, 0, self.now) {
                Fate::Arrives { at, .. } => at,
                Fate::Breaks | Fate::Nowhere => self.now + line.latency(),
            };
            line.close(self.now);
            self.queue.push(at, Happening::Gone { from: index, connection });
        }
        if let Some(fetches) = self.fetches.get_mut(index) {
            *fetches = 0;
        }
    }

    pub(super) fn connects(&mut self, index: usize) {
        if !self.clients.get(index).is_some_and(ClientHost::is_up) {
            return;
        }
        let Some(line) = self.lines.get_mut(index) else { return };
        if line.connection().is_some() {
            return;
        }
        let barred = self.barred.get(index).is_some_and(|barred| *barred > 0);
        if barred || self.coordinator.job().is_none() {
            let wait = line.close(self.now);
            self.queue.push(self.now + wait, Happening::Dials(index));
            return;
        }
        let connection = line.open(self.now);
        self.sessions.insert(index, connection);
        self.tell_client(index, ToClient::Connected);
    }

    pub(super) fn coordinator_dies(&mut self) {
        // What it had sent arrives, and then the end of the stream.
        let sessions = std::mem::take(&mut self.sessions);
        for (index, connection) in sessions {
            let Some(line) = self.lines.get_mut(index) else { continue };
            if line.connection() != Some(connection) {
                continue;
            }
            let at = match line.send(false, 0, self.now) {
                Fate::Arrives { at, .. } => at,
                Fate::Breaks | Fate::Nowhere => self.now + line.latency(),
            };
            self.queue.push(at, Happening::Lost { to: index, connection });
        }
        self.tick = None;
        let back = self.now + micros(self.scenario.clients.restart_s);
        self.queue.push(back, Happening::CoordinatorStarts);
    }
}
