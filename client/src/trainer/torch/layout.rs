//! Where the texts of a block are: packed rows for the linear layers, padded groups for whatever looks at a whole text.
//!
//! Packed: `[n, …]`, text after text, the last row always filler. A group: the texts of one padded length, `[b, t, …]`; a text's
//! missing tokens are taken from the filler row, and masked.

use tch::{Device, Kind, Tensor};

use crate::trainer::TrainError;
use crate::trainer::batches::padded_length;

/// A score that no softmax sees; what `transformers` adds at padding.
pub(super) const MASKED: f32 = f32::MIN;

pub(super) struct Layout {
    pub(super) groups: Vec<Group>,
    /// Each packed row's place in its text, from 0; 0 for filler.
    pub(super) places: Tensor,
    /// For each packed row, its place among the groups' rows laid one after the other; 0 for filler.
    back: Tensor,
    /// How many rows of filler there are, if no text is padded: then packed rows are the groups' rows and those.
    only_filler: Option<i64>,
}

/// Texts of one padded length.
pub(super) struct Group {
    /// Texts.
    pub(super) b: i64,
    /// Padded tokens.
    pub(super) t: i64,
    /// The packed row of each `(text, token)`: `[b·t]`.
    rows: Tensor,
    /// The first of them, if no text is padded: then they are a run.
    run: Option<i64>,
    /// Added to attention scores: `[b, 1, 1, t]`, 0 or hugely negative.
    pub(super) mask: Tensor,
    /// Weights of the mean over a text's tokens: `[b, 1, t]`.
    mean: Tensor,
    /// The packed row of each text's first token: `[b]`.
    first: Tensor,
}

impl Layout {
    /// For texts of these lengths, each at least 1 and in ascending order, in a block of `rows` rows.
    pub(super) fn new(lengths: &[usize], rows: usize, device: Device) -> Result<Self, TrainError> {
        let mut groups = Vec::new();
        let mut places = vec![0i64; rows];
        let mut back = vec![0i64; rows];
        let (mut packed, mut padded) = (0, 0);
        for same in lengths.chunk_by(|x, y| padded_length(*x) == padded_length(*y)) {
            let t = padded_length(same[0]);
            groups.push(Group::new(same, t, packed, rows - 1, device)?);
            for &length in same {
                for (token, place) in back[packed..][..length].iter_mut().enumerate() {
                    *place = (padded + token) as i64;
                }
                for (token, place) in places[packed..][..length].iter_mut().enumerate() {
                    *place = token as i64;
                }
                packed += length;
                padded += t;
            }
        }
        let on = |rows: &[i64]| Tensor::f_from_slice(rows)?.f_to_device(device);
        let only_filler = (padded == packed).then_some((rows - packed) as i64);
        Ok(Self { groups, places: on(&places)?, back: on(&back)?, only_filler })
    }

    /// The groups' results `[b·t, d]` → packed `[n, d]`; filler rows hold something finite.
    pub(super) fn pack(&self, groups: &[Tensor]) -> Result<Tensor, TrainError> {
        let all = match groups {
            [one] => one.shallow_clone(),
            several => Tensor::f_cat(several, 0)?,
        };
        if let Some(filler) = self.only_filler {
            return Ok(all.f_constant_pad_nd([0, 0, 0, filler])?);
        }
        Ok(all.f_index_select(0, &self.back)?)
    }

    /// The mean over each text's tokens: packed `[n, d]` → `[texts, d]`.
    pub(super) fn mean(&self, x: &Tensor) -> Result<Tensor, TrainError> {
        self.each_text(|group| Ok(group.mean.f_bmm(&group.pad(x)?)?.f_squeeze_dim(1)?))
    }

    /// Each text's first token: packed `[n, d]` → `[texts, d]`.
    pub(super) fn first(&self, x: &Tensor) -> Result<Tensor, TrainError> {
        self.each_text(|group| Ok(x.f_index_select(0, &group.first)?))
    }

    /// Something per text, group by group, in the texts' order.
    pub(super) fn each_text(
        &self,
        of: impl FnMut(&Group) -> Result<Tensor, TrainError>,
    ) -> Result<Tensor, TrainError> {
        let parts = self.groups.iter().map(of).collect::<Result<Vec<_>, _>>()?;
        Ok(Tensor::f_cat(&parts, 0)?)
    }
}

impl Group {
    fn new(
        lengths: &[usize],
        t: usize,
        first_row: usize,
        filler: usize,
        device: Device,
    ) -> Result<Self, TrainError> {
        let b = lengths.len();
        let mut rows = vec![filler as i64; b * t];
        let mut mask = vec![MASKED; b * t];
        let mut mean = vec![0f32; b * t];
        let mut first = Vec::with_capacity(b);
        let mut next = first_row;
        let run = lengths.iter().all(|&length| length == t).then_some(first_row as i64);
        for (text, &length) in lengths.iter().enumerate() {
            first.push(next as i64);
            for token in text * t..text * t + length {
                rows[token] = next as i64;
                mask[token] = 0.0;
                mean[token] = 1.0 / length as f32;
                next += 1;
            }
        }
        let (b, t) = (b as i64, t as i64);
        Ok(Self {
            b,
            t,
            rows: Tensor::f_from_slice(&rows)?.f_to_device(device)?,
            run,
            mask: Tensor::f_from_slice(&mask)?.f_reshape([b, 1, 1, t])?.f_to_device(device)?,
            mean: Tensor::f_from_slice(&mean)?.f_reshape([b, 1, t])?.f_to_device(device)?,
            first: Tensor::f_from_slice(&first)?.f_to_device(device)?,
        })
    }

    /// Packed `[n, width]` → `[b, t, width]`.
    pub(super) fn pad(&self, x: &Tensor) -> Result<Tensor, TrainError> {
        let width = x.size2()?.1;
        if let Some(first) = self.run {
            return Ok(x.f_narrow(0, first, self.b * self.t)?.f_reshape([self.b, self.t, width])?);
        }
        Ok(x.f_index_select(0, &self.rows)?.f_view([self.b, self.t, width])?)
    }
}

/// Appends rows of zeros up to `rows`.
pub(super) fn fill_up(x: &Tensor, rows: usize) -> Result<Tensor, TrainError> {
    let (have, width) = x.size2()?;
    if have == rows as i64 {
        return Ok(x.shallow_clone());
    }
    let zeros = Tensor::f_zeros([rows as i64 - have, width], (Kind::Float, x.device()))?;
    Ok(Tensor::f_cat(&[x, &zeros], 0)?)
}
