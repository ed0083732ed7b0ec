//! Training beside the data: adapters in, clipping-ready per-patient gradients out.
//!
//! The session sees only the [`Trainer`] trait. A trainer of the organization's own is another process ([`external`]). The built-in
//! trainer ([`TorchTrainer`], cargo feature `torch`) runs a BERT-family encoder or a Llama-family decoder in libtorch, evaluation mode
//! (no dropout but the adapter's own). Its method, for one lot:
//!
//! 1. Merge: `W + s·B·A` once per lot, so that the forward pass costs what the plain model costs (in single precision; a half-precision
//!    base keeps the factors beside it).
//! 2. Below the first adapted layer nothing ever changes: those states are computed once per record and kept
//!    ([`TrainerSpec::cache_bytes`]); with the head alone trained, one vector per record is kept.
//! 3. One backward pass per micro-batch leaves the gradient of the summed loss at the *outputs* of the adapted layers, `dy`.
//!    Records do not mix, so record `e`'s own gradient is `∂B = s·dyₑᵀ·(xₑ·Aᵀ)`, `∂A = s·(dyₑ·B)ᵀ·xₑ` and `∂head = dlogitsₑ ⊗ pooledₑ`:
//!    exactly what expanded copies of the factors would receive (as in Opacus; Yousefpour et al., 2021), without the copies.
//! 4. A patient's records are summed. Clipping, rounding and noise are not done here.
//!
//! **Why a gradient does not depend on the other patients.** Micro-batches have fixed shapes (`batches.rs`): a record's
//! padded length follows from its own length, rows that are missing are filled up, and no kernel used here mixes rows.
//! A test holds this to the last bit on the kernels of the machine it runs on; libtorch does not promise it for every machine.
//!
//! At most [`TrainerSpec::max_physical_batch`] records' gradients are in memory together, beside at most 128 MiB of unfinished sums of patients
//! with several records; the number changes no shape, and so no bit.
//!
//! Not hidden: wall time grows with the lot.

#[cfg(any(feature = "torch", test))]
mod batches;
mod consent;
mod error;
pub mod external;
pub mod home;
mod spec;

#[cfg(feature = "torch")]
mod torch;

pub use consent::Consenting;
pub use error::TrainError;
pub use external::ExternalTrainer;
pub use home::{Home, Personal};
pub use spec::{
    Attempt, Base, ClippedSum, Device, Evaluation, LabelScore, LocalRecipe, OwnDelta, PatientGradient,
    Trained, Trainer, TrainerSpec,
};
#[cfg(feature = "torch")]
pub use torch::{Prepared, TorchModel, TorchTrainer};
