"""What you write: one class with the method that your plan's privacy unit asks for."""

from __future__ import annotations

import hashlib
import inspect
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Sequence

from .plan import Floats, Plan, Tensors


@dataclass(frozen=True)
class PatientGradient:
    """One patient's share of a lot."""

    gradient: Floats
    """Of the summed loss of all of the patient's records: all trained tensors flat, in name order (`Plan.flatten`). Not clipped."""
    loss: float
    """Mean loss over the patient's records, nats."""
    correct: bool
    """Whether the patient was scored right."""


@dataclass(frozen=True)
class LocalSteps:
    """What to train between two rounds, in the units in which organizations send a change of weights."""

    steps: int
    """Steps of plain gradient descent in the plan."""
    learning_rate: float
    """Their step size."""
    sampling_rate: float
    """Part of the patients that a step looks at."""
    proximal: float = 0.0
    """FedProx's μ: every step's gradient also has `proximal · (now - start)`, with the tensors as they were given for the start."""
    resting: tuple[str, ...] = ()
    """Names of the trained tensors that must not move in this round (a plan whose mode is `alternate`); the client refuses a delta that
    is not zero there. In sums, this package sees to it."""


@dataclass(frozen=True)
class Delta:
    """A change of weights. The client clips and rounds it."""

    values: Floats
    """New minus old: all trained tensors flat, in name order (`Plan.flatten`)."""
    loss: float
    """Mean loss over all patients that were looked at, nats."""
    accuracy: float
    """Fraction of them scored right."""


@dataclass(frozen=True)
class Evaluation:
    """Scores on the public test set."""

    examples: int
    loss: float
    accuracy: float
    macro_accuracy: float
    """Mean of the per-label accuracies; repeat `accuracy` where that means nothing."""


class Trainer:
    """A trainer of an organization's own. Calls come one at a time, on one thread.

    Raise anything to fail: it costs the organization that attempt. The client is told the exception's *type*; the message goes
    to standard error and stays on this machine, because it may quote a record.
    """

    def start(self, plan: Plan) -> None:
        """The plan, before anything else; raise to refuse it. Called again when the client comes back."""

    def patient_gradients(self, tensors: Tensors, patients: Sequence[str]) -> Iterable[PatientGradient]:
        """One gradient for each named patient, in any order; records of a patient belong together. Clipping, rounding and summing
        are done for you, so yield them as they come and keep none.

        Of units `patient` and `patient-local`. Evaluation mode, no dropout: a patient's gradient must not depend on the others.
        """
        raise NotImplementedError("this trainer gives no per-patient gradients")

    def delta(self, tensors: Tensors, patients: Sequence[str], local: LocalSteps) -> Delta:
        """Train on the named patients. Of units `organization` and `none`."""
        raise NotImplementedError("this trainer gives no deltas")

    def evaluate(self, tensors: Tensors, limit: int) -> Evaluation:
        """Score on at most `limit` examples of the public test set, the same ones every time. Of the organization that the plan
        names as evaluator."""
        raise NotImplementedError("this trainer has no test set")

    def code_digest(self) -> bytes:
        """SHA-256 of the code that this trainer runs: by default of the files in which its classes are written and of this package.
        It stands in the result's manifest. Extend it by whatever else decides what is computed."""
        hasher = hashlib.sha256()
        for path in sorted(_sources(type(self))):
            hasher.update(hashlib.sha256(path.read_bytes()).digest())
        return hasher.digest()


def _sources(trainer: type) -> set[Path]:
    files = set(Path(__file__).resolve().parent.glob("*.py"))
    for base in trainer.__mro__:
        module = sys.modules.get(base.__module__)
        source = inspect.getsourcefile(module) if module is not None and base is not object else None
        if source is not None and Path(source).is_file():
            files.add(Path(source).resolve())
    return files
