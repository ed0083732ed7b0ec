"""A whole job with real processes: a coordinator, four clients, four numpy trainers, one of which misbehaves in every way.

    whole_job.py --release target/release [--keep FOLDER]

Three trainers are honest (one of them over TCP with mutual TLS). The fourth answers its first question well; at the next ones it sends too
large a norm, sends other tensors, is killed in the middle of its answer, hangs, answers twice and answers an old question. Every round
must come out; the fourth organization must be missing where its trainer did that, and where the coordinator had it sit out for
letting others down, and be back at the end, with each refusal named in its own client's log. The clients' data files hold
patients' ids and nothing else.
"""

import argparse
import csv
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
EXAMPLE = HERE.parent / "examples" / "numpy_trainer.py"
SITES = ["site-1", "site-2", "site-3", "site-4"]
# After six misdeeds in a row the fourth organization may have had to sit out 31 rounds.
ROUNDS = 45
LABELS = ["eye", "heart", "skin"]
PATIENTS = 200
NAMED = [
    "a sum has norm",
    "answered with other tensors than the plan's: other stands where bias is expected",
    "broke off",
    "did not answer within",
    "answered twice",
    "answered another question",
]

TEMPLATE = f"""
job = "words"
rounds = {ROUNDS}
[model]
name = "none: words are hashed"
pooling = "mean"
max_tokens = 16
[task]
labels = {json.dumps(LABELS)}
[cohort]
min_survivors = 3
[privacy]
note = "generated records"
epsilon = 60.0
delta = 1e-5
sampling_rate = 0.25
expected_lot = {0.25 * PATIENTS * len(SITES)}
largest_lot = {0.25 * PATIENTS}
noise_multiplier = 1.0
[optimizer]
kind = "sgd"
learning_rate = 4.0
[evaluation]
organization = "site-1"
every_rounds = 5
[deadlines]
input_s = 120
grace_s = 1
[retries]
max_attempts = 2
[adapter]
[[adapter.tensor]]
name = "bias"
shape = [3]
bound = 0.0
trained = true
[[adapter.tensor]]
name = "weight"
shape = [3, 64]
bound = 0.0
trained = true
"""


class Job:
    def __init__(self, folder, release):
        self.folder, self.release, self.processes = folder, release, {}

    def run(self):
        try:
            self.found()
            for site in SITES:
                self.start_trainer(site)
            self.start("coordinator", self.release / "consilium-coordinator", "--config", self.folder / "coordinator.toml")
            for site in SITES:
                self.start(site, self.client, "run", "--config", self.config(site))
            self.nurse()
            self.judge()
        finally:
            for process in self.processes.values():
                process.kill()

    # --- before the first round ---

    def found(self):
        self.client = self.release / "consilium-client"
        consilium = self.release / "consilium"
        keys = lambda name: self.folder / "keys" / name
        for name in ("coordinator", "operator"):
            call(consilium, "keygen", "--id", name, "--out", keys(name))
        for site in SITES:
            call(self.client, "keygen", "--id", site, "--out", keys(site))
        roster, plan = self.folder / "roster.toml", self.folder / "plan.toml"
        call(consilium, "roster", "build", "--consortium", "trainers", "--coordinator", keys("coordinator") / "party.toml",
             "--organization", *[keys(site) / "party.toml" for site in SITES], "--operator", keys("operator") / "party.toml",
             "--out", roster)
        pin = json.loads(call(consilium, "roster", "fingerprint", roster, "--json"))["fingerprint"]
        template = self.folder / "template.toml"
        template.write_text(TEMPLATE)
        call(consilium, "plan", "new", "--template", template, "--roster", roster, "--out", plan)
        for document in (roster, plan):
            for site in SITES:
                call(self.client, "sign", document.stem, document, "--identity", keys(site) / "identity.toml")
        self.port = free_port()
        common = f'roster = "{roster}"\nroster_pin = "{pin}"\nplan = "{plan}"\n'
        (self.folder / "coordinator.toml").write_text(
            f'listen = "127.0.0.1:{self.port}"\nidentity = "{keys("coordinator")}/identity.toml"\n{common}state = "coordinator"\n')
        (self.folder / "operator.toml").write_text(
            f'coordinator = "127.0.0.1:{self.port}"\nidentity = "{keys("operator")}/identity.toml"\n'
            + common.replace("roster_pin", "pin"))
        call(self.client, "trainer", "keys", "--out", self.folder / "link")
        self.tls_port = free_port()
        for number, site in enumerate(SITES):
            self.records(site, number)
            if site == "site-2":
                where = f'address = "127.0.0.1:{self.tls_port}"\nkeys = "link"'
            else:
                where = f'socket = "{site}.sock"'
            self.config(site).write_text(
                f'organization = "{site}"\nidentity = "{keys(site)}/identity.toml"\ncoordinator = "127.0.0.1:{self.port}"\n'
                f'{common}state = "state-{site}"\nlog = "json"\napproval = "auto"\n[data]\nname = "words"\npath = "{site}.ids.csv"\n'
                f'patient_column = "patient"\n[training]\ntrainer = "external"\n[external]\n{where}\nanswer_s = 20\n')
        self.records("test", 9)

    def config(self, site):
        return self.folder / f"{site}.toml"

    def records(self, name, seed):
        """Words tell the label, most of the time. The client gets the ids alone."""
        source = random.Random(seed)
        words = {"eye": "lens retina cornea", "heart": "valve rhythm aorta", "skin": "burn rash ulcer"}
        with (self.folder / f"{name}.csv").open("w", newline="") as whole, (self.folder / f"{name}.ids.csv").open("w") as ids:
            rows = csv.writer(whole)
            rows.writerow(["patient", "text", "label"])
            ids.write("patient\n")
            for number in range(PATIENTS):
                label = source.choice(LABELS)
                said = source.choice(words[label if source.random() < 0.9 else source.choice(LABELS)].split())
                rows.writerow([f"{name}-{number}", f"{said} {source.choice(['acute', 'chronic'])} disease", label])
                ids.write(f"{name}-{number}\n")

    # --- processes ---

    def start(self, name, *command):
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log,
                                                    stdin=subprocess.DEVNULL, cwd=self.folder)

    def start_trainer(self, site):
        name, data, path = f"trainer-{site}", self.folder / f"{site}.csv", self.folder / f"{site}.sock"
        if site == "site-4":
            self.start(name, sys.executable, HERE / "mischief.py", data, path, self.folder)
        elif site == "site-2":
            self.start(name, sys.executable, EXAMPLE, "--data", data, "--address", f"127.0.0.1:{self.tls_port}",
                       "--keys", self.folder / "link")
        elif site == "site-1":
            self.start(name, sys.executable, HERE / "waiting.py", data, self.folder / "test.csv", path, self.folder)
        else:
            self.start(name, sys.executable, EXAMPLE, "--data", data, "--socket", path)

    def nurse(self):
        """Starts the killed trainer again, until every client has finished; ten minutes are more than enough."""
        ends = time.monotonic() + 600
        while any(self.processes[site].poll() is None for site in SITES):
            for name, process in list(self.processes.items()):
                code = process.poll()
                if name == "trainer-site-4" and code == 9:
                    self.start_trainer("site-4")
                elif name == "trainer-site-4" and self.log(name).count("listening at") == 2:
                    (self.folder / "down").unlink(missing_ok=True)
                elif code not in (None, 0):
                    self.fail(f"{name} ended with {code}", name)
            if time.monotonic() > ends:
                self.fail("the job is not over after ten minutes", "site-4")
            time.sleep(0.1)

    def fail(self, why, name):
        sys.exit(f"{why}; the end of its log:\n" + "\n".join(self.log(name).splitlines()[-25:]))

    def log(self, name):
        return (self.folder / f"{name}.log").read_text(errors="replace")

    # --- what came of it ---

    def judge(self):
        rounds = json.loads(call(self.release / "consilium", "rounds", "--json", "--config", self.folder / "operator.toml"))
        survivors = {row["round"]: row["survivors"] for row in rounds}
        missing = {number for number in survivors if "site-4" not in names(survivors[number])}
        check(sorted(survivors) == list(range(1, ROUNDS + 1)), f"every round came out: {sorted(survivors)}")
        said = [json.loads(line) for line in self.log("site-4").splitlines()]
        failed = [line["why"] for line in said if line.get("message") == "lot failed"]
        declined = {line["round"] for line in said if line.get("event") == "declined"}
        check(len(failed) == len(NAMED), f"one refusal for each misdeed: {failed}")
        for words, why in zip(NAMED, failed):
            check(words in why, f"{words!r} in {why!r}")
        sat_out = {number for number in missing - declined if self.sat_out(number)}
        check(missing == declined | sat_out, f"site-4 was missing in {sorted(missing)}, misbehaved in {sorted(declined)}, sat {sorted(sat_out)} out")
        check("site-4" in names(survivors[ROUNDS]), "site-4 is back in the last round")
        ids = [f"{site}-{n}" for site in SITES for n in (0, PATIENTS - 1)]
        logs = "".join(path.read_text(errors="replace") for path in self.folder.glob("*.log"))
        check(not any(f'"{one}"' in logs for one in ids), "no patient's id stands in a log")
        scores = [round(row["test"]["accuracy"], 3) for row in rounds if row.get("test")]
        print("accuracy:", scores)
        # A third would be chance; the noise moves single rounds.
        check(scores and max(scores) > 0.7, f"the model has learned: {scores}")
        for site in ("site-1", "site-4"):
            manifest = json.loads(call(self.client, "export", "--config", self.config(site), "--out",
                                       self.folder / f"result-{site}", "--json"))
            training = manifest["training"]
            check(training["clipping"] == "clipping done by the trainer", training)
            check(all(len(t["digest"]) == 64 for t in training["trainers"]) and training["trainers"], training)
            paths = [f["path"] for f in manifest["files"]]
            check(paths[:2] == ["tensors.safetensors", "labels.txt"] and "head.safetensors" not in paths, paths)
        who = json.loads(call(self.client, "trainer", "check", "--config", self.config("site-2"), "--json"))
        check(who["name"] == "SoftmaxRegression", who)
        check(who["digest"] == json.loads(call(self.client, "trainer", "check", "--config", self.config("site-3"), "--json"))["digest"],
              "the same code has the same digest on every node")
        says = call(self.client, "check", "--config", self.config("site-1"))
        check("their records are the trainer's affair" in says and "the client adds the noise" in says, says)

    def sat_out(self, number):
        """Whether the coordinator left site-4 out of the round because of earlier ones."""
        told = json.loads(call(self.release / "consilium", "round", number, "--json", "--config", self.folder / "operator.toml"))
        return all(any(absent["id"] == "site-4" and absent["code"] == "sits-out" for absent in attempt["absent"])
                   for attempt in told["attempts"])


def names(survivors):
    return survivors if isinstance(survivors, list) else []


def check(holds, what):
    if not holds:
        sys.exit(f"FAILED: {what}")


def call(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(str(part) for part in command)} ended with {done.returncode}: {done.stderr or done.stdout}")
    return done.stdout


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--release", type=Path, required=True)
    parser.add_argument("--keep", type=Path, help="work here and leave everything there")
    arguments = parser.parse_args()
    # A socket's path has at most 107 bytes.
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="consilium-"))
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    Job(folder.resolve(), arguments.release.resolve()).run()
    if not arguments.keep:
        shutil.rmtree(folder)
    print(f"whole job: {ROUNDS} rounds, 4 clients, 4 trainers, 6 misdeeds, each named: {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
