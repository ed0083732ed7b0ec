#!/usr/bin/env python3
"""Reference vectors for the trainer, made by transformers and peft; the Rust tests compare with them to 1e-4.

    python make_reference.py MINILM_FOLDER        (the demo's cache holds it: .cache/model)

Ran with Python 3.11, torch 2.13.0, transformers 5.23.0, peft 0.21.2, tokenizers 0.23.3, safetensors 0.8.0 (x86_64, f32).
Not part of any build: the results are committed. It writes, beside itself,

    tiny/                   a random BERT that ships with the tests: config.json, tokenizer.json, model.safetensors
    tiny.json               texts, token ids, labels (of 5), losses of `all` and `top`
    tiny.safetensors        hidden.{i} [tokens, 32] of text i on the bare encoder
    tiny-all/, tiny-top/    adapters as peft writes them; all layers, and layers_to_transform = [1]
    tiny-head.safetensors   head.weight [5, 32], head.bias [5], on the mean over tokens
    tiny-{all,top}.safetensors   logits [6, 5], loss [6] (cross-entropy, one a text), and grad.{name} [6, …]: each text's own
                            gradient of every lora_B and of the head, by one backward pass a text; names as in the adapter
    minilm.json             texts and token ids
    minilm.safetensors      the demo's encoder: hidden.{i} [tokens, 16] (the first 16 of 384 columns), sums.{i} [2]
                            (sum and Euclidean norm of all), pooled [5, 384]; logits [5, 4] with the adapter and head below
    minilm-adapter/, minilm-head.safetensors     r = 4 on layers 4 and 5, use_rslora
"""
import json
import shutil
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel

HERE = Path(__file__).resolve().parent
TEXTS = ["Acute appendicitis with perforation", "Fracture of left femur, initial encounter", "Cholera",
         "Type 2 diabetes mellitus without complications", "Pneumonia", "Benign neoplasm of skin; ear (left)"]
TINY_LABELS = [3, 1, 0, 4, 2, 1]
MINILM_TEXTS = ["Cholera due to Vibrio cholerae 01, biovar eltor", "Pain in throat",
                "Unspecified fracture of shaft of left femur, subsequent encounter for closed fracture with routine healing",
                "Ménière's disease, bilateral", "Type 2 diabetes mellitus with hyperglycemia"]


def main(minilm):
    torch.manual_seed(20261123)
    torch.set_num_threads(1)
    make_tiny()
    make_minilm(minilm)


def make_tiny():
    tokenizer = tiny_tokenizer()
    config = BertConfig(vocab_size=tokenizer.get_vocab_size(), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                        intermediate_size=64, max_position_embeddings=64)
    encoder = BertModel(config)
    for name, p in encoder.named_parameters():
        # Far from the usual start (ones, zeros, 0.02), where a forgotten bias or norm would hide.
        torch.nn.init.normal_(p, mean=1.0 if name.endswith("LayerNorm.weight") else 0.0, std=0.2)
    encoder.save_pretrained(HERE / "tiny")
    tokenizer.save(str(HERE / "tiny" / "tokenizer.json"))

    ids = [tokenizer.encode(t).ids for t in TEXTS]
    encoder.eval()
    with torch.no_grad():
        save({f"hidden.{i}": hidden(encoder, x) for i, x in enumerate(ids)}, "tiny.safetensors")
    head = {"head.weight": torch.randn(5, 32) * 0.3, "head.bias": torch.randn(5) * 0.3}
    save(head, "tiny-head.safetensors")
    losses = {}
    for variant, layers in (("all", None), ("top", [1])):
        # A copy: peft writes its layers into the model that it is given.
        base = BertModel.from_pretrained(HERE / "tiny")
        model = adapted(base, "tiny", HERE / f"tiny-{variant}", lora_alpha=8, layers_to_transform=layers)
        result = per_example(model, head, ids, TINY_LABELS)
        save(result, f"tiny-{variant}.safetensors")
        losses[variant] = result["loss"].tolist()
    write_json("tiny.json", {"texts": TEXTS, "ids": ids, "labels": TINY_LABELS, "losses": losses})


def make_minilm(folder):
    # Without the padding and truncation to 128 that this tokenizer.json carries.
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    ids = [tokenizer.encode(t).ids for t in MINILM_TEXTS]
    encoder = BertModel.from_pretrained(folder).eval()
    out = {}
    with torch.no_grad():
        states = [hidden(encoder, x) for x in ids]
        for i, h in enumerate(states):
            out[f"hidden.{i}"] = h[:, :16].clone()
            out[f"sums.{i}"] = torch.stack([h.double().sum(), h.double().norm()]).float()
        out["pooled"] = torch.stack([h.mean(0) for h in states])
        head = {"head.weight": torch.randn(4, 384) * 0.1, "head.bias": torch.randn(4) * 0.1}
        model = adapted(encoder, "sentence-transformers/all-MiniLM-L6-v2", HERE / "minilm-adapter", lora_alpha=16,
                        use_rslora=True, layers_to_transform=[4, 5])
        out["logits"] = torch.stack([logits(model, head, x) for x in ids])
    save(out, "minilm.safetensors")
    save(head, "minilm-head.safetensors")
    write_json("minilm.json", {"texts": MINILM_TEXTS, "ids": ids})


def adapted(encoder, name, folder, **options):
    """A peft model with random A and B (B not zero), in evaluation mode, saved to `folder` as peft does."""
    encoder.name_or_path = encoder.config._name_or_path = name
    config = LoraConfig(r=4, target_modules=["query", "value"], task_type="FEATURE_EXTRACTION", **options)
    model = get_peft_model(encoder, config).eval()
    with torch.no_grad():
        for n, p in model.named_parameters():
            if "lora_" in n:
                p.copy_(torch.randn_like(p) * 0.2)
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    return model


def hidden(model, ids):
    return model(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long)).last_hidden_state[0]


def logits(model, head, ids):
    return hidden(model, ids).mean(0) @ head["head.weight"].T + head["head.bias"]


def per_example(model, head, texts, labels):
    """One text at a time: what the trainer's batched gradients must equal."""
    head = {n: p.clone().requires_grad_() for n, p in head.items()}
    # ".default" is the adapter's name inside peft; its files leave it out.
    trained = {n.replace(".default", ""): p for n, p in model.named_parameters() if "lora_B" in n}
    for p in model.parameters():
        p.requires_grad_(False)
    for p in trained.values():
        p.requires_grad_()
    trained.update(head)
    rows = {"logits": [], "loss": [], **{f"grad.{n}": [] for n in trained}}
    for ids, label in zip(texts, labels):
        z = logits(model, head, ids)
        loss = torch.nn.functional.cross_entropy(z[None], torch.tensor([label]))
        for n, g in zip(trained, torch.autograd.grad(loss, list(trained.values()))):
            rows[f"grad.{n}"].append(g)
        rows["logits"].append(z.detach())
        rows["loss"].append(loss.detach())
    return {n: torch.stack(r) for n, r in rows.items()}


def tiny_tokenizer():
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    words = ("of with without and or in to due acute chronic left right initial subsequent encounter for fracture femur skin "
             "ear eye disease disorder type diabetes mellitus pneumonia benign malignant neoplasm unspecified other closed "
             "open pain heart renal failure infection birth history injury").split()
    pieces = ("ing er tion itis osis al ic ous ed es ia oma ation ment ly cat ions s en on in").split()
    tokens = (["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + list(letters) + ["##" + c for c in letters]
              + list(",;.()[]-'/") + words + ["##" + p for p in pieces if len(p) > 1])
    vocabulary = {t: i for i, t in enumerate(tokens)}
    assert len(vocabulary) == len(tokens)
    t = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    t.normalizer = normalizers.BertNormalizer(lowercase=True)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    t.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    return t


def save(tensors, name):
    save_file({n: t.detach().float().contiguous() for n, t in tensors.items()}, str(HERE / name))


def write_json(name, value):
    (HERE / name).write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for old in ("tiny", "tiny-all", "tiny-top", "minilm-adapter"):
        shutil.rmtree(HERE / old, ignore_errors=True)
    main(Path(sys.argv[1]))
