//! Transcripts of `consilium privacy`, and the manual's own examples run again.
#![allow(clippy::unwrap_used)]

mod cli_common;

use cli_common::Desk;
use serde_json::Value;

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// `q`, `z`, `T`, `δ`, then `ε` by Rényi orders and by privacy-loss distributions: Google's `dp-accounting` 0.6.0.
const REFERENCE: [(f64, f64, u64, &str, f64, f64); 5] = [
    (1.0, 1.0, 1, "1e-5", 4.728507, 4.377178),
    (1.0, 4.0, 10, "1e-5", 3.617100, 3.341409),
    (1.0, 10.0, 100, "1e-5", 4.728507, 4.377178),
    (0.01, 1.0, 1000, "1e-5", 2.101367, 1.828244),
    (0.1, 2.0, 100, "1e-6", 2.914174, 2.675036),
];

#[test]
fn epsilon_is_within_one_percent_of_the_reference_and_never_under_it() {
    let desk = Desk::new();
    for (q, z, steps, delta, rdp, pld) in REFERENCE {
        let line = format!(
            "privacy epsilon --sampling-rate {q} --noise-multiplier {z} --steps {steps} --delta {delta}"
        );
        let json = desk.json(&format!("{line} --json"));
        let keys: Vec<_> = json.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["delta", "epsilon", "epsilon_rdp"]);
        let epsilon = number(&json["epsilon"]);
        assert!(epsilon >= pld - 1e-6 && epsilon < pld * 1.01, "{line}: {epsilon}");
        assert!((number(&json["epsilon_rdp"]) - rdp).abs() < 1e-3, "{line}: {json}");
        assert_eq!(number(&json["delta"]), delta.parse::<f64>().unwrap());
        // The text says the same, rounded up.
        let text = desk.ok(&line);
        let shown: f64 = text.split("ε = ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!(shown >= epsilon && shown < epsilon + 1.1e-4, "{text}");
    }
}

#[test]
fn the_real_mechanism_has_two_guarantees() {
    let desk = Desk::new();
    let line = "privacy epsilon --sampling-rate 0.05 --discrete-sigma 500 --sensitivity 850 --dimension 1000 \
                --steps 60 --delta 1e-5 --json";
    let alone = desk.json(line);
    let three = desk.json(&format!("{line} --honest 3"));
    assert_eq!(alone["epsilon"], three["epsilon_local"]);
    assert!(number(&three["epsilon"]) < number(&three["epsilon_local"]));
    let z = (3.0 * 500.0f64.powi(2) - 6.25).sqrt() / 850.0;
    assert!((number(&three["noise_multiplier"]) - z).abs() < 1e-9);
    // It is the continuous mechanism of that multiplier, but for a gap that no digit shows.
    let continuous = desk.json(&format!(
        "privacy epsilon --sampling-rate 0.05 --noise-multiplier {} --steps 60 --delta 1e-5 --json",
        three["noise_multiplier"]
    ));
    assert!((number(&continuous["epsilon"]) / number(&three["epsilon"]) - 1.0).abs() < 1e-9);
    let text = desk.ok(&line.replace("--json", "--honest 3"));
    assert!(text.contains("against the coordinator and its colluders: ε = "), "{text}");
    assert!(text.contains("against everybody else together: ε = "), "{text}");
}

#[test]
fn noise_is_the_least_that_keeps_the_budget() {
    let desk = Desk::new();
    for (epsilon, delta, q, steps) in
        [("4", "1e-5", "0.05", 60), ("0.5", "1e-7", "0.01", 2000), ("8", "1e-5", "1", 20)]
    {
        let json = desk.json(&format!(
            "privacy noise --epsilon {epsilon} --delta {delta} --sampling-rate {q} --steps {steps} --json"
        ));
        let z = number(&json["noise_multiplier"]);
        assert!((z * 1000.0 - (z * 1000.0).round()).abs() < 1e-6, "{z} is no thousandth");
        let spends = |z: f64| {
            let json = desk.json(&format!(
                "privacy epsilon --sampling-rate {q} --noise-multiplier {z:.3} --steps {steps} --delta {delta} --json"
            ));
            number(&json["epsilon"])
        };
        let budget: f64 = epsilon.parse().unwrap();
        assert!(spends(z) <= budget && spends(z - 0.001) > budget, "{z}");
        assert_eq!(number(&json["epsilon"]), spends(z));
    }
    let text = desk.ok("privacy noise --epsilon 4 --delta 1e-5 --sampling-rate 0.05 --steps 60");
    assert!(text.starts_with("z = ") && text.contains("keeps ε ≤ 4"), "{text}");
}

#[test]
fn a_curve_is_a_table_a_picture_and_json() {
    let desk = Desk::new();
    let line = "privacy curve --sampling-rate 0.05 --discrete-sigma 500 --honest 3 --sensitivity 850 --dimension 1000 \
                --steps 100 --delta 1e-5 --points 4 --budget 3";
    let text = desk.ok(&format!("{line} --svg curve.svg"));
    let json = desk.json(&format!("{line} --json"));
    let points = json["points"].as_array().unwrap();
    let rounds: Vec<_> = points.iter().map(|point| point["rounds"].as_u64().unwrap()).collect();
    assert_eq!(rounds, [1, 25, 50, 75, 100]);
    for pair in points.windows(2) {
        assert!(number(&pair[1]["epsilon"]) > number(&pair[0]["epsilon"]));
    }
    for point in points {
        assert!(number(&point["epsilon"]) < number(&point["epsilon_rdp"]));
        assert!(number(&point["epsilon"]) < number(&point["epsilon_local"]));
    }
    // The budget ends between two rounds that the command itself can tell apart.
    let pays = json["budget_pays_for"].as_u64().unwrap();
    let spends = |steps: u64| {
        number(&desk.json(&format!(
            "privacy epsilon --sampling-rate 0.05 --discrete-sigma 500 --honest 3 --sensitivity 850 --dimension 1000 \
             --steps {steps} --delta 1e-5 --json"
        ))["epsilon"])
    };
    assert!(spends(pays) <= 3.0 && spends(pays + 1) > 3.0, "{pays}");
    assert!(text.contains(&format!("pays for {pays} rounds")) && text.contains("curve.svg"), "{text}");
    assert_eq!(
        text.lines().filter(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit())).count(),
        5
    );

    let picture = desk.read("curve.svg");
    assert!(picture.starts_with("<svg ") && picture.matches("<polyline ").count() == 3, "{picture}");
    let points = picture.split("<polyline points=\"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(points.split(' ').count(), 5);
    let error = desk.refused(&format!("{line} --svg curve.svg"));
    assert!(error.contains("curve.svg: exists already"), "{error}");
    assert_eq!(desk.read("curve.svg"), picture);
}

#[test]
fn numbers_out_of_range_are_named() {
    let desk = Desk::new();
    let epsilon = "privacy epsilon --sampling-rate 0.1 --noise-multiplier 1 --steps 10 --delta 1e-5";
    let discrete = "privacy epsilon --sampling-rate 0.1 --discrete-sigma 50 --sensitivity 40 --dimension 10 --honest 2 --steps 10 --delta 1e-5";
    let noise = "privacy noise --epsilon 4 --delta 1e-5 --sampling-rate 0.05 --steps 60";
    let curve = "privacy curve --sampling-rate 0.1 --noise-multiplier 1 --steps 10 --delta 1e-5";
    for (line, part, wrong, words) in [
        (epsilon, "rate 0.1", "rate 0", "above 0 and at most 1"),
        (epsilon, "rate 0.1", "rate -0.1", "above 0 and at most 1"),
        (epsilon, "rate 0.1", "rate 1.01", "above 0 and at most 1"),
        (epsilon, "rate 0.1", "rate nan", "above 0 and at most 1"),
        (epsilon, "rate 0.1", "rate tenth", "must be a number above 0"),
        (epsilon, "multiplier 1", "multiplier 0", "from 0.01 to 1000000"),
        (epsilon, "multiplier 1", "multiplier NaN", "from 0.01 to 1000000"),
        (epsilon, "multiplier 1", "multiplier inf", "from 0.01 to 1000000"),
        (epsilon, "steps 10", "steps 0", "1..=1000000000"),
        (epsilon, "steps 10", "steps 1000000001", "1..=1000000000"),
        (epsilon, "steps 10", "steps 99999999999999999999", "--steps"),
        (epsilon, "steps 10", "steps 1.5", "--steps"),
        (epsilon, "delta 1e-5", "delta 0", "from 1e-100 to below 1"),
        (epsilon, "delta 1e-5", "delta 1", "from 1e-100 to below 1"),
        (epsilon, "delta 1e-5", "delta -1e-5", "from 1e-100 to below 1"),
        (epsilon, "delta 1e-5", "delta nan", "from 1e-100 to below 1"),
        (epsilon, " --noise-multiplier 1", "", "--noise-multiplier"),
        (
            epsilon,
            "multiplier 1",
            "multiplier 1 --discrete-sigma 50 --sensitivity 4 --dimension 3",
            "cannot be used",
        ),
        (epsilon, "multiplier 1", "multiplier 1 --honest 3", "--discrete-sigma"),
        (discrete, "sigma 50", "sigma 2.4", "at least 2.5 ring units"),
        (discrete, "sensitivity 40", "sensitivity 0", "finite and above 0"),
        (discrete, " --sensitivity 40", "", "--sensitivity"),
        (discrete, "dimension 10", "dimension 0", "--dimension"),
        (discrete, "honest 2", "honest 0", "--honest"),
        (noise, "epsilon 4", "epsilon 0", "finite and above 0"),
        (noise, "epsilon 4", "epsilon -4", "finite and above 0"),
        (noise, "epsilon 4", "epsilon nan", "finite and above 0"),
        (noise, "epsilon 4", "epsilon inf", "finite and above 0"),
        (noise, "rate 0.05", "rate 2", "above 0 and at most 1"),
        (curve, "steps 10", "steps 10 --points 1", "2..=1000"),
        (curve, "steps 10", "steps 10 --budget 0", "finite and above 0"),
    ] {
        assert!(line.contains(part));
        let said = desk.run(&line.replace(part, wrong));
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{wrong}: {said:?}");
        assert!(said.err.contains(words), "{wrong}: \"{words}\" is not in {}", said.err);
    }
    // What no single flag is to blame for.
    let error = desk.refused("privacy noise --epsilon 1e-9 --delta 1e-12 --sampling-rate 1 --steps 1000");
    assert!(error.contains("no noise multiplier up to 1000000 keeps epsilon at 0.000000001"), "{error}");
    let error = desk.refused(&discrete.replace("sensitivity 40", "sensitivity 1e9"));
    assert!(error.contains("the effective noise multiplier is") && error.contains("add noise"), "{error}");
    // A billion steps are answered.
    let json = desk.json(&(epsilon.replace("steps 10", "steps 1000000000") + " --json"));
    assert!(number(&json["epsilon"]) > 1e6);
}

/// The page for the data-protection officer: each `consilium privacy` command in it is run, and must print what the page
/// says it prints.
#[test]
fn the_manual_says_what_the_commands_say() {
    let manual = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../crypto/docs/privacy.md");
    let manual = std::fs::read_to_string(manual).unwrap();
    let desk = Desk::new();
    let mut run = 0;
    for block in manual.split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap().replace("\\\n", " ");
        for transcript in block.split("$ ").skip(1) {
            let (line, printed) = transcript.split_once('\n').unwrap();
            let Some(line) = line.strip_prefix("consilium privacy ") else { continue };
            assert_eq!(
                desk.ok(&format!("privacy {line}")).trim_end(),
                printed.trim_end(),
                "consilium privacy {line}"
            );
            run += 1;
        }
    }
    assert!(run >= 3, "the manual's examples are gone: {run}");
}
