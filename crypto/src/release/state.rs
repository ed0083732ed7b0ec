//! An adapter between two rounds: all its tensors, the optimizer's moments, and how many steps were taken.
//!
//! [`AdapterState::to_bytes`] is what coordinator and client store and what a returning client may be given;
//! [`AdapterState::from_bytes`] treats it as hostile. The layout, everything little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `CSLADPT` and the version byte 1 |
//! | 32 | the manifest's digest |
//! | 1 + 16 | the optimizer: kind, then four binary32 fields, unused ones 0 |
//! | 8 | steps taken |
//! | 8 | the running products `β₁ᵗ`, `β₂ᵗ` |
//! | 4 each | all tensors' values in manifest order; then the moments that the optimizer has: first (FedAvgM), first and second (Adam) |

use alloc::vec::Vec;
use core::ops::Range;

use super::optimizer::{Powers, step};
use super::{Manifest, Optimizer, ReleaseError, TensorSpec};
use crate::digest::{Digest, Transcript};

const MAGIC: [u8; 8] = *b"CSLADPT\x01";
const HEADER: usize = 8 + 32 + 17 + 8 + 8;
/// Coordinates worked on at a time: a step needs this much memory beside the state itself.
const BLOCK: usize = 2048;

/// All of an adapter's state. Public: it follows from released sums alone.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterState {
    manifest: Manifest,
    optimizer: Optimizer,
    steps: u64,
    powers: Powers,
    /// Every tensor's values, in manifest order.
    values: Vec<f32>,
    /// The optimizer's moments of the trained coordinates; empty where it has none.
    first: Vec<f32>,
    second: Vec<f32>,
}

impl AdapterState {
    /// The adapter before the first round, drawn from the plan's public `seed`.
    ///
    /// # Errors
    ///
    /// The optimizer's, if a field is out of range.
    pub fn initial(manifest: &Manifest, seed: &[u8; 32], optimizer: Optimizer) -> Result<Self, ReleaseError> {
        optimizer.check()?;
        let mut values = alloc::vec![0.0; manifest.parameters()];
        let mut rest = values.as_mut_slice();
        for (index, (tensor, elements)) in manifest.layout().enumerate() {
            let (head, tail) = rest.split_at_mut(elements.min(rest.len()));
            tensor.init.fill(seed, index as u64, head);
            rest = tail;
        }
        let moments = moments(&optimizer, manifest);
        Ok(Self {
            manifest: manifest.clone(),
            optimizer,
            steps: 0,
            powers: Powers([1.0; 2]),
            values,
            first: alloc::vec![0.0; moments.0],
            second: alloc::vec![0.0; moments.1],
        })
    }

    /// Sets one tensor to values that were trained before, at the start of a job that goes on from them.
    ///
    /// # Errors
    ///
    /// A state that has taken a step, a tensor that the manifest does not have, another number of values, or one that is not finite.
    pub fn begin_from(&mut self, name: &str, given: &[f32]) -> Result<(), ReleaseError> {
        if self.steps != 0 {
            return Err(ReleaseError::Bytes("a job that is under way has no start any more"));
        }
        let mut first = 0;
        for (tensor, elements) in self.manifest.layout() {
            if tensor.name != name {
                first += elements;
                continue;
            }
            if given.len() != elements {
                return Err(ReleaseError::Length {
                    what: "a tensor's start",
                    expected: elements,
                    got: given.len(),
                });
            }
            finite("a tensor's start", first, given)?;
            let own = self.values.get_mut(first..first + elements).ok_or(ReleaseError::TooLarge)?;
            own.copy_from_slice(given);
            return Ok(());
        }
        Err(ReleaseError::Name(name.into()))
    }

    /// One server step with the mean update (from [`super::mean_from_sum`]). On an error the state is as it
    /// was before.
    ///
    /// # Errors
    ///
    /// A mean of the wrong length or with a value that is not finite; a step after which some parameter would
    /// not be finite. The same input fails alike at every party.
    pub fn apply(&mut self, mean: &[f32]) -> Result<(), ReleaseError> {
        let expected = self.manifest.dimension();
        let wrong = ReleaseError::Length { what: "the mean update", expected, got: mean.len() };
        if mean.len() != expected {
            return Err(wrong);
        }
        self.apply_blocks(|first, block| {
            let part = mean.get(first..).and_then(|rest| rest.get(..block.len()));
            block.copy_from_slice(part.ok_or(wrong.clone())?);
            Ok(())
        })
    }

    /// As [`AdapterState::apply`], with a mean that is never in memory as a whole: `mean` writes the
    /// coordinates from its first argument on into the block it is given. It is asked for every block twice,
    /// because nothing is changed before every block is known to be good.
    ///
    /// # Errors
    ///
    /// As [`AdapterState::apply`], and whatever `mean` says.
    pub fn apply_blocks(
        &mut self,
        mut mean: impl FnMut(usize, &mut [f32]) -> Result<(), ReleaseError>,
    ) -> Result<(), ReleaseError> {
        let steps = self.steps.checked_add(1).ok_or(ReleaseError::TooLarge)?;
        let (optimizer, before) = (self.optimizer, self.powers);
        let mut rooms = [[0.0; BLOCK]; 3];
        self.moving_blocks(steps, |at, weights, first, second| {
            let [w, m, v] = &mut rooms;
            let (w, m, v) = (copied(w, weights), copied(m, first), copied(v, second));
            let mut update = [0.0; BLOCK];
            let update = update.get_mut(..w.len()).unwrap_or_default();
            mean(at, update)?;
            finite("the mean update", at, update)?;
            step(&optimizer, &mut before.clone(), w, update, m, v);
            finite("the adapter after this step", at, w)?;
            finite("the optimizer's first moment", at, m)?;
            finite("the optimizer's second moment", at, v)
        })?;
        let mut powers = before;
        self.moving_blocks(steps, |at, weights, first, second| {
            let mut update = [0.0; BLOCK];
            let update = update.get_mut(..weights.len()).unwrap_or_default();
            mean(at, update)?;
            powers = before;
            step(&optimizer, &mut powers, weights, update, first, second);
            Ok(())
        })?;
        (self.powers, self.steps) = (powers, steps);
        Ok(())
    }

    /// Calls `each` with the coordinates that move in a step, block by block in manifest order: index of the first, values,
    /// and moments (empty where the optimizer has none). What does not move keeps its values and moments.
    fn moving_blocks(
        &mut self,
        step: u64,
        mut each: impl FnMut(usize, &mut [f32], &mut [f32], &mut [f32]) -> Result<(), ReleaseError>,
    ) -> Result<(), ReleaseError> {
        let mut rest = self.values.as_mut_slice();
        let (mut first, mut second) = (self.first.as_mut_slice(), self.second.as_mut_slice());
        let mut at = 0;
        for ((tensor, elements), turn) in self.manifest.layout().zip(self.manifest.turns()) {
            let (head, tail) = rest.split_at_mut(elements.min(rest.len()));
            rest = tail;
            if !tensor.trained {
                continue;
            }
            let moves = turn.moves(step);
            for block in head.chunks_mut(BLOCK) {
                let (m, later) = first.split_at_mut(block.len().min(first.len()));
                first = later;
                let (v, later) = second.split_at_mut(block.len().min(second.len()));
                second = later;
                if moves {
                    each(at, block, m, v)?;
                }
                at += block.len();
            }
        }
        Ok(())
    }

    /// One server step with the mean *delta* (from [`super::mean_of_deltas`]), for units in which organizations send
    /// changes of weights: [`Optimizer::FedAvg`] and [`Optimizer::FedAvgM`] add it, a gradient method takes its negative for
    /// the gradient, which is exact. On an error the state is as it was before.
    ///
    /// # Errors
    ///
    /// As [`AdapterState::apply`].
    pub fn apply_deltas(&mut self, mean: &[f32]) -> Result<(), ReleaseError> {
        if self.optimizer.adds_deltas() {
            return self.apply(mean);
        }
        self.apply(&mean.iter().map(|delta| -delta).collect::<Vec<_>>())
    }

    /// As [`AdapterState::apply_deltas`], block by block as in [`AdapterState::apply_blocks`].
    ///
    /// # Errors
    ///
    /// As [`AdapterState::apply_blocks`].
    pub fn apply_delta_blocks(
        &mut self,
        mut mean: impl FnMut(usize, &mut [f32]) -> Result<(), ReleaseError>,
    ) -> Result<(), ReleaseError> {
        let negate = !self.optimizer.adds_deltas();
        self.apply_blocks(|at, block| {
            mean(at, block)?;
            if negate {
                block.iter_mut().for_each(|delta| *delta = -*delta);
            }
            Ok(())
        })
    }

    /// The trained coordinates, flat, in manifest order: [`Manifest::dimension`] values.
    pub fn trained(&self) -> Vec<f32> {
        let mut flat = Vec::with_capacity(self.manifest.dimension());
        for (tensor, values) in self.tensors() {
            if tensor.trained {
                flat.extend_from_slice(values);
            }
        }
        flat
    }

    /// Every tensor with its values (row-major), in manifest order.
    pub fn tensors(&self) -> impl Iterator<Item = (&TensorSpec, &[f32])> {
        self.manifest.layout().scan(self.values.as_slice(), |rest, (tensor, elements)| {
            let (head, tail) = rest.split_at_checked(elements)?;
            *rest = tail;
            Some((tensor, head))
        })
    }

    /// The manifest that this adapter follows.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The optimizer and its parameters.
    pub fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    /// Ranges of trained coordinates that do not move in the next step, in order: an update has nothing to say there.
    pub fn still(&self) -> Vec<Range<usize>> {
        self.manifest.still(self.steps.saturating_add(1))
    }

    /// How many rounds have been applied.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// What clients compare before they go on: every tensor's name, shape and values (binary32,
    /// little-endian), in order of names.
    pub fn adapter_digest(&self) -> Digest {
        let count = self.manifest.tensors().len() as u64;
        self.tensors()
            .fold(Transcript::new("consilium/1/adapter").u64(count), |transcript, (tensor, values)| {
                let named = transcript.bytes(tensor.name.as_bytes()).u64(tensor.shape.len() as u64);
                let shaped = tensor.shape.iter().fold(named, |t, &axis| t.u64(u64::from(axis)));
                shaped.floats(values)
            })
            .finish()
    }

    /// The optimizer's kind, parameters, steps and moments: two parties that agree on this and on the
    /// adapter will agree on the next adapter.
    pub fn optimizer_digest(&self) -> Digest {
        let (kind, fields) = self.optimizer.fields();
        Transcript::new("consilium/1/optimizer")
            .u64(u64::from(super::ARITHMETIC_VERSION))
            .u64(u64::from(kind))
            .floats(&fields)
            .u64(self.steps)
            .floats(&self.powers.0)
            .floats(&self.first)
            .floats(&self.second)
            .finish()
    }

    /// The stored form (see the module's table).
    pub fn to_bytes(&self) -> Vec<u8> {
        let (kind, fields) = self.optimizer.fields();
        let mut bytes = Vec::with_capacity(self.byte_len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(self.manifest.digest().as_bytes());
        bytes.push(kind);
        bytes.extend_from_slice(&little_endian(&fields));
        bytes.extend_from_slice(&self.steps.to_le_bytes());
        bytes.extend_from_slice(&little_endian(&self.powers.0));
        for values in [&self.values, &self.first, &self.second] {
            bytes.extend_from_slice(&little_endian(values));
        }
        bytes
    }

    /// Reads a stored form back.
    ///
    /// # Errors
    ///
    /// Anything that [`AdapterState::to_bytes`] could not have written for this manifest: another format,
    /// manifest or length, an optimizer out of range, a value that is not finite, a negative second moment.
    pub fn from_bytes(manifest: &Manifest, bytes: &[u8]) -> Result<Self, ReleaseError> {
        let mut reader = Reader(bytes);
        if reader.array::<8>()? != MAGIC {
            return Err(ReleaseError::Bytes("not an adapter state of format 1"));
        }
        if &reader.array::<32>()? != manifest.digest().as_bytes() {
            return Err(ReleaseError::Bytes("it belongs to another manifest"));
        }
        let [kind] = reader.array::<1>()?;
        let fields = [reader.f32()?, reader.f32()?, reader.f32()?, reader.f32()?];
        let optimizer = Optimizer::from_fields(kind, fields)?;
        let steps = u64::from_le_bytes(reader.array()?);
        let powers = Powers([reader.f32()?, reader.f32()?]);
        if powers.0.iter().any(|power| !(0.0..=1.0).contains(power)) {
            return Err(ReleaseError::Bytes("a running product is outside [0, 1]"));
        }
        let (firsts, seconds) = moments(&optimizer, manifest);
        // Compare lengths before anything is allocated from them.
        let expected = 4 * (manifest.parameters() + firsts + seconds);
        if reader.0.len() != expected {
            return Err(ReleaseError::Bytes("its length is not the manifest's"));
        }
        let values = reader.floats(manifest.parameters())?;
        let (first, second) = (reader.floats(firsts)?, reader.floats(seconds)?);
        finite("the stored adapter", 0, &values)?;
        finite("the stored first moment", 0, &first)?;
        finite("the stored second moment", 0, &second)?;
        if second.iter().any(|&v| v.is_sign_negative()) {
            return Err(ReleaseError::Bytes("a second moment is negative"));
        }
        Ok(Self { manifest: manifest.clone(), optimizer, steps, powers, values, first, second })
    }

    fn byte_len(&self) -> usize {
        HEADER + 4 * (self.values.len() + self.first.len() + self.second.len())
    }
}

/// How many first and second moments there are.
fn moments(optimizer: &Optimizer, manifest: &Manifest) -> (usize, usize) {
    let (first, second) = optimizer.moments();
    let of = |has: bool| if has { manifest.dimension() } else { 0 };
    (of(first), of(second))
}

/// At most a block of values, copied to where they may be changed.
fn copied<'a>(room: &'a mut [f32; BLOCK], values: &[f32]) -> &'a mut [f32] {
    let room = room.get_mut(..values.len()).unwrap_or_default();
    room.copy_from_slice(values);
    room
}

/// Refuses a value that is not finite; `first` is the index of the first one.
fn finite(what: &'static str, first: usize, values: &[f32]) -> Result<(), ReleaseError> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(index) => Err(ReleaseError::NotFinite { what, index: first + index }),
    }
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Takes bytes from the front, refusing to run past the end.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], ReleaseError> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(ReleaseError::Bytes("it ends too early"))?;
        self.0 = tail;
        Ok(*head)
    }

    fn f32(&mut self) -> Result<f32, ReleaseError> {
        self.array().map(f32::from_le_bytes)
    }

    fn floats(&mut self, count: usize) -> Result<Vec<f32>, ReleaseError> {
        (0..count).map(|_| self.f32()).collect()
    }
}
