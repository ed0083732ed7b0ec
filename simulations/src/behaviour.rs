//! How each organization behaves: what the scenario says of all, of its profile, and what the seed draws.

use std::collections::BTreeSet;

use rand::seq::index;

use crate::{
    network::Micros,
    scenario::{Scenario, cut_size, micros, part},
    seeds::Seeds,
};

/// One organization's line and process, in the simulation's units.
#[derive(Clone, Debug, PartialEq)]
pub struct Behaviour {
    /// One-way latency, least and greatest, microseconds.
    pub latency: (Micros, Micros),
    /// Bytes a second each way.
    pub bytes_per_second: u64,
    /// Probability with which a message breaks its connection.
    pub loss: f64,
    /// How long it trains, microseconds, before the spread of a single lot.
    pub training: Micros,
    /// How long it stays away after it died.
    pub restart: Micros,
    /// Its profile, if it has one.
    pub profile: Option<usize>,
}

impl Behaviour {
    /// Everybody's, in the cohort's order.
    pub fn of_all(scenario: &Scenario) -> Vec<Self> {
        let n = scenario.organizations as usize;
        let seeds = Seeds::new(scenario.seed);
        let (network, clients) = (&scenario.network, &scenario.clients);
        let ordinary = Self {
            latency: latency(network.latency_ms),
            bytes_per_second: bytes(network.bandwidth_mbit),
            loss: network.loss,
            training: micros(clients.training_s),
            restart: micros(clients.restart_s),
            profile: None,
        };
        let mut all = vec![ordinary; n];
        for (organization, profile) in profiled(scenario, seeds) {
            let Some(given) = scenario.profiles.get(profile) else { continue };
            let Some(own) = all.get_mut(organization) else { continue };
            own.profile = Some(profile);
            own.latency = given.latency_ms.map_or(own.latency, latency);
            own.bytes_per_second = given.bandwidth_mbit.map_or(own.bytes_per_second, bytes);
            own.loss = given.loss.unwrap_or(own.loss);
            own.training = given.training_s.map_or(own.training, micros);
            own.restart = given.restart_s.map_or(own.restart, micros);
        }
        let plain: Vec<usize> =
            (0..n).filter(|index| all.get(*index).is_some_and(|it| it.profile.is_none())).collect();
        for organization in some_of(seeds, "stragglers", 0, &plain, scenario.slow() as usize) {
            if let Some(own) = all.get_mut(organization) {
                own.training = (own.training as f64 * clients.straggle) as Micros;
            }
        }
        all
    }
}

/// Organizations with a profile: the named ones first, then those that are drawn from the rest.
fn profiled(scenario: &Scenario, seeds: Seeds) -> Vec<(usize, usize)> {
    let named = scenario.profiles.iter().enumerate();
    let mut all: Vec<(usize, usize)> =
        named.flat_map(|(profile, it)| it.organizations.iter().map(move |&index| (index, profile))).collect();
    for (profile, it) in scenario.profiles.iter().enumerate().filter(|(_, it)| it.organizations.is_empty()) {
        let free: Vec<usize> = (0..scenario.organizations as usize)
            .filter(|index| all.iter().all(|(taken, _)| taken != index))
            .collect();
        let drawn = some_of(seeds, "profile", profile as u64, &free, scenario.size(it) as usize);
        all.extend(drawn.into_iter().map(|index| (index, profile)));
    }
    all
}

/// Who takes part in a round: so many as the scenario says, drawn anew for each round and for all of its attempts.
pub(crate) fn sample(scenario: &Scenario, round: u32) -> BTreeSet<usize> {
    let everybody: Vec<usize> = (0..scenario.organizations as usize).collect();
    let seeds = Seeds::new(scenario.seed);
    some_of(seeds, "cohort", round.into(), &everybody, scenario.sampled() as usize).into_iter().collect()
}

/// Who of those that take part drops out of an attempt, which is numbered from 1 over the whole job.
pub(crate) fn dropouts(
    scenario: &Scenario,
    all: &[Behaviour],
    takes_part: &BTreeSet<usize>,
    attempt: u64,
) -> Vec<usize> {
    let seeds = Seeds::new(scenario.seed);
    let of = |profile: Option<usize>| -> Vec<usize> {
        let those = all.iter().enumerate().filter(|(_, it)| it.profile == profile).map(|(index, _)| index);
        those.filter(|index| takes_part.contains(index)).collect()
    };
    let ordinary = of(None);
    let count = part(scenario.clients.dropout, u32::try_from(ordinary.len()).unwrap_or(u32::MAX)) as usize;
    let mut gone = some_of(seeds, "dropouts", attempt, &ordinary, count);
    for (number, profile) in scenario.profiles.iter().enumerate().filter(|(_, it)| it.dropout > 0.0) {
        let members = of(Some(number));
        let count = part(profile.dropout, u32::try_from(members.len()).unwrap_or(u32::MAX)) as usize;
        gone.extend(some_of(seeds, "profile-dropouts", attempt << 16 | number as u64, &members, count));
    }
    gone
}

/// Whom a cut of the network cuts off.
pub(crate) fn cut_off(scenario: &Scenario, number: usize) -> Vec<usize> {
    let Some(cut) = scenario.network.cuts.get(number) else { return Vec::new() };
    if !cut.organizations.is_empty() {
        return cut.organizations.clone();
    }
    let everybody: Vec<usize> = (0..scenario.organizations as usize).collect();
    let count = cut_size(cut.part, scenario.organizations) as usize;
    some_of(Seeds::new(scenario.seed), "cut", number as u64, &everybody, count)
}

/// `count` of `from`, without repetition, sorted.
fn some_of(seeds: Seeds, purpose: &'static str, first: u64, from: &[usize], count: usize) -> Vec<usize> {
    let mut rng = seeds.rng(purpose, first, 0);
    let drawn = index::sample(&mut rng, from.len(), count.min(from.len()));
    let mut some: Vec<usize> = drawn.into_iter().filter_map(|index| from.get(index).copied()).collect();
    some.sort_unstable();
    some
}

fn latency((least, most): (f64, f64)) -> (Micros, Micros) {
    (micros(least / 1e3), micros(most / 1e3))
}

fn bytes(mbit: f64) -> u64 {
    (mbit * 125_000.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Cut, Profile};

    #[test]
    fn profiles_change_those_that_have_them_and_nobody_else() {
        let mut scenario = Scenario::new(20, 1);
        scenario.clients.stragglers = 0.2;
        scenario.clients.dropout = 0.1;
        scenario.profiles = vec![
            Profile {
                organizations: vec![3, 4],
                training_s: Some(50.0),
                latency_ms: Some((200.0, 300.0)),
                dropout: 0.5,
                ..Profile::default()
            },
            Profile { part: 0.25, bandwidth_mbit: Some(1.0), ..Profile::default() },
        ];
        let all = Behaviour::of_all(&scenario);
        let of = |profile| all.iter().filter(|it| it.profile == profile).count();
        assert_eq!((of(Some(0)), of(Some(1)), of(None)), (2, 5, 13));
        assert_eq!((all[3].latency, all[3].training), ((200_000, 300_000), 50_000_000));
        let slow = all.iter().filter(|it| it.training == 30_000_000 && it.profile.is_none()).count();
        assert_eq!(slow, 3, "⌈0.2 · 13⌉");
        assert!(all.iter().filter(|it| it.profile == Some(1)).all(|it| it.bytes_per_second == 125_000));
        // ⌈0.1 · 13⌉ ordinary ones and one of the two.
        let everybody = sample(&scenario, 1);
        let (one, two) = (dropouts(&scenario, &all, &everybody, 1), dropouts(&scenario, &all, &everybody, 2));
        assert_eq!((one.len(), two.len()), (3, 3));
        assert_ne!(one, two);
        assert_eq!(one.iter().filter(|index| [3, 4].contains(*index)).count(), 1);
    }

    #[test]
    fn every_round_has_a_sample_of_its_own_and_only_its_members_drop_out() {
        let mut scenario = Scenario::new(20, 1);
        assert_eq!(sample(&scenario, 1).len(), 20);
        (scenario.cohort.sampling, scenario.clients.dropout) = (0.61, 0.25);
        let all = Behaviour::of_all(&scenario);
        let (one, two) = (sample(&scenario, 1), sample(&scenario, 2));
        assert_eq!((one.len(), two.len()), (13, 13), "⌈0.61 · 20⌉");
        assert_ne!(one, two);
        assert_eq!(one, sample(&scenario, 1));
        for attempt in 1..20 {
            let gone = dropouts(&scenario, &all, &one, attempt);
            assert_eq!(gone.len(), 4, "⌈0.25 · 13⌉");
            assert!(gone.iter().all(|index| one.contains(index)));
        }
    }

    #[test]
    fn a_cut_is_of_those_it_names_or_of_a_part() {
        let mut scenario = Scenario::new(10, 1);
        let cut = |organizations, part| Cut { from_s: 0.0, until_s: 1.0, organizations, part };
        scenario.network.cuts = vec![cut(vec![2, 7], 0.0), cut(Vec::new(), 0.35)];
        assert_eq!(cut_off(&scenario, 0), [2, 7]);
        assert_eq!(cut_off(&scenario, 1).len(), 4);
    }
}
