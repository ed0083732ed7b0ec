"""Keys, roster, plans, configurations: what the parties do before the first round."""
import json
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
SITES = [f"site-{number}" for number in range(1, 6)]


class Failed(SystemExit):
    """A command that did not do what it should: its own words are the message."""


def call(*command, quiet=True):
    """Runs a command to its end and gives what it printed."""
    done = subprocess.run([str(part) for part in command], capture_output=quiet, text=True)
    if done.returncode != 0:
        words = (done.stderr or done.stdout or "").strip()
        raise Failed(f"{' '.join(str(part) for part in command)}\nfailed with {done.returncode}: {words}")
    return done.stdout


class Consortium:
    def __init__(self, folder, binaries, cache, quick):
        self.folder, self.binaries, self.cache, self.quick = folder, binaries, cache, quick
        self.model = cache / "model"
        self.data = folder / "data"
        self.roster = folder / "roster.toml"

    def program(self, name):
        return self.binaries / name

    def found(self):
        """Splits the data, makes keys, and signs roster and plans."""
        self.folder.mkdir(parents=True)
        call("python3", HERE / "split.py", self.cache / "icd10" / "titles.csv", self.data)
        consilium, client = self.program("consilium"), self.program("consilium-client")
        for name in ("coordinator", "operator"):
            call(consilium, "keygen", "--id", name, "--out", self.keys(name))
        for site in SITES:
            call(client, "keygen", "--id", site, "--out", self.keys(site))
        members = [self.keys(site) / "party.toml" for site in SITES]
        call(consilium, "roster", "build", "--consortium", "icd-10", "--coordinator", self.keys("coordinator") / "party.toml",
             "--organization", *members, "--operator", self.keys("operator") / "party.toml", "--out", self.roster)
        self.sign("roster", self.roster)
        self.pin = json.loads(call(consilium, "roster", "fingerprint", self.roster, "--json"))["fingerprint"]
        for job in ("lora", "head"):
            self.plan(job)

    def keys(self, name):
        return self.folder / "keys" / name

    def sign(self, kind, document):
        for site in SITES:
            call(self.program("consilium-client"), "sign", kind, document, "--identity", self.keys(site) / "identity.toml")

    def plan_file(self, job):
        return self.folder / f"{job}.toml"

    def plan(self, job):
        """Fills the template in, and signs it by every organization (a quorum of four would do)."""
        template = (HERE / f"{job}.template.toml").read_text()
        patients = sum(1 for _ in (self.data / "pooled.csv").open()) - 1
        largest = max(sum(1 for _ in (self.data / f"{site}.csv").open()) - 1 for site in SITES)
        lot, rounds = (LOT_QUICK, ROUNDS_QUICK) if self.quick else (LOT, ROUNDS)
        rate = lot / patients
        fields = {
            "ROUNDS": rounds, "LOT": lot, "RATE": f"{rate:.6f}", "LARGEST": f"{rate * largest:.1f}",
            "LABELS": self.data / "labels.txt", "EVERY": max(1, rounds // 8),
        }
        for field, value in fields.items():
            template = template.replace(f"@{field}@", str(value))
        filled = self.folder / f"{job}.template.toml"
        filled.write_text(template)
        plan = self.plan_file(job)
        call(self.program("consilium"), "plan", "new", "--template", filled, "--roster", self.roster,
             "--model", self.model, "--out", plan)
        self.sign("plan", plan)


# Expected lot over all organizations, and rounds: tuned on other draws of the split than the one that is shown.
LOT, ROUNDS = 2048, 60
LOT_QUICK, ROUNDS_QUICK = 512, 6
