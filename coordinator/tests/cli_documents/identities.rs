//! Keys, the roster, and who signs.

use std::os::unix::fs::PermissionsExt as _;

use consilium_proto::identity::Identity;
use serde_json::json;

use crate::cli_common::{Desk, consortium};

#[test]
fn keys_are_private_and_never_overwritten() {
    let desk = Desk::new();
    let out = desk.ok("keygen --id site-1 --out keys/site-1 --valid-days 30");
    assert!(out.contains("keys/site-1/identity.toml  private"), "{out}");
    let private = desk.path("keys/site-1/identity.toml");
    assert_eq!(std::fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o600);
    let before = desk.read("keys/site-1/identity.toml");
    let identity = Identity::parse(&before).unwrap();
    let party = desk.read("keys/site-1/party.toml");
    assert!(party.contains(&identity.signing_key().verifying_key().to_string()));
    assert!(!party.contains(&before.lines().find(|l| l.starts_with("signing_key")).unwrap()[15..60]));

    let error = desk.refused("keygen --id site-1 --out keys/site-1");
    assert!(error.contains("identity.toml: exists already and is not overwritten"), "{error}");
    assert_eq!(desk.read("keys/site-1/identity.toml"), before);

    std::fs::remove_file(&private).unwrap();
    let error = desk.refused("keygen --id site-1 --out keys/site-1");
    assert!(error.contains("party.toml: exists already"), "{error}");
    assert!(!private.exists(), "no key without its public half");

    let json = desk.json("keygen --id site-2 --out keys/site-2 --json");
    assert_eq!(json["id"], "site-2");
    assert_eq!(json["signing_key"].as_str().unwrap().len(), 64);

    for line in
        ["keygen --id Site-1 --out x", "keygen --id a --out x --valid-days 0", "keygen --id a", "nonsense"]
    {
        let said = desk.run(line);
        assert_eq!(said.code, 2, "{line}: {said:?}");
    }
    assert!(desk.run("keygen --id Site-1 --out x").err.contains("a-z, 0-9"), "the rule is named");
}

#[test]
fn a_roster_needs_everyone_and_its_pin() {
    let desk = Desk::new();
    let pin = consortium(&desk);
    assert_eq!(pin.len(), 64);
    let out = desk.ok(&format!("roster verify roster.toml --pin {pin}"));
    assert!(out.contains("signed by all 3 organizations"), "{out}");
    let shown = desk.json("roster show roster.toml --json");
    assert_eq!(shown["fingerprint"], json!(pin));
    assert_eq!(shown["quorum"], 3);
    let signed: Vec<_> =
        shown["parties"].as_array().unwrap().iter().map(|p| p["signature"].clone()).collect();
    assert_eq!(signed, ["-", "yes", "yes", "yes", "-"]);
    let table = desk.ok("roster show roster.toml");
    assert!(table.contains("organization  site-2") && table.contains("Nothing here is verified"), "{table}");

    // One signature short.
    let all = desk.read("roster.toml.sig");
    let two: String = all.lines().filter(|l| !l.starts_with("site-2")).map(|l| l.to_owned() + "\n").collect();
    desk.write("roster.toml.sig", &two);
    let error = desk.refused(&format!("roster verify roster.toml --pin {pin}"));
    assert!(error.contains("needs 3 signatures") && error.contains("still missing: site-2"), "{error}");
    // Lines that others sent are appended.
    desk.write("roster.toml.sig", &(two + all.lines().find(|l| l.starts_with("site-2")).unwrap()));
    desk.ok(&format!("roster verify roster.toml --pin {pin}"));

    // A signature of another's.
    let one = all.lines().next().unwrap();
    desk.write(
        "roster.toml.sig",
        &all.replace(all.lines().nth(1).unwrap(), &one.replace("site-1", "site-2")),
    );
    let error = desk.refused(&format!("roster verify roster.toml --pin {pin}"));
    assert!(error.contains("the signature of site-2 does not fit this roster"), "{error}");
    assert!(desk.ok("roster show roster.toml").contains("BAD"));
    desk.write("roster.toml.sig", "site-1 zz\n");
    let error = desk.refused(&format!("roster verify roster.toml --pin {pin}"));
    assert!(error.contains("roster.toml.sig") || error.contains("line 1"), "{error}");
    desk.write("roster.toml.sig", &all);

    let error = desk.refused(&format!("roster verify roster.toml --pin {}", "0".repeat(64)));
    assert!(error.contains(&pin) && error.contains("by telephone"), "{error}");
    assert_eq!(desk.run("roster verify roster.toml --pin 123").code, 2);

    // A changed text.
    let text = desk.read("roster.toml");
    desk.write("roster.toml", &text.replace("heart", "herat"));
    assert!(desk.refused(&format!("roster verify roster.toml --pin {pin}")).contains("fingerprint"));
    desk.write("roster.toml", &(text.clone() + "\nsurprise = 1\n"));
    let error = desk.refused("roster fingerprint roster.toml");
    assert!(error.contains("roster.toml") && error.contains("unknown field `surprise`"), "{error}");
}

#[test]
fn a_roster_is_built_only_from_sound_parties() {
    let desk = Desk::new();
    consortium(&desk);
    let build =
        |more: &str| format!("roster build --consortium heart --coordinator coordinator/party.toml {more}");
    let three = "--organization site-1/party.toml site-2/party.toml site-3/party.toml";
    let error = desk.refused(&build(&format!("{three} --out roster.toml")));
    assert!(error.contains("exists already"), "{error}");
    let error = desk.refused(&build("--organization site-1/party.toml site-2/party.toml --out r.toml"));
    assert!(error.contains("organization count is 2"), "{error}");
    let error = desk.refused(&build(&format!("{three} site-1/party.toml --out r.toml")));
    assert!(error.contains("listed twice"), "{error}");
    let error = desk.refused(&build(&format!("{three} --quorum 2 --out r.toml")));
    assert!(error.contains("quorum is 2"), "{error}");
    let error =
        desk.refused(&build("--organization site-1/party.toml site-2/party.toml nowhere.toml --out r.toml"));
    assert!(error.contains("nowhere.toml: there is no such file"), "{error}");
    let error =
        desk.refused(&build("--organization site-1/party.toml site-2/party.toml roster.toml --out r.toml"));
    assert!(error.contains("not a party.toml"), "{error}");
    // A private file given in the wrong place is refused without repeating its secrets, whether or not a seed happens to
    // be a point of the curve.
    for seed in 0..6 {
        let identity = Identity::generate("site-3".parse().unwrap(), [seed; 32]).unwrap();
        desk.write("private.toml", identity.to_text().expose());
        let error = desk
            .refused(&build("--organization site-1/party.toml site-2/party.toml private.toml --out r.toml"));
        let secret = format!("{seed:02x}").repeat(8);
        assert!(error.contains("this is a private identity") && !error.contains(&secret), "{error}");
        desk.write("private.toml", &identity.to_text().expose().replace("tls_certificate", "certificate"));
        let error = desk
            .refused(&build("--organization site-1/party.toml site-2/party.toml private.toml --out r.toml"));
        assert!(error.contains("not a party.toml") && !error.contains(&secret), "{error}");
    }
    assert!(!desk.path("r.toml").exists());
    let json = desk.json(&build(&format!("{three} --plan-signer ada/party.toml --out r.toml --json")));
    assert_eq!(json["to_sign"], json!(["site-1", "site-2", "site-3"]));
    assert!(desk.ok("roster show r.toml").contains("plans are signed by ada"));
}

#[test]
fn only_an_own_private_key_signs_and_only_what_it_may() {
    let desk = Desk::new();
    consortium(&desk);
    let error = desk.refused("sign roster roster.toml --identity ada/identity.toml");
    assert!(error.contains("lists no organization ada"), "{error}");
    desk.ok("keygen --id site-1 --out other");
    let error = desk.refused("sign roster roster.toml --identity other/identity.toml");
    assert!(error.contains("lists site-1 with signing key"), "{error}");
    let private = desk.path("site-1/identity.toml");
    std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = desk.refused("sign roster roster.toml --identity site-1/identity.toml");
    assert!(error.contains("0644") && error.contains("chmod 600"), "{error}");
    std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o600)).unwrap();
    let before = desk.read("roster.toml.sig");
    desk.ok("sign roster roster.toml --identity site-1/identity.toml");
    assert_eq!(
        desk.read("roster.toml.sig"),
        before,
        "Ed25519 signs the same text alike, and a line is replaced"
    );
    let error = desk.refused("sign plan roster.toml --identity site-1/identity.toml");
    assert!(error.contains("roster.toml") && error.contains("does not parse"), "{error}");
    let error = desk.refused("sign plan nothing.toml --identity site-1/identity.toml");
    assert!(error.contains("nothing.toml: there is no such file"), "{error}");
    let error = desk.refused("sign roster roster.toml --identity site-1/party.toml");
    assert!(error.contains("party.toml"), "{error}");
    assert_eq!(desk.run("sign letter roster.toml --identity site-1/identity.toml").code, 2);
    let json = desk.json("sign roster roster.toml --identity site-2/identity.toml --json");
    assert_eq!((&json["kind"], &json["signer"]), (&json!("roster"), &json!("site-2")));
}

#[test]
fn a_roster_grows_by_a_quorum_under_one_pin() {
    let desk = Desk::new();
    let pin = consortium(&desk);
    desk.ok("keygen --id site-4 --out site-4");
    desk.ok("keygen --id site-2 --out site-2/new");
    let propose = format!("roster propose roster.toml --pin {pin}");
    let out = desk
        .ok(&format!("{propose} --party site-4/party.toml site-2/new/party.toml --extend ada=2099-01-01"));
    assert!(
        out.starts_with("roster.2.toml\n") && out.contains("signed by 3 of site-1, site-2, site-3"),
        "{out}"
    );
    let error = desk.refused(&format!("{propose} --party site-4/party.toml"));
    assert!(
        error.contains("roster.2.toml") && error.contains("needs 3 signatures"),
        "not signed yet: {error}"
    );
    // The version before signs: site-4 and site-2's new key have no voice.
    for identity in ["site-4", "site-2/new"] {
        let error = desk.refused(&format!("roster sign roster.2.toml --identity {identity}/identity.toml"));
        assert!(error.contains("roster lists"), "{error}");
    }
    for id in ["site-1", "site-2"] {
        desk.ok(&format!("roster sign roster.2.toml --identity {id}/identity.toml"));
    }
    let error = desk.refused(&format!("roster verify roster.toml --pin {pin}"));
    assert!(error.contains("has 2") && error.contains("site-3"), "{error}");
    desk.ok("sign roster roster.2.toml --identity site-3/identity.toml");
    let verified = desk.json(&format!("roster verify roster.toml --pin {pin} --json"));
    assert_eq!((&verified["version"], &verified["pin"]), (&json!(2), &json!(pin)));
    assert_eq!(verified["organizations"], json!(["site-1", "site-2", "site-3", "site-4"]));
    assert!(desk.ok(&format!("roster verify roster.toml --pin {pin}")).contains("version 2"));
    assert_eq!(verified["fingerprint"], json!(desk.ok("roster fingerprint roster.2.toml").trim()));
    // The third is proposed from the second.
    let json = desk.json(&format!("{propose} --remove site-1 --json"));
    assert_eq!((&json["version"], &json["needs"]), (&json!(3), &json!(3)));
    let shown = desk.ok("roster show roster.3.toml");
    assert!(shown.contains("roster version 3") && !shown.contains("organization  site-1"), "{shown}");
    // A version under another name, and one whose predecessor is another.
    std::fs::rename(desk.path("roster.3.toml"), desk.path("next.toml")).unwrap();
    let error = desk.refused("roster sign next.toml --identity site-3/identity.toml");
    assert!(error.contains("roster.3.toml") && error.contains("rename it"), "{error}");
    std::fs::copy(desk.path("next.toml"), desk.path("roster.2.toml")).unwrap();
    let error = desk.refused(&format!("roster verify roster.toml --pin {pin}"));
    assert!(error.contains("does not continue the chain"), "{error}");
    let error = desk.refused(&format!("{propose} --remove site-9"));
    assert!(error.contains("does not continue"), "{error}");
}

#[test]
fn an_organization_revokes_its_own_key_alone() {
    let desk = Desk::new();
    let pin = consortium(&desk);
    let revoke = |id: &str, confirm: &str| {
        format!("roster revoke roster.toml --pin {pin} --identity {id}/identity.toml --confirm {confirm}")
    };
    let error = desk.refused(&revoke("site-2", "site-1"));
    assert!(error.contains("nothing was revoked") && !desk.path("roster.toml.revoked").exists(), "{error}");
    assert!(desk.refused(&revoke("ada", "ada")).contains("nothing to revoke"));
    let line = desk.ok(&revoke("site-2", "site-2")).lines().next().unwrap().to_owned();
    assert_eq!(desk.read("roster.toml.revoked").trim(), line);
    assert!(desk.ok(&format!("roster verify roster.toml --pin {pin}")).contains("REVOKED: site-2"));
    let json = desk.json(&format!("roster verify roster.toml --pin {pin} --json"));
    assert_eq!(json["revoked"], json!(["site-2"]));
    // Whoever gets the line appends it; whoever alters it is told whose word it is not.
    desk.write("roster.toml.revoked", &line.replace("site-2 1", "site-2 7"));
    let error = desk.refused(&format!("roster verify roster.toml --pin {pin}"));
    assert!(error.contains("not site-2's word"), "{error}");
    desk.write("roster.toml.revoked", &format!("# by telephone, Monday\n{line}\n"));
    // The next version needs the others, and brings the organization back.
    desk.ok("keygen --id site-2 --out site-2/new");
    let out = desk.ok(&format!("roster propose roster.toml --pin {pin} --party site-2/new/party.toml"));
    assert!(out.contains("signed by 2 of site-1, site-3"), "{out}");
    for id in ["site-1", "site-3"] {
        desk.ok(&format!("roster sign roster.2.toml --identity {id}/identity.toml"));
    }
    let json = desk.json(&format!("roster verify roster.toml --pin {pin} --json"));
    assert_eq!((&json["version"], &json["revoked"]), (&json!(2), &json!([])));
}
