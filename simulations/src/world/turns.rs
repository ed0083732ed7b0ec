//! Turns of the machines, and what they ask for.

use std::collections::BTreeSet;

use consilium_client::session::Input as ToClient;
use consilium_coordinator::round::Input as ToCoordinator;
use consilium_proto::wire::{Announcement, SignedAnnouncement};
use prost::Message as _;
use rand::RngExt as _;

use super::{
    World,
    queue::{Happening, Upload},
};
use crate::{
    behaviour::{dropouts, sample},
    client_host::{Act, After, ClientHost, Life},
    coordinator_host::{Spoken, Surroundings, Turn},
    network::{Fate, Line, Micros},
    scenario::{Protocol, SPREAD, micros},
};

impl World {
    pub(super) fn tell_coordinator(&mut self, input: ToCoordinator) {
        let mut around = Surroundings { now: self.now, log: &mut self.log, watch: &mut self.watch };
        let turn = self.coordinator.handle(input, &mut around);
        self.coordinator_turn(turn);
    }

    pub(super) fn coordinator_turn(&mut self, turn: Turn) {
        self.ended |= turn.ended;
        if let Some(round) = turn.opened {
            self.doom(round);
        }
        for spoken in turn.spoken {
            match spoken {
                Spoken::Say { to, message } => self.send_down(&to, message),
                Spoken::Close { to } => {
                    if let Some(index) = self.index(&to)
                        && let Some(connection) = self.sessions.remove(&index)
                        && let Some(line) = self.lines.get_mut(index)
                        && let Fate::Arrives { at, .. } = line.send(false, 0, self.now)
                    {
                        self.queue.push(at, Happening::Lost { to: index, connection });
                    }
                }
            }
        }
        if turn.died {
            self.coordinator_dies();
        }
        self.wake();
    }

    /// Puts the machine's next wake-up into the queue, unless an earlier one is there.
    fn wake(&mut self) {
        if let Some(at) = self.coordinator.wake(self.now)
            && self.tick.is_none_or(|tick| at < tick)
        {
            self.tick = Some(at);
            self.queue.push(at, Happening::Tick);
        }
    }

    /// Draws who drops out of the attempt that begins.
    fn doom(&mut self, round: u32) {
        self.opened += 1;
        if self.scenario.dropouts() > 0 {
            let all: BTreeSet<usize> = sample(&self.scenario, round);
            self.doomed = dropouts(&self.scenario, &self.behaviour, &all, self.opened).into_iter().collect();
        }
    }

    /// Before an organization hears of an attempt: it takes part if it was drawn for the round.
    pub(super) fn draw(&mut self, index: usize, invitation: &SignedAnnouncement) {
        if self.scenario.sampled() >= self.scenario.organizations {
            return;
        }
        let Ok(Announcement { round, .. }) = Announcement::decode(invitation.announcement.as_slice()) else {
            return;
        };
        if self.sample.as_ref().is_none_or(|(of, _)| *of != round) {
            self.sample = Some((round, sample(&self.scenario, round)));
        }
        let sits = self.sample.as_ref().is_some_and(|(_, sample)| !sample.contains(&index));
        self.clients.get_mut(index).into_iter().for_each(|host| host.sits_out(sits.then_some(round)));
    }

    pub(super) fn tell_client(&mut self, index: usize, input: ToClient) {
        let mut around = Surroundings { now: self.now, log: &mut self.log, watch: &mut self.watch };
        let Some(host) = self.clients.get_mut(index) else { return };
        let (acts, after) = host.handle(input, &mut around);
        for act in acts {
            self.act(index, act);
        }
        match after {
            After::Goes => {}
            After::Died => self.after_death(index),
            After::Over => {
                match self.clients.get(index).map(ClientHost::life) {
                    Some(Life::Finished) => self.finished += 1,
                    Some(Life::Stopped(why)) if self.stopped.is_none() => {
                        self.stopped = Some((self.id(index), why.clone()));
                    }
                    _ => {}
                }
                self.leaves(index);
            }
        }
    }

    fn act(&mut self, index: usize, act: Act) {
        match act {
            Act::Say(say) => self.send_up(index, say),
            Act::Upload { round, attempt, chunks, from } => {
                if let Some(connection) = self.lines.get(index).and_then(Line::connection) {
                    let next = Upload { connection, round, attempt, chunks, index: from };
                    self.send_chunk(index, next);
                }
            }
            Act::Fetch { from_round } => {
                // Without a connection the link drops the order.
                let Some(line) = self.lines.get_mut(index) else { return };
                self.traffic.up += 8;
                match line.send(true, 8, self.now) {
                    Fate::Arrives { at, connection } => {
                        if let Some(fetches) = self.fetches.get_mut(index) {
                            *fetches += 1;
                        }
                        self.queue.push(at, Happening::Asked { from: index, connection, round: from_round });
                    }
                    Fate::Breaks => self.breaks(index),
                    Fate::Nowhere => {}
                }
            }
            Act::Train { ticket } => {
                let plain = self.scenario.protocol == Protocol::Plain;
                if plain && self.doomed.remove(&index) {
                    self.queue.push(self.now + 1000, Happening::Dies(index));
                }
                let base = self.behaviour.get(index).map_or(0, |it| it.training) as f64;
                let mut rng = self.seeds.rng("training", index as u64, ticket);
                let spread = rng.random_range(SPREAD.0..SPREAD.1);
                let at = self.now + (base * spread) as Micros;
                self.queue.push(at, Happening::Trained { organization: index, ticket });
            }
            Act::Evaluate { round, adapter } => {
                let start = self.clients.get(index).map_or(0, ClientHost::starts);
                let at = self.now + micros(self.scenario.clients.training_s) / 4;
                self.queue.push(at, Happening::Evaluated { organization: index, start, round, adapter });
            }
        }
    }
}
