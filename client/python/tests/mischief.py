"""The numpy trainer, which answers its second to seventh questions badly, each in another way: what a client must survive.
`mischief.py DATA SOCKET FOLDER`."""

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))

import numpy_trainer

import consilium_trainer.server as server
from consilium_trainer import serve
from consilium_trainer import _messages as wire
from consilium_trainer._conversation import Conversation

FOLDER = Path(sys.argv[3])


def asked():
    """How many questions for an attempt there were, this one included; told in a file, because one answer ends the process."""
    with (FOLDER / "questions").open("ab") as file:
        file.write(b"?")
        return file.tell()


class Mischief(Conversation):
    def compute(self, parts, context):
        parts = list(parts)
        day = asked() if parts[0].question.attempt else 0
        answer = list(super().compute(parts, context))
        first = answer[0].answer
        if day == 2:  # too large a norm
            first.sum.loss = 1 << 40
        elif day == 3:  # another tensor set
            first.tensors[0].name = "other"
        elif day == 4:  # dies in the middle of an answer
            (FOLDER / "down").touch()
            yield answer[0]
            os._exit(9)
        elif day == 5:  # hangs
            time.sleep(3600)
        elif day == 6:  # answers twice
            answer += answer
        elif day == 7:  # answers an earlier question
            first.id = b"of an older one."
        yield from answer


server.Conversation = Mischief
serve(numpy_trainer.SoftmaxRegression(sys.argv[1]), socket=sys.argv[2])
