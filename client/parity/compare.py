"""The comparisons; see parity.py."""
import contextlib
import csv
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import reference

HERE = Path(__file__).resolve().parent
# The demo's recipe on pooled data: what five organizations with shares of the noise add up to.
DEMO = {"rounds": 60, "sampling_rate": 0.0, "clip": 1.0, "noise_multiplier": 1.82, "learning_rate": 0.02}


class Parity:
    def __init__(self, arguments):
        self.arguments, self.out = arguments, arguments.out.resolve()
        self.out.mkdir(parents=True, exist_ok=True)
        self.model = arguments.cache.resolve() / "model"
        self.data = self.out / "data"
        if not (self.data / "pooled.csv").exists():
            split = HERE.parents[1] / "simulations" / "demo" / "split.py"
            titles = arguments.cache.resolve() / "icd10" / "titles.csv"
            subprocess.run([sys.executable, split, titles, self.data], check=True, capture_output=True)
        self.labels = (self.data / "labels.txt").read_text().splitlines()
        self.rows, self.test_rows = self.read("pooled.csv"), self.read("test.csv")
        self.summary_file = self.out / "summary.json"
        self.summary = json.loads(self.summary_file.read_text()) if self.summary_file.exists() else {}

    def read(self, name):
        with (self.data / name).open(newline="") as file:
            return [(row["text"], self.labels.index(row["label"])) for row in csv.DictReader(file)]

    def titles(self, rows):
        return reference.Titles(self.model, [text for text, _ in rows], [label for _, label in rows], 64)

    # --- the client's side ---

    def job(self, layers, patients, rank=8, modules=("query", "value"), **changes):
        recipe = {**DEMO, "rounds": self.arguments.rounds, "sampling_rate": self.arguments.lot / len(self.rows)}
        return {
            "model": str(self.model), "data": str(self.data / "pooled.csv"), "test": str(self.data / "test.csv"),
            "labels": str(self.data / "labels.txt"),
            "adapter": {"rank": rank, "alpha": float(rank), "use_rslora": False, "target_modules": list(modules), "layers": layers,
                        "pooling": "mean", "max_tokens": 64, "labels": len(self.labels)},
            "patients": patients, "cache_bytes": 1 << 30, "values": str(self.out / "values.f32"), "out": str(self.out),
            "seeds": list(range(1, self.arguments.seeds + 1)), "repeats": self.arguments.repeats, "recipe": recipe, **changes,
        }

    def client(self, task, job):
        path = self.out / "job.json"
        path.write_text(json.dumps(job))
        binary = self.arguments.release.resolve() / "examples" / "parity"
        done = subprocess.run([binary, task, path], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"parity {task} ended with {done.returncode}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def started(self, job, scale_b=0.05):
        """The adapter that the seed draws, with a B that is not zero: then every gradient says something."""
        shapes = self.client("start", job)
        flat = np.fromfile(job["values"], "<f4")
        source, at = np.random.default_rng(7), 0
        for name in sorted(shapes, key=str.encode):
            size = int(np.prod(shapes[name]))
            if "lora_B" in name and scale_b:
                flat[at : at + size] = source.normal(size=size).astype(np.float32) * scale_b
            at += size
        flat.tofile(job["values"])
        return shapes, flat

    def reference_model(self, job, shapes, flat):
        model, named = reference.lora(self.model, job, len(self.labels))
        reference.load(named, shapes, flat)
        return model, named

    def some(self, count):
        return list(range(0, len(self.rows), len(self.rows) // count))[:count]

    # --- the comparisons ---

    def gradients(self):
        job = self.job(list(range(6)), self.some(64))
        shapes, flat = self.started(job)
        self.client("gradients", job)
        model, named = self.reference_model(job, shapes, flat)
        wrapped = reference.GradSampleModule(model, loss_reduction="sum")
        trained = sorted((name for name, p in named.items() if p.requires_grad), key=str.encode)
        titles, rows = self.titles(self.rows), {}
        for part, ids, mask in titles.batches(job["patients"], 16):
            wrapped.zero_grad(set_to_none=True)
            loss = torch.nn.functional.cross_entropy(wrapped(ids, mask), titles.labels[part], reduction="sum")
            loss.backward()
            whole = torch.cat([named[name].grad_sample.flatten(1) for name in trained], 1)
            rows.update(zip(part, whole.detach().numpy().copy()))
        theirs = np.stack([rows[patient] for patient in job["patients"]])
        ours = np.fromfile(self.out / "gradients.f32", "<f4").reshape(theirs.shape)
        worst = float(np.abs(ours - theirs).max())
        norms = np.linalg.norm(theirs, axis=1)
        relative = float((np.linalg.norm(ours - theirs, axis=1) / norms).max())
        return {"patients": len(theirs), "dimension": theirs.shape[1], "largest_difference": worst,
                "largest_relative_difference_of_a_patient": relative, "bar": 1e-4, "holds": worst <= 1e-4 and relative <= 1e-4}

    def adapters(self):
        job = self.job(list(range(6)), self.some(64))
        shapes, flat = self.started(job)
        self.client("gradients", job)  # writes its folder and its logits
        ours = np.fromfile(self.out / "logits.f32", "<f4").reshape(64, -1)
        titles = self.titles(self.rows)
        head = load_file(self.out / "head.safetensors")

        def logits(encoder):
            rows = {}
            with torch.no_grad():
                for part, ids, mask in titles.batches(job["patients"], 16):
                    states = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
                    pooled = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
                    rows.update(zip(part, (pooled @ head["head.weight"].T + head["head.bias"]).numpy()))
            return np.stack([rows[patient] for patient in job["patients"]])

        loaded = reference.from_folder(self.model, self.out / "adapter")
        theirs = float(np.abs(logits(loaded) - ours).max())
        model, _ = self.reference_model(job, shapes, flat)
        model.encoder.save_pretrained(self.out / "from-peft")
        save_file({k: v.contiguous() for k, v in head.items()}, str(self.out / "from-peft-head.safetensors"))
        self.client("adapter", job)
        back = np.fromfile(self.out / "logits-from-peft.f32", "<f4").reshape(64, -1)
        returned = float(np.abs(logits(model.encoder) - back).max())
        return {"ours_loaded_by_peft": theirs, "peft_loaded_by_us": returned, "bar": 1e-3,
                "holds": max(theirs, returned) <= 1e-3}

    def epsilon(self):
        from opacus.accountants import PRVAccountant

        rows = []
        for rate, noise, steps in ((0.01, 1.0, 1000), (self.arguments.lot / len(self.rows), 1.82, 60), (0.05, 0.8, 200), (0.001, 0.6, 5000)):
            accountant = PRVAccountant()
            accountant.history = [(noise, rate, steps)]
            theirs = accountant.get_epsilon(1e-5, eps_error=0.001)
            said = subprocess.run(
                [self.arguments.release.resolve() / "consilium", "privacy", "epsilon", "--sampling-rate", str(rate),
                 "--noise-multiplier", str(noise), "--steps", str(steps), "--delta", "1e-5", "--json"],
                stdout=subprocess.PIPE, text=True, check=True).stdout
            ours = json.loads(said)["epsilon"]
            rows.append({"sampling_rate": rate, "noise_multiplier": noise, "steps": steps, "consilium": ours, "opacus_prv": theirs,
                         "difference": abs(ours / theirs - 1)})
        return {"rows": rows, "bar": 0.01, "holds": all(row["difference"] <= 0.01 for row in rows)}

    def step(self):
        rows = {}
        for name, layers in (("every_layer", list(range(6))), ("top_layer", [5])):
            job = self.job(layers, self.some(512))
            shapes, flat = self.started(job)
            without_cache = self.client("step", {**job, "cache_bytes": 0})
            half = self.client("step", {**job, "cache_bytes": 0, "base": "bf16"})
            ours = self.client("step", job)
            theirs = json.loads(subprocess.run(
                [sys.executable, HERE / "step.py", self.out / "job.json", json.dumps(shapes)],
                stdout=subprocess.PIPE, text=True, check=True).stdout)
            built_in, opacus = min(without_cache["warm_s"]), min(theirs["warm_s"])
            rows[name] = {
                "dimension": ours["dimension"], "built_in_s": built_in, "built_in_with_cached_states_s": min(ours["warm_s"]),
                "opacus_s": opacus, "ratio": built_in / opacus, "ratio_with_cached_states": min(ours["warm_s"]) / opacus,
                "built_in_bf16_base_s": min(half["warm_s"]), "ratio_bf16_base": min(half["warm_s"]) / opacus,
                "built_in_peak_mib": without_cache["peak_mib"], "opacus_peak_mib": theirs["peak_mib"],
                "memory_ratio": without_cache["peak_mib"] / theirs["peak_mib"], "opacus_batch": theirs["batch"],
            }
        whole = rows["every_layer"]
        self.summary["step_vs_opacus"] = {**whole, "titles": 512, "rank": 8, "threads": 1}
        return {**rows, "bar": 1.0, "memory_bar": 0.5,
                "holds": whole["ratio"] <= 1.0 and whole["memory_ratio"] <= 0.5}

    def overhead(self):
        # Rank 48 on every linear layer: 1.0 million coordinates.
        linear = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]
        job = self.job(list(range(6)), self.some(512), rank=48, modules=linear, repeats=1)
        self.client("start", job)
        step = self.client("step", {**job, "cache_bytes": 0})
        with self.serving(HERE / "instant.py", self.out / "overhead.sock"):
            parts = self.client("overhead", {**job, "repeats": 10})
        middle = {name: float(np.median(parts[name])) for name in ("socket_s", "check_s", "noise_s")}
        seconds = sum(middle.values())
        of_step = seconds / min(step["warm_s"])
        return {**middle, "overhead_s": seconds, "dimension": parts["dimension"], "built_in_step_s": min(step["warm_s"]),
                "built_in_step_dimension": step["dimension"], "titles": 512, "part_of_a_step": of_step, "bar": 0.05,
                "holds": of_step <= 0.05}

    def example(self):
        """The example that readers copy, asked for one lot over a socket, beside the built-in trainer."""
        patients = self.some(64)
        job = self.job([5], patients)
        self.started(job)
        example = HERE.parent / "python" / "examples" / "peft_opacus.py"
        with self.serving(example, self.model, self.data / "pooled.csv", self.out / "outside.sock"):
            said = self.client("outside", job)
        # Either side rounds each patient's numbers at random: a variance of at most 1/4 a number, so of n/2 between the two sums.
        bar = 8 * (len(patients) / 2) ** 0.5
        return {**said, "part_of_the_norm": said["distance_units"] / said["norm_units"], "bar_units": bar,
                "holds": said["largest_difference_units"] <= bar and said["norm_units"] > 100 * said["distance_units"]}

    def decoder(self):
        """SmolLM2, 30 steps: what a step takes with the upper twelve layers adapted, and whether `peft` reads the adapter as the client does."""
        folder, titles = self.smollm2(), self.arguments.cache.resolve() / "icd10" / "titles.csv"
        binary = self.arguments.release.resolve() / "examples" / "next_token_steps"

        def steps(base):
            out = self.out / f"decoder-{base}"
            out.mkdir(exist_ok=True)
            said = subprocess.run([binary, folder, titles, out, "18", base], stdout=subprocess.PIPE, text=True, check=True).stdout
            return out, json.loads(said)

        half = steps("bf16")[1]
        out, _ = steps("f32")
        plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        written = json.loads((out / "logits.json").read_text())

        def logits(model):
            with torch.no_grad():
                return [model(torch.tensor([text["ids"]])).logits[0].flatten()[::50].numpy() for text in written]

        ours = [np.array(text["every_50th_logit"]) for text in written]
        before = logits(plain)
        theirs = logits(PeftModel.from_pretrained(plain, out / "adapter").eval())
        apart = max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs))
        moved = max(float(np.abs(a - b).max()) for a, b in zip(before, theirs))
        return {**half, "bar_step_s": 1.2, "bar_fell_by": 0.3, "bar_peak_mib": 1600, "logits": apart, "bar_logits": 1e-3,
                "moved_by_the_adapter": moved,
                "holds": half["median_step_s"] <= 1.2 and half["fell_by"] >= 0.3 and half["peak_rss_mib"] <= 1600
                and apart <= 1e-3 < moved}

    def smollm2(self):
        setup = HERE.parents[1] / "simulations" / "demo" / "setup.py"
        cache = self.arguments.cache.resolve()
        subprocess.run([sys.executable, setup, "smollm2"], check=True, env={**os.environ, "CONSILIUM_CACHE": str(cache)})
        return cache / "smollm2"

    @contextlib.contextmanager
    def serving(self, trainer, *arguments):
        """A trainer outside the client, for as long as this lasts. Its last argument is the socket."""
        package = HERE.parent / "python" / "src"
        socket = Path(arguments[-1])
        socket.unlink(missing_ok=True)
        process = subprocess.Popen([sys.executable, trainer, *map(str, arguments)], env={**os.environ, "PYTHONPATH": str(package)})
        try:
            while not socket.exists():
                if process.poll() is not None:
                    sys.exit(f"{trainer} ended with {process.returncode}")
                time.sleep(0.05)
            yield
        finally:
            process.terminate()
            process.wait()

    def accuracy(self):
        job = self.job([5], [0])
        ours = self.client("train", job)
        theirs = [self.train(job, seed) for seed in job["seeds"]]
        mean = float(np.mean(theirs))
        return {"built_in": ours, "peft_opacus": theirs, "built_in_mean": float(np.mean(ours)), "peft_opacus_mean": mean,
                "rounds": job["recipe"]["rounds"], "lot": self.arguments.lot, "holds": min(ours) <= mean <= max(ours)}

    def train(self, job, seed):
        """The same recipe with the same start: frozen states below the top layer computed once, as the client does."""
        shapes, flat = self.started({**job, "seeds": [seed]}, scale_b=0)
        model, _ = self.reference_model(job, shapes, flat)
        recipe, titles, test = job["recipe"], self.titles(self.rows), self.titles(self.test_rows)
        if not hasattr(self, "states"):
            self.states = {id_: self.below(model, t, 5) for id_, t in (("train", titles), ("test", test))}
        top = reference.TopLayers(model, 5).train()
        trained = [p for p in top.parameters() if p.requires_grad]
        generator = torch.Generator().manual_seed(seed)
        lot_size = recipe["sampling_rate"] * len(self.rows)
        wrapped, optimizer = reference.private(top, trained, recipe["clip"], recipe["noise_multiplier"], lot_size,
                                               recipe["learning_rate"], generator)
        source = np.random.default_rng(seed)
        for _ in range(recipe["rounds"]):
            lot = np.flatnonzero(source.random(len(self.rows)) < recipe["sampling_rate"]).tolist()
            parts = list(titles.batches(lot, 128))
            optimizer.zero_grad(set_to_none=True)
            for number, (part, _, mask) in enumerate(parts):
                states = padded([self.states["train"][index] for index in part], mask.shape[1])
                loss = torch.nn.functional.cross_entropy(wrapped(states, mask), titles.labels[part], reduction="sum")
                loss.backward()
                optimizer.signal_skip_step(do_skip=number + 1 < len(parts))
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
        hits = 0
        with torch.no_grad():
            for part, _, mask in test.batches(range(len(self.test_rows)), 256):
                states = padded([self.states["test"][index] for index in part], mask.shape[1])
                hits += int((top(states, mask).argmax(1) == test.labels[part]).sum())
        print(f"  PEFT + Opacus, seed {seed}: {hits / len(self.test_rows):.4f}", flush=True)
        return hits / len(self.test_rows)

    def below(self, model, titles, layer):
        """What goes into a layer, title by title, without its padding."""
        states = {}
        bare = model.encoder.base_model.model
        with torch.no_grad():
            for part, ids, mask in titles.batches(range(len(titles.ids)), 128):
                hidden = bare(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[layer]
                for row, index in enumerate(part):
                    states[index] = hidden[row, : int(mask[row].sum())].clone()
        return states

    # --- the result ---

    def record(self, task, result):
        self.summary[task] = result
        self.summary_file.write_text(json.dumps(self.summary, indent=1) + "\n")

    def verdict(self):
        broken = [task for task, result in self.summary.items() if isinstance(result, dict) and result.get("holds") is False]
        print(f"{self.summary_file}: " + (f"does NOT hold: {', '.join(broken)}" if broken else "everything holds"))
        return 1 if broken else 0


def padded(states, longest):
    out = torch.zeros(len(states), longest, states[0].shape[1])
    for row, state in enumerate(states):
        out[row, : len(state)] = state
    return out


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
