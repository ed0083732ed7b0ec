//! An organization's keys over its life: made, split, restored; added, rotated, revoked, and nobody else's files change.
#![allow(clippy::unwrap_used)]

mod cli_common;

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, path::Path};

use cli_common::Desk;
use consilium_crypto::digest::Digest;

#[test]
fn a_backup_is_put_together_by_enough_custodians_and_by_nobody_else() {
    let desk = Desk::new();
    let custody = "--custodian it dpo chief --threshold 2 --shares shares";
    let out = desk.ok(&format!("org init --id site-1 --out keys {custody}"));
    assert!(out.contains("any 2 of the 3 put the keys of site-1 together"), "{out}");
    let whole = desk.read("keys/identity.toml");
    for name in ["it", "dpo", "chief"] {
        let path = desk.path(&format!("shares/{name}.share"));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let share = fs::read_to_string(path).unwrap();
        for secret in whole.lines().filter(|line| line.contains("key = ")) {
            assert!(!share.contains(secret.split('"').nth(1).unwrap()), "{name} holds a key in the clear");
        }
    }
    for (number, pair) in [["it", "dpo"], ["dpo", "chief"], ["chief", "it"]].into_iter().enumerate() {
        desk.ok(&format!(
            "org restore --share shares/{}.share shares/{}.share --out back-{number}",
            pair[0], pair[1]
        ));
        assert_eq!(desk.read(&format!("back-{number}/identity.toml")), whole);
    }
    let error = desk.refused("org restore --share shares/it.share --out alone");
    assert!(error.contains("2 shares") && error.contains("1 were given"), "{error}");
    let error = desk.refused("org restore --share shares/it.share shares/it.share --out alone");
    assert!(error.contains("1 were given") && !desk.path("alone").exists(), "{error}");
    let error = desk.refused("org restore --share shares/it.share shares/dpo.share --out keys");
    assert!(error.contains("identity.toml"), "never overwritten: {error}");

    // Two dealings do not go together, and a slip of copying is found.
    desk.ok("org split --identity keys/identity.toml --custodian it dpo chief --threshold 2 --shares again");
    let error = desk.refused("org restore --share shares/it.share again/dpo.share --out alone");
    assert!(error.contains("different dealings"), "{error}");
    let text = desk.read("shares/it.share");
    let at = text.find("share = \"").unwrap() + 20;
    let digit = if text.as_bytes()[at] == b'0' { "1" } else { "0" };
    desk.write("shares/it.share", &format!("{}{digit}{}", &text[..at], &text[at + 1..]));
    let error = desk.refused("org restore --share shares/it.share shares/dpo.share --out alone");
    assert!(error.contains("it.share") && error.contains("checksum"), "{error}");
    fs::set_permissions(desk.path("shares/dpo.share"), fs::Permissions::from_mode(0o644)).unwrap();
    let error = desk.refused("org restore --share shares/dpo.share shares/chief.share --out alone");
    assert!(error.contains("chmod 600"), "{error}");

    for (custody, part) in [
        ("--custodian it dpo --threshold 1 --shares s", "2 at least"),
        ("--custodian it dpo --threshold 3 --shares s", "never be reached"),
        ("--custodian it it --threshold 2 --shares s", "twice"),
    ] {
        let error = desk.refused(&format!("org init --id site-2 --out other {custody}"));
        assert!(error.contains(part) && !desk.path("other").exists(), "{error}");
    }
}

/// Digest of every file below a folder.
fn snapshot(folder: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            all.extend(
                snapshot(&path).into_iter().map(|(inner, digest)| (format!("{name}/{inner}"), digest)),
            );
        } else {
            all.insert(name, Digest::of(&fs::read(path).unwrap()).to_string());
        }
    }
    all
}

/// Every organization has a folder of its own. What one of them does reaches the others as new files beside the old ones.
#[test]
fn adding_rotating_or_revoking_one_organization_changes_nobody_elses_files() {
    let desk = Desk::new();
    let sites = ["site-1", "site-2", "site-3", "site-4"];
    desk.ok("keygen --id hub --out hub");
    for site in sites {
        desk.ok(&format!("org init --id {site} --out {site}/keys"));
    }
    let parties: Vec<_> = sites.iter().map(|site| format!("{site}/keys/party.toml")).collect();
    let parties = parties.join(" ");
    desk.ok(&format!("roster build --consortium four --coordinator hub/party.toml --organization {parties} --out roster.toml"));
    for site in sites {
        desk.ok(&format!("roster sign roster.toml --identity {site}/keys/identity.toml"));
    }
    let pin = desk.ok("roster fingerprint roster.toml").trim().to_owned();
    let share = |names: &[&str]| {
        for (site, name) in sites.iter().flat_map(|site| names.iter().map(move |name| (site, name))) {
            fs::copy(desk.path(name), desk.path(site).join(name)).unwrap();
        }
    };
    share(&["roster.toml", "roster.toml.sig"]);
    for site in sites {
        desk.write(
            &format!("{site}/client.toml"),
            &format!("roster = \"roster.toml\"\nroster_pin = \"{pin}\"\n"),
        );
    }
    let before: Vec<_> = sites.iter().map(|site| snapshot(&desk.path(site))).collect();
    // What was there is there, byte for byte; and the chain that each holds ends in the version it should.
    let unchanged = |version: u64, also: &str| {
        for (site, before) in sites.iter().zip(&before) {
            let now = snapshot(&desk.path(site));
            for (name, digest) in before {
                assert_eq!(now.get(name), Some(digest), "{site}/{name} was changed by {also}");
            }
            let verified = desk.json(&format!("roster verify {site}/roster.toml --pin {pin} --json"));
            assert_eq!(verified["version"], version, "{site} after {also}");
        }
    };
    let sign = |file: &str, signers: &[&str]| {
        for site in signers {
            desk.ok(&format!("roster sign {file} --identity {site}/keys/identity.toml"));
        }
    };

    desk.ok("org init --id site-5 --out site-5/keys");
    desk.ok(&format!("roster propose roster.toml --pin {pin} --party site-5/keys/party.toml"));
    sign("roster.2.toml", &sites[..3]);
    share(&["roster.2.toml", "roster.2.toml.sig"]);
    unchanged(2, "adding site-5");

    desk.ok("org init --id site-2 --out site-2/new-keys");
    desk.ok(&format!("roster propose roster.toml --pin {pin} --party site-2/new-keys/party.toml"));
    sign("roster.3.toml", &["site-1", "site-3", "site-4", "site-5"]);
    share(&["roster.3.toml", "roster.3.toml.sig"]);
    unchanged(3, "rotating site-2");

    // Alone: no signature but its own.
    desk.ok(&format!(
        "roster revoke roster.toml --pin {pin} --identity site-3/keys/identity.toml --confirm site-3"
    ));
    share(&["roster.toml.revoked"]);
    unchanged(3, "revoking site-3");
    for site in sites {
        let verified = desk.json(&format!("roster verify {site}/roster.toml --pin {pin} --json"));
        assert_eq!(verified["revoked"], serde_json::json!(["site-3"]));
    }
}
