#!/usr/bin/env python3
"""Checks what bundle.py made: that it installs and runs with the network off, and that nothing forged or damaged installs.

    check.py [FOLDER]      default target/bundle

With the network off means in an empty network namespace (`unshare -n`, as root or where users may make namespaces); where that is
not allowed it says so and checks the rest. Exit codes: 0 all holds, 1 something does not.
"""
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent / "target/bundle").resolve()
CLEAN = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/nonexistent"}


def offline():
    """The command that cuts the network off, if there is one here."""
    for prefix in (["unshare", "-n"], ["unshare", "-rn"]):
        try:
            if subprocess.run([*prefix, "true"], capture_output=True).returncode == 0:
                return prefix
        except FileNotFoundError:
            break
    return None


PREFIX = offline()


def run(*command):
    """Runs a command with an empty environment, and without a network if that can be had."""
    return subprocess.run([*(PREFIX or []), *map(str, command)], capture_output=True, text=True, env=CLEAN)


def must(holds, what, output=""):
    print(f"{'ok  ' if holds else 'FAIL'} {what}")
    if not holds:
        sys.exit(f"{output}")


def runs(root, programs):
    for program in programs:
        done = run(root / "usr/bin" / program, "--version")
        must(done.returncode == 0 and done.stdout.startswith(program), f"{program} runs: {done.stdout.strip()}", done.stderr)


def unpack(archive, into):
    with tarfile.open(archive) as tar:
        tar.extractall(into)
    return next(into.iterdir())


def bill(folder):
    document = json.loads((folder / "sbom.cdx.json").read_text())
    refs = [it["bom-ref"] for it in document["components"]] + [document["metadata"]["component"]["bom-ref"]]
    must(document["bomFormat"] == "CycloneDX" and len(refs) == len(set(refs)), f"the bill of materials lists {len(refs) - 1} components")
    loose = [to for entry in document["dependencies"] for to in [entry["ref"], *entry["dependsOn"]] if to not in refs]
    must(not loose, "its dependencies are among them", str(loose))
    unknown = [it["bom-ref"] for it in document["components"] if "licenses" not in it]
    must(not unknown, "each has a licence", str(unknown))


def main():
    archive = next(FOLDER.glob("consilium-*.tar.gz"), None)
    if archive is None:
        sys.exit(f"no bundle in {FOLDER}; run `make bundle`")
    print(f"     {archive.name}, {'in an empty network namespace' if PREFIX else 'WITH the network: no namespace can be made here'}")
    if PREFIX:
        seen = run("cat", "/proc/net/dev").stdout.splitlines()[2:]
        must([line.split(":")[0].strip() for line in seen] == ["lo"], "there is no network but an unused loopback")
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        folder = unpack(archive, scratch / "unpacked")
        bill(folder)
        root = scratch / "root"
        done = run(folder / "install.sh", "--signers", FOLDER / "signers", "--destdir", root)
        must(done.returncode == 0, "it installs", done.stderr)
        runs(root, ["consilium", "consilium-coordinator", "consilium-client"])
        linked = run("ldd", root / "usr/lib/consilium/bin/consilium-client").stdout
        must(str(root / "usr/lib/consilium/bin/../lib/libtorch_cpu.so") in linked, "its libtorch is the one beside it", linked)
        must("not found" not in linked, "nothing is missing", linked)
        epsilon = run(root / "usr/bin/consilium", "privacy", "epsilon", "--sampling-rate", "0.01", "--noise-multiplier", "1",
                      "--steps", "1000", "--delta", "1e-5")
        must(epsilon.returncode == 0, "it computes", epsilon.stderr)

        other = scratch / "other"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
        stranger = scratch / "strangers"
        stranger.write_text("release " + " ".join((scratch / "other.pub").read_text().split()[:2]) + "\n")
        done = run(folder / "install.sh", "--signers", stranger, "--destdir", scratch / "none")
        must(done.returncode == 1 and "not signed by anybody" in done.stderr, "another signer's is refused", done.stderr)
        extra = folder / "bin/extra"
        extra.write_text("#!/bin/sh\n")
        done = run(folder / "install.sh", "--signers", FOLDER / "signers", "--destdir", scratch / "none")
        must(done.returncode == 1 and "not listed" in done.stderr, "a file more is refused", done.stderr)
        extra.unlink()
        victim = folder / "share/doc/README.md"
        damaged = bytearray(victim.read_bytes())
        damaged[100] ^= 1
        victim.write_bytes(damaged)
        done = run(folder / "install.sh", "--signers", FOLDER / "signers", "--destdir", scratch / "none")
        must(done.returncode == 1 and "not as SHA256SUMS says" in done.stderr, "one changed byte is refused", done.stderr)
        must(not (scratch / "none").exists(), "what is refused leaves nothing behind")
        shutil.rmtree(folder)

        for package in sorted(FOLDER.glob("*.deb")):
            tree = scratch / package.stem
            done = run("dpkg-deb", "-x", package, tree)
            must(done.returncode == 0, f"{package.name} unpacks", done.stderr)
            runs(tree, ["consilium-client"] if "client" in package.name else ["consilium", "consilium-coordinator"])
        for unit in sorted((root / "usr/lib/systemd/system").iterdir()):
            if shutil.which("systemd-analyze"):
                done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)],
                                      capture_output=True, text=True, env={**os.environ, "SYSTEMD_COLORS": "0"})
                last = done.stdout.strip().splitlines()[-1:] or [done.stderr.strip()]
                must(done.returncode == 0, f"{unit.name}: {last[0].strip()}", done.stdout)


if __name__ == "__main__":
    main()
