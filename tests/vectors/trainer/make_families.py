#!/usr/bin/env python3
"""Reference vectors for the families beside BERT, made by transformers and peft; the Rust tests compare with them to 1e-4.

    python make_families.py

Ran with Python 3.11, torch 2.13.0, transformers 5.24.0, peft 0.21.2, tokenizers 0.23.3, safetensors 0.8.0 (x86_64, f32).
Not part of any build: the results are committed. It writes, beside itself,

    tiny-llama/             a random Llama (grouped-query attention, tied embeddings): config.json, tokenizer.json, model.safetensors
    tiny-llama-adapter/     r = 4 on every linear layer ("all-linear"), A and B random, as peft writes it
    tiny-llama.json         texts, token ids
    tiny-llama.safetensors  hidden.{i} [tokens, 32] of the bare model; logits.{i} [tokens, vocabulary] with the adapter; loss [texts], each
                            the mean cross-entropy of a text's tokens but the first; grad.{name} [texts, …] of every lora_A and lora_B
    tiny-roberta/           a random RoBERTa, saved with its masked-language head, so that names begin with `roberta.`
    tiny-roberta-adapter/, tiny-roberta-head.safetensors     r = 4 on query and value; four labels, on the first token
    tiny-roberta.json       texts, token ids, each text's labels, positive weights of the labels
    tiny-roberta.safetensors     hidden.{i}; logits [texts, 4]; loss [texts], binary cross-entropy with positive weights, the mean over
                            labels; grad.{name}; and weighted.loss, weighted.grad.{name}: cross-entropy of each text's first label (label 0
                            where it has none) times that label's weight
"""
import json
import shutil
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, RobertaConfig, RobertaForMaskedLM, RobertaModel

HERE = Path(__file__).resolve().parent
TEXTS = ["Acute appendicitis with perforation", "Fracture of left femur, initial encounter", "Cholera",
         "Type 2 diabetes mellitus without complications", "Pneumonia", "Benign neoplasm of skin; ear (left)"]
LABELS = [[0, 2], [1], [], [0, 1, 2, 3], [3], [2]]
WEIGHTS = [0.5, 1.0, 2.0, 3.5]


def main():
    torch.manual_seed(20261125)
    torch.set_num_threads(1)
    make_llama()
    make_roberta()


def byte_level(special):
    """Byte-level BPE with a few merges, as GPT-2, RoBERTa and SmolLM2 have it."""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(TEXTS * 4, trainers.BpeTrainer(vocab_size=320, special_tokens=special, show_progress=False,
                                                          initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return t


def scatter(model):
    for name, p in model.named_parameters():
        # Far from the usual start, where a forgotten bias or norm would hide.
        torch.nn.init.normal_(p, mean=1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0, std=0.2)


def adapt(model, name, folder, **options):
    model.name_or_path = model.config._name_or_path = name
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, **options)).eval()
    with torch.no_grad():
        for n, p in model.named_parameters():
            if "lora_" in n:
                p.copy_(torch.randn_like(p) * 0.2)
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    factors = {n.replace(".default", ""): p for n, p in model.named_parameters() if "lora_" in n}
    for p in factors.values():
        p.requires_grad_()
    return model, factors


def gradients(rows, prefix, loss, tensors):
    for n, g in zip(tensors, torch.autograd.grad(loss, list(tensors.values()), allow_unused=True)):
        rows.setdefault(f"{prefix}grad.{n}", []).append(torch.zeros_like(tensors[n]) if g is None else g)
    rows.setdefault(f"{prefix}loss", []).append(loss.detach())


def make_llama():
    t = byte_level(["<|endoftext|>"])
    config = LlamaConfig(vocab_size=t.get_vocab_size(), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, intermediate_size=48, max_position_embeddings=128, rms_norm_eps=1e-5,
                         tie_word_embeddings=True, bos_token_id=0, eos_token_id=0, pad_token_id=0,
                         rope_parameters={"rope_type": "default", "rope_theta": 5000.0})
    model = LlamaForCausalLM(config)
    scatter(model)
    folder = HERE / "tiny-llama"
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    t.save(str(folder / "tokenizer.json"))
    ids = [t.encode(text).ids for text in TEXTS]
    model.eval()
    out, rows = {}, {}
    with torch.no_grad():
        for i, x in enumerate(ids):
            out[f"hidden.{i}"] = model.model(input_ids=torch.tensor([x])).last_hidden_state[0]
    adapted, factors = adapt(LlamaForCausalLM.from_pretrained(folder), "tiny-llama", HERE / "tiny-llama-adapter",
                             target_modules="all-linear", task_type="CAUSAL_LM")
    for i, x in enumerate(ids):
        x = torch.tensor([x])
        result = adapted(input_ids=x, labels=x)  # shifts the labels by itself
        out[f"logits.{i}"] = result.logits[0]
        gradients(rows, "", result.loss, factors)
    save(out | {n: torch.stack(r) for n, r in rows.items()}, "tiny-llama.safetensors")
    write_json("tiny-llama.json", {"texts": TEXTS, "ids": ids})


def make_roberta():
    t = byte_level(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    t.post_processor = processors.TemplateProcessing(single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>",
                                                     special_tokens=[("<s>", 0), ("</s>", 2)])
    config = RobertaConfig(vocab_size=t.get_vocab_size(), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                           intermediate_size=64, max_position_embeddings=66, type_vocab_size=1, layer_norm_eps=1e-5,
                           pad_token_id=1, bos_token_id=0, eos_token_id=2)
    model = RobertaForMaskedLM(config)
    scatter(model)
    folder = HERE / "tiny-roberta"
    model.save_pretrained(folder)
    t.save(str(folder / "tokenizer.json"))
    ids = [t.encode(text).ids for text in TEXTS]
    bare = RobertaModel.from_pretrained(folder, add_pooling_layer=False).eval()
    hidden = lambda model, x: model(input_ids=torch.tensor([x])).last_hidden_state[0]  # noqa: E731
    out, rows = {}, {}
    with torch.no_grad():
        for i, x in enumerate(ids):
            out[f"hidden.{i}"] = hidden(bare, x)
    head = {"head.weight": torch.randn(4, 32) * 0.3, "head.bias": torch.randn(4) * 0.3}
    save(head, "tiny-roberta-head.safetensors")
    adapted, factors = adapt(bare, "tiny-roberta", HERE / "tiny-roberta-adapter", target_modules=["query", "value"],
                             task_type="FEATURE_EXTRACTION")
    trained = {n: p for n, p in factors.items() if "lora_B" in n}
    trained |= {n: p.clone().requires_grad_() for n, p in head.items()}
    weights = torch.tensor(WEIGHTS)
    for x, labels in zip(ids, LABELS):
        score = lambda: hidden(adapted, x)[0] @ trained["head.weight"].T + trained["head.bias"]  # noqa: E731
        logits = score()
        wanted = torch.zeros(4)
        wanted[labels] = 1.0
        gradients(rows, "", torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted, pos_weight=weights), trained)
        rows.setdefault("logits", []).append(logits.detach())
        first = torch.tensor([labels[0] if labels else 0])
        gradients(rows, "weighted.", torch.nn.functional.cross_entropy(score()[None], first, weight=weights, reduction="none")[0],
                  trained)
    save(out | {n: torch.stack(r) for n, r in rows.items()}, "tiny-roberta.safetensors")
    write_json("tiny-roberta.json", {"texts": TEXTS, "ids": ids, "labels": LABELS, "weights": WEIGHTS})


def save(tensors, name):
    save_file({n: t.detach().float().contiguous() for n, t in tensors.items()}, str(HERE / name))


def write_json(name, value):
    (HERE / name).write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for old in ("tiny-llama", "tiny-llama-adapter", "tiny-roberta", "tiny-roberta-adapter"):
        shutil.rmtree(HERE / old, ignore_errors=True)
    main()
