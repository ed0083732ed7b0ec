//! The adapter manifest: which tensors, in which order, how each starts, and which are trained.
//!
//! It comes from the plan and is treated as hostile until [`Manifest::new`] has checked it. The order of
//! names (bytewise) fixes the order of coordinates everywhere: in the encoded update, in the mean, in the
//! optimizer's state and in the digest.

use alloc::{string::String, vec::Vec};
use core::ops::Range;

use super::{Init, ReleaseError};
use crate::digest::{Digest, Transcript};

/// Most tensors a manifest may name.
pub const MAX_TENSORS: usize = 4096;
/// Longest tensor name, in bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// Most axes a tensor may have.
pub const MAX_RANK: usize = 4;
/// Most values that all tensors of an adapter may hold together (2²⁸, 1 GiB of binary32).
pub const MAX_PARAMETERS: usize = 1 << 28;

/// One tensor of the adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSpec {
    /// Its name, as in the adapter's safetensors file: printable ASCII, no spaces.
    pub name: String,
    /// Its shape, row-major; an empty shape is a single value.
    pub shape: Vec<u32>,
    /// How it starts.
    pub init: Init,
    /// Whether organizations send updates for it. A tensor that is not trained stays as it started.
    pub trained: bool,
}

impl TensorSpec {
    /// How many values the tensor holds; `None` if the shape has more than [`MAX_RANK`] axes, an axis of
    /// length 0, or a product above [`MAX_PARAMETERS`].
    pub fn elements(&self) -> Option<usize> {
        if self.shape.len() > MAX_RANK {
            return None;
        }
        let product = self.shape.iter().try_fold(1u64, |product, &axis| {
            product.checked_mul(u64::from(axis)).filter(|&p| p <= MAX_PARAMETERS as u64)
        })?;
        usize::try_from(product).ok().filter(|&elements| elements > 0)
    }
}

/// In which of an adapter's steps a trained tensor moves; the first step is number 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Turn {
    /// In every one.
    #[default]
    Every,
    /// In the first, the third, …
    Odd,
    /// In the second, the fourth, …
    Even,
}

impl Turn {
    /// Whether it moves in this step.
    pub fn moves(self, step: u64) -> bool {
        match self {
            Self::Every => true,
            Self::Odd => !step.is_multiple_of(2),
            Self::Even => step.is_multiple_of(2),
        }
    }
}

/// A checked manifest: sorted unique names, shapes within bounds, something to train.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    tensors: Vec<TensorSpec>,
    turns: Vec<Turn>,
    parameters: usize,
    dimension: usize,
}

impl Manifest {
    /// Checks a list of tensors, which must be sorted by name already.
    ///
    /// # Errors
    ///
    /// The first rule that is broken: number of tensors, name, order, shape, start, total size, nothing
    /// trained.
    pub fn new(tensors: Vec<TensorSpec>) -> Result<Self, ReleaseError> {
        if tensors.is_empty() || tensors.len() > MAX_TENSORS {
            return Err(ReleaseError::TensorCount(tensors.len()));
        }
        let (mut parameters, mut dimension) = (0usize, 0usize);
        let mut previous: Option<&str> = None;
        for tensor in &tensors {
            check_name(&tensor.name)?;
            if previous.is_some_and(|previous| previous >= tensor.name.as_str()) {
                return Err(ReleaseError::Order(tensor.name.clone()));
            }
            previous = Some(&tensor.name);
            let elements = tensor.elements().ok_or_else(|| ReleaseError::Shape(tensor.name.clone()))?;
            if let Init::Uniform { bound } = tensor.init
                && !(bound.is_finite() && bound >= 0.0)
            {
                return Err(ReleaseError::Start(tensor.name.clone()));
            }
            // At most 4096 tensors of at most 2²⁸ values: no overflow in 64 bits, and checked in 32.
            parameters = parameters
                .checked_add(elements)
                .filter(|&sum| sum <= MAX_PARAMETERS)
                .ok_or(ReleaseError::TooLarge)?;
            if tensor.trained {
                dimension += elements;
            }
        }
        if dimension == 0 {
            return Err(ReleaseError::NothingTrained);
        }
        let turns = alloc::vec![Turn::Every; tensors.len()];
        Ok(Self { tensors, turns, parameters, dimension })
    }

    /// The same manifest, whose trained tensors take turns.
    #[must_use]
    pub fn in_turns(mut self, turn: impl Fn(&TensorSpec) -> Turn) -> Self {
        self.turns = self.tensors.iter().map(turn).collect();
        self
    }

    /// In which steps each tensor moves, if it is trained.
    pub fn turns(&self) -> impl Iterator<Item = Turn> {
        self.turns.iter().copied()
    }

    /// Ranges of trained coordinates that do not move in a step, in order.
    pub fn still(&self, step: u64) -> Vec<Range<usize>> {
        let (mut still, mut at) = (Vec::new(), 0);
        for ((tensor, elements), turn) in self.layout().zip(self.turns()) {
            if tensor.trained {
                if !turn.moves(step) {
                    still.push(at..at + elements);
                }
                at += elements;
            }
        }
        still
    }

    /// The tensors, sorted by name.
    pub fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    /// How many values all tensors hold.
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// How many trained coordinates there are: the length of an update before metrics are added.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// A digest over every field of every tensor, in order.
    pub fn digest(&self) -> Digest {
        let start = Transcript::new("consilium/1/adapter-manifest").u64(self.tensors.len() as u64);
        self.tensors
            .iter()
            .zip(self.turns())
            .fold(start, |transcript, (tensor, turn)| {
                let transcript = tensor.shape.iter().fold(
                    transcript.bytes(tensor.name.as_bytes()).u64(tensor.shape.len() as u64),
                    |transcript, &axis| transcript.u64(u64::from(axis)),
                );
                let (kind, bound) = match tensor.init {
                    Init::Zeros => (0, 0),
                    Init::Uniform { bound } => (1, u64::from(bound.to_bits())),
                };
                let moves = match turn {
                    Turn::Every => 1,
                    Turn::Odd => 2,
                    Turn::Even => 3,
                };
                transcript.u64(kind).u64(bound).u64(if tensor.trained { moves } else { 0 })
            })
            .finish()
    }

    /// Each tensor with the number of values it holds.
    pub(super) fn layout(&self) -> impl Iterator<Item = (&TensorSpec, usize)> {
        // `new` refused every tensor whose count is `None`, so the 0 is never taken.
        self.tensors.iter().map(|tensor| (tensor, tensor.elements().unwrap_or(0)))
    }
}

fn check_name(name: &str) -> Result<(), ReleaseError> {
    let printable = name.bytes().all(|byte| byte.is_ascii_graphic());
    if printable && !name.is_empty() && name.len() <= MAX_NAME_BYTES {
        return Ok(());
    }
    // A hostile name may be long: show its beginning only.
    Err(ReleaseError::Name(name.chars().take(80).collect()))
}
