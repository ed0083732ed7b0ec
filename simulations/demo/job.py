"""One federated job: six real processes, and what they leave behind."""
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path

from consortium import SITES, Failed, call

VICTIM = "site-4"


class Job:
    def __init__(self, consortium, name, kill):
        self.consortium, self.name, self.kill = consortium, name, kill
        self.folder = consortium.folder / f"job-{name}"
        self.result = self.folder / "result"
        self.processes = {}
        self.killed_round = None

    # --- the run ---------------------------------------------------------------------------------------------------

    def run(self):
        self.configure()
        self.began = time.time()
        try:
            self.start("coordinator", self.consortium.program("consilium-coordinator"))
            for site in SITES:
                self.start(site, self.consortium.program("consilium-client"), "run")
            killer = threading.Thread(target=self.kill_and_restart, daemon=True)
            if self.kill:
                killer.start()
            self.watch()
            if self.kill:
                killer.join(timeout=60)
            self.wait_for_clients()
            self.ended = time.time()
            self.rounds = self.settled_rounds()
            self.status = self.ask("status")
            self.coordinator_rss_mb = peak_rss_mb(self.processes["coordinator"].pid)
            self.stop("coordinator")
        finally:
            for process in self.processes.values():
                if process.poll() is None:
                    process.kill()
        if self.kill and self.killed_round is None:
            raise Failed("the victim was never killed: its log shows no middle round")

    def configure(self):
        consortium, folder = self.consortium, self.folder
        folder.mkdir()
        self.port = free_port()
        common = {
            "roster": consortium.roster, "roster_pin": consortium.pin, "plan": consortium.plan_file(self.name),
        }
        write_toml(folder / "coordinator.toml", {
            "listen": f"127.0.0.1:{self.port}", "identity": consortium.keys("coordinator") / "identity.toml",
            **common, "state": folder / "coordinator",
        })
        write_toml(folder / "operator.toml", {
            "coordinator": f"127.0.0.1:{self.port}", "identity": consortium.keys("operator") / "identity.toml",
            "roster": common["roster"], "pin": common["roster_pin"], "plan": common["plan"],
        })
        columns = {"text_column": "text", "label_column": "label", "patient_column": "patient_id"}
        for site in SITES:
            tables = {"data": {"name": f"{site}-titles", "path": consortium.data / f"{site}.csv", **columns}}
            if site == SITES[0]:
                tables["evaluation"] = {"path": consortium.data / "test.csv", **columns}
            write_toml(folder / f"{site}.toml", {
                "organization": site, "identity": consortium.keys(site) / "identity.toml",
                "coordinator": f"127.0.0.1:{self.port}", **common,
                "state": consortium.folder / "state" / site, "model": consortium.model,
                # Nobody sits here to say yes; `consilium-client plan approve` is for people.
                "approval": "auto", "log": "json",
            }, tables)

    def log(self, name):
        return self.folder / f"{name}.log"

    def start(self, name, program, *command):
        with self.log(name).open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [str(program), *command, "--config", str(self.folder / f"{name}.toml")],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )

    def watch(self):
        """The operator's live table, on this terminal, until the job is finished."""
        command = [str(self.consortium.program("consilium")), "watch", "--config", str(self.folder / "operator.toml")]
        watcher = subprocess.Popen(command)
        while watcher.poll() is None:
            for name in ("coordinator", *SITES):
                code = self.processes[name].poll()
                if code not in (None, 0) and not (name == VICTIM and self.kill):
                    watcher.kill()
                    raise Failed(f"{name} ended with {code}; the end of {self.log(name)}:\n{tail(self.log(name))}")
            time.sleep(0.2)
        if watcher.returncode != 0:
            raise Failed(f"consilium watch ended with {watcher.returncode}")

    def wait_for_clients(self):
        for site in SITES:
            code = self.processes[site].wait(timeout=120)
            if code != 0:
                raise Failed(f"{site} ended with {code}; the end of {self.log(site)}:\n{tail(self.log(site))}")

    def ask(self, *question):
        answer = call(self.consortium.program("consilium"), *question, "--json", "--config", self.folder / "operator.toml")
        return json.loads(answer)

    def settled_rounds(self):
        """All rounds, once the coordinator has computed what each of them cost: it does so beside the rounds."""
        while True:
            rounds = self.ask("rounds")
            if all(row["spent"] for row in rounds):
                return rounds
            time.sleep(0.2)

    def stop(self, name):
        self.processes[name].send_signal(signal.SIGTERM)
        self.processes[name].wait(timeout=30)

    # --- the death -------------------------------------------------------------------------------------------------

    def kill_and_restart(self):
        """Kills one client right after it has dealt its shares in a middle round; starts it again once that round is out."""
        middle = self.plan_rounds() // 2
        for event in follow(self.log(VICTIM)):
            if event.get("event") == "shared" and event.get("round", 0) >= middle:
                break
        victim, self.killed_round = self.processes[VICTIM], event["round"]
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        while True:
            last = self.ask("rounds")[-1:]
            if last and last[0]["round"] >= self.killed_round:
                break
            time.sleep(0.2)
        self.start(VICTIM, self.consortium.program("consilium-client"), "run")

    def plan_rounds(self):
        return int(re.search(r"^rounds = (\d+)", self.consortium.plan_file(self.name).read_text(), re.M).group(1))

    # --- what it left ----------------------------------------------------------------------------------------------

    def export(self):
        """The adapter as the first organization computed it from the published sums; every organization has the same."""
        if not self.result.exists():
            call(self.consortium.program("consilium-client"), "export", "--config", self.folder / f"{SITES[0]}.toml",
                 "--out", self.result)
        return self.result

    def protocol_seconds(self):
        """Wall time between the first announcement and the last release in which no client trains or evaluates."""
        spans = []
        for site in SITES:
            begun = None
            for event in events(self.log(site)):
                kind, when = event.get("event", ""), moment(event)
                if kind in ("train-began", "evaluate-began"):
                    begun = when
                elif kind in ("train-ended", "evaluate-ended") and begun is not None:
                    spans.append((begun, when))
                    begun = None
        first = self.rounds[0]["started_ms"] / 1e3
        last = max(row["started_ms"] / 1e3 + row["seconds"] for row in self.rounds)
        busy, reached = 0.0, first
        for begin, end in sorted(spans):
            begin, end = max(begin, reached), min(end, last)
            if end > begin:
                busy, reached = busy + end - begin, end
        return last - first - busy

    def seconds(self):
        return self.ended - self.began


def follow(log):
    """The log's events as they are written."""
    with open(log, "rb") as lines:
        rest = b""
        while True:
            part = lines.readline()
            if not part:
                time.sleep(0.005)
                continue
            rest += part
            if rest.endswith(b"\n"):
                line, rest = rest, b""
                if line.startswith(b"{"):
                    yield json.loads(line)


def events(log):
    for line in Path(log).read_text(errors="replace").splitlines():
        if line.startswith("{"):
            try:
                yield json.loads(line)
            except ValueError:
                continue  # cut off by the kill


def moment(event):
    return datetime.fromisoformat(event["timestamp"].replace("Z", "+00:00")).timestamp()


def tail(log, lines=15):
    return "\n".join(Path(log).read_text(errors="replace").splitlines()[-lines:])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def peak_rss_mb(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) / 1024


def write_toml(path, fields, tables={}):
    def value(it):
        return json.dumps(it if isinstance(it, (int, float)) else str(it))
    lines = [f"{key} = {value(it)}" for key, it in fields.items()]
    for name, table in tables.items():
        lines += ["", f"[{name}]"] + [f"{key} = {value(it)}" for key, it in table.items()]
    path.write_text("\n".join(lines) + "\n")
