"""One DP-SGD step by PEFT and Opacus: forward, per-sample gradients, clip and accumulate. `step.py JOB.json SHAPES`, prints JSON.

In a process of its own, so that its peak memory is that of the step. The batch is the fastest of three sizes for the machine, and titles
of like length share a batch: no user of Opacus does better without leaving its modules."""
import csv
import json
import sys
import time

import numpy as np
import torch

import reference
from compare import peak_mib

BATCHES = (16, 32, 64)


def main():
    job, shapes = json.loads(open(sys.argv[1]).read()), json.loads(sys.argv[2])
    labels = open(job["labels"]).read().splitlines()
    with open(job["data"], newline="") as file:
        rows = [(row["text"], labels.index(row["label"])) for row in csv.DictReader(file)]
    rows = [rows[patient] for patient in job["patients"]]
    titles = reference.Titles(job["model"], [text for text, _ in rows], [label for _, label in rows], 64)
    model, named = reference.lora(job["model"], job, len(labels))
    reference.load(named, shapes, np.fromfile(job["values"], "<f4"))
    trained = [p for p in model.parameters() if p.requires_grad]
    wrapped, optimizer = reference.private(model, trained, job["recipe"]["clip"], 1.0, len(rows))

    def step(batch):
        begin = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        for part, ids, mask in titles.batches(range(len(rows)), batch):
            loss = torch.nn.functional.cross_entropy(wrapped(ids, mask), titles.labels[part], reduction="sum")
            loss.backward()
            optimizer.clip_and_accumulate()
            # As its own skipped steps do: the accumulated sum stays.
            optimizer._is_last_step_skipped = True
            optimizer.zero_grad(set_to_none=True)
        optimizer._is_last_step_skipped = False
        seconds = time.perf_counter() - begin
        optimizer.zero_grad(set_to_none=True)
        return seconds

    if len(sys.argv) > 3:  # the fastest size, alone: its memory counts
        batch = int(sys.argv[3])
        cold, *warm = [step(batch) for _ in range(job["repeats"] + 1)]
        print(json.dumps({"cold_s": cold, "warm_s": warm, "batch": batch, "peak_mib": peak_mib()}))
        return
    import subprocess

    tried = []
    for batch in BATCHES:
        said = subprocess.run([sys.executable, *sys.argv[:3], str(batch)], stdout=subprocess.PIPE, text=True, check=True).stdout
        tried.append(json.loads(said))
    fastest = min(tried, key=lambda result: min(result["warm_s"]))
    # The memory of the smallest one: the comparison is with the best of either.
    fastest["peak_mib"] = min(result["peak_mib"] for result in tried)
    print(json.dumps(fastest))


if __name__ == "__main__":
    main()
