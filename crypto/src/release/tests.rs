//! The release's arithmetic, pinned; its bytes, there and back; and what it refuses.

#![allow(clippy::unwrap_used)]

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::digest::Digest;

fn spec(name: &str, shape: &[u32], init: Init, trained: bool) -> TensorSpec {
    TensorSpec { name: String::from(name), shape: shape.to_vec(), init, trained }
}

fn manifest() -> Manifest {
    Manifest::new(vec![
        spec("a.lora_A", &[2, 8], Init::Uniform { bound: 0.5 }, false),
        spec("a.lora_B", &[8, 2], Init::Zeros, true),
        spec("head.bias", &[3], Init::Zeros, true),
        spec("head.weight", &[3, 8], Init::Uniform { bound: 0.25 }, true),
        spec("scale", &[], Init::Zeros, false),
    ])
    .unwrap()
}

/// A mean that differs in every round and coordinate, from integers.
fn mean(round: i64) -> Vec<f32> {
    let sum: Vec<i64> = (0..43).map(|i| (i * 7_919 + round * 104_729) % 20_011 - 10_005).collect();
    mean_from_sum(&sum, 848.0, 512.0, 4, 5).unwrap()
}

fn run(optimizer: Optimizer, rounds: i64) -> AdapterState {
    let mut state = AdapterState::initial(&manifest(), &[7; 32], optimizer).unwrap();
    for round in 0..rounds {
        state.apply(&mean(round)).unwrap();
    }
    state
}

/// The recipe's outputs, bit by bit. If this fails, the arithmetic has changed: every party of a running job
/// would part ways, so it needs a new [`ARITHMETIC_VERSION`], not a new digest here.
#[test]
fn the_arithmetic_is_pinned() {
    let adam = run(Optimizer::adam(0.02), 20);
    let sgd = run(Optimizer::Sgd { learning_rate: 0.5 }, 20);
    let averaged = run(Optimizer::FedAvg { learning_rate: 1.0 }, 20);
    let pinned = [
        (manifest().digest(), "32c561c7dd4e33644c2b9c7875af6141131fe689d0c77f60cd48616730b3e752"),
        (
            run(Optimizer::adam(0.02), 0).adapter_digest(),
            "307d5f27c2a1cdae3e68ed05c2cff4bbcc051dea71993abf82dce22d233d7e08",
        ),
        (adam.adapter_digest(), "30769cdb911b950f259a0fdf9785855382f9048b303de6099656f8fea30e36fe"),
        (adam.optimizer_digest(), "52cc38000de9a5a073151fd2400da7d2f38e83094c6fdf430e6001bfb5c69ad4"),
        (sgd.adapter_digest(), "8d14930e4af7b2f927cb83152b7ce12f385ed0d932e6f9efd37405ffb14e1a24"),
        (averaged.adapter_digest(), "a36664906c1f89ade68bca066b3b63ef1f6c95aa256899e9684aa51101b6eae5"),
        (Digest::of(&adam.to_bytes()), "f1f9be5b1d2976f9105da86b004ec2be58040de2dddbaa6412eb1551a83384f3"),
    ];
    let now: Vec<String> = pinned.iter().map(|(digest, _)| digest.to_string()).collect();
    let then: Vec<&str> = pinned.iter().map(|(_, digest)| *digest).collect();
    assert_eq!(now, then);
}

#[test]
fn replaying_the_same_sums_gives_the_same_bytes_from_any_point() {
    let through = run(Optimizer::adam(0.02), 12);
    assert_eq!(through, run(Optimizer::adam(0.02), 12));
    let stored = run(Optimizer::adam(0.02), 5).to_bytes();
    let mut resumed = AdapterState::from_bytes(&manifest(), &stored).unwrap();
    for round in 5..12 {
        resumed.apply(&mean(round)).unwrap();
    }
    assert_eq!(resumed.to_bytes(), through.to_bytes());
    assert_eq!(resumed.adapter_digest(), through.adapter_digest());
    assert_eq!(resumed.optimizer_digest(), through.optimizer_digest());
    assert_eq!(resumed.steps(), 12);
}

/// Two threads that each release for themselves: nothing is shared, so nothing can differ.
#[cfg(feature = "std")]
#[test]
fn threads_do_not_matter() {
    let alone = run(Optimizer::adam(0.02), 8).adapter_digest();
    let others: Vec<_> = (0..4)
        .map(|_| std::thread::spawn(|| run(Optimizer::adam(0.02), 8).adapter_digest()))
        .map(|thread| thread.join().unwrap())
        .collect();
    assert!(others.iter().all(|digest| *digest == alone));
}

/// Server momentum written out by hand, and what is stored of it.
#[test]
fn averaging_with_momentum_is_its_written_formula() {
    let manifest = Manifest::new(vec![spec("w", &[1], Init::Zeros, true)]).unwrap();
    let averaging = Optimizer::FedAvgM { learning_rate: 0.5, momentum: 0.9 };
    let mut state = AdapterState::initial(&manifest, &[0; 32], averaging).unwrap();
    let (mut w, mut m) = (0.0f32, 0.0f32);
    for delta in [0.25f32, -1.5, 0.0, 3.0] {
        state.apply_deltas(&[delta]).unwrap();
        m = 0.9 * m + delta;
        w += 0.5 * m;
        assert_eq!(state.trained(), [w]);
        assert_eq!(AdapterState::from_bytes(&manifest, &state.to_bytes()).unwrap(), state);
    }
    // Without momentum it is averaging.
    let run = |optimizer| {
        let mut state = AdapterState::initial(&manifest, &[0; 32], optimizer).unwrap();
        [0.25, -1.5].iter().for_each(|delta| state.apply_deltas(&[*delta]).unwrap());
        state.adapter_digest()
    };
    let without = run(Optimizer::FedAvgM { learning_rate: 0.5, momentum: 0.0 });
    assert_eq!(without, run(Optimizer::FedAvg { learning_rate: 0.5 }));
}

#[test]
fn tensors_that_take_turns_rest_with_their_moments() {
    let plain = manifest();
    let turn = |tensor: &TensorSpec| match tensor.name.as_str() {
        "head.bias" => Turn::Odd,
        "head.weight" => Turn::Even,
        _ => Turn::Every,
    };
    let manifest = manifest().in_turns(turn);
    assert_ne!(manifest.digest(), plain.digest());
    let of = |name: &str| {
        let mut at = 0;
        for tensor in manifest.tensors().iter().filter(|tensor| tensor.trained) {
            let end = at + tensor.elements().unwrap();
            if tensor.name == name {
                return at..end;
            }
            at = end;
        }
        unreachable!()
    };
    let (bias, weight) = (of("head.bias"), of("head.weight"));
    assert_eq!((manifest.still(1), manifest.still(2)), (vec![weight.clone()], vec![bias.clone()]));
    assert!(plain.still(1).is_empty() && plain.still(2).is_empty());
    let mut state = AdapterState::initial(&manifest, &[7; 32], Optimizer::adam(0.02)).unwrap();
    for round in 0..4 {
        let (before, rests) = (state.trained(), state.still());
        // Noise on what rests does nothing.
        state.apply(&mean(round)).unwrap();
        for (at, (before, after)) in before.iter().zip(state.trained()).enumerate() {
            let rests = rests.iter().any(|range| range.contains(&at));
            assert_eq!(rests, *before == after, "step {round}, coordinate {at}");
        }
        assert_eq!(AdapterState::from_bytes(&manifest, &state.to_bytes()).unwrap(), state);
    }
}

/// Adam written out by hand for one coordinate.
#[test]
fn adam_is_its_written_formula() {
    let manifest = Manifest::new(vec![spec("w", &[1], Init::Zeros, true)]).unwrap();
    let mut state = AdapterState::initial(&manifest, &[0; 32], Optimizer::adam(0.1)).unwrap();
    let (mut w, mut m, mut v, mut p1, mut p2) = (0.0f32, 0.0f32, 0.0f32, 1.0f32, 1.0f32);
    for g in [0.3f32, -1.7, 0.001, 25.0] {
        state.apply(&[g]).unwrap();
        m = 0.9 * m + (1.0 - 0.9f32) * g;
        v = 0.999 * v + (1.0 - 0.999f32) * g * g;
        p1 *= 0.9;
        p2 *= 0.999;
        w -= 0.1 * (m / (1.0 - p1)) / (libm::sqrtf(v / (1.0 - p2)) + 1e-8);
        assert_eq!(state.trained(), [w]);
    }
    // The first step of Adam is the learning rate, whatever the gradient.
    let mut first = AdapterState::initial(&manifest, &[0; 32], Optimizer::adam(0.1)).unwrap();
    first.apply(&[123.0]).unwrap();
    assert!((first.trained()[0] + 0.1).abs() < 1e-6);
}

#[test]
fn only_trained_tensors_move_and_in_the_order_of_names() {
    let before = run(Optimizer::Sgd { learning_rate: 1.0 }, 0);
    let mut after = before.clone();
    let mean: Vec<f32> = (1..=43).map(|i| i as f32).collect();
    after.apply(&mean).unwrap();
    let mut next = mean.iter();
    for ((tensor, old), (_, new)) in before.tensors().zip(after.tensors()) {
        for (old, new) in old.iter().zip(new) {
            let moved = if tensor.trained { *next.next().unwrap() } else { 0.0 };
            assert_eq!(*new, old - moved, "{}", tensor.name);
        }
    }
    assert_eq!(next.next(), None);
    assert_eq!(before.tensors().count(), 5);
    let lengths: Vec<usize> = before.tensors().map(|(_, values)| values.len()).collect();
    assert_eq!(lengths, [16, 16, 3, 24, 1]);
    let frozen = before.tensors().next().unwrap().1;
    assert!(frozen.iter().all(|v| (-0.5..0.5).contains(v)) && frozen.iter().any(|v| *v != frozen[0]));
}

#[test]
fn the_mean_divides_by_public_numbers_only() {
    let sum = [848_000, -424, 0, 1];
    let mean = mean_from_sum(&sum, 848.0, 100.0, 4, 5).unwrap();
    assert_eq!(mean[0], 12.5);
    assert_eq!(mean[1], -0.00625);
    assert_eq!((mean[2], mean[3]), (0.0, (1.0f64 / (848.0 * 100.0 * 4.0 / 5.0)) as f32));
    // The divisor is evaluated left to right: any other grouping rounds this quotient down.
    let grouped = mean_from_sum(&[968_810_055_163_001], 535.3, 428.1, 2, 11).unwrap();
    assert_eq!(grouped[0].to_bits(), 0x50ad_3d86);
    for (scale, lot, survivors, n) in [
        (0.0, 100.0, 4, 5),
        (f64::NAN, 100.0, 4, 5),
        (848.0, 0.0, 4, 5),
        (848.0, f64::INFINITY, 4, 5),
        (848.0, 100.0, 0, 5),
        (848.0, 100.0, 6, 5),
        (1e-300, 1e-300, 4, 5),
    ] {
        assert!(mean_from_sum(&sum, scale, lot, survivors, n).is_err(), "{scale} {lot} {survivors} {n}");
    }
    assert!(mean_from_sum(&[(1 << 53) + 1], 848.0, 100.0, 5, 5).is_err());
    assert!(mean_from_sum(&[i64::MIN], 848.0, 100.0, 5, 5).is_err());
    assert!(mean_from_sum(&[1 << 50], 1e-30, 1.0, 5, 5).is_err(), "beyond binary32");
}

#[test]
fn the_mean_of_deltas_counts_every_survivor_alike() {
    let mean = mean_of_deltas(&[848_000, -424, 0, 3], 848.0, 4).unwrap();
    assert_eq!(mean, [250.0, -0.125, 0.0, (3.0f64 / 3392.0) as f32]);
    for (scale, survivors) in [(0.0, 4), (f64::NAN, 4), (f64::INFINITY, 1), (848.0, 0)] {
        assert!(mean_of_deltas(&[1], scale, survivors).is_err(), "{scale} {survivors}");
    }
    assert!(mean_of_deltas(&[(1 << 53) + 1], 1.0, 1).is_err());
}

#[test]
fn a_delta_is_added_and_a_gradient_method_takes_its_negative() {
    let deltas = mean(5);
    let negative: Vec<f32> = deltas.iter().map(|delta| -delta).collect();
    for optimizer in [Optimizer::adam(0.02), Optimizer::Sgd { learning_rate: 0.5 }] {
        let (mut by_delta, mut by_gradient) = (run(optimizer, 2), run(optimizer, 2));
        by_delta.apply_deltas(&deltas).unwrap();
        by_gradient.apply(&negative).unwrap();
        assert_eq!(by_delta.to_bytes(), by_gradient.to_bytes());
    }
    let averaging = Optimizer::FedAvg { learning_rate: 1.0 };
    let (mut state, before) = (run(averaging, 1), run(averaging, 1).trained());
    state.apply_deltas(&deltas).unwrap();
    let expected = before.iter().zip(&deltas).map(|(weight, delta)| weight + delta);
    assert!(state.trained().into_iter().eq(expected));
}

#[test]
fn a_bad_mean_changes_nothing() {
    let mut state = run(Optimizer::adam(0.02), 3);
    let before = state.to_bytes();
    let mut mean = mean(3);
    mean[40] = f32::NAN;
    let refused = state.apply(&mean);
    assert_eq!(refused, Err(ReleaseError::NotFinite { what: "the mean update", index: 40 }));
    assert!(matches!(state.apply(&mean[1..]), Err(ReleaseError::Length { expected: 43, got: 42, .. })));
    // Overflow inside the step: the square of a large mean is infinite.
    mean[40] = 1e38;
    assert!(state.apply(&mean).is_err());
    assert_eq!(state.to_bytes(), before);
}

#[test]
fn stored_bytes_are_refused_when_anything_is_off() {
    let manifest = manifest();
    let good = run(Optimizer::adam(0.02), 3).to_bytes();
    assert!(AdapterState::from_bytes(&manifest, &good).is_ok());
    for length in [0, 7, 8, 40, 72, good.len() - 1] {
        assert!(AdapterState::from_bytes(&manifest, &good[..length]).is_err(), "cut to {length}");
    }
    let mut longer = good.clone();
    longer.push(0);
    assert!(AdapterState::from_bytes(&manifest, &longer).is_err());
    let patched = |at: usize, bytes: &[u8]| {
        let mut patched = good.clone();
        patched[at..at + bytes.len()].copy_from_slice(bytes);
        AdapterState::from_bytes(&manifest, &patched)
    };
    assert!(patched(0, b"X").is_err() && patched(7, b"\x02").is_err(), "format");
    assert!(patched(8, &[0; 32]).is_err(), "manifest");
    assert!(patched(40, &[9]).is_err(), "optimizer");
    assert!(patched(40, &[1]).is_err(), "Sgd with Adam's fields");
    assert!(patched(41, &f32::NAN.to_le_bytes()).is_err(), "learning rate");
    assert!(patched(65, &2.0f32.to_le_bytes()).is_err(), "running product");
    assert!(patched(73, &f32::INFINITY.to_le_bytes()).is_err(), "a value");
    assert!(patched(good.len() - 4, &(-1.0f32).to_le_bytes()).is_err(), "a second moment");
    // Whatever single byte is changed: refused, or a state that writes the same bytes again.
    for at in 0..good.len() {
        let mut flipped = good.clone();
        flipped[at] ^= 1 << (at % 8);
        if let Ok(state) = AdapterState::from_bytes(&manifest, &flipped) {
            assert_eq!(state.to_bytes(), flipped, "byte {at}");
        }
    }
}

#[test]
fn manifests_are_refused_when_any_rule_is_broken() {
    let one = |name: &str, shape: &[u32]| Manifest::new(vec![spec(name, shape, Init::Zeros, true)]);
    assert!(one("w", &[2, 3]).is_ok());
    assert!(one("w", &[]).is_ok_and(|m| m.dimension() == 1));
    for name in ["", "two words", "tab\t", "é", "nul\0"] {
        assert!(matches!(one(name, &[1]), Err(ReleaseError::Name(_))), "{name:?}");
    }
    assert!(one(&"n".repeat(MAX_NAME_BYTES), &[1]).is_ok());
    assert!(one(&"n".repeat(MAX_NAME_BYTES + 1), &[1]).is_err());
    for shape in [&[0][..], &[2, 0, 3], &[1, 1, 1, 1, 1], &[u32::MAX], &[u32::MAX; 4], &[1 << 15, 1 << 14]] {
        assert!(matches!(one("w", shape), Err(ReleaseError::Shape(_))), "{shape:?}");
    }
    let two = |a: &str, b: &str| {
        Manifest::new(vec![spec(a, &[1], Init::Zeros, true), spec(b, &[1], Init::Zeros, false)])
    };
    assert!(two("a", "b").is_ok());
    assert!(matches!(two("b", "a"), Err(ReleaseError::Order(_))));
    assert!(matches!(two("a", "a"), Err(ReleaseError::Order(_))));
    assert!(matches!(Manifest::new(vec![]), Err(ReleaseError::TensorCount(0))));
    let many = (0..=MAX_TENSORS).map(|i| spec(&alloc::format!("{i:06}"), &[1], Init::Zeros, true)).collect();
    assert!(matches!(Manifest::new(many), Err(ReleaseError::TensorCount(_))));
    let large = ["a", "b"].map(|name| spec(name, &[1 << 14, 1 << 14], Init::Zeros, true));
    assert!(matches!(Manifest::new(large.to_vec()), Err(ReleaseError::TooLarge)));
    let frozen = Manifest::new(vec![spec("a", &[1], Init::Zeros, false)]);
    assert!(matches!(frozen, Err(ReleaseError::NothingTrained)));
    for bound in [-1.0, f32::NAN, f32::INFINITY] {
        let bad = Manifest::new(vec![spec("a", &[1], Init::Uniform { bound }, true)]);
        assert!(matches!(bad, Err(ReleaseError::Start(_))));
    }
}

/// Any field of any tensor changes the digest; so does moving a boundary between fields.
#[test]
fn the_manifests_digest_covers_every_field() {
    let base = manifest().digest();
    let with = |change: &dyn Fn(&mut Vec<TensorSpec>)| {
        let mut tensors = manifest().tensors().to_vec();
        change(&mut tensors);
        Manifest::new(tensors).unwrap().digest()
    };
    let others = [
        with(&|t| t[0].name.push('x')),
        with(&|t| t[0].shape = vec![8, 2]),
        with(&|t| t[0].shape = vec![16]),
        with(&|t| t[0].trained = true),
        with(&|t| t[0].init = Init::Uniform { bound: 0.25 }),
        with(&|t| t[0].init = Init::Zeros),
        with(&|t| drop(t.pop())),
    ];
    for (i, digest) in others.iter().enumerate() {
        assert!(*digest != base && !others[..i].contains(digest), "change {i}");
    }
}

#[test]
fn optimizers_out_of_range_are_refused() {
    let adam =
        |learning_rate, beta1, beta2, epsilon| Optimizer::Adam { learning_rate, beta1, beta2, epsilon };
    for bad in [
        Optimizer::Sgd { learning_rate: 0.0 },
        Optimizer::Sgd { learning_rate: f32::NAN },
        Optimizer::FedAvg { learning_rate: f32::INFINITY },
        Optimizer::FedAvgM { learning_rate: 1.0, momentum: 1.0 },
        Optimizer::FedAvgM { learning_rate: 0.0, momentum: 0.9 },
        adam(-0.1, 0.9, 0.999, 1e-8),
        adam(0.1, 1.0, 0.999, 1e-8),
        adam(0.1, 0.9, -0.1, 1e-8),
        adam(0.1, 0.9, 0.999, 0.0),
    ] {
        assert!(AdapterState::initial(&manifest(), &[0; 32], bad).is_err(), "{bad:?}");
    }
}
