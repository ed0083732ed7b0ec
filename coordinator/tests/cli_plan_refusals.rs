//! Plans that do not work: refused with the arithmetic, and the plan proposed instead is one that does.
#![allow(clippy::unwrap_used)]

mod cli_common;

use cli_common::{Desk, TEMPLATE, consortium, new_plan, plan, vectors};

#[test]
fn a_plan_that_does_not_work_is_refused_and_one_that_does_is_proposed() {
    let desk = Desk::new();
    consortium(&desk);
    plan(&desk);
    let good = desk.read("plan.toml");
    let broken = |part: &str, by: &str| {
        assert_eq!(good.matches(part).count(), 1, "{part}");
        good.replace(part, by)
    };
    let ring = good.lines().find(|line| line.starts_with("ring_bits")).unwrap();
    let scale = good.lines().find(|line| line.starts_with("scale")).unwrap();
    let hours = |one: &str, two: &str| {
        let entry = |site: u8, hours: &str| {
            let (from, to) = hours.split_once('-').unwrap();
            format!("\n[[hours]]\norganization = \"site-{site}\"\nfrom = \"{from}\"\nto = \"{to}\"\n")
        };
        good.clone() + &entry(1, one) + &entry(2, two)
    };
    for (text, words) in [
        (
            broken("epsilon = 6.0", "epsilon = 3.0"),
            vec![
                "privacy.epsilon is 3",
                "needs 11: 10 rounds and 1 in reserve",
                "z_eff = √(h·σ_i² − 6.25)/Δ",
                "privacy.noise_multiplier = ",
                "\nor\n  rounds = ",
                "\nor\n  privacy.epsilon = ",
            ],
        ),
        (
            broken(ring, "ring_bits = 9"),
            vec!["encoding.ring_bits is 9", "could wrap", "⌊log₂ 2(n·B", ring, "(was 9)"],
        ),
        (
            broken(scale, "scale = 1.0").replace("noise_multiplier = 0.7", "noise_multiplier = 0.1"),
            vec!["σ_i = √((z·Δ)² + 2.5²)/√h", "encoding.scale = "],
        ),
        (
            broken("colluders = 1", "colluders = 0\nallow_no_colluders = true")
                .replace("allow_no_colluders = false\n", "")
                .replace("min_survivors = 3", "min_survivors = 2"),
            vec!["h = m_min − max(t_c, 1) = 2 − 1 = 1", "cohort.min_survivors = 3 (was 2)"],
        ),
        (hours("08:00-09:00", "10:00-11:00"), vec!["share not a minute", "hours of site-"]),
        (broken("clip = 1.0", "clip = 0.0"), vec!["privacy.clip is 0", "privacy.clip = 1.0 (was 0.0)"]),
        (broken("clip = 1.0", "clip = nan"), vec!["privacy.clip is NaN"]),
        (
            broken("delta = 0.00001", "delta = 0.0005"),
            vec!["privacy.delta", "2000 patients", "privacy.delta = 0.0004"],
        ),
        (
            broken("sampling_rate = 0.05", "sampling_rate = 0.0"),
            vec!["privacy.sampling_rate is 0", "only people can know"],
        ),
    ] {
        desk.write("bad.toml", &text);
        let error = desk.refused("plan check bad.toml");
        for word in &words {
            assert!(error.contains(word), "\"{word}\" is not in {error}");
        }
        // As JSON: the refusal and the proposals on the output, the exit code as before.
        let said = desk.run("plan check bad.toml --json");
        assert_eq!(said.code, 1, "{said:?}");
        let json: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        assert!(json["refused"]["field"].is_string() && json["refused"]["rule"].is_string(), "{json}");
        // Whoever makes the changes of the first proposal has a plan that passes.
        let Some(proposal) = json["proposals"].as_array().unwrap().first() else { continue };
        let mut cured = text.clone();
        for change in proposal["changes"].as_array().unwrap() {
            let field = change["field"].as_str().unwrap();
            let (from, to) = (change["from"].as_str().unwrap(), change["to"].as_str().unwrap());
            if let Some(site) = field.strip_prefix("hours of ") {
                let toml = |hours: &str| {
                    let (from, to) = hours.split_once('-').unwrap();
                    format!("organization = \"{site}\"\nfrom = \"{from}\"\nto = \"{to}\"\n")
                };
                assert!(cured.contains(&toml(from)));
                cured = cured.replace(&toml(from), &toml(to));
            } else {
                let (section, name) = field.split_once('.').unwrap_or(("", field));
                let start = cured.find(&format!("[{section}]")).unwrap_or(0);
                let (before, rest) = cured.split_at(start);
                let line = rest.lines().find(|line| line.starts_with(&format!("{name} = "))).unwrap();
                cured = before.to_owned() + &rest.replacen(line, &format!("{name} = {to}"), 1);
            }
        }
        desk.write("cured.toml", &cured);
        desk.ok("plan check cured.toml");
    }
    let text = hours("08:00-18:00", "09:30-20:00");
    desk.write("p.toml", &text);
    assert!(desk.ok("plan check p.toml").contains("all take part 09:30-18:00 UTC"));

    // Nor is one written.
    let tiny = vectors("tiny").display().to_string();
    let said = new_plan(&desk, &TEMPLATE.replace("epsilon = 6.0", "epsilon = 2.0"), &tiny);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("t.toml") && said.err.contains("privacy.noise_multiplier = "), "{}", said.err);
    assert!(!desk.path("p.toml").exists());
    let strange =
        TEMPLATE.to_owned() + "[[hours]]\norganization = \"site-7\"\nfrom = \"08:00\"\nto = \"09:00\"\n";
    let said = new_plan(&desk, &strange, &tiny);
    assert!(said.code == 1 && said.err.contains("hours: site-7 is not an organization"), "{said:?}");
    let said = new_plan(&desk, &strange.replace("site-7", "site-2"), &tiny);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("all take part 08:00-09:00 UTC"), "{said:?}");
}
