"""LoRA in PyTorch, per-patient gradients by Opacus: python peft_opacus.py MODEL_FOLDER DATA.csv SOCKET"""
import csv
import sys
from collections import defaultdict

import torch
from opacus import GradSampleModule
from peft import LoraConfig, get_peft_model
from transformers import AutoModel, AutoTokenizer

from consilium_trainer import PatientGradient, Trainer, serve

class Classifier(torch.nn.Module):
    def __init__(self, encoder, width, labels):
        super().__init__()
        self.encoder, self.head = encoder, torch.nn.Linear(width, labels)
    def forward(self, ids, mask):
        states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return self.head((states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))

class PeftOpacus(Trainer):
    def __init__(self, folder, rows):
        self.folder, self.rows = folder, rows  # patient -> [(text, label)]
    def start(self, plan):
        plan.check_model(self.folder)
        a = plan.document["adapter"]
        lora = LoraConfig(r=a["rank"], lora_alpha=a["alpha"], use_rslora=a["rslora"], target_modules=a["target_modules"],
                          layers_to_transform=a.get("layers"), task_type="FEATURE_EXTRACTION")
        off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # Opacus wants training mode; no dropout in it
        encoder = AutoModel.from_pretrained(self.folder, attn_implementation="eager", **off)
        model = Classifier(get_peft_model(encoder, lora), encoder.config.hidden_size, len(plan.labels)).train()
        names = lambda m: {n.removeprefix("encoder.").replace(".default", ""): p for n, p in m.named_parameters()}
        for name, p in names(model).items():
            p.requires_grad_(name in {t.name for t in plan.trained})
        self.named, self.model = names(model), GradSampleModule(model, loss_reduction="sum")
        self.plan, self.tokenizer = plan, AutoTokenizer.from_pretrained(self.folder)
    def patient_gradients(self, tensors, patients):
        for name, values in tensors.items():
            self.named[name].data.copy_(torch.tensor(values))
        most, cut = (self.plan.document[s][f] for s, f in (("task", "max_records_per_patient"), ("model", "max_tokens")))
        for patient in sorted(patients, key=lambda p: len(self.rows[p][0][0])):  # a batch of patients is faster; a longer example
            texts, labels = zip(*self.rows[patient][:most])
            x = self.tokenizer(list(texts), padding=True, truncation=True, max_length=cut, return_tensors="pt")
            self.model.zero_grad(set_to_none=True)
            y, logits = torch.tensor([self.plan.labels.index(l) for l in labels]), self.model(x["input_ids"], x["attention_mask"])
            loss = torch.nn.functional.cross_entropy(logits, y, reduction="sum")
            loss.backward()
            g = {t.name: self.named[t.name].grad_sample.sum(0).numpy() for t in self.plan.trained}
            hits = (logits.argmax(1) == y).float().mean()
            yield PatientGradient(self.plan.flatten(g), loss.item() / len(y), bool(hits >= 0.5))

if __name__ == "__main__":
    rows = defaultdict(list)
    for row in csv.DictReader(open(sys.argv[2], newline="")):
        rows[row["patient_id"]].append((row["text"], row["label"]))
    serve(PeftOpacus(sys.argv[1], rows), socket=sys.argv[3])
