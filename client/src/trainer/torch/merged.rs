//! The adapter inside libtorch: its factors, and the weights that they change.
//!
//! In single precision `s·B·A` is added to the weights once a lot, which changes nothing but the last bits:
//! `(W + s·B·A)·x = W·x + s·B·(A·x)`. A base in half precision would round most of a young `B·A` away, so there the factors stay
//! beside it, in single precision (as `peft` has them); and so they do where dropout comes before `A`.

use tch::{Kind, Tensor};

use super::network::{Dense, Network, Place, Rows, Taps};
use crate::model::{AdapterSpec, AdapterTensor, AdapterTensors, TensorKind};
use crate::trainer::TrainError;

/// One layer's four matrices with their adapters.
pub(super) struct LayerWeights {
    pub(super) qkv: Product,
    pub(super) attention_output: Product,
    pub(super) intermediate: Product,
    pub(super) output: Product,
}

/// A matrix, merged where adapted or shared with the base model, and what stands beside it.
pub(super) struct Product {
    weight: Tensor,
    beside: Option<Beside>,
}

/// Factors that are not merged, of all adapted modules of a product together.
struct Beside {
    /// One above the other: `[modules·r, in]`.
    a: Tensor,
    /// Scaled, each module's in its own rows and columns: `[out, modules·r]`.
    b: Tensor,
    dropout: f64,
}

impl Product {
    fn plain(dense: &Dense) -> Self {
        Self { weight: dense.weight.shallow_clone(), beside: None }
    }

    /// `[n, in]` → `[n, out]`. While taps are on, what goes into `A` is dropped out; the modules of one product share the draw.
    pub(super) fn apply(
        &self,
        x: &Tensor,
        dense: &Dense,
        (layer, place): (usize, Place),
        taps: &mut Taps,
    ) -> Result<Tensor, TrainError> {
        let y = x.f_linear(&self.weight, dense.bias.as_ref())?;
        let Some(Beside { a, b, dropout }) = &self.beside else { return taps.keep(layer, place, x, y) };
        let mut input = x.f_to_kind(Kind::Float)?;
        if *dropout > 0.0 && taps.are_on() {
            input = input.f_dropout(*dropout, true)?;
        }
        let added = input.f_matmul(&a.f_tr()?)?.f_matmul(&b.f_tr()?)?;
        let y = y.f_add(&added.f_to_kind(y.kind())?)?;
        taps.keep(layer, place, &input, y)
    }
}

impl LayerWeights {
    /// The base model's own, without an adapter.
    pub(super) fn plain(network: &Network, index: usize) -> Self {
        // Indexing safety: callers count through `layers`.
        let layer = &network.layers[index];
        Self {
            qkv: Product::plain(&layer.qkv),
            attention_output: Product::plain(&layer.attention_output),
            intermediate: Product::plain(&layer.intermediate),
            output: Product::plain(&layer.output),
        }
    }

    fn at(&mut self, place: Place) -> &mut Product {
        match place {
            Place::Qkv => &mut self.qkv,
            Place::AttentionOutput => &mut self.attention_output,
            Place::Intermediate => &mut self.intermediate,
            Place::Output => &mut self.output,
        }
    }
}

/// An adapted module: its product, which rows of it, `A`, and `B` scaled.
type Pair<'a> = (Place, Option<Rows>, &'a Tensor, Tensor);

/// The adapter's values, ready for a lot.
pub(super) struct Merged {
    /// In name order, each in its shape.
    tensors: Vec<(AdapterTensor, Tensor)>,
    pub(super) layers: Vec<LayerWeights>,
    pub(super) scaling: f64,
}

impl Merged {
    /// Checks the values against `expected` and merges them.
    pub(super) fn new(
        network: &Network,
        expected: &[AdapterTensor],
        spec: &AdapterSpec,
        values: &AdapterTensors,
    ) -> Result<Self, TrainError> {
        values.check(expected)?;
        let mut tensors = Vec::with_capacity(expected.len());
        for tensor in expected {
            let shape: Vec<i64> = tensor.shape.iter().map(|&size| size as i64).collect();
            // `check` has found every name.
            let flat = Tensor::f_from_slice(values.values(&tensor.name).unwrap_or_default())?;
            tensors.push((tensor.clone(), flat.f_reshape(&shape)?.f_to_device(network.device())?));
        }
        let mut merged = Self { tensors, layers: Vec::new(), scaling: spec.scaling() };
        let beside = network.kind() != Kind::Float || spec.dropout > 0.0;
        merged.layers = (0..network.layers.len())
            .map(|layer| match beside {
                true => merged.layer_beside(network, layer, spec.dropout),
                false => merged.layer(network, layer),
            })
            .collect::<Result<_, _>>()?;
        Ok(merged)
    }

    /// A tensor of the adapter by what it is.
    pub(super) fn tensor(&self, kind: TensorKind) -> Option<&Tensor> {
        self.tensors.iter().find(|(tensor, _)| tensor.kind == kind).map(|(_, values)| values)
    }

    /// The pairs of one layer.
    fn pairs(&self, network: &Network, index: usize) -> Result<Vec<Pair<'_>>, TrainError> {
        let mut pairs = Vec::new();
        for (tensor, b) in &self.tensors {
            let TensorKind::B { layer, module } = tensor.kind else { continue };
            if layer != index {
                continue;
            }
            let Some(a) = self.tensor(TensorKind::A { layer, module }) else { continue };
            let (place, rows) = Place::of(module, network.config());
            pairs.push((place, rows, a, b.f_mul_scalar(self.scaling)?));
        }
        Ok(pairs)
    }

    fn layer(&self, network: &Network, index: usize) -> Result<LayerWeights, TrainError> {
        let mut weights = LayerWeights::plain(network, index);
        let mut own = Vec::new();
        for (place, rows, a, b) in self.pairs(network, index)? {
            let product = weights.at(place);
            let Some((first, count)) = rows else {
                product.weight = product.weight.f_addmm(&b, a)?;
                continue;
            };
            if !own.contains(&place) {
                product.weight = product.weight.f_add_scalar(0.0)?;
                own.push(place);
            }
            let _ = product.weight.f_narrow(0, first, count)?.f_addmm_(&b, a)?;
        }
        Ok(weights)
    }

    fn layer_beside(
        &self,
        network: &Network,
        index: usize,
        dropout: f64,
    ) -> Result<LayerWeights, TrainError> {
        let mut weights = LayerWeights::plain(network, index);
        let pairs = self.pairs(network, index)?;
        for place in [Place::Qkv, Place::AttentionOutput, Place::Intermediate, Place::Output] {
            let here: Vec<_> = pairs.iter().filter(|pair| pair.0 == place).collect();
            if here.is_empty() {
                continue;
            }
            let product = weights.at(place);
            let outputs = product.weight.size2()?.0;
            let mut columns = Vec::new();
            for (_, rows, _, b) in &here {
                let (count, rank) = b.size2()?;
                let (first, _) = rows.unwrap_or((0, outputs));
                let column = Tensor::f_zeros([outputs, rank], (Kind::Float, b.device()))?;
                column.f_narrow(0, first, count)?.f_copy_(b)?;
                columns.push(column);
            }
            let a: Vec<_> = here.iter().map(|(_, _, a, _)| *a).collect();
            let (a, b) = (Tensor::f_cat(&a, 0)?, Tensor::f_cat(&columns, 1)?);
            product.beside = Some(Beside { a, b, dropout });
        }
        Ok(weights)
    }
}
