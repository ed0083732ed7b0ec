#!/usr/bin/env python3
"""Builds the wheel, installs it into a fresh virtual environment, and tests what was installed.

    wheel.py --release target/release [--out target/wheel]

Everything in the environment comes from PyPI, pinned below. Types are checked with mypy if it can be installed (with
CONSILIUM_NO_SKIPS it must be). The last test is a whole job: a coordinator and four clients from `--release`, four numpy trainers from
the wheel.
"""
import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# What the package is tested with; it takes later ones.
PINNED = ["numpy==2.4.6", "grpcio==1.85.3", "typing_extensions==4.16.0"]
TYPES = ["mypy==2.4.1", "types-grpcio==1.85.0.20261028"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--release", type=Path, required=True, help="folder with the binaries")
    parser.add_argument("--out", type=Path, default=HERE.parents[1] / "target" / "wheel")
    arguments = parser.parse_args()
    out, release = arguments.out.resolve(), arguments.release.resolve()
    shutil.rmtree(out, ignore_errors=True)
    # A copy, so that building leaves nothing in the source tree.
    source = out / "source"
    shutil.copytree(HERE, source, ignore=shutil.ignore_patterns("__pycache__", "tests"))
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", out, source)
    (wheel,) = out.glob("consilium_trainer-*.whl")
    venv = out / "venv"
    run(sys.executable, "-m", "venv", venv)
    python = venv / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", *PINNED)
    # No index: what the wheel asks for is there, or this fails.
    run(python, "-m", "pip", "install", "--quiet", "--no-index", wheel)
    run(python, "-c", "import consilium_trainer as c, sys; assert c.__file__.startswith(sys.prefix), c.__file__", cwd=out)
    run(python, "-m", "unittest", "discover", "-s", HERE / "tests", cwd=out)
    types = subprocess.run([python, "-m", "pip", "install", "--quiet", *TYPES], capture_output=True, text=True)
    if types.returncode == 0:
        # What is installed, not the source beside it: py.typed must be in the wheel.
        run(python, "-m", "mypy", "--strict", "-p", "consilium_trainer", cwd=out)
    elif os.environ.get("CONSILIUM_NO_SKIPS"):
        sys.exit(f"mypy could not be installed, and nothing may be skipped:\n{types.stderr}")
    else:
        print("mypy could not be installed; types are not checked")
    run(python, HERE / "tests" / "whole_job.py", "--release", release, cwd=out)
    print(f"{wheel}: built, installed and tested")


def run(*command, cwd=None):
    done = subprocess.run([str(part) for part in command], cwd=cwd)
    if done.returncode:
        sys.exit(f"{' '.join(str(part) for part in command)} ended with {done.returncode}")


if __name__ == "__main__":
    main()
