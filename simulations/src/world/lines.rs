//! What happens on lines: messages leave, arrive, come twice, or break their connection.

use std::sync::Arc;

use consilium_client::session::Input as ToClient;
use consilium_coordinator::round::Input as ToCoordinator;
use consilium_crypto::digest::Digest;
use consilium_proto::{
    ids::Id,
    wire::{
        self, ClientMessage, CoordinatorMessage, client_message::Kind as Say,
        coordinator_message::Kind as Heard,
    },
};
use prost::Message as _;

use super::{
    World,
    queue::{Happening, Packet, Upload},
};
use crate::{
    client_host::ClientHost,
    coordinator_host::Surroundings,
    network::Fate,
    scenario::{Accident, Mishap},
};

impl World {
    /// The connection breaks, and everything under way is lost.
    pub(super) fn breaks(&mut self, index: usize) {
        let Some(line) = self.lines.get(index) else { return };
        let (Some(connection), latency) = (line.connection(), line.latency()) else { return };
        let who = self.id(index);
        self.log.line(self.now, who.as_str(), "loses its connection", &[]);
        // Nothing more arrives from it: the coordinator forgets the session's connection now, and notices later.
        self.queue.push(self.now + latency, Happening::Gone { from: index, connection: u64::MAX });
        if self.sessions.get(&index) == Some(&connection) {
            self.sessions.insert(index, u64::MAX);
        }
        self.hangs_up(index);
    }

    /// The client's link notices that its session is gone, and dials again after a while.
    pub(super) fn hangs_up(&mut self, index: usize) {
        let Some(line) = self.lines.get_mut(index) else { return };
        let wait = line.close(self.now);
        let open = self.fetches.get_mut(index).map(std::mem::take).unwrap_or_default();
        let start = self.clients.get(index).map_or(0, ClientHost::starts);
        for _ in 0..open {
            self.queue.push(self.now + 100_000, Happening::Released { to: index, connection: None, start });
        }
        self.tell_client(index, ToClient::Disconnected);
        self.queue.push(self.now + wait, Happening::Dials(index));
    }

    /// Sends one chunk of an upload, and comes back for the next one when the line is free.
    pub(super) fn send_chunk(&mut self, from: usize, mut upload: Upload) {
        if !self.is_connected(from, upload.connection) {
            return;
        }
        let Some(chunk) = upload.chunks.get(upload.index as usize).cloned() else { return };
        let Upload { round, attempt, index, .. } = upload;
        let part = wire::UploadPart { round, attempt, index, chunk };
        self.watch.uploads(from, &part);
        let Some(line) = self.lines.get_mut(from) else { return };
        self.traffic.up += part.encoded_len() as u64;
        match line.send(true, part.encoded_len(), self.now) {
            Fate::Arrives { at, connection } => {
                let free = line.free_up().unwrap_or(at);
                self.queue.push(at, Happening::Part { from, connection, part });
                upload.index += 1;
                let whole = upload.index as usize == upload.chunks.len();
                if whole && self.attacking.as_mut().is_some_and(|attacking| attacking.loses_disk(from)) {
                    self.clients.get_mut(from).into_iter().for_each(ClientHost::lose_disk);
                    self.queue.push(free, Happening::Dies(from));
                }
                self.queue.push(free, Happening::NextPart { from, upload });
            }
            Fate::Breaks => self.breaks(from),
            Fate::Nowhere => {}
        }
    }

    fn accident(&mut self, organization: usize, round: u32, step: u32, up: bool) -> Option<Accident> {
        let fits = |it: &Mishap| {
            it.organization == organization
                && it.round == round
                && u32::from(it.step.number()) == step
                && it.up == up
        };
        let found = self.mishaps.iter().position(fits)?;
        Some(self.mishaps.swap_remove(found).what)
    }

    pub(super) fn send_up(&mut self, index: usize, say: Say) {
        self.watch.leaves(index, &say);
        let mut accident = None;
        if let Say::Protocol(message) = &say {
            accident = self.accident(index, message.round, message.step, true);
            if message.step == 2 && self.doomed.remove(&index) {
                self.queue.push(self.now + 1000, Happening::Dies(index));
            }
        }
        let bytes = Arc::new(ClientMessage { kind: Some(say) }.encode_to_vec());
        let Some(line) = self.lines.get_mut(index) else { return };
        self.traffic.up += bytes.len() as u64;
        match line.send(true, bytes.len(), self.now) {
            _ if accident == Some(Accident::Lost) => self.breaks(index),
            Fate::Arrives { at, connection } => {
                let after = accident == Some(Accident::LostAfter);
                if accident == Some(Accident::Twice) {
                    self.queue
                        .push(at, Happening::Up { from: index, connection, bytes: bytes.clone(), after });
                }
                self.queue.push(at, Happening::Up { from: index, connection, bytes, after });
            }
            Fate::Breaks => self.breaks(index),
            Fate::Nowhere => {}
        }
    }

    pub(super) fn send_down(&mut self, to: &Id, message: Heard) {
        let Some(attacking) = &mut self.attacking else { return self.say_down(to, message) };
        attacking.instead(to, message).into_iter().for_each(|message| self.say_down(to, message));
    }

    fn say_down(&mut self, to: &Id, message: Heard) {
        let again =
            self.attacking.as_mut().map(|attacking| attacking.replays(to, &message)).unwrap_or_default();
        again.into_iter().for_each(|message| self.say_down(to, message));
        let Some(index) = self.index(to) else { return };
        let Some(&session) = self.sessions.get(&index) else { return };
        let accident = match &message {
            Heard::Protocol(message) => self.accident(index, message.round, message.step, false),
            _ => None,
        };
        let packet = self.packet(message);
        let Some(line) = self.lines.get_mut(index) else { return };
        if line.connection() != Some(session) {
            return;
        }
        self.traffic.down += packet.bytes.len() as u64;
        match line.send(false, packet.bytes.len(), self.now) {
            _ if accident == Some(Accident::Lost) => self.breaks(index),
            Fate::Arrives { at, connection } => {
                let after = accident == Some(Accident::LostAfter);
                if accident == Some(Accident::Twice) {
                    self.queue
                        .push(at, Happening::Down { to: index, connection, packet: packet.clone(), after });
                }
                self.queue.push(at, Happening::Down { to: index, connection, packet, after });
            }
            Fate::Breaks => self.breaks(index),
            Fate::Nowhere => {}
        }
    }

    /// A message as bytes. Most go to everybody, one after another: those are encoded once.
    fn packet(&mut self, message: Heard) -> Arc<Packet> {
        if let Some((_, packet)) = self.last_said.as_ref().filter(|(last, _)| *last == message) {
            return packet.clone();
        }
        let bytes = CoordinatorMessage { kind: Some(message.clone()) }.encode_to_vec();
        let digest = Digest::of(&bytes);
        let packet = Arc::new(Packet { bytes, digest });
        self.last_said = Some((message, packet.clone()));
        packet
    }

    pub(super) fn arrives_up(&mut self, from: usize, connection: u64, bytes: &[u8]) {
        if self.sessions.get(&from) != Some(&connection) {
            return;
        }
        let Ok(ClientMessage { kind: Some(kind) }) = ClientMessage::decode(bytes) else { return };
        let who = self.id(from);
        self.log.line(self.now, who.as_str(), "to coordinator", bytes);
        let from = who;
        self.tell_coordinator(match kind {
            Say::Hello(hello) => ToCoordinator::Hello { from, hello },
            Say::Protocol(message) => ToCoordinator::Protocol { from, message },
            Say::Refusal(refusal) => ToCoordinator::Refusal { from, refusal },
            Say::Evaluation(evaluation) => ToCoordinator::Evaluation { from, evaluation },
            Say::StateQuery(query) => ToCoordinator::StateQuery { from, query },
            Say::StateStatements(statements) => ToCoordinator::StateStatements { from, statements },
        });
    }

    pub(super) fn arrives_down(&mut self, to: usize, connection: u64, packet: &Packet) {
        if !self.is_connected(to, connection) {
            return;
        }
        let Ok(CoordinatorMessage { kind: Some(kind) }) = CoordinatorMessage::decode(packet.bytes.as_slice())
        else {
            return;
        };
        let who = self.id(to);
        self.log.line_of(self.now, who.as_str(), "from coordinator", &packet.digest);
        if let Heard::Announcement(invitation) = &kind {
            self.draw(to, invitation);
        }
        self.tell_client(to, ToClient::Heard(kind));
    }

    pub(super) fn part(&mut self, from: usize, connection: u64, part: wire::UploadPart) {
        if self.sessions.get(&from) != Some(&connection) {
            return;
        }
        let who = self.id(from);
        self.log.line(self.now, who.as_str(), &format!("uploads chunk {}", part.index), &part.chunk);
        let mut around = Surroundings { now: self.now, log: &mut self.log, watch: &mut self.watch };
        match self.coordinator.chunk(&who, part, &mut around) {
            Ok(turn) => self.coordinator_turn(turn),
            Err(refused) => {
                self.log.line(self.now, who.as_str(), &format!("chunk refused: {}", refused.0), &[])
            }
        }
    }

    pub(super) fn asked(&mut self, from: usize, connection: u64, round: u32) {
        if self.sessions.get(&from) != Some(&connection) {
            return;
        }
        let start = self.clients.get(from).map_or(0, ClientHost::starts);
        for release in self.coordinator.releases_from(round) {
            let Some(line) = self.lines.get_mut(from) else { return };
            let (head, sum) = &*release;
            let length = head.encoded_len() + sum.len();
            self.traffic.down += length as u64;
            match line.send(false, length, self.now) {
                Fate::Arrives { at, connection } => {
                    self.queue.push(at, Happening::Release { to: from, connection, release });
                }
                Fate::Breaks => return self.breaks(from),
                Fate::Nowhere => return,
            }
        }
        let Some(line) = self.lines.get_mut(from) else { return };
        match line.send(false, 1, self.now) {
            Fate::Arrives { at, connection } => {
                self.queue.push(at, Happening::Released { to: from, connection: Some(connection), start });
            }
            Fate::Breaks => self.breaks(from),
            Fate::Nowhere => {}
        }
    }

    /// The end of a request for releases, in good order or because its connection broke.
    pub(super) fn fetched(&mut self, to: usize, connection: Option<u64>, start: u64) {
        match connection {
            Some(connection) if !self.is_connected(to, connection) => return,
            Some(_) => {
                if let Some(fetches) = self.fetches.get_mut(to) {
                    *fetches = fetches.saturating_sub(1);
                }
            }
            None => {}
        }
        if self.clients.get(to).is_some_and(|host| host.starts() == start) {
            self.tell_client(to, ToClient::ReleasesEnded);
        }
    }
}
