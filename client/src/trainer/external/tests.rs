//! Trainers that answer, lie, hang and die, on real sockets.

mod fake;
mod lies;
mod ways;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use consilium_crypto::release::AdapterState;
use consilium_proto::{
    plan::PrivacyUnit,
    release::initial_state,
    signed::{Kind, fingerprint},
};
use rand::{SeedableRng as _, rngs::StdRng};

use self::fake::{Behaviour, Fake};
use super::*;
use crate::{
    config::support::{Consortium, set_unit},
    run::lot::{LotFailed, encode_lot, tensors},
};

/// A consortium's plan, its start, and a folder with a socket's name.
struct Bench {
    consortium: Consortium,
    plan: Arc<VerifiedPlan>,
    state: AdapterState,
    socket: PathBuf,
}

impl Bench {
    fn of(unit: PrivacyUnit) -> Self {
        Self::with(unit, |_| {})
    }

    fn with(unit: PrivacyUnit, change: impl FnOnce(&mut consilium_proto::plan::Plan)) -> Self {
        let consortium = Consortium::with(|draft| {
            match unit {
                PrivacyUnit::Patient => {
                    let privacy = &mut draft.plan.privacy;
                    (privacy.sampling_rate, privacy.expected_lot, privacy.largest_lot) = (0.5, 27.0, 9.0);
                }
                unit => set_unit(&mut draft.plan, unit),
            }
            change(&mut draft.plan);
        });
        let plan = Arc::new(consortium.verified().1);
        let (state, socket) = (initial_state(&plan).unwrap(), consortium.path("trainer.sock"));
        Self { consortium, plan, state, socket }
    }

    fn trainer(&self, change: impl FnOnce(&mut Setup<'_>)) -> ExternalTrainer {
        let plan_text = std::fs::read_to_string(self.consortium.path("plan.toml")).unwrap();
        assert_eq!(fingerprint(Kind::Plan, &plan_text), self.plan.digest());
        let mut setup = Setup {
            plan: &self.plan,
            plan_text,
            place: Place::Socket { path: self.socket.clone(), user: None },
            patients: (0..18).map(|number| format!("p{number}")).collect(),
            // Generous: a machine may be busy. Where it must run out, the test sets it.
            answer: Some(Duration::from_secs(60)),
            digest: None,
            folder: Some(self.consortium.folder.path()),
        };
        change(&mut setup);
        ExternalTrainer::new(setup).unwrap()
    }

    fn fake(&self, behaviour: Behaviour) -> Fake {
        Fake::listen(&self.socket, behaviour)
    }

    /// One attempt, as the training thread makes it.
    fn encode(&self, trainer: &mut ExternalTrainer) -> Result<Vec<u32>, LotFailed> {
        trainer.begin(attempt(&Arc::new(AtomicBool::new(true))));
        let ring = encode_lot(&self.plan, trainer, &self.state, &mut StdRng::seed_from_u64(7))?;
        Ok(ring.values().to_vec())
    }

    /// What is wrong with an answer about three patients.
    fn refusal(&self, trainer: &mut ExternalTrainer) -> String {
        let adapter = tensors(&self.state);
        let sends_deltas =
            matches!(self.plan.document().privacy.unit, PrivacyUnit::Organization | PrivacyUnit::None);
        let error = if sends_deltas {
            trainer.delta(&adapter, &[0, 1, 2], &self.state.still()).map(drop).unwrap_err()
        } else {
            trainer.sum(&adapter, &[0, 1, 2], &self.state.still()).map(drop).unwrap_err()
        };
        assert_eq!(error.code(), "trainer", "{error}");
        error.to_string()
    }
}

fn attempt(wanted: &Arc<AtomicBool>) -> Attempt {
    let wanted = wanted.clone();
    Attempt {
        round: 3,
        attempt: 2,
        deadline: Instant::now() + Duration::from_secs(60),
        wanted: Arc::new(move || wanted.load(Ordering::Relaxed)),
    }
}
