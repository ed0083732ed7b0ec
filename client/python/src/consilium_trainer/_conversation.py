"""From a question's parts to a trainer's method, and from what it returns to an answer's parts."""

from __future__ import annotations

import threading
from typing import Any, Iterable, Iterator, Optional

import grpc
import numpy as np
from numpy.typing import NDArray

from . import _messages as wire
from .clipping import ClippedSum
from .plan import Plan
from .trainer import LocalSteps, Trainer

VERSION = 2
_PART_BYTES = 1 << 20


class Refused(Exception):
    """What the client is told; it quotes no record."""


class Conversation:
    """What a trainer's process knows between two calls."""

    def __init__(self, trainer: Trainer, name: str) -> None:
        self._trainer, self._name = trainer, name
        self._plan: Optional[Plan] = None
        # The client asks one thing at a time. One that gave up on an answer asks again while it is still being computed.
        self._busy = threading.Lock()

    def open(self, request: wire.OpenRequest, _: Any) -> wire.OpenReply:
        """The plan in, who this is out."""
        if request.version != VERSION:
            raise Refused(f"this trainer speaks version {VERSION} of the contract, the client version {request.version}")
        plan = Plan.from_request(request)
        with self._busy:
            if self._plan is None or self._plan.digest != plan.digest:
                self._trainer.start(plan)
                self._plan = plan
        return wire.OpenReply(VERSION, self._name, self._trainer.code_digest(), plan.digest)

    def compute(self, parts: Iterable[wire.QuestionPart], context: grpc.ServicerContext) -> Iterator[wire.AnswerPart]:
        """One answer to one question."""
        question, patients, values = _read(parts)
        with self._busy:
            plan = self._plan
            if plan is None:
                raise Refused("a question before the plan")
            if not context.is_active():
                return  # Nobody waits any longer.
            tensors = plan.unflatten(np.frombuffer(values, "<f4"))
            answer = wire.Answer(id=question.id)
            data: NDArray[Any] = np.empty(0, np.uint8)
            if question.sum is not None:
                total = self._sum(plan, tensors, patients, question.resting, context)
                answer.sum = wire.Sum(total.loss, total.correct)
                data = _narrow(total.values, question.sum.value_bytes)
            elif question.delta is not None:
                task = question.delta
                steps = LocalSteps(
                    task.steps, task.learning_rate, task.sampling_rate, task.proximal, tuple(question.resting)
                )
                delta = self._trainer.delta(tensors, patients, steps)
                answer.delta = wire.Delta(float(delta.loss), float(delta.accuracy))
                data = np.ascontiguousarray(delta.values, "<f4").reshape(-1)
                if data.size != plan.dimension:
                    raise Refused(f"the delta has {data.size} coordinates, the plan trains {plan.dimension}")
            elif question.evaluate is not None:
                scores = self._trainer.evaluate(tensors, question.evaluate.limit)
                answer.scores = wire.Scores(
                    int(scores.examples), float(scores.loss), float(scores.accuracy), float(scores.macro_accuracy)
                )
            else:
                raise Refused("a question without a task")
            if question.evaluate is None:
                answer.tensors = [wire.Tensor(t.name, list(t.shape), True) for t in plan.trained]
        yield wire.AnswerPart(answer=answer)
        flat = data.view(np.uint8)
        for at in range(0, flat.size, _PART_BYTES):
            yield wire.AnswerPart(values=flat[at : at + _PART_BYTES].tobytes())

    def _sum(
        self, plan: Plan, tensors: Any, patients: list[str], resting: list[str], context: grpc.ServicerContext
    ) -> ClippedSum:
        total, given = ClippedSum(plan, resting), 0
        if patients:
            for patient in self._trainer.patient_gradients(tensors, patients):
                total.add(patient.gradient, patient.loss, patient.correct)
                given += 1
                if not context.is_active():
                    raise Refused("the client hung up")
        if given != len(patients):
            # Two gradients of one patient would count for more than the clip allows.
            raise Refused(f"{given} gradients for {len(patients)} patients: one for each is asked for")
        return total


def _read(parts: Iterable[wire.QuestionPart]) -> tuple[wire.Question, list[str], bytes]:
    question: Optional[wire.Question] = None
    patients: list[str] = []
    values: list[bytes] = []
    for part in parts:
        if part.question is not None:
            question = part.question
        elif part.patients is not None:
            patients += part.patients.ids
        elif part.values is not None:
            values.append(part.values)
    whole = b"".join(values)
    if question is None or len(patients) != question.patients or len(whole) != question.values_bytes:
        raise Refused("the question is not whole")
    return question, patients, whole


def _narrow(values: NDArray[np.int64], width: int) -> NDArray[Any]:
    if width == 8:
        return values.astype("<i8", copy=False)
    if width != 4:
        raise Refused(f"values of {width} bytes are not in use")
    if values.size and max(abs(int(values.min())), abs(int(values.max()))) > np.iinfo(np.int32).max:
        raise Refused("a value of the sum does not fit four bytes")
    return values.astype("<i4")

