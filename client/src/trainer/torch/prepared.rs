//! A data set as token ids, and its frozen states: what the base model computes below the first adapted layer.
//!
//! The states are exact, not an approximation: nothing below the first adapted layer depends on the adapter, and a record is
//! always computed in the same shape. Only the text's own tokens are kept. Once the cap is reached, states are computed again
//! whenever they are needed, with the same result.

use std::ops::Range;

use crate::data::Dataset;
use crate::model::TextTokenizer;
use crate::trainer::TrainError;

/// A tokenized data set with its cache; made by [`super::TorchModel::prepare`].
pub struct Prepared {
    records: Vec<Tokens>,
    patients: Vec<Range<usize>>,
    states: Vec<Option<Box<[f32]>>>,
    bytes: u64,
    cap: u64,
}

struct Tokens {
    ids: Box<[u32]>,
    labels: Box<[u32]>,
    patient: usize,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared")
            .field("patients", &self.patients.len())
            .field("records", &self.records.len())
            .field("cached_bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Prepared {
    pub(super) fn new(data: &Dataset, tokenizer: &TextTokenizer, cap: u64) -> Result<Self, TrainError> {
        let mut records = Vec::with_capacity(data.len());
        let mut patients = Vec::with_capacity(data.patients());
        for patient in 0..data.patients() {
            let begin = records.len();
            for record in data.records(patient) {
                let ids = tokenizer.encode(&record.text)?.into_boxed_slice();
                let labels = record.labels.as_slice().into();
                records.push(Tokens { ids, labels, patient });
            }
            patients.push(begin..records.len());
        }
        let states = records.iter().map(|_| None).collect();
        Ok(Self { records, patients, states, bytes: 0, cap })
    }

    /// How many patients.
    pub fn patients(&self) -> usize {
        self.patients.len()
    }

    /// How many records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes of frozen states in memory now.
    pub fn cached_bytes(&self) -> u64 {
        self.bytes
    }

    /// The numbers of a patient's records.
    pub(super) fn of_patient(&self, patient: usize) -> Result<Range<usize>, TrainError> {
        self.patients
            .get(patient)
            .cloned()
            .ok_or(TrainError::NoSuchPatient { patient, patients: self.patients.len() })
    }

    pub(super) fn ids(&self, record: usize) -> &[u32] {
        &self.records[record].ids
    }

    pub(super) fn tokens(&self, record: usize) -> usize {
        self.records[record].ids.len()
    }

    /// One with `single-label`, any number with `multi-label`, none with `next-token`.
    pub(super) fn labels(&self, record: usize) -> &[u32] {
        &self.records[record].labels
    }

    /// Whose record this is.
    pub(super) fn owner(&self, record: usize) -> usize {
        self.records[record].patient
    }

    pub(super) fn state(&self, record: usize) -> Option<&[f32]> {
        self.states[record].as_deref()
    }

    /// Keeps a record's states. Returns whether they stay under the cap; if not, [`Self::forget`] them after use.
    pub(super) fn keep(&mut self, record: usize, states: Box<[f32]>) -> bool {
        let bytes = (states.len() * size_of::<f32>()) as u64;
        let stays = self.bytes.saturating_add(bytes) <= self.cap;
        if stays && self.states[record].is_none() {
            self.bytes += bytes;
        }
        self.states[record] = Some(states);
        stays
    }

    /// Drops states that did not fit under the cap.
    pub(super) fn forget(&mut self, records: &[usize]) {
        for &record in records {
            self.states[record] = None;
        }
    }
}
