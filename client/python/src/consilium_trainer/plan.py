"""What a trainer is told of the job: the plan, its tensors, and the numbers of the clip."""

from __future__ import annotations

import hashlib
import math
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Mapping, Optional

import numpy as np
from numpy.typing import NDArray

from ._messages import Clipping, OpenRequest

Floats = NDArray[np.float32]
Tensors = Mapping[str, Floats]
"""The adapter's values by name; read-only, shaped as in the plan."""


@dataclass(frozen=True)
class TensorSpec:
    """A tensor of the adapter."""

    name: str
    shape: tuple[int, ...]
    trained: bool
    """Whether gradients are over it; the others are only read."""

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Plan:
    """A job's plan, as the client has verified it and handed it on."""

    job: str
    digest: bytes
    """The fingerprint under which it was signed."""
    text: str
    """The plan itself, TOML."""
    tensors: tuple[TensorSpec, ...]
    """Every tensor of the adapter, in name order: the order of coordinates everywhere."""
    clipping: Optional[Clipping]
    """The numbers of the clip; None where no sums are asked for (units `organization` and `none`)."""

    @classmethod
    def from_request(cls, request: OpenRequest) -> "Plan":
        """From the client's first message; `ValueError` if it contradicts itself."""
        tensors = tuple(TensorSpec(t.name, tuple(t.shape), t.trained) for t in request.tensors)
        if not any(t.trained for t in tensors) or list(tensors) != sorted(tensors, key=lambda t: t.name.encode()):
            raise ValueError("the plan's tensors are not in name order, or none is trained")
        return cls(request.job, request.plan_digest, request.plan, tensors, request.clipping)

    @cached_property
    def document(self) -> dict[str, Any]:
        """Everything that the plan says, parsed."""
        return tomllib.loads(self.text)

    @property
    def labels(self) -> list[str]:
        """The task's labels, in the order of the head's rows."""
        return list(self.document["task"]["labels"])

    @property
    def trained(self) -> tuple[TensorSpec, ...]:
        """The tensors that gradients are over, in name order."""
        return tuple(t for t in self.tensors if t.trained)

    @property
    def dimension(self) -> int:
        """Length of a gradient, flat."""
        return sum(t.size for t in self.trained)

    def place(self, name: str) -> slice:
        """Where a trained tensor's numbers are in a flat gradient: `ValueError` if no trained tensor has this name."""
        at = 0
        for spec in self.trained:
            if spec.name == name:
                return slice(at, at + spec.size)
            at += spec.size
        raise ValueError(f"{name} is not a trained tensor of the plan")

    def flatten(self, gradients: Tensors) -> Floats:
        """One flat gradient from one array for each trained tensor: `ValueError` naming the first that does not fit."""
        parts = []
        for spec in self.trained:
            if spec.name not in gradients:
                raise ValueError(f"no gradient for {spec.name}")
            part = np.asarray(gradients[spec.name], np.float32)
            if part.shape != spec.shape:
                raise ValueError(f"the gradient of {spec.name} has shape {part.shape}, expected {spec.shape}")
            parts.append(part.reshape(-1))
        strays = set(gradients) - {spec.name for spec in self.trained}
        if strays:
            raise ValueError(f"{min(strays)} is not a trained tensor of the plan")
        return np.concatenate(parts)

    def unflatten(self, values: Floats) -> dict[str, Floats]:
        """All tensors by name, from all of their values in name order."""
        tensors, at = {}, 0
        for spec in self.tensors:
            part = values[at : at + spec.size].reshape(spec.shape)
            part.flags.writeable = False
            tensors[spec.name], at = part, at + spec.size
        if at != len(values):
            raise ValueError(f"{len(values)} values, and the plan's tensors hold {at}")
        return tensors

    def check_model(self, folder: Path) -> None:
        """Compares a model folder with the plan, byte for byte: `ValueError` naming the first file that differs."""
        model = self.document["model"]
        for file, field in (("config.json", "config"), ("tokenizer.json", "tokenizer"), ("model.safetensors", "weights")):
            path = Path(folder) / file
            with path.open("rb") as data:
                found = hashlib.file_digest(data, "sha256").hexdigest()
            if found != model[field]:
                raise ValueError(f"{path} has digest {found}, and the plan was made for {model[field]} ({model['name']})")
