//! Every way in which a configuration, or what it names, can be wrong: the message names it and says what to do.

use std::{collections::BTreeSet, fs};

use jiff::civil::date;

use super::{
    support::{self, Consortium, id, set_mode, valid_until},
    *,
};

fn load(consortium: &Consortium) -> Result<Loaded, ConfigError> {
    Loaded::load(&consortium.path("site-1.toml"), date(2026, 11, 23))
}

/// The error after `change`, which must contain every one of `parts`.
fn refused(consortium: &Consortium, parts: &[&str]) -> ConfigError {
    let error = load(consortium).err().unwrap_or_else(|| panic!("was not refused: {parts:?}"));
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
    error
}

#[test]
fn everything_that_fits_together_loads() {
    let consortium = Consortium::new();
    let loaded = load(&consortium).unwrap();
    assert_eq!(loaded.identity.id, id("site-1"));
    assert_eq!(loaded.roster.digest(), consortium.pin());
    assert_eq!(loaded.plan.document().job, id("demo"));
    assert_eq!(loaded.config.state, consortium.path("site-1-state"), "relative to the config file");
    assert_eq!(loaded.config.ledger(), consortium.path("site-1-state/ledger.journal"));
    assert_eq!(loaded.config.training, Training { threads: 1, cache_mib: 512, ..Training::default() });
    assert_eq!((loaded.config.log, loaded.policy.total_budget()), (LogFormat::Json, None));
    assert!(!consortium.path("site-1-state").exists(), "loading creates nothing");
    let spec = adapter_spec(loaded.plan.document());
    assert_eq!((spec.rank, spec.labels, spec.layers), (4, 3, Some(vec![1])));
}

#[test]
fn the_shipped_example_is_what_this_version_reads() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("client.example.toml");
    let config = Config::load(&path).unwrap();
    assert_eq!(config.data.name, id("discharge-letters"));
    assert_eq!(config.open_policy().unwrap().total_budget(), Some((12.0, 1e-5)));
    assert_eq!(config.identity, path.with_file_name("keys/site-1/identity.toml"));
    assert_eq!(config.log, LogFormat::Text);
    // And it shows every field there is: an unknown one makes serde list the known ones.
    let text = fs::read_to_string(&path).unwrap();
    let external = fs::read_to_string(path.with_file_name("client.external.example.toml")).unwrap();
    for (section, known) in [
        ("", 20),
        ("[proxy]\n", 2),
        ("[data]\n", 6),
        ("[training]\n", 6),
        ("[output]\n", 1),
        ("[external]\n", 6),
    ] {
        let text = if section == "[external]\n" { &external } else { &text };
        let bent = text.replacen(section, &format!("{section}zzz = 1\n"), 1);
        let message = toml::from_str::<Config>(&bent).unwrap_err().message().to_owned();
        let fields: BTreeSet<&str> = message.split('`').skip(3).step_by(2).collect();
        assert_eq!(fields.len(), known, "{message}");
        for field in fields {
            let shown = text.lines().chain(external.lines()).any(|line| {
                let line = line.trim_start_matches("# ");
                line.starts_with(&format!("{field} =")) || line == format!("[{field}]")
            });
            assert!(shown, "the example does not show {field}");
        }
    }
}

#[test]
fn the_shipped_example_of_a_trainer_outside_the_client_is_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("client.external.example.toml");
    let config = Config::load(&path).unwrap();
    assert!(config.is_external() && config.model.is_none());
    let external = config.external.unwrap();
    assert_eq!(external.socket.unwrap(), path.with_file_name("run/trainer.sock"));
    assert_eq!(external.answer_s, Some(300));
}

#[test]
fn what_belongs_to_one_kind_of_trainer_is_refused_with_the_other() {
    let external = "[training]\ntrainer = \"external\"\n";
    for (added, expected) in [
        (external.to_owned(), "training.trainer = \"external\" needs [external]"),
        ("[external]\nsocket = \"s\"\n".to_owned(), "write training.trainer = \"external\""),
        (format!("{external}[external]\nsocket = \"s\"\naddress = \"a:1\"\n"), "write either socket"),
        (format!("{external}[external]\n"), "write either socket"),
        (format!("{external}[external]\naddress = \"a:1\"\n"), "consilium-client trainer keys"),
        (format!("{external}[external]\nsocket = \"s\"\nanswer_s = 0\n"), "external.answer_s = 0"),
        (format!("{external}[external]\nsockt = \"s\"\n"), "did you mean `socket`?"),
        ("[training]\ntrainer = \"extern\"\n".to_owned(), "did you mean `external`?"),
    ] {
        let consortium = Consortium::new();
        let text = fs::read_to_string(consortium.path("site-1.toml")).unwrap();
        fs::write(consortium.path("site-1.toml"), text + &added).unwrap();
        refused(&consortium, &[expected]);
    }
    let consortium = Consortium::new();
    consortium.edit("site-1.toml", "text_column = \"text\"\n", "");
    refused(&consortium, &["data.text_column", "the built-in trainer needs it"]);
    let consortium = Consortium::new();
    let text = fs::read_to_string(consortium.path("site-1.toml")).unwrap();
    let text: String =
        text.lines().filter(|line| !line.starts_with("model")).flat_map(|l| [l, "\n"]).collect();
    fs::write(consortium.path("site-1.toml"), text).unwrap();
    refused(&consortium, &["model = absent", "name the model's folder"]);
}

/// A model that the client knows is still compared with the plan, and gives a PEFT folder; one that it does not know is compared
/// all the same.
#[test]
fn a_model_beside_an_external_trainer_is_the_plans_or_refused() {
    let consortium = Consortium::new();
    let text = fs::read_to_string(consortium.path("site-1.toml")).unwrap();
    let external = "[training]\ntrainer = \"external\"\n[external]\nsocket = \"s\"\n";
    fs::write(consortium.path("site-1.toml"), text + external).unwrap();
    let load = || Loaded::load(&consortium.path("site-1.toml"), date(2026, 11, 23));
    assert!(load().unwrap().model().is_ok());
    let copy = consortium.path("copy");
    fs::create_dir(&copy).unwrap();
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        fs::copy(Path::new(support::MODEL).join(file), copy.join(file)).unwrap();
    }
    consortium.edit("site-1.toml", support::MODEL, "copy");
    assert!(load().unwrap().model().is_ok());
    fs::write(copy.join("tokenizer.json"), "{}").unwrap();
    let error = load().unwrap_err().to_string();
    assert!(error.contains("tokenizer.json") && error.contains("its digest is"), "{error}");
    consortium.edit("site-1.toml", "model = \"copy\"\n", "");
    let loaded = load().unwrap();
    assert!(loaded.model().unwrap_err().to_string().contains("name `model` in the config"));
}

#[test]
fn an_unknown_field_is_named_with_its_nearest_neighbour_and_its_line() {
    let consortium = Consortium::new();
    consortium.edit("site-1.toml", "organization =", "organisation =");
    refused(&consortium, &["site-1.toml", "line 1", "organisation", "did you mean `organization`?"]);

    let consortium = Consortium::new();
    consortium.edit("site-1.toml", "patient_column", "pateint_column");
    refused(&consortium, &["unknown field `pateint_column`", "did you mean `patient_column`?"]);

    let consortium = Consortium::new();
    consortium.edit("site-1.toml", "[data]", "log = \"jsno\"\n\n[data]");
    refused(&consortium, &["jsno", "did you mean `json`?"]);

    let consortium = Consortium::new();
    consortium.edit("site-1.toml", "roster_pin", "# roster_pin");
    refused(&consortium, &["roster_pin"]);
}

#[test]
fn values_out_of_range_are_named() {
    for (from, to, parts) in [
        ("127.0.0.1:7400", "127.0.0.1", ["coordinator", "host:port"]),
        ("127.0.0.1:7400", "127.0.0.1:0", ["coordinator", "127.0.0.1:0"]),
        ("127.0.0.1:7400", "::1:7400", ["coordinator", "[2001:db8::1]:7400"]),
        ("[data]", "transport = \"inspected\"\n[data]", ["inspection_ca = none", "goes with transport"]),
        ("[data]", "inspection_ca = \"ca.pem\"\n[data]", ["inspection_ca", "and only with it"]),
        ("[data]", "[training]\nthreads = 0\n[data]", ["training.threads = 0", "1 to 256"]),
        ("name = \"titles\"", "name = \"My Titles\"", ["My Titles", "a-z"]),
    ] {
        let consortium = Consortium::new();
        consortium.edit("site-1.toml", from, to);
        refused(&consortium, &parts);
    }
    let consortium = Consortium::new();
    consortium.edit("site-1.toml", "127.0.0.1:7400", "[::1]:7400");
    load(&consortium).unwrap();
}

#[test]
fn missing_files_are_named_with_their_field() {
    for (file, parts) in [
        ("site-1.key", ["identity", "keygen"]),
        ("roster.toml", ["config: roster", "roster.toml"]),
        ("plan.toml", ["config: plan", "plan.toml"]),
        ("site-1.csv", ["data.path", "site-1.csv"]),
        ("test.csv", ["evaluation.path", "test.csv"]),
        ("site-1.toml", ["site-1.toml", "No such file"]),
    ] {
        let consortium = Consortium::new();
        fs::remove_file(consortium.path(file)).unwrap();
        refused(&consortium, &parts);
    }
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let consortium = Consortium::new();
    set_mode(&consortium.path("site-1.key"), 0o644);
    refused(&consortium, &["0644", "chmod 600"]);
}

#[test]
fn an_identity_must_be_this_organizations() {
    let consortium = Consortium::new();
    consortium.edit("site-1.toml", "site-1.key", "site-2.key");
    refused(&consortium, &["site-1", "site-2's", "site-2.key"]);

    let consortium = Consortium::new();
    fs::write(consortium.path("site-1.key"), "id = \"site-1\"\nsecret-looking = 1\n").unwrap();
    let error = refused(&consortium, &["site-1.key"]);
    assert!(!error.to_string().contains("secret-looking"), "{error}");
}

#[test]
fn unlisted_and_replaced_keys_are_named() {
    let consortium = Consortium::with(|draft| draft.roster.organizations[0].id = id("elsewhere"));
    // The roster of others is not signed by its new member; here it is only about what this client says first.
    let error = load(&consortium).unwrap_err();
    assert!(matches!(error, ConfigError::Roster { .. }), "{error}");

    let consortium = Consortium::new();
    consortium.edit("site-1.toml", "organization = \"site-1\"", "organization = \"coordinator\"");
    consortium.edit("site-1.toml", "identity = \"site-1.key\"", "identity = \"coordinator.key\"");
    refused(&consortium, &["coordinator is not in the roster of clinics", "site-1, site-2, site-3"]);

    let consortium = Consortium::new();
    let fresh = consilium_proto::identity::Identity::generate(id("site-1"), [77; 32]).unwrap();
    fs::write(consortium.path("site-1.key"), fresh.to_text().expose()).unwrap();
    let listed = consortium.roster.organizations[0].signing_key.to_string();
    refused(
        &consortium,
        &["signing key of site-1", &listed, &fresh.signing_key().verifying_key().to_string()],
    );

    let consortium = Consortium::new();
    let seed = consortium.identities[0].signing_key().seed();
    let other_tls = consilium_proto::identity::Identity::generate(id("site-1"), *seed.expose()).unwrap();
    fs::write(consortium.path("site-1.key"), other_tls.to_text().expose()).unwrap();
    refused(&consortium, &["TLS key of site-1", &consortium.roster.organizations[0].tls_key.to_string()]);
}

#[test]
fn keys_end_with_their_last_day() {
    let consortium = Consortium::new();
    let load_on = |day| Loaded::load(&consortium.path("site-1.toml"), day);
    assert!(load_on(valid_until()).is_ok());
    let error = load_on(date(2100, 1, 1)).unwrap_err().to_string();
    assert!(error.contains("site-1") && error.contains("2099-12-31"), "{error}");

    let consortium = Consortium::with(|draft| draft.roster.coordinator.valid_until = date(2026, 11, 22));
    refused(&consortium, &["coordinator", "2026-11-22"]);
}

#[test]
fn a_roster_must_be_the_pinned_one_and_signed_by_all() {
    let consortium = Consortium::new();
    let pin = consortium.pin().to_string();
    consortium.edit("site-1.toml", &pin, &"ab".repeat(32));
    refused(&consortium, &["roster.toml", &pin, &"ab".repeat(32), "telephone"]);

    let consortium = Consortium::new();
    consortium.edit("roster.toml.sig", "site-2 ", "# site-2 ");
    refused(&consortium, &["roster.toml", "missing: site-2"]);

    let consortium = Consortium::new();
    fs::write(consortium.path("roster.toml.sig"), "site-1 xyz\n").unwrap();
    refused(&consortium, &["roster.toml.sig", "line 1"]);
}

#[test]
fn a_plan_must_be_signed_as_the_roster_demands() {
    let consortium = Consortium::with(|draft| draft.signers.truncate(2));
    refused(&consortium, &["plan.toml", "needs 3", "has 2", "missing: site-3"]);

    let consortium = Consortium::new();
    fs::remove_file(consortium.path("plan.toml.sig")).unwrap();
    refused(&consortium, &["needs 3", "has 0 (nobody)"]);

    let consortium = Consortium::new();
    consortium.edit("plan.toml", "rounds = 20", "rounds = 21");
    refused(&consortium, &["plan.toml", "site-1", "another text"]);
}

#[test]
fn the_model_must_be_the_plans_byte_for_byte() {
    let consortium = Consortium::new();
    consortium.edit("site-1.toml", support::MODEL, "nowhere");
    refused(&consortium, &["nowhere", "config.json, tokenizer.json and model.safetensors"]);

    let consortium = Consortium::new();
    let folder = consortium.path("model");
    fs::create_dir(&folder).unwrap();
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        fs::copy(Path::new(support::MODEL).join(file), folder.join(file)).unwrap();
    }
    consortium.edit("site-1.toml", support::MODEL, "model");
    load(&consortium).unwrap();
    let text = fs::read_to_string(folder.join("config.json")).unwrap();
    fs::write(folder.join("config.json"), text + "\n").unwrap();
    refused(&consortium, &["config.json", "plan was made for", "(tiny)"]);
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    refused(&consortium, &["`model.safetensors` is missing"]);
}

#[test]
fn a_plan_must_fit_its_own_model() {
    let consortium = Consortium::with(|draft| draft.plan.adapter.tensors[0].trained = true);
    refused(&consortium, &["lora_A", "must not"]);
    let consortium = Consortium::with(|draft| {
        draft.plan.adapter.tensors.remove(1);
    });
    refused(&consortium, &["query.lora_B.weight", "is missing"]);
    let consortium = Consortium::with(|draft| draft.plan.adapter.tensors[5].shape = vec![3, 31]);
    refused(&consortium, &["head.weight", "[3, 31]", "[3, 32]"]);
    let consortium = Consortium::with(|draft| {
        let mut stray = draft.plan.adapter.tensors[5].clone();
        stray.name = "zzz".to_owned();
        draft.plan.adapter.tensors.push(stray);
    });
    refused(&consortium, &["zzz", "not one of"]);
}

#[test]
fn the_evaluator_needs_a_test_set_and_others_do_not() {
    let consortium = Consortium::new();
    for site in ["site-1.toml", "site-2.toml"] {
        let text = fs::read_to_string(consortium.path(site)).unwrap();
        fs::write(consortium.path(site), text.split("[evaluation]").next().unwrap()).unwrap();
    }
    refused(&consortium, &["names site-1 as evaluator", "[evaluation]"]);
    Loaded::load(&consortium.path("site-2.toml"), date(2026, 11, 23)).unwrap();
}

#[test]
fn a_list_of_who_opted_out_must_be_where_the_config_says() {
    let consortium = Consortium::new();
    consortium.edit("site-1.toml", "patient_column", "opt_out = \"opt-out.txt\"\npatient_column");
    refused(&consortium, &["data.opt_out", "opt-out.txt", "an empty file says that nobody"]);
    fs::write(consortium.path("opt-out.txt"), "").unwrap();
    load(&consortium).unwrap();
}

#[test]
fn a_delta_that_is_no_promise_to_so_many_patients_is_refused() {
    check_delta(1e-5, Some((12.0, 1e-6)), 99_999).unwrap();
    for (delta, total, patients, field) in [
        (1e-5, None, 100_000, "privacy.delta"),
        (1e-5, Some((12.0, 1e-6)), 200_000, "privacy.delta"),
        (1e-7, Some((12.0, 1e-6)), 1_000_000, "delta_total"),
    ] {
        let text = check_delta(delta, total, patients).unwrap_err().to_string();
        assert!(text.contains(field) && text.contains(&format!("{patients} patients")), "{text}");
    }
}

/// The second version of the roster, with another last day for the coordinator, signed by everybody.
fn second_version(consortium: &Consortium) {
    use consilium_proto::signed::{Kind, Signatures};
    let mut next = consortium.roster.clone();
    (next.version, next.previous) = (2, Some(consortium.pin()));
    next.coordinator.valid_until = date(2098, 1, 1);
    let text = next.to_text().unwrap();
    let mut signatures = Signatures::default();
    for identity in &consortium.identities[..3] {
        signatures.add(Kind::Roster, &text, &identity.id, identity.signing_key());
    }
    fs::write(consortium.path("roster.2.toml"), text).unwrap();
    fs::write(consortium.path("roster.2.toml.sig"), signatures.to_text()).unwrap();
}

#[test]
fn r7_a_rolled_back_roster_is_refused_by_name() {
    let consortium = Consortium::new();
    let config = Config::load(&consortium.path("site-1.toml")).unwrap();
    let first = config.open_roster().unwrap();
    second_version(&consortium);
    let second = config.open_roster().unwrap();
    assert_eq!((first.version(), second.version()), (1, 2));
    assert_eq!(second.genesis(), consortium.pin(), "the pin stays");
    // A plan for the first version is for a roster that the chain has left behind.
    refused(&consortium, &["plan was made for version 1", "has come to version 2"]);
    fs::create_dir(consortium.path("site-1-state")).unwrap();
    config.remember_roster(&first).unwrap();
    config.remember_roster(&second).unwrap();
    config.remember_roster(&second).unwrap();
    assert!(config.open_roster().is_ok());
    // Somebody takes the second version away.
    fs::remove_file(consortium.path("roster.2.toml")).unwrap();
    let error = refused(&consortium, &["ends with version 1", "version 2", "rolled back"]);
    assert!(matches!(error, ConfigError::Roster { ref source, .. } if source.check() == "R7"), "{error}");
    // One state folder serves two consortia: the other's chain is its own.
    assert_eq!(fs::read_dir(consortium.path("site-1-state")).unwrap().count(), 1);
}

#[test]
fn a_revoked_key_of_its_own_is_named() {
    use consilium_proto::roster::revocation::Revocations;
    let consortium = Consortium::new();
    let mut revocations = Revocations::default();
    let own = &consortium.identities[0];
    revocations.add(&consortium.pin(), &own.id, 1, own.signing_key());
    fs::write(consortium.path("roster.toml.revoked"), revocations.to_text()).unwrap();
    refused(&consortium, &["site-1 has revoked the signing key", "next version"]);
    fs::write(consortium.path("roster.toml.revoked"), "site-2 1 zz zz\n").unwrap();
    refused(&consortium, &["roster.toml.revoked", "line 1"]);
}

/// A safetensors file of one tensor.
fn one_tensor(name: &str, shape: &[usize], value: f32) -> Vec<u8> {
    let bytes: Vec<u8> = (0..shape.iter().product()).flat_map(|_| value.to_le_bytes()).collect();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.to_vec(), &bytes).unwrap();
    safetensors::serialize([(name, view)], None).unwrap()
}

#[test]
fn a_job_goes_on_from_the_values_that_its_plan_names() {
    const B: &str = "base_model.model.encoder.layer.1.attention.self.query.lora_B.weight";
    let file = one_tensor(B, &[32, 4], 0.5);
    let founded = |file: &[u8]| {
        let digest = Digest::of(file);
        let consortium = Consortium::with(|draft| draft.plan.adapter.start = Some(digest));
        fs::write(consortium.path("plan.toml.start"), file).unwrap();
        consortium
    };
    let consortium = founded(&file);
    let load = || Loaded::load(&consortium.path("site-1.toml"), today());
    let started = consilium_proto::release::initial_state(&load().unwrap().plan).unwrap();
    let plain = Consortium::new();
    let drawn = Loaded::load(&plain.path("site-1.toml"), today()).unwrap();
    let drawn = consilium_proto::release::initial_state(&drawn.plan).unwrap();
    for ((tensor, values), (_, before)) in started.tensors().zip(drawn.tensors()) {
        if tensor.name == B {
            assert!(values.iter().all(|&value| value == 0.5));
        } else {
            assert_eq!(values, before, "{}", tensor.name);
        }
    }
    fs::write(consortium.path("plan.toml.start"), one_tensor(B, &[32, 4], 0.25)).unwrap();
    let error = load().unwrap_err().to_string();
    assert!(error.contains("adapter.start") && error.contains("fetch the one that was signed"), "{error}");
    fs::remove_file(consortium.path("plan.toml.start")).unwrap();
    let error = load().unwrap_err().to_string();
    assert!(error.contains("is not beside the plan, PLAN.start"), "{error}");
    for (file, expected) in [
        (one_tensor(B, &[4, 32], 0.5), "is F32 [4, 32], expected F32 [32, 4]"),
        (one_tensor("head.bios", &[3], 0.5), "`head.bios` is not one of this adapter's"),
        (one_tensor("head.bias", &[3], f32::NAN), "element 0 is not a finite number"),
        (b"not a safetensors file".to_vec(), "not sound safetensors"),
    ] {
        let error = Loaded::load(&founded(&file).path("site-1.toml"), today()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}\n  should say: {expected}");
    }
}
