# What the federation trained, in ten lines: pip install torch transformers peft, then
#   python load_adapter.py MODEL_FOLDER RESULT_FOLDER "Acute myocardial infarction" ...
import sys, torch
from pathlib import Path
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer
model, result, texts = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
encoder = PeftModel.from_pretrained(AutoModel.from_pretrained(model), str(result / "adapter")).eval()
head, labels = load_file(result / "head.safetensors"), (result / "labels.txt").read_text().splitlines()
batch = AutoTokenizer.from_pretrained(model)(texts, padding=True, truncation=True, max_length=64, return_tensors="pt")
with torch.no_grad():
    mask = batch["attention_mask"].unsqueeze(-1).float()
    mean = (encoder(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
    logits = mean @ head["head.weight"].T + head["head.bias"]
for text, row in zip(texts, logits):
    print(f"{row.softmax(-1).max():.2f}  {labels[row.argmax()]}  <-  {text}")
