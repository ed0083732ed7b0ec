//! The server optimizers, arithmetic version 1.
//!
//! Every formula below is written as the sequence of binary32 operations that is computed, left to right;
//! each operation rounds to nearest, ties to even. `βᵗ` is a running product, never a power function.

use super::{ReleaseError, require};

/// How the mean update moves the trained coordinates `w`. `g` is the mean gradient (`patient` mode), `Δ` the
/// mean change of weights (modes in which organizations train locally).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimizer {
    /// Gradient descent: `w ← w − (learning_rate · g)`.
    Sgd {
        /// Step size, finite and above 0.
        learning_rate: f32,
    },
    /// Federated averaging (McMahan et al., 2017) with a server rate: `w ← w + (learning_rate · Δ)`.
    FedAvg {
        /// Server rate, finite and above 0; 1 is plain averaging.
        learning_rate: f32,
    },
    /// Federated averaging with server momentum (Hsu, Qi and Brown, 2019): `m ← momentum·m + Δ`, `w ← w + (learning_rate · m)`.
    FedAvgM {
        /// Server rate, finite and above 0.
        learning_rate: f32,
        /// How much of the earlier steps goes on, in `[0, 1)`.
        momentum: f32,
    },
    /// Adam (Kingma and Ba, 2015, algorithm 1) on the mean gradient:
    /// `m ← β₁·m + (1 − β₁)·g`, `v ← β₂·v + ((1 − β₂)·g)·g`, `m̂ = m / (1 − β₁ᵗ)`, `v̂ = v / (1 − β₂ᵗ)`,
    /// `w ← w − (learning_rate · m̂) / (√v̂ + epsilon)`.
    Adam {
        /// Step size, finite and above 0.
        learning_rate: f32,
        /// Decay of the first moment, in `[0, 1)`.
        beta1: f32,
        /// Decay of the second moment, in `[0, 1)`.
        beta2: f32,
        /// Added to the root, finite and above 0.
        epsilon: f32,
    },
}

impl Optimizer {
    /// Adam with the usual decays: `β₁ = 0.9`, `β₂ = 0.999`, `epsilon = 10⁻⁸`.
    pub fn adam(learning_rate: f32) -> Self {
        Self::Adam { learning_rate, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }

    /// Checks every field's range.
    ///
    /// # Errors
    ///
    /// [`ReleaseError::OutOfRange`] with the first field that is out of it.
    pub fn check(&self) -> Result<(), ReleaseError> {
        let rate = |value: f32| {
            let holds = value.is_finite() && value > 0.0;
            require(holds, "learning_rate", f64::from(value), "finite and above 0")
        };
        match *self {
            Self::Sgd { learning_rate } | Self::FedAvg { learning_rate } => rate(learning_rate),
            Self::FedAvgM { learning_rate, momentum } => {
                rate(learning_rate)?;
                let holds = (0.0..1.0).contains(&momentum);
                require(holds, "momentum", f64::from(momentum), "at least 0 and below 1")
            }
            Self::Adam { learning_rate, beta1, beta2, epsilon } => {
                rate(learning_rate)?;
                for (field, beta) in [("beta1", beta1), ("beta2", beta2)] {
                    let holds = (0.0..1.0).contains(&beta);
                    require(holds, field, f64::from(beta), "at least 0 and below 1")?;
                }
                let holds = epsilon.is_finite() && epsilon > 0.0;
                require(holds, "epsilon", f64::from(epsilon), "finite and above 0")
            }
        }
    }

    /// Whether the optimizer keeps a first and a second moment of each coordinate.
    pub(super) fn moments(&self) -> (bool, bool) {
        match self {
            Self::Sgd { .. } | Self::FedAvg { .. } => (false, false),
            Self::FedAvgM { .. } => (true, false),
            Self::Adam { .. } => (true, true),
        }
    }

    /// Whether it adds a mean delta; the others take the negative of one for a gradient.
    pub(super) fn adds_deltas(&self) -> bool {
        matches!(self, Self::FedAvg { .. } | Self::FedAvgM { .. })
    }

    /// A number for the kind and four parameters (0 where unused), as they are hashed and stored.
    pub(super) fn fields(&self) -> (u8, [f32; 4]) {
        match *self {
            Self::Sgd { learning_rate } => (1, [learning_rate, 0.0, 0.0, 0.0]),
            Self::FedAvg { learning_rate } => (2, [learning_rate, 0.0, 0.0, 0.0]),
            Self::Adam { learning_rate, beta1, beta2, epsilon } => {
                (3, [learning_rate, beta1, beta2, epsilon])
            }
            Self::FedAvgM { learning_rate, momentum } => (4, [learning_rate, momentum, 0.0, 0.0]),
        }
    }

    /// The inverse of [`Optimizer::fields`], checked.
    pub(super) fn from_fields(kind: u8, fields: [f32; 4]) -> Result<Self, ReleaseError> {
        let [learning_rate, beta1, beta2, epsilon] = fields;
        let optimizer = match kind {
            1 => Self::Sgd { learning_rate },
            2 => Self::FedAvg { learning_rate },
            3 => Self::Adam { learning_rate, beta1, beta2, epsilon },
            4 => Self::FedAvgM { learning_rate, momentum: beta1 },
            _ => return Err(ReleaseError::Bytes("unknown optimizer")),
        };
        optimizer.check()?;
        // One spelling per value: unused fields must be +0.
        let same = optimizer.fields().1.map(f32::to_bits) == fields.map(f32::to_bits);
        if same { Ok(optimizer) } else { Err(ReleaseError::Bytes("unused optimizer field is not 0")) }
    }
}

/// The running products `β₁ᵗ`, `β₂ᵗ`, both 1 before the first step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Powers(pub(super) [f32; 2]);

/// One step over matching slices: `w`, the mean, and the two moments (empty where the optimizer has none).
pub(super) fn step(
    optimizer: &Optimizer,
    powers: &mut Powers,
    weights: &mut [f32],
    mean: &[f32],
    first: &mut [f32],
    second: &mut [f32],
) {
    match *optimizer {
        Optimizer::Sgd { learning_rate } => {
            for (w, &g) in weights.iter_mut().zip(mean) {
                *w -= learning_rate * g;
            }
        }
        Optimizer::FedAvg { learning_rate } => {
            for (w, &delta) in weights.iter_mut().zip(mean) {
                *w += learning_rate * delta;
            }
        }
        Optimizer::FedAvgM { learning_rate, momentum } => {
            for ((w, &delta), m) in weights.iter_mut().zip(mean).zip(first) {
                *m = momentum * *m + delta;
                *w += learning_rate * *m;
            }
        }
        Optimizer::Adam { learning_rate, beta1, beta2, epsilon } => {
            let Powers([power1, power2]) = powers;
            *power1 *= beta1;
            *power2 *= beta2;
            let (rest1, rest2) = (1.0 - beta1, 1.0 - beta2);
            let (unbias1, unbias2) = (1.0 - *power1, 1.0 - *power2);
            let moments = first.iter_mut().zip(second);
            for ((w, &g), (m, v)) in weights.iter_mut().zip(mean).zip(moments) {
                *m = beta1 * *m + rest1 * g;
                *v = beta2 * *v + rest2 * g * g;
                let (m_hat, v_hat) = (*m / unbias1, *v / unbias2);
                *w -= learning_rate * m_hat / (libm::sqrtf(v_hat) + epsilon);
            }
        }
    }
}
