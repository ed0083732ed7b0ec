//! What an honest trainer is asked and what becomes of it; and every way in which one can be out of reach.

use consilium_proto::{plan::AdapterMode, trainer_wire::question::Task};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};

use super::*;
use crate::{
    data::{DataConfig, Dataset, OptOut},
    trainer::Consenting,
};

#[test]
fn a_trainer_is_asked_for_the_lot_and_the_client_adds_the_noise() {
    let bench = Bench::of(PrivacyUnit::Patient);
    let fake = bench.fake(Behaviour::Honest);
    let mut trainer = bench.trainer(|_| {});
    let (first, second) = (bench.encode(&mut trainer).unwrap(), bench.encode(&mut trainer).unwrap());
    assert_eq!(first, second, "the same draws");
    let asked = fake.asked.lock().unwrap();
    let lot = &asked[0].patients;
    assert!(lot.len() > 2 && lot.len() < 18 && lot.is_sorted_by_key(|id| id[1..].parse::<u32>().unwrap()));
    let floats: Vec<f32> =
        asked[0].values.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let expected: Vec<f32> = tensors(&bench.state).iter().flat_map(|(_, values)| values.to_vec()).collect();
    assert_eq!(floats, expected, "all tensors in name order");
    let question = &asked[0].question;
    assert_eq!((question.round, question.attempt, question.id.len()), (3, 2, 16));
    assert_ne!(asked[1].question.id, question.id);
    assert!(question.within_ms <= 60_000);
    // Every patient gave one to every coordinate; what is left is this organization's noise.
    let bits = bench.plan.derived().ring.bits();
    let sigma = bench.plan.derived().sigma_share;
    let values = consilium_crypto::encoding::centered_sum(&first, bits);
    let (gradient, metrics) = values.split_at(values.len() - 2);
    let around = |value: i64, mean: usize| (value as f64 - mean as f64).abs() < 8.0 * sigma;
    assert!(gradient.iter().all(|&value| around(value, lot.len())), "{gradient:?} σ {sigma}");
    assert!(around(metrics[0], lot.len()) && around(metrics[1], 2 * lot.len()));
    assert!(gradient.iter().any(|&value| value != lot.len() as i64), "without noise");
    // Who was asked stands where the manifest finds it.
    let seen = read_seen(bench.consortium.folder.path()).unwrap();
    let expected = SeenTrainer { from_round: 3, name: "fake".into(), digest: "05".repeat(32) };
    assert_eq!(seen, [expected]);
    // It was told the plan, byte for byte, and the numbers of the clip.
    let opened = fake.opened.lock().unwrap();
    assert_eq!(opened[0].plan, std::fs::read_to_string(bench.consortium.path("plan.toml")).unwrap());
    assert_eq!(opened[0].plan_digest, bench.plan.digest().0);
    let clipping = opened[0].clipping.unwrap();
    assert_eq!(clipping.bound_squared, bench.plan.derived().encoding.integer_bound_squared());
    assert!(clipping.limit < 1.0 && clipping.limit > 0.9);
}

#[test]
fn local_steps_are_sums_in_one_unit_and_a_delta_in_the_others() {
    let bench = Bench::of(PrivacyUnit::PatientLocal);
    let fake = bench.fake(Behaviour::Honest);
    bench.encode(&mut bench.trainer(|_| {})).unwrap();
    let asked = fake.asked.lock().unwrap();
    assert_eq!(asked.len(), 3, "one noisy sum for each local step");
    assert!(asked.iter().all(|asked| matches!(asked.question.task, Some(Task::Sum(_)))));
    assert_ne!(asked[0].values, asked[1].values, "the client walks");

    for unit in [PrivacyUnit::Organization, PrivacyUnit::None] {
        let bench = Bench::of(unit);
        let fake = bench.fake(Behaviour::Honest);
        bench.encode(&mut bench.trainer(|_| {})).unwrap();
        let asked = fake.asked.lock().unwrap();
        let Some(Task::Delta(task)) = &asked[0].question.task else { panic!("{:?}", asked[0].question) };
        assert_eq!((asked.len(), task.steps, task.learning_rate), (1, 3, 0.25));
        assert_eq!(asked[0].patients.len(), 18, "everybody");
        assert!(fake.opened.lock().unwrap()[0].clipping.is_none());
    }
}

fn alternating(plan: &mut consilium_proto::plan::Plan) {
    plan.adapter.mode = AdapterMode::Alternate;
    plan.adapter.tensors.iter_mut().for_each(|tensor| tensor.trained = true);
    if let Some(local) = &mut plan.privacy.local {
        local.proximal = 0.5;
    }
}

/// Rounds in turn: the trainer is told what rests, an honest answer has zeros there, and FedProx's μ stands in the question.
#[test]
fn what_rests_in_a_round_is_told_and_stays_zero() {
    for unit in
        [PrivacyUnit::Patient, PrivacyUnit::PatientLocal, PrivacyUnit::Organization, PrivacyUnit::None]
    {
        let bench = Bench::with(unit, alternating);
        let fake = bench.fake(Behaviour::Honest);
        let mut trainer = bench.trainer(|_| {});
        bench.encode(&mut trainer).unwrap();
        let asked = fake.asked.lock().unwrap();
        for asked in asked.iter() {
            let resting = &asked.question.resting;
            assert!(!resting.is_empty() && resting.iter().all(|name| name.contains("lora_A")), "{resting:?}");
        }
        if let Some(Task::Delta(task)) = &asked[0].question.task {
            assert_eq!(task.proximal, 0.5, "{unit:?}");
        }
        // The other factor's turn.
        let mut moved = bench.state.clone();
        moved.apply(&vec![0.0; bench.plan.derived().manifest.dimension()]).unwrap();
        assert!(!moved.still().is_empty() && moved.still() != bench.state.still());
    }
}

#[test]
fn a_trainer_that_moves_what_rests_is_refused_by_name() {
    for unit in
        [PrivacyUnit::Patient, PrivacyUnit::PatientLocal, PrivacyUnit::Organization, PrivacyUnit::None]
    {
        let bench = Bench::with(unit, alternating);
        let fake = bench.fake(Behaviour::Restless);
        let mut trainer = bench.trainer(|_| {});
        let text = bench.refusal(&mut trainer);
        assert!(
            text.contains("moved ") && text.contains("lora_A") && text.contains("rests in this round"),
            "{text}"
        );
        assert_eq!(bench.encode(&mut trainer), Err(LotFailed("trainer")));
        drop(fake);
        let _honest = bench.fake(Behaviour::Honest);
        bench.encode(&mut trainer).unwrap();
        // Where nothing rests, nothing is asked to.
        let plain = Bench::of(unit);
        let fake = plain.fake(Behaviour::Restless);
        plain.encode(&mut plain.trainer(|_| {})).unwrap();
        assert!(fake.asked.lock().unwrap().iter().all(|asked| asked.question.resting.is_empty()));
    }
}

#[test]
fn who_has_opted_out_is_not_named_to_a_trainer() {
    for unit in [PrivacyUnit::Patient, PrivacyUnit::PatientLocal, PrivacyUnit::None] {
        let bench = Bench::of(unit);
        let fake = bench.fake(Behaviour::Honest);
        let path = bench.consortium.path("site-1.csv");
        let config = DataConfig {
            path,
            text_column: String::new(),
            label_column: String::new(),
            patient_column: "patient_id".into(),
        };
        let data = Dataset::load_patients(&config).unwrap();
        assert_eq!(data.patient_ids().len(), 18);
        let list = bench.consortium.path("out.txt");
        std::fs::write(&list, "p2\np3\np17\n").unwrap();
        let trainer = bench.trainer(|setup| setup.patients = data.patient_ids());
        let mut trainer = Consenting::new(trainer, OptOut::new(list.clone(), &data));
        let encode = |trainer: &mut Consenting<ExternalTrainer>| {
            encode_lot(&bench.plan, trainer, &bench.state, &mut StdRng::seed_from_u64(7))
        };
        for _ in 0..6 {
            encode(&mut trainer).unwrap();
        }
        let asked: Vec<String> =
            fake.asked.lock().unwrap().iter().flat_map(|asked| asked.patients.clone()).collect();
        assert!(asked.len() > 20 && asked.iter().all(|id| !["p2", "p3", "p17"].contains(&id.as_str())));
        std::fs::remove_file(&list).unwrap();
        let before = fake.asked.lock().unwrap().len();
        assert_eq!(encode(&mut trainer).unwrap_err(), LotFailed("opt-out"));
        assert_eq!(fake.asked.lock().unwrap().len(), before, "without its list nobody is asked for");
    }
}

#[test]
fn nobody_there_is_named_and_cured_by_starting_it() {
    let bench = Bench::of(PrivacyUnit::Patient);
    let mut trainer = bench.trainer(|_| {});
    let text = bench.refusal(&mut trainer);
    assert!(text.contains("cannot be reached") && text.contains("start it"), "{text}");
    let fake = bench.fake(Behaviour::Honest);
    bench.encode(&mut trainer).unwrap();
    drop(fake);
    // Killed between two rounds, and started again as another one.
    assert_eq!(bench.encode(&mut trainer), Err(LotFailed("trainer")));
    let _fake = bench.fake(Behaviour::Introduces(|reply| reply.digest = vec![9; 32]));
    bench.encode(&mut trainer).unwrap();
    let seen = read_seen(bench.consortium.folder.path()).unwrap();
    let digests: Vec<&str> = seen.iter().map(|seen| &seen.digest[..2]).collect();
    assert_eq!(digests, ["05", "09"], "the manifest will name both");
}

#[test]
fn a_hung_trainer_is_given_up_when_its_time_is_over_or_nobody_waits() {
    let bench = Bench::of(PrivacyUnit::Patient);
    let _fake = bench.fake(Behaviour::Hangs);
    let mut trainer = bench.trainer(|setup| setup.answer = Some(Duration::from_millis(300)));
    let text = bench.refusal(&mut trainer);
    assert!(text.contains("did not answer within"), "{text}");

    // The attempt's own end counts where it comes first.
    let mut trainer = bench.trainer(|_| {});
    let late = Attempt { deadline: Instant::now(), ..attempt(&Arc::new(AtomicBool::new(true))) };
    trainer.begin(late);
    let text = bench.refusal(&mut trainer);
    assert!(text.contains("did not answer within"), "{text}");

    let wanted = Arc::new(AtomicBool::new(true));
    trainer.begin(attempt(&wanted));
    let stop = std::thread::spawn({
        let wanted = wanted.clone();
        move || wanted.store(false, Ordering::Relaxed)
    });
    let text = bench.refusal(&mut trainer);
    stop.join().unwrap();
    assert!(text.contains("the attempt is over"), "{text}");

    let _honest = bench.fake(Behaviour::Honest);
    bench.encode(&mut trainer).unwrap();
}

#[test]
fn a_socket_of_another_user_is_not_spoken_to() {
    let bench = Bench::of(PrivacyUnit::Patient);
    let fake = bench.fake(Behaviour::Honest);
    let place = Place::Socket { path: bench.socket.clone(), user: Some(4_000_000_000) };
    let mut trainer = bench.trainer(|setup| setup.place = place);
    let text = bench.refusal(&mut trainer);
    assert!(text.contains("not 4000000000 (external.user)"), "{text}");
    assert!(fake.opened.lock().unwrap().is_empty());
}

#[test]
fn a_patient_that_does_not_exist_is_not_asked_for() {
    let bench = Bench::of(PrivacyUnit::Patient);
    let error = bench.trainer(|_| {}).sum(&tensors(&bench.state), &[17, 18], &[]).err().unwrap();
    assert!(matches!(error, TrainError::NoSuchPatient { patient: 18, patients: 18 }), "{error}");
    let mut short = tensors(&bench.state);
    short.insert("head.bias".into(), vec![0.0]);
    let error = bench.trainer(|_| {}).sum(&short, &[1], &[]).err().unwrap();
    assert!(error.to_string().contains("head.bias"), "{error}");
}

/// A lot so large that its sum does not fit four bytes is asked for in eight.
#[test]
fn wide_sums_are_asked_for_wide() {
    let bench = Bench::of(PrivacyUnit::Patient);
    let fake = bench.fake(Behaviour::Honest);
    let mut trainer = bench.trainer(|_| {});
    trainer.bound = 1e9;
    let sum = trainer.sum(&tensors(&bench.state), &[0, 1, 2], &[]).unwrap();
    assert_eq!((sum.values[0], sum.values.last(), sum.patients), (3, Some(&6), 3));
    let asked = fake.asked.lock().unwrap();
    assert!(matches!(&asked[0].question.task, Some(Task::Sum(task)) if task.value_bytes == 8));
}

/// The trainer's side, as a trainer of any language would configure it: its key, and the client's certificate as the only root.
fn server(folder: &Path) -> ServerConfig {
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let certificate = |name: &str| CertificateDer::from_pem_slice(&read(name)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate(tls::CLIENT_CERTIFICATE)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![certificate(tls::TRAINER_CERTIFICATE)],
            PrivateKeyDer::from_pem_slice(&read(tls::TRAINER_KEY)).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

#[test]
fn over_tcp_only_the_pinned_pair_speaks() {
    let bench = Bench::of(PrivacyUnit::Patient);
    let keys = |name: &str| {
        let folder = bench.consortium.path(name);
        std::fs::create_dir(&folder).unwrap();
        tls::make_keys(&folder).unwrap();
        folder
    };
    let (own, other) = (keys("own"), keys("other"));
    assert!(tls::make_keys(&own).is_err(), "never overwritten");
    let (fake, address) = Fake::listen_tls(server(&own), Behaviour::Honest);
    let through = |client: &Path, trainer: &Path| {
        let mixed = tempfile::tempdir().unwrap();
        for (folder, name) in [
            (client, tls::CLIENT_KEY),
            (client, tls::CLIENT_CERTIFICATE),
            (trainer, tls::TRAINER_CERTIFICATE),
        ] {
            std::fs::copy(folder.join(name), mixed.path().join(name)).unwrap();
        }
        let place = Place::Tcp { address: address.clone(), tls: tls::client_config(mixed.path()).unwrap() };
        bench.trainer(|setup| setup.place = place)
    };
    bench.encode(&mut through(&own, &own)).unwrap();
    let opened = fake.opened.lock().unwrap().len();
    for mut wrong in [through(&own, &other), through(&other, &own)] {
        let adapter = tensors(&bench.state);
        let error = wrong.sum(&adapter, &[0], &[]).err().unwrap().to_string();
        assert!(error.contains("cannot be reached") || error.contains("broke off"), "{error}");
    }
    assert_eq!(fake.opened.lock().unwrap().len(), opened, "nothing was said to the wrong one");
    // A key that others can read is not used.
    crate::config::support::set_mode(&own.join(tls::CLIENT_KEY), 0o644);
    assert!(tls::client_config(&own).is_err());
}
