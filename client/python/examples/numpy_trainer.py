"""A trainer without a framework: softmax regression on hashed words. The plan lists `bias` [labels] and `weight` [labels, width].

python numpy_trainer.py --data letters.csv --socket run/trainer.sock    # columns: patient, text, label
"""

import argparse
import csv
import zlib
from collections import defaultdict
from typing import Iterator, Sequence

import numpy as np

from consilium_trainer import Delta, Evaluation, Floats, LocalSteps, PatientGradient, Plan, Tensors, Trainer, serve


class SoftmaxRegression(Trainer):
    """One layer; the gradient of one record is `(softmax − onehot) ⊗ features`."""

    def __init__(self, data: str, test: str | None = None) -> None:
        self.rows, self.test = read(data), read(test) if test else []
        self.of_patient: dict[str, list[int]] = defaultdict(list)
        for index, (patient, _, _) in enumerate(self.rows):
            self.of_patient[patient].append(index)

    def start(self, plan: Plan) -> None:
        self.plan, self.labels = plan, {label: row for row, label in enumerate(plan.labels)}
        self.most = plan.document["task"]["max_records_per_patient"]
        self.width = next(t.shape[1] for t in plan.tensors if t.name == "weight")

    def features(self, rows: Sequence[tuple[str, str, str]]) -> tuple[Floats, np.ndarray]:
        x = np.zeros((len(rows), self.width), np.float32)
        for index, (_, text, _) in enumerate(rows):
            for word in text.lower().split():
                x[index, zlib.crc32(word.encode()) % self.width] += 1
        x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6)
        return x, np.array([self.labels[label] for _, _, label in rows])

    def scores(self, tensors: Tensors, rows: Sequence[tuple[str, str, str]]) -> tuple[Floats, Floats, Floats, np.ndarray]:
        """Features, logits' gradients, losses and hits of these records."""
        x, y = self.features(rows)
        logits = x @ tensors["weight"].T + tensors["bias"]
        logits -= logits.max(axis=1, keepdims=True)
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        losses, hits = -np.log(p[np.arange(len(y)), y]), p.argmax(axis=1) == y
        p[np.arange(len(y)), y] -= 1
        return x, p, losses, hits

    def patient_gradients(self, tensors: Tensors, patients: Sequence[str]) -> Iterator[PatientGradient]:
        for patient in patients:
            rows = [self.rows[index] for index in self.of_patient[patient][: self.most]]
            x, d, losses, hits = self.scores(tensors, rows)
            gradient = self.plan.flatten({"bias": d.sum(axis=0), "weight": d.T @ x})
            yield PatientGradient(gradient, float(losses.mean()), bool(hits.mean() >= 0.5))

    def delta(self, tensors: Tensors, patients: Sequence[str], local: LocalSteps) -> Delta:
        now = {name: np.array(values) for name, values in tensors.items()}
        random, losses, hits = np.random.default_rng(), [], []
        for _ in range(local.steps):
            drawn = [p for p in patients if random.random() < local.sampling_rate]
            rows = [self.rows[index] for p in drawn for index in self.of_patient[p][: self.most]]
            if rows:
                x, d, loss, hit = self.scores(now, rows)
                gradient = {"bias": d.mean(axis=0), "weight": (d.T @ x) / len(rows)}
                for name in now.keys() - set(local.resting):
                    now[name] -= local.learning_rate * (gradient[name] + local.proximal * (now[name] - tensors[name]))
                losses.append(loss.mean())
                hits.append(hit.mean())
        values = self.plan.flatten({name: now[name] - tensors[name] for name in now})
        return Delta(values, float(np.mean(losses or [0])), float(np.mean(hits or [0])))

    def evaluate(self, tensors: Tensors, limit: int) -> Evaluation:
        rows = self.test[:limit]
        _, _, losses, hits = self.scores(tensors, rows)
        of_label = [hits[[row[2] == label for row in rows]].mean() for label in {row[2] for row in rows}]
        return Evaluation(len(rows), float(losses.mean()), float(hits.mean()), float(np.mean(of_label)))


def read(path: str) -> list[tuple[str, str, str]]:
    with open(path, newline="") as file:
        return [(row["patient"], row["text"], row["label"]) for row in csv.DictReader(file)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--test")
    parser.add_argument("--socket")
    parser.add_argument("--address")
    parser.add_argument("--keys")
    arguments = parser.parse_args()
    trainer = SoftmaxRegression(arguments.data, arguments.test)
    serve(trainer, socket=arguments.socket, address=arguments.address, keys=arguments.keys)
