"""The numpy trainer, which waits while another one is being started again: so that a round lasts as long as that takes.
`waiting.py DATA TEST SOCKET FOLDER`."""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))

import numpy_trainer

from consilium_trainer import serve

DOWN = Path(sys.argv[4]) / "down"


class Waiting(numpy_trainer.SoftmaxRegression):
    def patient_gradients(self, tensors, patients):
        while DOWN.exists():
            time.sleep(0.05)
        yield from super().patient_gradients(tensors, patients)


serve(Waiting(sys.argv[1], sys.argv[2]), socket=sys.argv[3])
