//! A plain encoder to compare with: one text at a time, no padding, no mask, no cache, factors not merged, attention head by
//! head, gradients by autograd on the factors themselves. Slow and obvious; shares no code with the trainer.

use std::collections::BTreeMap;

use consilium_client::model::{AdapterSpec, AdapterTensors, Architecture, ModelConfig, ModelFolder, Pooling};
use tch::{Kind, Tensor};

pub(crate) struct Plain {
    config: ModelConfig,
    weights: BTreeMap<String, Tensor>,
}

impl Plain {
    pub(crate) fn load(folder: &ModelFolder) -> Self {
        let mut weights = BTreeMap::new();
        folder
            .weights()
            .read(&mut |name, shape, values| {
                let shape: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
                weights.insert(name.to_owned(), Tensor::from_slice(&values).reshape(&shape));
            })
            .unwrap();
        Self { config: folder.config().clone(), weights }
    }

    /// Loss of one text, and the gradient of every adapter tensor by name.
    pub(crate) fn loss_and_gradients(
        &self,
        spec: &AdapterSpec,
        adapter: &AdapterTensors,
        shapes: &BTreeMap<String, Vec<i64>>,
        ids: &[u32],
        label: i64,
    ) -> (f64, BTreeMap<String, Tensor>) {
        let leaves: BTreeMap<String, Tensor> = adapter
            .iter()
            .map(|(name, values)| {
                let leaf = Tensor::from_slice(values).reshape(&shapes[name]).set_requires_grad(true);
                (name.to_owned(), leaf)
            })
            .collect();
        let x = self.encode(ids, |layer, module, x| {
            let name = format!("base_model.model.encoder.layer.{layer}.{module}");
            let a = leaves.get(&format!("{name}.lora_A.weight"))?;
            let b = &leaves[&format!("{name}.lora_B.weight")];
            Some(x.matmul(&a.tr()).matmul(&b.tr()) * spec.scaling())
        });
        let pooled = match spec.pooling {
            Pooling::Mean => x.mean_dim([0i64].as_slice(), false, Kind::Float),
            Pooling::Cls => x.get(0),
            Pooling::None => panic!("no task with labels pools nothing"),
        };
        let logits = leaves["head.weight"].matmul(&pooled) + &leaves["head.bias"];
        let loss = -logits.log_softmax(0, Kind::Float).get(label);
        loss.backward();
        let gradients = leaves.iter().map(|(name, leaf)| (name.clone(), leaf.grad())).collect();
        (loss.double_value(&[]), gradients)
    }

    /// `[tokens, d]`; `delta(layer, module, input)` is what an adapter adds to a linear layer's output.
    fn encode(&self, ids: &[u32], delta: impl Fn(usize, &str, &Tensor) -> Option<Tensor>) -> Tensor {
        let w = |name: &str| &self.weights[name];
        let first = match self.config.architecture {
            Architecture::Bert | Architecture::Llama => 0,
            Architecture::Roberta => i64::from(self.config.pad_token_id) + 1,
        };
        let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        let positions: Vec<i64> = (0..ids.len() as i64).map(|t| t + first).collect();
        let mut x = w("embeddings.word_embeddings.weight").index_select(0, &Tensor::from_slice(&ids))
            + w("embeddings.token_type_embeddings.weight").get(0)
            + w("embeddings.position_embeddings.weight").index_select(0, &Tensor::from_slice(&positions));
        x = self.norm("embeddings", &x);
        for layer in 0..self.config.layers {
            let linear = |module: &str, x: &Tensor| {
                let name = format!("encoder.layer.{layer}.{module}");
                let y = x.matmul(&w(&format!("{name}.weight")).tr()) + w(&format!("{name}.bias"));
                match delta(layer, module, x) {
                    Some(delta) => y + delta,
                    None => y,
                }
            };
            let (q, k, v) = (
                linear("attention.self.query", &x),
                linear("attention.self.key", &x),
                linear("attention.self.value", &x),
            );
            let width = (self.config.hidden_size / self.config.heads) as i64;
            let heads: Vec<Tensor> = (0..self.config.heads as i64)
                .map(|head| {
                    let part = |t: &Tensor| t.narrow(1, head * width, width);
                    let scores = part(&q).matmul(&part(&k).tr()) / (width as f64).sqrt();
                    scores.softmax(-1, Kind::Float).matmul(&part(&v))
                })
                .collect();
            let attended = linear("attention.output.dense", &Tensor::cat(&heads, 1));
            let at = format!("encoder.layer.{layer}");
            x = self.norm(&format!("{at}.attention.output"), &(attended + &x));
            let wide = linear("intermediate.dense", &x);
            let active = &wide * 0.5 * (1.0 + (&wide / 2f64.sqrt()).erf());
            x = self.norm(&format!("{at}.output"), &(linear("output.dense", &active) + &x));
        }
        x
    }

    fn norm(&self, name: &str, x: &Tensor) -> Tensor {
        let mean = x.mean_dim([-1i64].as_slice(), true, Kind::Float);
        let centred = x - mean;
        let variance = (&centred * &centred).mean_dim([-1i64].as_slice(), true, Kind::Float);
        let scaled = centred / (variance + self.config.norm_eps).sqrt();
        scaled * &self.weights[&format!("{name}.LayerNorm.weight")]
            + &self.weights[&format!("{name}.LayerNorm.bias")]
    }
}
