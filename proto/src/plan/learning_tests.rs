//! What is learned and how it is adapted: refused by field, with the cure; and plans made before these fields existed.

use super::*;
use crate::testing;

fn plan() -> Plan {
    testing::plan(Digest([0; 32]), 5)
}

fn next_token() -> Plan {
    let mut plan = plan();
    plan.task.kind = TaskKind::NextToken;
    plan.task.labels.clear();
    plan.model.pooling = Pooling::None;
    plan.adapter.target_modules = ["q_proj"].into();
    plan
}

#[test]
fn a_plan_without_the_newer_fields_is_the_same_text_as_ever() {
    let text = plan().to_text().unwrap();
    for field in ["kind = \"single", "class_weights", "dropout"] {
        assert!(!text.contains(field), "{field} in\n{text}");
    }
    assert_eq!(Plan::parse(&text).unwrap().0.to_text().unwrap(), text);
    let text = next_token().to_text().unwrap();
    assert!(text.contains("kind = \"next-token\"") && !text.contains("labels"), "{text}");
    assert_eq!(Plan::parse(&text).unwrap().0, next_token());
    // Targets are a list or one pattern, as in peft.
    let mut plan = next_token();
    plan.adapter.target_modules = TargetModules::Pattern(r".*\.(q|v)_proj".into());
    assert_eq!(Plan::parse(&plan.to_text().unwrap()).unwrap().0, plan);
}

#[test]
fn what_cannot_be_learned_is_refused_by_name() {
    type Change = fn(&mut Plan);
    let cases: &[(&str, &str, Change)] = &[
        ("task.labels count", "has no labels", |p| {
            *p = next_token();
            p.task.labels = vec!["a".into(), "b".into()];
        }),
        ("task.labels count", "2 to 10000", |p| p.task.labels.truncate(1)),
        ("task.labels", "listed twice", |p| p.task.labels[1] = "a".into()),
        ("task.labels", "`;` separates them", |p| {
            p.task.kind = TaskKind::MultiLabel;
            p.task.labels[0] = "a;b".into();
        }),
        ("task.class_weights count", "one weight for each of the 2", |p| p.task.class_weights = vec![1.0]),
        ("task.class_weights", "0.001 to 1000", |p| p.task.class_weights = vec![1.0, 0.0]),
        ("task.class_weights", "0.001 to 1000", |p| p.task.class_weights = vec![f64::NAN, 1.0]),
        ("model.pooling", "write pooling = \"none\"", |p| {
            *p = next_token();
            p.model.pooling = Pooling::Mean;
        }),
        ("model.pooling", "\"mean\" or \"cls\"", |p| p.model.pooling = Pooling::None),
        ("adapter.target_modules", "no head to train", |p| {
            *p = next_token();
            p.adapter.target_modules = TargetModules::default();
        }),
        ("adapter.target_modules", "look-around", |p| {
            p.adapter.target_modules = TargetModules::Pattern("(?=q).*".into())
        }),
        ("adapter.layers", "a pattern says by itself", |p| {
            p.adapter.target_modules = TargetModules::Pattern(".*query".into());
            p.adapter.layers = Some(vec![1]);
        }),
        ("adapter.dropout", "clips each patient's own gradient", |p| p.adapter.dropout = 0.1),
        ("adapter.dropout", "0 to below 1", |p| p.adapter.dropout = 1.0),
        ("adapter.dropout", "0 to below 1", |p| p.adapter.dropout = f64::NAN),
    ];
    for (field, words, change) in cases {
        let mut plan = plan();
        change(&mut plan);
        match plan.derive().unwrap_err() {
            PlanError::Rule { field: named, rule, .. } => {
                assert_eq!(named, *field, "{rule}");
                assert!(rule.contains(words), "{field}: {rule}");
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn several_labels_weights_and_the_next_token_are_plans() {
    next_token().derive().unwrap();
    let mut plan = plan();
    plan.task.kind = TaskKind::MultiLabel;
    plan.task.class_weights = vec![0.5, 20.0];
    plan.derive().unwrap();
    assert_eq!(Plan::parse(&plan.to_text().unwrap()).unwrap().0, plan);
}

#[test]
fn a_head_at_home_is_in_no_update_and_only_where_no_patient_was_promised_anything() {
    let with = |unit, local: &str| {
        let mut plan = super::tests::plan(unit);
        let (name, shape) = ("base_model.model.query.lora_B.weight".into(), vec![4, 2]);
        plan.adapter.tensors.insert(0, Tensor { name, shape, bound: 0.0, trained: true });
        plan.adapter.local = vec![local.into()];
        plan
    };
    let refused = |plan: &Plan| match plan.derive().unwrap_err() {
        PlanError::Rule { field: "adapter.local", rule, .. } => rule,
        other => panic!("{other}"),
    };
    for unit in [PrivacyUnit::Patient, PrivacyUnit::PatientLocal] {
        assert!(refused(&with(unit, "head")).contains("one patient would move all of them"), "{unit}");
    }
    for unit in [PrivacyUnit::Organization, PrivacyUnit::None] {
        let plan = with(unit, "head");
        let derived = plan.derive().unwrap();
        assert_eq!((derived.manifest.dimension(), derived.vector_len), (8, 10), "{unit}");
        assert!(derived.manifest.tensors().iter().all(|tensor| !tensor.name.starts_with("head.")));
        assert_eq!(Plan::parse(&plan.to_text().unwrap()).unwrap().0, plan);
        assert!(refused(&with(unit, "base_model")).contains("the head alone"));
        let mut alone = with(unit, "head");
        alone.adapter.tensors.remove(0);
        assert!(refused(&alone).contains("nothing would be left to share"));
        let mut headless = with(unit, "head");
        headless.adapter.tensors.truncate(1);
        assert!(refused(&headless).contains("nothing to keep at home"));
        let mut begun = with(unit, "head");
        begun.adapter.start = Some(Digest([1; 32]));
        assert!(refused(&begun).contains("leave start or local out"));
    }
}
