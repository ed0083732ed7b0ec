//! The values that a job goes on from: a safetensors file beside the plan, named in it by digest.
//!
//! A job may begin with an adapter that was trained before (by `peft`, by an earlier job) instead of a drawn one. Its values are as public
//! as the plan, and everybody must begin with the same: so the plan names the file's digest, and coordinator and clients read it from
//! the plan's own name with `.start` added. Tensors that the file does not hold start as the plan's own list says (a new head, say).

use std::collections::BTreeMap;

use consilium_crypto::{
    digest::Digest,
    release::{AdapterState, Manifest},
};
use safetensors::{SafeTensors, tensor::Dtype};

use super::{PlanError, VerifiedPlan, derived::listed, rule};

/// Largest start that is read, bytes.
pub const MAX_START_BYTES: u64 = 1 << 30;

/// Tensors by name.
pub(super) type Start = BTreeMap<String, Vec<f32>>;

impl VerifiedPlan {
    /// Takes the file that the plan's `adapter.start` names; nothing, if it names none.
    ///
    /// # Errors
    ///
    /// [`PlanError::Rule`]: no file where one is named or one where none is, another digest, a file that is not safetensors, or a tensor that
    /// is not the adapter's, of another shape or element type, or not finite.
    pub fn begin_from(mut self, file: Option<&[u8]>) -> Result<Self, PlanError> {
        const FIELD: &str = "adapter.start";
        let named = self.document().adapter.start;
        let (named, file) = match (named, file) {
            (None, _) => return Ok(self),
            (Some(named), None) => {
                rule(false, FIELD, &named, || {
                    "the file that it names is not beside the plan, PLAN.start: fetch it with the plan".into()
                })?;
                return Ok(self);
            }
            (Some(named), Some(file)) => (named, file),
        };
        let found = Digest::of(file);
        rule(found == named, FIELD, &named, || {
            format!("the file beside the plan is {found}: fetch the one that was signed")
        })?;
        let start =
            read(file, &self).or_else(|why| rule(false, FIELD, &named, || why).map(|()| Start::new()))?;
        self.start = Some(start.into());
        Ok(self)
    }

    /// What stays at home, as it starts: drawn from the plan's seed like the rest, and alike everywhere until the first step. Empty where
    /// everything is shared.
    ///
    /// # Errors
    ///
    /// As for any list of tensors that cannot be laid out.
    pub fn initial_local(&self) -> Result<Vec<(String, Vec<f32>)>, consilium_crypto::release::ReleaseError> {
        let (derived, adapter) = (self.derived(), &self.document().adapter);
        // All of them, so that each is drawn as if everything were shared.
        let all = Manifest::new(listed(adapter.tensors.iter()))?;
        let state = AdapterState::initial(&all, &adapter.seed.0, derived.optimizer)?;
        let local = state.tensors().filter(|(tensor, _)| adapter.is_local(&tensor.name));
        Ok(local.map(|(tensor, values)| (tensor.name.clone(), values.to_vec())).collect())
    }

    /// The adapter at the start of the job.
    pub(crate) fn initial(&self) -> Result<AdapterState, consilium_crypto::release::ReleaseError> {
        let (derived, adapter) = (self.derived(), &self.document().adapter);
        let mut state = AdapterState::initial(&derived.manifest, &adapter.seed.0, derived.optimizer)?;
        if adapter.start.is_some() && self.start.is_none() {
            return Err(consilium_crypto::release::ReleaseError::Bytes("the plan's start was not read"));
        }
        for (name, values) in self.start.iter().flat_map(|start| start.iter()) {
            state.begin_from(name, values)?;
        }
        Ok(state)
    }
}

fn read(file: &[u8], plan: &VerifiedPlan) -> Result<Start, String> {
    if file.len() as u64 > MAX_START_BYTES {
        return Err(format!("the file has {} bytes; at most {MAX_START_BYTES} are read", file.len()));
    }
    let parsed =
        SafeTensors::deserialize(file).map_err(|e| format!("the file is not sound safetensors: {e}"))?;
    let mut start = Start::new();
    for (name, view) in parsed.iter() {
        let Some(listed) = plan.derived().manifest.tensors().iter().find(|tensor| tensor.name == name) else {
            return Err(format!("tensor `{name}` is not one of this adapter's"));
        };
        let same = listed.shape.iter().map(|&axis| axis as usize).eq(view.shape().iter().copied());
        if !same || view.dtype() != Dtype::F32 {
            let (shape, dtype) = (view.shape(), view.dtype());
            return Err(format!("tensor `{name}` is {dtype:?} {shape:?}, expected F32 {:?}", listed.shape));
        }
        let values: Vec<f32> =
            view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(format!("tensor `{name}`, element {index} is not a finite number"));
        }
        start.insert(name.to_owned(), values);
    }
    if start.is_empty() {
        return Err("the file holds no tensor".into());
    }
    Ok(start)
}
