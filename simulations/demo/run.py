#!/usr/bin/env python3
"""The main job, from nothing: five hospitals, one coordinator, one death, one adapter.

    run.py [--quick] [--out target/demo] [--release target/release]

Everything here is what five organizations and an operator would do by hand with `consilium`, `consilium-client` and
`consilium-coordinator`; nothing in those programs knows of this script. It only plays all the parts, kills one client with
SIGKILL in a middle round, and measures. The titles are public; a title stands for a patient.

Python >= 3.9, standard library only.
"""
import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path

from baselines import baselines, evaluate
from consortium import SITES, Consortium
from curve import learning_curve
from job import Job
from report import print_table, write_report

ROOT = Path(__file__).resolve().parents[2]
# Where cargo puts what it builds, and where setup.py puts what it fetches.
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
CACHE = Path(os.environ.get("CONSILIUM_CACHE") or ROOT / ".cache")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few rounds, no accuracy to reach: the same path in 90 seconds")
    parser.add_argument("--out", type=Path, default=ROOT / "target" / "demo")
    parser.add_argument("--release", type=Path, default=TARGET / "release", help="folder with the binaries")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder that setup.py filled")
    arguments = parser.parse_args()
    began = time.monotonic()
    out = arguments.out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)

    say("A consortium: five organizations' keys, a roster that all sign, plans that a quorum signs.")
    consortium = Consortium(out / "work", arguments.release.resolve(), arguments.cache.resolve(), arguments.quick)
    consortium.found()

    say("Federated: six processes over mutual TLS; one client will be killed after it has dealt its shares.")
    federated = Job(consortium, "lora", kill=True)
    federated.run()

    say("Head only, federated at the same ε: the same protocol with nothing but the head trained.")
    head_only = Job(consortium, "head", kill=False)
    head_only.run()

    say("Each organization alone, and all data pooled: without noise, tuned alike.")
    scores = baselines(consortium)
    scores["federated"] = evaluate(consortium, federated.export())
    scores["head_only_federated"] = evaluate(consortium, head_only.export(), job="head")

    for part in ("adapter", "head.safetensors", "labels.txt", "manifest.json", "manifest.json.sig"):
        source = federated.result / part
        if source.is_dir():
            shutil.copytree(source, out / part)
        else:
            shutil.copy(source, out / part)
    shutil.copy(ROOT / "simulations" / "demo" / "load_adapter.py", out)
    (out / "learning-curve.svg").write_text(learning_curve(federated, head_only, scores))
    report = write_report(out / "report.json", federated, head_only, scores, time.monotonic() - began)
    print_table(report, scores, federated, out)
    return 0


def say(text):
    print(f"\n== {text}", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
