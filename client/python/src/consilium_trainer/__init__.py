"""The trainer side of Consilium: your model and your training loop, behind your organization's client.

    from consilium_trainer import PatientGradient, Trainer, serve

    class Mine(Trainer):
        def start(self, plan): ...
        def patient_gradients(self, tensors, patients): yield PatientGradient(...)

    serve(Mine(), socket="run/trainer.sock")

The client dials this process, hands it the plan, the adapter and the patients of a lot, checks what comes back, adds the noise, masks
it and sends it. This process holds no key and opens no connection. It does clip, so it is what the patients' guarantee rests on at
your organization: `ClippedSum` does it exactly, and is used for you.
"""

from .clipping import ClippedSum
from .plan import Floats, Plan, Tensors, TensorSpec
from .server import Server, serve
from .trainer import Delta, Evaluation, LocalSteps, PatientGradient, Trainer

__all__ = [
    "ClippedSum",
    "Delta",
    "Evaluation",
    "Floats",
    "LocalSteps",
    "PatientGradient",
    "Plan",
    "Server",
    "TensorSpec",
    "Tensors",
    "Trainer",
    "serve",
]
__version__ = "0.1.0"
