"""A trainer that takes no time: it answers each question with a sum that it has ready. What is left is the way there and back."""
import sys

import numpy as np

import consilium_trainer.server as server
from consilium_trainer import ClippedSum, Trainer, serve
from consilium_trainer._conversation import Conversation


class Instant(Conversation):
    def _sum(self, plan, tensors, patients, resting, context):
        if not hasattr(self, "ready"):
            self.ready = ClippedSum(plan)
            self.ready.values[:] = np.random.default_rng(1).integers(-3, 4, plan.dimension)
        return self.ready


server.Conversation = Instant
serve(Trainer(), socket=sys.argv[1])
