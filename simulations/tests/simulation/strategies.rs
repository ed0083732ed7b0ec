//! Strategies to study: server optimizers, and FedProx where local steps exist.

use std::collections::BTreeSet;

use consilium_proto::plan::{Optimizer, PrivacyUnit};
use consilium_simulations::Scenario;

use super::{outcomes, run, small, try_run};

const RATE: f32 = 0.5;

fn optimizers() -> [Optimizer; 3] {
    [
        Optimizer::FedAvg { learning_rate: RATE },
        Optimizer::FedAvgM { learning_rate: RATE, momentum: 0.9 },
        Optimizer::Adam { learning_rate: RATE, beta1: 0.9, beta2: 0.99, epsilon: 1e-3 },
    ]
}

#[test]
fn every_server_optimizer_ends_in_one_adapter_of_its_own() {
    for unit in [PrivacyUnit::None, PrivacyUnit::Organization, PrivacyUnit::PatientLocal] {
        let mut adapters = BTreeSet::new();
        for optimizer in optimizers() {
            let mut scenario = Scenario { optimizer: Some(optimizer), ..small(5, 3) };
            scenario.privacy.unit = unit;
            scenario.privacy.delta = 1e-3;
            let (_, report) = run(&scenario);
            assert_eq!(outcomes(&report).len(), 3, "{unit}");
            adapters.insert(report.adapter_digest);
        }
        assert_eq!(adapters.len(), 3, "{unit}");
    }
}

#[test]
fn after_one_round_momentum_has_nothing_to_go_on_with() {
    let digest = |optimizer| {
        let mut scenario = Scenario { optimizer: Some(optimizer), ..small(5, 1) };
        scenario.privacy.unit = PrivacyUnit::None;
        run(&scenario).1.adapter_digest
    };
    let [averaging, momentum, _] = optimizers();
    assert_eq!(digest(averaging), digest(momentum));
}

#[test]
fn the_proximal_term_moves_organizations_less_and_costs_no_privacy() {
    for unit in [PrivacyUnit::None, PrivacyUnit::PatientLocal] {
        let scenario = |proximal| {
            let mut scenario = small(5, 1);
            (scenario.privacy.unit, scenario.privacy.proximal) = (unit, proximal);
            (scenario.privacy.local_steps, scenario.privacy.local_rate) = (8, 0.2);
            scenario
        };
        // How far the adapter went from zero, where it starts.
        let far = |proximal| {
            let (world, _) = run(&scenario(proximal));
            let adapter = world.coordinator().job().unwrap().state().trained();
            adapter.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>().sqrt()
        };
        let (free, held) = (far(0.0), far(2.0));
        assert!(held < 0.8 * free, "{unit}: {held} of {free}");
    }
}

#[test]
fn what_means_nothing_is_refused_by_name() {
    type Change = fn(&mut Scenario);
    let cases: [(&str, Change); 4] = [
        ("privacy.proximal is 0.1: FedProx", |it| it.privacy.proximal = 0.1),
        ("optimizer.kind is fedavgm: organizations send gradients for unit = \"patient\"", |it| {
            it.optimizer = Some(Optimizer::FedAvgM { learning_rate: 1.0, momentum: 0.9 })
        }),
        ("optimizer.kind is sgd: organizations send deltas for unit = \"none\"", |it| {
            it.privacy.unit = PrivacyUnit::None;
            it.optimizer = Some(Optimizer::Sgd { learning_rate: 1.0 });
        }),
        ("privacy.local.proximal is 0.1: one local step begins where the round does", |it| {
            (it.privacy.unit, it.privacy.local_steps, it.privacy.proximal) = (PrivacyUnit::None, 1, 0.1)
        }),
    ];
    for (expected, change) in cases {
        let mut scenario = small(5, 1);
        change(&mut scenario);
        let refused = try_run(&scenario).map(|_| ()).unwrap_err().to_string();
        assert!(refused.contains(expected), "{expected}: {refused}");
    }
}
