//! A job in each privacy unit, through the machines that hospitals run: sums, adapters, debits.

use consilium_proto::plan::PrivacyUnit;

use super::{convex, outcomes, run, small};

const ALL: [PrivacyUnit; 4] =
    [PrivacyUnit::Patient, PrivacyUnit::PatientLocal, PrivacyUnit::Organization, PrivacyUnit::None];

#[test]
fn a_job_in_each_unit_ends_in_one_adapter_and_debits_what_it_says() {
    for unit in ALL {
        let mut scenario = small(5, 2);
        (scenario.privacy.unit, scenario.privacy.local_steps) = (unit, 3);
        let (world, report) = run(&scenario);
        // The watch has compared each released sum with the plain sum of what the survivors encoded.
        assert_eq!(outcomes(&report), [(1, 1, "released", 5), (2, 1, "released", 5)], "{unit}");
        assert_eq!(world.watch().sums(), 2, "{unit}");
        let derived = world.consortium().plan.derived();
        // h = m_min − t_c = 4 − 1.
        let (steps, rate, shares) = match unit {
            PrivacyUnit::Patient => (1, 0.5, 3),
            PrivacyUnit::PatientLocal => (3, 0.5, 1),
            PrivacyUnit::Organization => (1, 1.0, 3),
            PrivacyUnit::None => (1, 0.0, 0),
        };
        for client in world.clients() {
            assert_eq!(client.applied(), Some((2, report.adapter_digest)), "{unit}");
            let debits = client.debits().unwrap();
            let rounds: Vec<_> = debits.iter().map(|debit| (debit.round, debit.attempt)).collect();
            assert_eq!(rounds, [(1, 1), (2, 1)], "{unit}");
            for debit in debits {
                assert_eq!((debit.unit, debit.steps), (unit, steps));
                assert_eq!((debit.sampling_rate, debit.shares), (rate, shares), "{unit}");
                assert_eq!(debit.sigma_share, derived.sigma_share, "{unit}");
                let central = derived.mechanisms.map_or(0.0, |it| it.central.noise_multiplier());
                assert_eq!(debit.noise_multiplier, central, "{unit}");
                if unit != PrivacyUnit::None {
                    assert!((central - 1.0).abs() < 1e-9, "{unit}: the plan's z, {central}");
                    assert_eq!(
                        debit.local_multiplier == central,
                        unit == PrivacyUnit::PatientLocal,
                        "{unit}"
                    );
                }
            }
        }
    }
}

#[test]
fn an_attempt_that_comes_to_nothing_is_debited_and_trained_anew_in_every_unit() {
    for unit in ALL {
        let mut scenario = small(3, 1);
        scenario.privacy.unit = unit;
        // One of three dies with its header recorded: nobody is to spare, so the attempt fails and another follows.
        scenario.faults.clients = [(1, [3].into())].into();
        let (world, report) = run(&scenario);
        let released: Vec<_> = outcomes(&report).iter().map(|it| (it.0, it.1, it.2)).collect();
        assert_eq!(released.last(), Some(&(1, 2, "released")), "{unit}: {released:?}");
        for client in world.clients() {
            let attempts: Vec<_> = client.debits().unwrap().iter().map(|debit| debit.attempt).collect();
            assert_eq!(attempts, [1, 2], "{unit}: a delta is not sent a second time under the first debit");
        }
    }
}

#[test]
fn what_each_units_noise_leaves_is_learned() {
    // Organizations are protected well only by the hundred: twenty learn something at little noise.
    for (unit, rounds, noise_multiplier, blur) in [
        (PrivacyUnit::PatientLocal, 6, 1.0, 0.8),
        (PrivacyUnit::Organization, 6, 0.2, 4.0),
        (PrivacyUnit::None, 4, 1.0, 0.8),
    ] {
        let mut scenario = convex(20, rounds, 200);
        let privacy = &mut scenario.privacy;
        (privacy.unit, privacy.noise_multiplier, privacy.lot) = (unit, noise_multiplier, 60.0);
        let (_, report) = run(&scenario);
        let last = report.attempts.last().and_then(|attempt| attempt.test_accuracy).unwrap();
        let first = report.attempts.first().and_then(|attempt| attempt.train_loss).unwrap();
        let loss = report.attempts.last().and_then(|attempt| attempt.train_loss).unwrap();
        assert!(last > 0.5, "{unit}: {last}");
        // ln 10 at the start, and less at the end: the metrics that ride along tell of it, noisy as they are.
        assert!((first - 2.3).abs() < blur && (loss - 1.7).abs() < blur, "{unit}: {first} to {loss}");
    }
}
