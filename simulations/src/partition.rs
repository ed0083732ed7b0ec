//! Deals records to organizations: who has how many, of which labels.
//!
//! Shares from a symmetric Dirichlet distribution are never drawn as numbers: a Pólya urn deals record by record with the same
//! law (Blackwell and MacQueen, 1973). The first record goes anywhere; the `m+1`-th goes anywhere with probability
//! `αn/(αn + m)`, and otherwise where one of the `m` before it went. It needs no logarithm, so it gives the same deal everywhere.

use rand::{RngExt as _, seq::SliceRandom as _};
use serde::Serialize;

use crate::{
    consortium::organization,
    scenario::{Partition, Refused, Scenario, empty},
    seeds::Seeds,
};

/// What one organization has, by the records' numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Own {
    /// What it trains on.
    pub train: Vec<u32>,
    /// What it keeps for its own test.
    pub test: Vec<u32>,
}

/// Who has what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dealt {
    /// By organization.
    pub own: Vec<Own>,
    /// Each record's label, an index into the task's list.
    pub labels: Vec<u32>,
    /// Length of that list.
    pub kinds: usize,
}

/// One organization's line in `partition.jsonl`.
#[derive(Serialize)]
struct Line<'a> {
    organization: String,
    label_counts: Vec<usize>,
    #[serde(flatten)]
    own: &'a Own,
}

/// Deals that leave somebody with too little are drawn again so often.
const DEALS: u64 = 100;

impl Dealt {
    /// Deals records, given by their labels, as the scenario says.
    ///
    /// # Errors
    ///
    /// [`Refused::Range`], with the arithmetic, when somebody would have nothing.
    pub fn deal(scenario: &Scenario, labels: Vec<u32>, kinds: usize) -> Result<Self, Refused> {
        let n = scenario.organizations as usize;
        let least = if scenario.evaluation.organizations { 2 } else { 1 };
        let seeds = Seeds::new(scenario.seed);
        let mut worst = (0, 0);
        for deal in 0..DEALS {
            let hands = hands(&scenario.partition, &labels, kinds, n, seeds, deal);
            let smallest = hands.iter().enumerate().min_by_key(|(_, hand)| hand.len());
            worst = smallest.map_or((0, 0), |(index, hand)| (index, hand.len()));
            if worst.1 >= least {
                let keep = |hand| split(hand, scenario);
                return Ok(Self { own: hands.into_iter().map(keep).collect(), labels, kinds });
            }
            if !matches!(scenario.partition, Partition::Dirichlet { .. } | Partition::Quantity { .. }) {
                break;
            }
        }
        let why = match scenario.partition {
            Partition::Dirichlet { alpha } | Partition::Quantity { alpha } => {
                format!(
                    "{DEALS} deals with alpha = {alpha} left somebody with fewer than {least}: raise alpha or the records"
                )
            }
            _ => format!("everybody needs {least} at least: raise the records or lower the organizations"),
        };
        Err(empty(u32::try_from(worst.0).unwrap_or(0), worst.1, labels.len(), scenario.organizations, &why))
    }

    /// Most records that one organization trains on.
    pub fn largest(&self) -> usize {
        self.own.iter().map(|own| own.train.len()).max().unwrap_or(0)
    }

    /// Records that are trained on, of all organizations.
    pub fn trained_on(&self) -> usize {
        self.own.iter().map(|own| own.train.len()).sum()
    }

    /// Training records of an organization by label.
    pub fn label_counts(&self, organization: usize) -> Vec<usize> {
        let mut counts = vec![0; self.kinds];
        for record in self.own.get(organization).map_or(&[][..], |own| &own.train) {
            let label = self.labels.get(*record as usize).map_or(0, |label| *label as usize);
            if let Some(count) = counts.get_mut(label) {
                *count += 1;
            }
        }
        counts
    }

    /// The whole deal, a line of JSON for each organization.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.own.iter().enumerate().map(|(index, own)| {
            let line = Line {
                organization: organization(u32::try_from(index).unwrap_or(u32::MAX)).to_string(),
                label_counts: self.label_counts(index),
                own,
            };
            // Unwrap safety: numbers and words.
            serde_json::to_string(&line).unwrap_or_default()
        })
    }
}

/// The last part of a hand, which is in no order, is kept for its owner's test.
fn split(mut hand: Vec<u32>, scenario: &Scenario) -> Own {
    if !scenario.evaluation.organizations {
        return Own { train: hand, test: Vec::new() };
    }
    let most = hand.len().saturating_sub(1);
    let kept = ((hand.len() as f64 * scenario.evaluation.own_test) as usize).clamp(1, most.max(1));
    let test = hand.split_off(hand.len() - kept);
    Own { train: hand, test }
}

fn hands(
    partition: &Partition,
    labels: &[u32],
    kinds: usize,
    n: usize,
    seeds: Seeds,
    deal: u64,
) -> Vec<Vec<u32>> {
    let mut rng = seeds.rng("partition", deal, 0);
    let mut order: Vec<u32> = (0..u32::try_from(labels.len()).unwrap_or(u32::MAX)).collect();
    order.shuffle(&mut rng);
    let mut hands = vec![Vec::new(); n];
    let mut give = |to: usize, record: u32| hands.get_mut(to).into_iter().for_each(|hand| hand.push(record));
    let label_of = |record: u32| labels.get(record as usize).map_or(0, |label| *label as usize);
    match *partition {
        Partition::Iid | Partition::FeatureShift { .. } => {
            order.iter().enumerate().for_each(|(turn, record)| give(turn % n, *record));
        }
        Partition::Quantity { alpha } => {
            let mut urn = Urn::new(alpha, n);
            order.iter().for_each(|record| give(urn.draw(&mut rng), *record));
        }
        Partition::Dirichlet { alpha } => {
            let mut urns: Vec<_> = (0..kinds).map(|_| Urn::new(alpha, n)).collect();
            for record in &order {
                if let Some(urn) = urns.get_mut(label_of(*record)) {
                    give(urn.draw(&mut rng), *record);
                }
            }
        }
        Partition::Natural => {
            // Which key is whose is drawn, too.
            let mut keys: Vec<usize> = (0..kinds).collect();
            keys.shuffle(&mut rng);
            let mut dealt = vec![0; kinds];
            for record in &order {
                let label = label_of(*record);
                let place = keys.get(label).copied().unwrap_or(0);
                // Those with this key: place, place + kinds, place + 2·kinds … below n.
                let owners = if n > place { (n - place).div_ceil(kinds) } else { 1 };
                let turn = dealt.get_mut(label).map_or(0, |dealt| std::mem::replace(dealt, *dealt + 1));
                give((place + kinds * (turn % owners)) % n, *record);
            }
        }
    }
    // Records of one label lie together where labels were dealt one by one; a hand is in no order.
    hands.iter_mut().for_each(|hand| hand.shuffle(&mut rng));
    hands
}

/// A Pólya urn: see the module.
struct Urn {
    weight: f64,
    n: usize,
    went: Vec<u32>,
}

impl Urn {
    fn new(alpha: f64, n: usize) -> Self {
        Self { weight: alpha * n as f64, n, went: Vec::new() }
    }

    fn draw(&mut self, rng: &mut impl rand::Rng) -> usize {
        let before = self.went.len();
        let anywhere = rng.random_range(0.0..1.0) * (self.weight + before as f64) < self.weight;
        let to = match self.went.get(if before == 0 { 0 } else { rng.random_range(0..before) }) {
            Some(to) if !anywhere => *to as usize,
            _ => rng.random_range(0..self.n),
        };
        self.went.push(u32::try_from(to).unwrap_or(u32::MAX));
        to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(partition: Partition, organizations: u32) -> Scenario {
        Scenario { partition, ..Scenario::new(organizations, 1) }
    }

    fn labels(records: u32, kinds: u32) -> Vec<u32> {
        (0..records).map(|record| record % kinds).collect()
    }

    fn dealt(partition: Partition, organizations: u32) -> Dealt {
        let dealt = Dealt::deal(&scenario(partition, organizations), labels(2000, 10), 10).unwrap();
        let mut all: Vec<u32> = dealt.own.iter().flat_map(|own| own.train.clone()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..2000).collect::<Vec<_>>(), "every record goes to exactly one");
        dealt
    }

    #[test]
    fn equal_hands_are_equal() {
        let dealt = dealt(Partition::Iid, 8);
        assert!(dealt.own.iter().all(|own| own.train.len() == 250));
        let counts: Vec<_> = (0..8).flat_map(|organization| dealt.label_counts(organization)).collect();
        assert!(counts.iter().all(|count| (8..50).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_small_alpha_gives_each_label_to_few_and_a_large_one_to_all() {
        // The part of a label that its largest owner has, averaged over labels.
        let concentration = |alpha| {
            let dealt = dealt(Partition::Dirichlet { alpha }, 8);
            let largest = |label: usize| (0..8).map(|it| dealt.label_counts(it)[label]).max().unwrap();
            (0..10).map(largest).sum::<usize>() as f64 / 2000.0
        };
        let (specialized, demo, even) = (concentration(0.05), concentration(0.3), concentration(1000.0));
        // Expected: nearly 1, about 0.5, and 1/8 with what chance adds.
        assert!(
            specialized > 0.7 && demo > 0.3 && demo < specialized && even < 0.2,
            "{specialized} {demo} {even}"
        );
    }

    #[test]
    fn quantities_differ_and_mixes_do_not() {
        let dealt = dealt(Partition::Quantity { alpha: 0.5 }, 8);
        let sizes: Vec<_> = dealt.own.iter().map(|own| own.train.len()).collect();
        let (least, most) = (*sizes.iter().min().unwrap(), *sizes.iter().max().unwrap());
        assert!(most > 4 * least, "{sizes:?}");
        let large = sizes.iter().position(|size| *size == most).unwrap();
        let counts = dealt.label_counts(large);
        assert!(counts.iter().all(|count| count.abs_diff(most / 10) < most / 15), "{counts:?}");
    }

    #[test]
    fn natural_owners_are_specialists() {
        // More organizations than keys: one key each, shared evenly. Fewer: whole keys.
        let many = dealt(Partition::Natural, 25);
        for organization in 0..25 {
            let counts = many.label_counts(organization);
            assert_eq!(counts.iter().filter(|count| **count > 0).count(), 1, "{counts:?}");
            assert!(counts.iter().sum::<usize>() >= 66, "{counts:?}");
        }
        let few = dealt(Partition::Natural, 4);
        let whole = |organization| few.label_counts(organization).iter().all(|it| [0, 200].contains(it));
        assert!((0..4).all(whole));
    }

    #[test]
    fn a_part_of_each_hand_is_kept_for_its_owner() {
        let mut scenario = scenario(Partition::Iid, 8);
        scenario.evaluation.organizations = true;
        let dealt = Dealt::deal(&scenario, labels(2000, 10), 10).unwrap();
        assert!(dealt.own.iter().all(|own| (own.train.len(), own.test.len()) == (200, 50)));
        assert_eq!((dealt.largest(), dealt.trained_on()), (200, 1600));
    }

    #[test]
    fn an_empty_organization_is_refused_with_the_arithmetic() {
        let refused = |partition, organizations| {
            Dealt::deal(&scenario(partition, organizations), labels(40, 10), 10).unwrap_err().to_string()
        };
        assert_eq!(
            refused(Partition::Iid, 50),
            "partition is such that org-0041 has 0 of 40 records: 40 records for 50 organizations are 0.8 each; everybody \
             needs 1 at least: raise the records or lower the organizations"
        );
        assert!(refused(Partition::Dirichlet { alpha: 0.01 }, 20).contains("raise alpha"));
    }

    #[test]
    fn the_seed_decides_the_deal() {
        let one = dealt(Partition::Dirichlet { alpha: 0.3 }, 8);
        assert_eq!(one, dealt(Partition::Dirichlet { alpha: 0.3 }, 8));
        let other = Scenario { seed: 2, ..scenario(Partition::Dirichlet { alpha: 0.3 }, 8) };
        assert_ne!(one, Dealt::deal(&other, labels(2000, 10), 10).unwrap());
        let line = one.lines().next().unwrap();
        assert!(line.starts_with("{\"organization\":\"org-0001\",\"label_counts\":["), "{line}");
    }
}
