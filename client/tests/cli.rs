//! The command line, by the real binary: what it prints, what it writes, how it ends.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used)]

mod cli_support;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use cli_support::{Consortium, id, set_unit};
use consilium_client::ledger::{Debit, LEDGER_FILE, LedgerFile};
use consilium_crypto::{
    digest::Digest,
    sign::{Signature, verify},
};
use consilium_proto::{
    identity::Identity,
    plan::PrivacyUnit,
    release::initial_state,
    roster::Roster,
    signed::{Kind, Signatures, fingerprint},
};
use serde_json::Value;

/// What a command did.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{}", self.err);
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }

    #[track_caller]
    fn failed(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        for part in parts {
            assert!(self.err.contains(part), "{part:?} is missing in: {}", self.err);
        }
    }
}

fn run_in(folder: &Path, arguments: &[&str]) -> Ran {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_consilium-client"))
        .args(arguments)
        .current_dir(folder)
        .env_remove("CONSILIUM_LOG")
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: status.code().unwrap(), out: text(stdout), err: text(stderr) }
}

fn run(consortium: &Consortium, line: &str) -> Ran {
    run_in(consortium.folder.path(), &line.split(' ').collect::<Vec<_>>())
}

/// The text with what differs from run to run replaced: digests, and this test's folder.
fn stable(consortium: &Consortium, text: &str) -> String {
    let text = text.replace(&consortium.folder.path().display().to_string(), "DIR");
    let mut out = String::new();
    let mut word = String::new();
    for c in text.chars().chain(['\0']) {
        if c.is_ascii_hexdigit() {
            word.push(c);
            continue;
        }
        out += if word.len() == 64 { "DIGEST" } else { &word };
        word.clear();
        if c != '\0' {
            out.push(c);
        }
    }
    out
}

#[test]
fn help_shows_every_command_with_an_example_and_the_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let help = run_in(folder.path(), &["--help"]);
    assert_eq!(help.code, 0);
    assert!(help.out.contains("Exit codes:"), "{}", help.out);
    let commands =
        ["run", "check", "policy", "keygen", "sign", "fingerprint", "evaluate", "baseline", "export"];
    let nested = [
        vec!["ledger", "show"],
        vec!["ledger", "verify"],
        vec!["state", "recover"],
        vec!["plan", "explain"],
        vec!["plan", "approve"],
        vec!["plan", "reject"],
        vec!["plan", "rehearse"],
        vec!["egress", "list"],
        vec!["egress", "export"],
        vec!["egress", "verify"],
        vec!["pause"],
        vec!["resume"],
        vec!["stop"],
        vec!["leave"],
        vec!["status"],
        vec!["doctor"],
        vec!["metrics"],
    ];
    for command in commands.iter().map(|command| vec![*command]).chain(nested) {
        assert!(help.out.contains(command[0]), "{command:?} is not listed: {}", help.out);
        let own = run_in(folder.path(), &[command.as_slice(), &["--help"]].concat());
        assert!(own.code == 0 && own.out.contains("Example"), "{command:?}: {}{}", own.out, own.err);
    }
    for wrong in [vec!["trian"], vec!["run"], vec!["keygen", "--id", "Not An Id", "--out", "x"]] {
        assert_eq!(run_in(folder.path(), &wrong).code, 2, "{wrong:?}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_consortium_is_founded_by_the_commands_alone() {
    let consortium = Consortium::new();
    let mut public = String::new();
    for name in ["north", "south", "west", "hub"] {
        let made = run(&consortium, &format!("keygen --id {name} --out {name} --valid-until 2099-12-31"));
        assert_eq!(made.code, 0, "{}", made.err);
        let path = consortium.path(name).join("identity.toml");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let private = fs::read_to_string(&path).unwrap();
        for line in private.lines().filter(|line| line.contains("key = ")) {
            let secret = line.split('"').nth(1).unwrap();
            assert!(!made.out.contains(secret) && !made.err.contains(secret), "a private key was printed");
        }
        let party = fs::read_to_string(consortium.path(name).join("party.toml")).unwrap();
        public += &format!("{}\n{party}\n", if name == "hub" { "[coordinator]" } else { "[[organization]]" });
    }
    let text = format!("version = 1\nconsortium = \"trio\"\nquorum = 3\n\n{public}");
    assert_eq!(Roster::parse(&text).unwrap().organizations.len(), 3);
    fs::write(consortium.path("trio.toml"), &text).unwrap();

    let told = run(&consortium, "fingerprint roster trio.toml");
    assert_eq!(told.out.trim(), fingerprint(Kind::Roster, &text).to_string());
    for (count, name) in (1..).zip(["north", "south", "west"]) {
        let signed =
            run(&consortium, &format!("sign roster trio.toml --identity {name}/identity.toml --json")).json();
        assert_eq!(signed["signer"], name);
        assert_eq!(signed["signers"].as_array().unwrap().len(), count, "lines are put together");
    }
    let signatures =
        Signatures::parse(&fs::read_to_string(consortium.path("trio.toml.sig")).unwrap()).unwrap();
    Roster::verify(&text, &signatures, &fingerprint(Kind::Roster, &text)).unwrap();

    run(&consortium, "sign roster trio.toml --identity hub/identity.toml").failed(3, &["does not list hub"]);
    run(&consortium, "keygen --id north --out north").failed(3, &["north", "not overwritten"]);
    run(&consortium, "keygen --id new --out new --valid-until 2020-01-01").failed(3, &["2020-01-01 is over"]);
    assert!(!consortium.path("new").exists());
    run(&consortium, "fingerprint plan trio.toml").failed(3, &["trio.toml", "plan does not parse"]);
    cli_support::set_mode(&consortium.path("north/identity.toml"), 0o640);
    run(&consortium, "sign roster trio.toml --identity north/identity.toml")
        .failed(3, &["0640", "chmod 600"]);
}

#[test]
fn signing_again_changes_nothing_but_a_stale_line() {
    let consortium = Consortium::new();
    let before = fs::read_to_string(consortium.path("plan.toml.sig")).unwrap();
    let signed = run(&consortium, "sign plan plan.toml --identity site-2.key");
    assert_eq!(
        stable(&consortium, &signed.out),
        "site-2 signed the plan with fingerprint\n  DIGEST\nplan.toml.sig now has the lines of site-1, site-2, site-3\n"
    );
    assert_eq!(fs::read_to_string(consortium.path("plan.toml.sig")).unwrap(), before);
    consortium.edit("plan.toml", "rounds = 20", "rounds = 21");
    for site in ["site-1", "site-2", "site-3"] {
        assert_eq!(run(&consortium, &format!("sign plan plan.toml --identity {site}.key")).code, 0);
    }
    assert_ne!(fs::read_to_string(consortium.path("plan.toml.sig")).unwrap(), before);
    consortium.verified();
}

#[test]
fn check_says_what_would_happen_and_touches_nothing() {
    let consortium = Consortium::new();
    let checked = run(&consortium, "check --config site-1.toml");
    assert_eq!((checked.code, checked.err.as_str()), (0, ""));
    let report = run(&consortium, "check --config site-1.toml --json").json();
    let outlook = &report["outlook"];
    let (all, local) = (&outlook["epsilon_after_all_rounds"], &outlook["epsilon_local_after_all_rounds"]);
    let (_, plan) = consortium.verified();
    let guarantees = plan.derived().guarantees(20, 1e-5).unwrap();
    assert_eq!((all.as_f64(), local.as_f64()), (Some(guarantees.central), Some(guarantees.local)));
    let text = stable(&consortium, &checked.out)
        .replace(&format!("{:.4}", guarantees.central), "CENTRAL")
        .replace(&format!("{:.4}", guarantees.local), "LOCAL")
        .replace(&outlook["attempts_that_fit"].to_string(), "FIT");
    assert_eq!(
        text,
        "\
ok      config     site-1.toml
ok      identity   site-1, private
ok      roster     clinics, 3 organizations, fingerprint DIGEST
ok      own keys   listed, valid until 2099-12-31
ok      policy     none: whatever is signed is allowed
ok      ledger     nothing has been spent of this data set
ok      plan       demo, 20 rounds, fingerprint DIGEST
ok      allowed    no line of the policy forbids the plan
ok      model      tiny: 2 layers of width 32, as the plan names it
ok      tokenizer  texts are cut to 32 tokens
ok      paths      data and test set are where the config says
ok      data       36 records of 18 patients; 0 above the plan's 4 a patient are left out
ok      delta      δ is below one over the number of patients
ok      test set   36 records

What would happen: site-1 takes part in job demo of clinics
  it dials 127.0.0.1:7400 and nothing else
  up to 20 rounds, at most 3 attempts each; a lot draws about 1.8 of 18 patients (this number stays here)
  an attempt uploads 1071 masked bytes for 355 trained parameters
  privacy unit: one patient (a title stands for a patient)
  ε after all rounds, one attempt each: CENTRAL against the coordinator with the tolerated colluders, LOCAL against everybody else, δ = 1e-5
  the plan's budget is ε = 6; this job has spent 0.0000; FIT attempts fit into what is left; at one attempt a round, round 20 is the last
  it evaluates the public test set for everybody

Nothing was sent and nothing was written.
"
    );
    assert!(!consortium.path("site-1-state").exists());
}

#[test]
fn check_goes_on_after_a_failure_and_names_each() {
    let consortium = Consortium::new();
    cli_support::set_mode(&consortium.path("site-1.key"), 0o644);
    fs::write(consortium.path("site-1.csv"), "patient_id,text,label\np1,some text,unheard-of\n").unwrap();
    let checked = run(&consortium, "check --config site-1.toml");
    assert_eq!(checked.code, 3);
    let failed: Vec<&str> = checked.out.lines().filter(|line| line.starts_with("FAILED")).collect();
    assert_eq!(failed.len(), 2, "{}", checked.out);
    assert!(failed[0].contains("chmod 600"), "{}", checked.out);
    assert!(failed[1].contains("line 2") && failed[1].contains("unheard-of"), "{}", checked.out);
    let report = run(&consortium, "check --config site-1.toml --json");
    assert_eq!(report.code, 3);
    let report: Value = serde_json::from_str(&report.out).unwrap();
    assert_eq!((report["ok"].as_bool(), report.get("outlook")), (Some(false), None));

    let consortium = Consortium::new();
    consortium.edit("site-1.toml", "coordinator =", "cordinator =");
    let checked = run(&consortium, "check --config site-1.toml");
    assert!(checked.code == 3 && checked.out.contains("did you mean `coordinator`?"), "{}", checked.out);
}

#[test]
fn a_policy_is_explained_line_by_line_and_forbids_by_its_line() {
    let consortium = Consortium::new();
    run(&consortium, "policy --config site-1.toml").failed(3, &["no `policy`", "policy.example.toml"]);
    consortium.edit("site-1.toml", "state =", "policy = \"ours.toml\"\nstate =");
    fs::write(consortium.path("ours.toml"), "# ours\nleast_cohort = 3\nmax_attempts = 2\n").unwrap();
    let told = run(&consortium, "policy --config site-1.toml");
    assert_eq!(told.code, 3);
    assert_eq!(
        told.out,
        "\
ours.toml
   2  least_cohort = 3
      a cohort has at least 3 organizations
   3  max_attempts = 2
      a round has at most 2 attempts, each of which costs ε
      FORBIDS the plan: the plan allows 3 (retries.max_attempts)
The plan is forbidden here.
"
    );
    let line = "ours.toml:3: `max_attempts = 2` forbids this: the plan allows 3";
    run(&consortium, "run --config site-1.toml").failed(3, &[line]);
    let checked = run(&consortium, "check --config site-1.toml");
    assert!(checked.code == 3 && checked.out.contains(line), "{}", checked.out);
    assert!(!consortium.path("site-1-state").exists());
    consortium.edit("ours.toml", "max_attempts = 2", "max_attempts = 3");
    let told = run(&consortium, "policy --config site-1.toml --json").json();
    assert_eq!((told["allowed"].as_bool(), told["lines"].as_array().map(Vec::len)), (Some(true), Some(2)));
    fs::remove_file(consortium.path("plan.toml.sig")).unwrap();
    let told = run(&consortium, "policy --config site-1.toml");
    assert!(told.code == 0 && told.out.contains("no plan to hold it against"), "{}{}", told.out, told.err);
}

#[test]
fn run_refuses_what_check_refuses() {
    let consortium = Consortium::with(|draft| draft.signers.truncate(1));
    run(&consortium, "run --config site-1.toml").failed(3, &["plan.toml", "needs 3", "site-2, site-3"]);
    run(&consortium, "run --config absent.toml").failed(3, &["absent.toml"]);
    assert!(!consortium.path("site-1-state").exists());
}

fn spend(consortium: &Consortium, rounds: u32) {
    let (_, plan) = consortium.verified();
    let folder = consortium.path("site-1-state");
    fs::create_dir_all(&folder).unwrap();
    let (mut file, _) = LedgerFile::open(&folder.join(LEDGER_FILE), &id("titles"), &mut rand::rng()).unwrap();
    for round in 1..=rounds {
        file.append(&Debit::of(&plan, round, 1)).unwrap();
    }
}

#[test]
fn the_ledger_is_shown_and_verified() {
    let consortium = Consortium::new();
    let empty = run(&consortium, "ledger show --config site-1.toml");
    assert_eq!(empty.out, "Privacy ledger of the data set titles: 0 debits\nNothing has been spent.\n");
    run(&consortium, "ledger verify --config site-1.toml").failed(4, &["there is no ledger", "backup"]);
    assert!(!consortium.path("site-1-state").exists(), "looking creates nothing");

    spend(&consortium, 4);
    let (_, plan) = consortium.verified();
    let spent = plan.derived().guarantees(4, 1e-5).unwrap();
    let shown = run(&consortium, "ledger show --config site-1.toml --entries --json").json();
    assert_eq!(shown["total"]["epsilon"].as_f64(), Some(spent.central));
    assert_eq!(shown["jobs"][0]["epsilon_local"].as_f64(), Some(spent.local));
    assert_eq!((&shown["jobs"][0]["job"], &shown["jobs"][0]["debits"]), (&"demo".into(), &4.into()));
    assert_eq!(shown["entries"].as_array().unwrap().len(), 4);
    assert_eq!(shown["entries"][3]["round"], 4);
    let text = run(&consortium, "ledger show --config site-1.toml").out;
    let table: Vec<&str> = text.lines().skip(3).collect();
    assert_eq!(table[0].split_whitespace().next(), Some("job"));
    assert!(table[1].starts_with("demo") && table[1].contains("1 to 4"), "{text}");
    assert!(table[2].contains(&format!("{:.4}", spent.central)), "{text}");

    let verified = run(&consortium, "ledger verify --config site-1.toml --json").json();
    assert_eq!((&verified["ok"], &verified["length"]), (&true.into(), &4.into()));
    let path = consortium.path("site-1-state").join(LEDGER_FILE);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let verified = run(&consortium, "ledger verify --config site-1.toml");
    assert!(
        verified.code == 0 && verified.out.contains("ok: 3 debits") && verified.out.contains("torn"),
        "{}",
        verified.out
    );
    assert_eq!(fs::read(&path).unwrap().len(), whole.len() - 1, "a view only reads");
    let mut bent = whole;
    // The first debit: the lines before it name the owner and the salt.
    let at = String::from_utf8_lossy(&bent).find("\"round\":1").unwrap();
    bent[at + 8] ^= 1;
    fs::write(&path, &bent).unwrap();
    run(&consortium, "ledger verify --config site-1.toml").failed(4, &["ledger.journal", "line 3", "backup"]);
    run(&consortium, "ledger show --config site-1.toml").failed(4, &["line 3"]);
}

#[test]
fn check_counts_what_the_ledger_holds() {
    let consortium = Consortium::with(|draft| draft.plan.privacy.epsilon = 1.0);
    let before = run(&consortium, "check --config site-1.toml --json").json();
    let fits = before["outlook"]["attempts_that_fit"].as_u64().unwrap();
    spend(&consortium, 2);
    if fits > 2 {
        let after = run(&consortium, "check --config site-1.toml --json").json();
        assert_eq!(after["outlook"]["attempts_that_fit"].as_u64(), Some(fits - 2));
    }
    fs::remove_dir_all(consortium.path("site-1-state")).unwrap();
    spend(&consortium, u32::try_from(fits).unwrap() + 1);
    let after = run(&consortium, "check --config site-1.toml --json").json();
    assert_eq!(after["outlook"]["attempts_that_fit"].as_u64(), Some(0));
    assert!(after["outlook"]["budget_refusal"].as_str().unwrap().contains("its plan allows 1"), "{after}");
}

#[test]
fn a_baseline_is_trained_and_evaluated() {
    let consortium = Consortium::new();
    let line = "baseline --config site-1.toml --epochs 40 --lot 12 --learning-rate 0.02 --out alone --json";
    let trained = run(&consortium, line).json();
    let losses: Vec<f64> = trained["losses"].as_array().unwrap().iter().filter_map(Value::as_f64).collect();
    assert_eq!(
        (losses.len(), trained["steps"].as_u64(), trained["records"].as_u64()),
        (40, Some(120), Some(36))
    );
    assert!(losses[39] < 0.6 * losses[0], "it learns: {losses:?}");
    for file in ["adapter/adapter_config.json", "adapter/adapter_model.safetensors", "head.safetensors"] {
        assert!(consortium.path("alone").join(file).is_file(), "{file}");
    }
    assert_eq!(
        fs::read_to_string(consortium.path("alone/labels.txt")).unwrap(),
        "infection\nfracture\nneoplasm\n"
    );
    assert!(!consortium.path("alone/manifest.json").exists(), "nothing was aggregated, nothing is attested");

    let line = "evaluate --config site-1.toml --adapter alone --data test.csv --mix-of site-2.csv --json";
    let scores = run(&consortium, line).json();
    let accuracy = scores["accuracy"].as_f64().unwrap();
    assert!(accuracy > 0.6, "{scores}");
    assert_eq!((scores["examples"].as_u64(), scores["mix_covered"].as_f64()), (Some(36), Some(1.0)));
    // Every label is equally frequent in both files, so all three means agree.
    for mean in ["macro_accuracy", "mix_accuracy"] {
        assert!((scores[mean].as_f64().unwrap() - accuracy).abs() < 1e-9, "{scores}");
    }
    assert_eq!(scores["per_label"][1]["label"], "fracture");
    let line = "evaluate --config site-1.toml --adapter alone/adapter --head alone/head.safetensors --data test.csv --json";
    assert_eq!(run(&consortium, line).json()["loss"], scores["loss"], "the PEFT folder alone does as well");
    let text =
        run(&consortium, "evaluate --config site-1.toml --adapter alone --data test.csv --limit 9").out;
    assert!(text.starts_with("examples        9\nloss "), "{text}");

    let evaluate = |adapter, data| {
        run(&consortium, &format!("evaluate --config site-1.toml --adapter {adapter} --data {data}"))
    };
    evaluate("nowhere", "test.csv").failed(3, &["nowhere", "neither a PEFT folder"]);
    evaluate("alone", "nowhere.csv").failed(3, &["nowhere.csv"]);
    fs::write(consortium.path("alone/head.safetensors"), b"12345678").unwrap();
    evaluate("alone", "test.csv").failed(3, &["head.safetensors"]);
    let line = "baseline --config site-1.toml --epochs 1 --learning-rate 0 --out zero";
    run(&consortium, line).failed(3, &["learning_rate"]);
}

#[test]
fn the_kept_adapter_is_exported_with_a_signed_manifest() {
    let consortium = Consortium::new();
    let line = "export --config site-1.toml --out result";
    run(&consortium, line).failed(3, &["site-1-state/demo", "until it has applied a round"]);
    let (_, plan) = consortium.verified();
    let state = initial_state(&plan).unwrap();
    fs::create_dir_all(consortium.path("site-1-state/demo")).unwrap();
    let kept = [&3u32.to_le_bytes()[..], &state.to_bytes()].concat();
    fs::write(consortium.path("site-1-state/demo/adapter.bin"), kept).unwrap();
    spend(&consortium, 3);

    let manifest = run(&consortium, &format!("{line} --json")).json();
    assert_eq!((&manifest["round"], &manifest["job"]), (&3.into(), &"demo".into()));
    assert_eq!(manifest["adapter_digest"], state.adapter_digest().to_string());
    assert_eq!(manifest["plan"], plan.digest().to_string());
    let spent = plan.derived().guarantees(3, 1e-5).unwrap();
    assert_eq!(manifest["privacy"]["epsilon"].as_f64(), Some(spent.central));
    assert_eq!(manifest["privacy"]["epsilon_local"].as_f64(), Some(spent.local));
    assert_eq!(manifest["privacy"]["view"], "the privacy ledger of site-1");
    let files = manifest["files"].as_array().unwrap();
    assert_eq!(files.len(), 5, "{manifest}");
    for file in files {
        let path = consortium.path("result").join(file["path"].as_str().unwrap());
        assert_eq!(file["sha256"], Digest::of(&fs::read(path).unwrap()).to_string());
    }
    let bytes = fs::read(consortium.path("result/manifest.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), manifest);
    let line = fs::read_to_string(consortium.path("result/manifest.json.sig")).unwrap();
    let (signer, digits) = line.trim().split_once(' ').unwrap();
    let mut signature = [0; 64];
    hex::decode_to_slice(digits, &mut signature).unwrap();
    let key = consortium.identities[0].signing_key().verifying_key();
    let check = |bytes: &[u8]| {
        verify(&key, "result-manifest", &plan.digest(), signer, bytes, &Signature(signature)).is_ok()
    };
    assert!(check(&bytes) && !check(&[&bytes[..], b" "].concat()));

    let scores =
        run(&consortium, "evaluate --config site-1.toml --adapter result --data test.csv --json").json();
    assert_eq!(scores["examples"], 36);
}

#[test]
fn a_job_without_noise_says_so_wherever_it_is_shown() {
    let consortium = Consortium::with(|draft| set_unit(&mut draft.plan, PrivacyUnit::None));
    let text = run(&consortium, "check --config site-1.toml").out;
    assert!(text.contains("NO PRIVACY: the unit is none") && !text.contains("privacy unit: one"), "{text}");
    assert!(!text.contains('\u{1b}'), "no colours in a pipe: {text}");
    let outlook = run(&consortium, "check --config site-1.toml --json").json()["outlook"].clone();
    assert_eq!((&outlook["unit"], outlook["epsilon_after_all_rounds"].is_null()), (&"none".into(), true));

    let (_, plan) = consortium.verified();
    fs::create_dir_all(consortium.path("site-1-state/demo")).unwrap();
    let kept = [&1u32.to_le_bytes()[..], &initial_state(&plan).unwrap().to_bytes()].concat();
    fs::write(consortium.path("site-1-state/demo/adapter.bin"), kept).unwrap();
    let line = "export --config site-1.toml --out result";
    for debits in [0, 1] {
        if debits > 0 {
            spend(&consortium, debits);
        }
        let privacy = run(&consortium, &format!("{line} --json")).json()["privacy"].clone();
        assert!(privacy["epsilon"].is_null() && privacy["epsilon_local"].is_null(), "{privacy}");
        assert_eq!((&privacy["unit"], &privacy["debits"]), (&"none".into(), &debits.into()));
        assert!(privacy["protects"].as_str().unwrap().starts_with("NOBODY"), "{privacy}");
    }
    let text = run(&consortium, line).out;
    assert!(text.contains("NO PRIVACY") && text.contains("ε = none against the coordinator"), "{text}");
    let shown = run(&consortium, "ledger show --config site-1.toml --entries").out;
    assert!(shown.contains("NO PRIVACY") && shown.contains("none"), "{shown}");
    assert!(run(&consortium, "ledger show --config site-1.toml --json").json()["total"]["epsilon"].is_null());

    // An ε of this organization's own, of whatever kind, forbids it.
    fs::write(consortium.path("strict.toml"), "epsilon_per_job = 1e9\n").unwrap();
    consortium.edit("site-1.toml", "[data]", "policy = \"strict.toml\"\n[data]");
    run(&consortium, "run --config site-1.toml")
        .failed(3, &["ε = inf", "strict.toml:1", "epsilon_per_job = 1e9"]);
}

#[test]
fn two_guarantees_are_shown_in_every_unit() {
    for (unit, words) in [
        (
            PrivacyUnit::PatientLocal,
            "privacy unit: one patient, whoever colludes (a title stands for a patient), 3 local steps",
        ),
        (
            PrivacyUnit::Organization,
            "privacy unit: one organization (a title stands for a patient), 3 local steps",
        ),
    ] {
        let consortium = Consortium::with(|draft| {
            set_unit(&mut draft.plan, unit);
            draft.plan.privacy.epsilon = 100.0;
        });
        let all = consortium.verified().1.derived().guarantees(20, 1e-5).unwrap();
        let text = run(&consortium, "check --config site-1.toml").out;
        assert!(text.contains(words), "{text}");
        let (central, local) =
            (format!("{:.4} against the coord", all.central), format!("{:.4} against", all.local));
        assert!(text.contains(&central) && text.contains(&local), "{text}");
        assert_eq!(all.central == all.local, unit == PrivacyUnit::PatientLocal);
    }
}

#[test]
fn a_key_that_is_not_the_rosters_is_named() {
    let consortium = Consortium::new();
    let fresh = Identity::generate(id("site-1"), [99; 32]).unwrap();
    fs::write(consortium.path("site-1.key"), fresh.to_text().expose()).unwrap();
    run(&consortium, "run --config site-1.toml").failed(3, &["signing key of site-1", "the roster lists"]);
}
