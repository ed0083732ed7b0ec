"""The other side: MiniLM through transformers, LoRA by peft, per-sample gradients by Opacus, as their users write it."""
import torch
from opacus.grad_sample import GradSampleModule
from opacus.optimizers import DPOptimizer
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModel, AutoTokenizer

torch.set_num_threads(1)


class Classifier(torch.nn.Module):
    """A bare encoder (with LoRA), the mean of its token states, a linear head."""

    def __init__(self, encoder, labels):
        super().__init__()
        self.encoder, self.head = encoder, torch.nn.Linear(encoder.config.hidden_size, labels)

    def forward(self, ids, mask):
        states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return self.head((states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))


class TopLayers(torch.nn.Module):
    """The same from the states below the first adapted layer on: they never change, so both sides compute them once."""

    def __init__(self, classifier, first):
        super().__init__()
        self.layers = classifier.encoder.base_model.model.encoder.layer[first:]
        self.head = classifier.head

    def forward(self, states, mask):
        bias = (1.0 - mask[:, None, None, :].float()) * torch.finfo(torch.float32).min
        for layer in self.layers:
            out = layer(states, bias)
            states = out[0] if isinstance(out, tuple) else out
        return self.head((states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))


def encoder(folder):
    """In training mode, which Opacus insists on, and without dropout, so that it computes what evaluation mode computes."""
    return AutoModel.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32, hidden_dropout_prob=0.0,
                                     attention_probs_dropout_prob=0.0).train()


def lora(folder, job, labels):
    """The classifier with the job's adapter, B and head trained, and its parameters under the plan's names."""
    spec = job["adapter"]
    config = LoraConfig(r=spec["rank"], lora_alpha=spec["alpha"], use_rslora=spec["use_rslora"],
                        target_modules=spec["target_modules"], layers_to_transform=spec["layers"], task_type="FEATURE_EXTRACTION")
    model = Classifier(get_peft_model(encoder(folder), config), labels).train()
    named = parameters(model)
    for name, parameter in named.items():
        parameter.requires_grad_("lora_B" in name or name.startswith("head."))
    return model, named


def parameters(model):
    return {name.removeprefix("encoder.").replace(".default", ""): p for name, p in model.named_parameters()}


def load(named, shapes, flat):
    """All of the adapter's tensors, in name order, from one flat array."""
    at = 0
    for name in sorted(shapes, key=str.encode):
        size = 1
        for axis in shapes[name]:
            size *= axis
        named[name].data.copy_(torch.tensor(flat[at : at + size]).reshape(shapes[name]))
        at += size
    assert at == len(flat), (at, len(flat))


class Titles:
    """Tokenized texts, in batches of like length: padding is to the longest of a batch, as everybody does it."""

    def __init__(self, folder, texts, labels, max_tokens):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        self.ids = [tokenizer(text, truncation=True, max_length=max_tokens)["input_ids"] for text in texts]
        self.labels = torch.tensor(labels)

    def batches(self, chosen, size):
        chosen = sorted(chosen, key=lambda index: len(self.ids[index]))
        for at in range(0, len(chosen), size):
            part = chosen[at : at + size]
            longest = max(len(self.ids[index]) for index in part)
            ids = torch.zeros(len(part), longest, dtype=torch.long)
            mask = torch.zeros(len(part), longest, dtype=torch.long)
            for row, index in enumerate(part):
                ids[row, : len(self.ids[index])] = torch.tensor(self.ids[index])
                mask[row, : len(self.ids[index])] = 1
            yield part, ids, mask


def private(model, trained, clip, noise_multiplier, expected, learning_rate=0.02, generator=None):
    """Opacus' two parts: the module that keeps per-sample gradients, the optimizer that clips and noises them."""
    wrapped = GradSampleModule(model, loss_reduction="sum")
    inner = torch.optim.Adam(trained, lr=learning_rate)
    optimizer = DPOptimizer(inner, noise_multiplier=noise_multiplier, max_grad_norm=clip, expected_batch_size=expected,
                            loss_reduction="mean", generator=generator)
    return wrapped, optimizer


def from_folder(folder, adapter):
    """The client's adapter folder, loaded by peft itself."""
    return PeftModel.from_pretrained(encoder(folder), adapter).eval()
