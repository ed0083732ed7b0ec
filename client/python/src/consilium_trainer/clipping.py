"""Clipping, rounding and summing, exactly as the client would do it: what the guarantee rests on, so do not do it by hand.

Each patient's vector (gradient and two metrics) is scaled down to the plan's limit, multiplied by the plan's scale, and rounded to
integers at random; if the integers' norm is above the plan's bound, the rounding is drawn again. Kairouz, Liu and Steinke, "The
Distributed Discrete Gaussian Mechanism" (ICML 2021), section 4, without the rotation. No noise is added here: the client does.
"""

from __future__ import annotations

import math
from typing import Any, Sequence

import numpy as np
from numpy.typing import NDArray

from .plan import Floats, Plan

_ATTEMPTS = 256


class ClippedSum:
    """The sum of a lot, which grows patient by patient. `resting` names trained tensors that do not move in this round: their part of a
    gradient counts as zero, and takes nothing of the clip."""

    def __init__(self, plan: Plan, resting: Sequence[str] = ()) -> None:
        if plan.clipping is None:
            raise ValueError("the plan's privacy unit asks for no sums")
        self._clipping = plan.clipping
        self._still = [plan.place(name) for name in resting]
        self._values: NDArray[np.int64] = np.zeros(plan.dimension, np.int64)
        self._metrics = [0, 0]
        # Float32 keeps at least seven bits of the fraction of numbers up to 2^16, and is twice as fast.
        large = self._clipping.scale * self._clipping.limit > 1 << 16
        self._real = np.float64 if large else np.float32
        # Seeded by the operating system. Rounding may be predictable without harm: the bound holds for every draw.
        self._random = np.random.Generator(np.random.SFC64())

    @property
    def values(self) -> NDArray[np.int64]:
        """The sum so far, flat."""
        return self._values

    @property
    def loss(self) -> int:
        """The sum of the loss coordinates so far."""
        return self._metrics[0]

    @property
    def correct(self) -> int:
        """The sum of the score coordinates so far."""
        return self._metrics[1]

    def add(self, gradient: Floats, loss: float, correct: bool) -> bool:
        """Adds one patient: the gradient of the summed loss of all of the patient's records (flat, not clipped), the mean loss over
        them in nats, and whether the patient was scored right. False where the gradient or the loss is not finite: then
        nothing is added, and one broken record costs nobody else's.
        """
        gradient = np.asarray(gradient, np.float32).reshape(-1)
        if gradient.shape != self._values.shape:
            raise ValueError(f"a gradient has {gradient.size} coordinates, the plan trains {self._values.size}")
        if self._still:
            gradient = gradient.copy()
            for place in self._still:
                gradient[place] = 0
        clipping = self._clipping
        with np.errstate(over="ignore"):
            norm = math.sqrt(float(np.dot(gradient, gradient)))
        if not math.isfinite(norm):
            # A float32 product overflows long before the values do.
            wide = gradient.astype(np.float64)
            norm = math.sqrt(float(np.dot(wide, wide)))
        if not (math.isfinite(norm) and math.isfinite(loss)):
            return False
        # A relative 2^-10 of margin is in the limit: float32 arithmetic stays far inside it.
        factor = clipping.scale * min(1.0, clipping.limit / norm if norm > 0 else 1.0)
        part = min(max(loss, 0.0), clipping.loss_max) / clipping.loss_max
        metrics = np.array([part, 1.0 if correct else 0.0]) * (clipping.metric_unit * clipping.scale)
        scaled = np.multiply(gradient, factor, dtype=self._real)
        for _ in range(_ATTEMPTS):
            rounded, riding = self._round(scaled), self._round(metrics)
            # Exact: the client's parameters keep a squared norm below 2^58.
            if int(np.dot(rounded, rounded)) + int(np.dot(riding, riding)) <= clipping.bound_squared:
                self._values += rounded
                self._metrics[0] += int(riding[0])
                self._metrics[1] += int(riding[1])
                return True
        return False

    def add_batch(self, gradients: Floats, losses: Floats, correct: NDArray[np.bool_]) -> int:
        """Adds the rows of `gradients` `[patients, dimension]`, one patient each, and says how many were finite."""
        return sum(self.add(row, float(loss), bool(hit)) for row, loss, hit in zip(gradients, losses, correct))

    def _round(self, values: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
        """To a neighbouring integer, up with probability equal to the fraction."""
        random = self._random.random(values.shape, values.dtype.type)
        rounded: NDArray[np.int64] = np.floor(values + random).astype(np.int64)
        return rounded
