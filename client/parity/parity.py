#!/usr/bin/env python3
"""Agreement with PEFT and Opacus, on the demo's data, and what each costs. `make parity`; outside continuous integration.

    parity.py --release target/release --out target/parity [--seeds 5] [--only gradients,adapters,example,epsilon,step,overhead,decoder,accuracy]

Runs in an environment of its own (parity.py makes it and starts itself again in it: torch, transformers, peft, opacus, pinned in
requirements.txt; PARITY_PYTHON names one that is there already). Compares, and ends with 1 if one of them does not hold:

- gradients: per-patient gradients of 64 titles, to 1e-4 of the largest coordinate's size
- adapters: the folder that the client writes, loaded by peft, and the folder that peft writes, read by the client: equal logits to 1e-3
- example: client/python/examples/peft_opacus.py, asked over a socket for the sum of 64 titles: the built-in trainer's, up to rounding
- epsilon: the accountant's against Opacus' PRV accountant, within 1 %
- accuracy: the demo's recipe, same starts, five seeds each: PEFT + Opacus' mean lies in the interval of the client's five
- step: 512 titles, rank 8 on query and value in every layer, one thread: forward, per-patient gradients, clip
- overhead: of a trainer outside the client at d = 10^6
- decoder: SmolLM2-135M, 30 steps of 8 x 64 tokens: time, memory, what is learned; its adapter loaded by peft, equal logits to 1e-3

Writes summary.json.
"""
import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TASKS = ["gradients", "adapters", "example", "epsilon", "step", "overhead", "decoder", "accuracy"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--release", type=Path, default=ROOT / "target" / "release")
    parser.add_argument("--out", type=Path, default=ROOT / "target" / "parity")
    parser.add_argument("--cache", type=Path, default=Path(os.environ.get("CONSILIUM_CACHE") or ROOT / ".cache"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=60, help="of the accuracy comparison; fewer take less time")
    parser.add_argument("--lot", type=int, default=2048, help="of the accuracy comparison, as expected")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default=",".join(TASKS))
    arguments = parser.parse_args()
    enter_environment(arguments.out)
    from compare import Parity  # needs the environment

    parity = Parity(arguments)
    wanted = arguments.only.split(",")
    for task in TASKS:
        if task in wanted:
            began = time.monotonic()
            print(f"{task} …", flush=True)
            result = getattr(parity, task)()
            parity.record(task, result)
            print(f"  {json.dumps(result)}  ({time.monotonic() - began:.0f} s)", flush=True)
    sys.exit(parity.verdict())


def enter_environment(out):
    """Goes on in the environment that has torch and the rest; makes it first if need be."""
    given = os.environ.get("PARITY_PYTHON")
    python = Path(given) if given else out / "venv" / "bin" / "python"
    if os.environ.get("PARITY_INSIDE") == str(python):
        return
    if not given and not (out / "venv" / ".ready").exists():
        out.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", out / "venv"], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", HERE / "requirements.txt"], check=True)
        (out / "venv" / ".ready").touch()
    os.environ["PARITY_INSIDE"] = str(python)
    # One thread each, and set before any library starts its own.
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.execv(python, [str(python), str(Path(__file__).resolve()), *sys.argv[1:]])


if __name__ == "__main__":
    main()
