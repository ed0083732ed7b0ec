"""The package by itself, as it was installed: wire format, clipping, refusals. `python -m unittest discover -s tests`."""

import os
import random
import stat
import sys
import tempfile
import unittest
from pathlib import Path

import grpc
import numpy as np

import consilium_trainer
from consilium_trainer import ClippedSum, Delta, Evaluation, PatientGradient, Plan, Server, Trainer
from consilium_trainer import _messages as wire

CLIPPING = wire.Clipping(limit=0.97, scale=64.0, bound_squared=4300, metric_unit=0.15, loss_max=4.0)
TENSORS = [wire.Tensor("a", [2, 3], True), wire.Tensor("frozen", [4], False), wire.Tensor("z", [1], True)]
TEXT = '[task]\nlabels = ["x", "y"]\n'


def request(**changes):
    fields = dict(version=2, job="job", plan_digest=b"d" * 32, plan=TEXT, tensors=TENSORS, clipping=CLIPPING)
    return wire.OpenRequest(**{**fields, **changes})


def plan():
    return Plan.from_request(request())


class WireFormat(unittest.TestCase):
    def test_known_bytes(self):
        # As protobuf's own encoders write them.
        self.assertEqual(wire.Sum(-2, 300).encode(), bytes.fromhex("080310d804"))
        self.assertEqual(wire.Tensor("t", [3, 270], True).encode(), bytes.fromhex("0a017412030 38e021801".replace(" ", "")))
        self.assertEqual(wire.Delta(1.0, 0.0).encode(), bytes.fromhex("09000000000000f03f"))

    def test_round_trip_and_unknown_fields(self):
        whole = wire.AnswerPart(answer=wire.Answer(b"id", TENSORS, sum=wire.Sum(-(1 << 62), 7)))
        data = whole.encode()
        self.assertEqual(wire.AnswerPart.decode(data), whole)
        unknown = bytes.fromhex("f80105") + data + bytes.fromhex("fa0102aabb" "fd0100000000" "f9010000000000000000")
        self.assertEqual(wire.AnswerPart.decode(unknown), whole)
        self.assertEqual(wire.Tensor.decode(bytes.fromhex("10031005")).shape, [3, 5], "lists that are not packed")

    def test_garbage_is_refused_and_never_crashes(self):
        source = random.Random(5)
        whole = request().encode()
        refused = 0
        for _ in range(3000):
            data = bytearray(whole)
            for _ in range(source.randint(1, 4)):
                data[source.randrange(len(data))] = source.randrange(256)
            try:
                wire.OpenRequest.decode(bytes(data[: source.randrange(len(data)) + 1]))
            except ValueError:
                refused += 1
        self.assertGreater(refused, 1000)


class Clipping(unittest.TestCase):
    def test_no_patient_counts_for_more_than_the_bound(self):
        source = np.random.default_rng(1)
        for length in (1e-6, 0.5, 1.0, 50.0, 1e30):
            for _ in range(100):
                total = ClippedSum(plan())
                gradient = source.normal(size=7).astype(np.float32)
                gradient *= np.float32(length) / np.linalg.norm(gradient)
                self.assertTrue(total.add(gradient, 99.0, True))
                squared = int(total.values @ total.values) + total.loss**2 + total.correct**2
                self.assertLessEqual(squared, CLIPPING.bound_squared)

    def test_rounding_is_unbiased_and_keeps_the_direction(self):
        gradient = np.array([0.3, -0.2, 0.01, 0.0, 0.0, 0.1, -0.05], np.float32)
        total = ClippedSum(plan())
        for _ in range(20_000):
            total.add(gradient, 1.0, False)
        mean = total.values / 20_000
        # A rounding's standard deviation is at most a half: a mean of 20,000 is within 0.02.
        np.testing.assert_allclose(mean, gradient * 64, atol=0.02)
        self.assertAlmostEqual(total.loss / 20_000, 0.15 * 64 / 4, delta=0.02)
        self.assertEqual(total.correct, 0)

    def test_what_rests_is_zero_and_takes_nothing_of_the_clip(self):
        gradient = np.full(7, 1e3, np.float32)
        total = ClippedSum(plan(), ["a"])
        self.assertTrue(total.add(gradient, 0.0, False))
        self.assertEqual(total.values[:6].tolist(), [0] * 6)
        self.assertLessEqual(abs(int(total.values[6]) - 0.97 * 64), 1, "all of the clip is z's")
        self.assertEqual(gradient.tolist(), [1e3] * 7, "the caller's own is left alone")
        with self.assertRaisesRegex(ValueError, "frozen is not a trained tensor"):
            ClippedSum(plan(), ["frozen"])

    def test_long_gradients_are_shrunk_to_the_limit(self):
        gradient = np.array([3e20, 0, 0, 0, 0, 0, -4e20], np.float32)
        total = ClippedSum(plan())
        total.add(gradient, 0.0, False)
        np.testing.assert_allclose(total.values, [0.6 * 0.97 * 64, 0, 0, 0, 0, 0, -0.8 * 0.97 * 64], atol=1)

    def test_what_is_not_finite_adds_nothing(self):
        total = ClippedSum(plan())
        for value, loss in ((np.nan, 0.0), (np.inf, 0.0), (0.0, np.nan), (0.0, np.inf)):
            self.assertFalse(total.add(np.full(7, value, np.float32), loss, True))
        self.assertEqual((abs(total.values).sum(), total.loss, total.correct), (0, 0, 0))
        with self.assertRaisesRegex(ValueError, "8 coordinates, the plan trains 7"):
            total.add(np.zeros(8, np.float32), 0.0, True)

    def test_large_scales_round_in_double_precision(self):
        large = wire.Clipping(limit=1.0, scale=2.0**27, bound_squared=1 << 55, metric_unit=0.1, loss_max=1.0)
        total = ClippedSum(Plan.from_request(request(clipping=large)))
        total.add(np.array([0.5 + 2.0**-24, 0, 0, 0, 0, 0, 0], np.float32), 0.0, False)
        self.assertEqual(total.values[0], (1 << 26) + 8)


class PlanOfAJob(unittest.TestCase):
    def test_gradients_and_values_in_name_order(self):
        a, z = np.arange(6, dtype=np.float32).reshape(2, 3), np.array([9], np.float32)
        self.assertEqual(plan().flatten({"z": z, "a": a}).tolist(), [0, 1, 2, 3, 4, 5, 9])
        for wrong, words in (({"a": a}, "no gradient for z"), ({"a": a.T, "z": z}, r"\(3, 2\), expected \(2, 3\)"),
                             ({"a": a, "z": z, "frozen": z}, "frozen is not a trained")):
            with self.assertRaisesRegex(ValueError, words):
                plan().flatten(wrong)
        tensors = plan().unflatten(np.arange(11, dtype=np.float32))
        self.assertEqual(tensors["frozen"].tolist(), [6, 7, 8, 9])
        with self.assertRaises(ValueError):
            tensors["a"][0, 0] = 1
        with self.assertRaisesRegex(ValueError, "12 values"):
            plan().unflatten(np.zeros(12, np.float32))
        self.assertEqual(plan().labels, ["x", "y"])

    def test_a_plan_that_contradicts_itself_is_refused(self):
        with self.assertRaises(ValueError):
            Plan.from_request(request(tensors=TENSORS[::-1]))
        with self.assertRaises(ValueError):
            Plan.from_request(request(tensors=TENSORS[1:2]))
        with self.assertRaises(ValueError):
            ClippedSum(Plan.from_request(request(clipping=None)))


class Known(Trainer):
    """One gradient of ones a patient; `twice` is broken."""

    def patient_gradients(self, tensors, patients):
        for patient in patients:
            if patient == "secret-17":
                raise RuntimeError("the record of secret-17 is broken")
            for _ in range(2 if patient == "twice" else 1):
                yield PatientGradient(np.ones(7, np.float32), 1.0, True)

    def delta(self, tensors, patients, local):
        self.told = local
        return Delta(np.full(7, local.learning_rate, np.float32), 0.5, 0.25)

    def evaluate(self, tensors, limit):
        return Evaluation(limit, 0.5, 0.25, 0.125)


class OverASocket(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "t.sock"
        self.known = Known()
        self.server = Server(self.known, socket=self.path, name="known").start()
        self.channel = grpc.insecure_channel(f"unix:{self.path}")
        service = f"/{consilium_trainer.server.SERVICE}/"
        self.open = self.channel.unary_unary(service + "Open", wire.OpenRequest.encode, wire.OpenReply.decode)
        self.compute = self.channel.stream_stream(service + "Compute", wire.QuestionPart.encode, wire.AnswerPart.decode)

    def tearDown(self):
        self.channel.close()
        self.server.stop()
        self.folder.cleanup()

    def ask(self, patients, values=44, **task):
        question = wire.Question(b"q" * 16, 1, 1, len(patients), values, 1000, **task)
        parts = [wire.QuestionPart(question=question), wire.QuestionPart(patients=wire.Patients(list(patients))),
                 wire.QuestionPart(values=b"\0" * values)]
        return list(self.compute(iter(parts)))

    def refused(self, words, code, call):
        # The server prints what went wrong; a test that expects it keeps the terminal clean.
        kept, sys.stderr = sys.stderr, open(os.devnull, "w")
        try:
            with self.assertRaises(grpc.RpcError) as caught:
                call()
        finally:
            sys.stderr.close()
            sys.stderr = kept
        self.assertEqual(caught.exception.code(), code)
        self.assertRegex(caught.exception.details(), words)

    def test_only_its_user_can_open_the_socket(self):
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode) & 0o077, 0)

    def test_sums_deltas_and_scores(self):
        self.refused("before the plan", grpc.StatusCode.FAILED_PRECONDITION, lambda: self.ask(["p"], sum=wire.SumTask(4)))
        reply = self.open(request())
        self.assertEqual((reply.version, reply.name, reply.plan_digest, len(reply.digest)), (2, "known", b"d" * 32, 32))
        for width in (4, 8):
            head, values = self.ask(["p", "q", "r"], sum=wire.SumTask(width))
            self.assertEqual([t.name for t in head.answer.tensors], ["a", "z"])
            numbers = np.frombuffer(values.values, f"<i{width}")
            # Three gradients of length 2.6, shrunk to 0.97: each coordinate near 0.97 · 64 / √7 · 3.
            np.testing.assert_allclose(numbers, np.full(7, 70.4), atol=3)
        head, values = self.ask(["p", "q"], sum=wire.SumTask(4), resting=["z"])
        self.assertEqual(np.frombuffer(values.values, "<i4")[6], 0)
        head, values = self.ask(["p"], delta=wire.DeltaTask(2, 0.5, 0.1, 0.25), resting=["a"])
        told = self.known.told
        self.assertEqual((told.steps, told.learning_rate, told.sampling_rate), (2, 0.5, 0.1))
        self.assertEqual((told.proximal, told.resting), (0.25, ("a",)))
        self.assertEqual(np.frombuffer(values.values, "<f4").tolist(), [0.5] * 7)
        self.assertEqual(head.answer.delta, wire.Delta(0.5, 0.25))
        (head,) = self.ask([], evaluate=wire.EvaluateTask(9))
        self.assertEqual(head.answer.scores, wire.Scores(9, 0.5, 0.25, 0.125))
        empty, values = self.ask([], sum=wire.SumTask(4))
        self.assertEqual((empty.answer.sum, set(values.values)), (wire.Sum(0, 0), {0}))

    def test_what_is_wrong_is_refused_and_says_nothing_of_a_record(self):
        self.refused("version", grpc.StatusCode.FAILED_PRECONDITION, lambda: self.open(request(version=1)))
        self.open(request())
        late = grpc.StatusCode.FAILED_PRECONDITION
        self.refused("3 gradients for 2", late, lambda: self.ask(["p", "twice"], sum=wire.SumTask(4)))
        self.refused("bytes are not in use", late, lambda: self.ask(["p"], sum=wire.SumTask(5)))
        self.refused("without a task", late, lambda: self.ask(["p"]))
        self.refused("^ValueError$", grpc.StatusCode.INTERNAL, lambda: self.ask(["p"], 40, sum=wire.SumTask(4)))
        self.refused("^RuntimeError$", grpc.StatusCode.INTERNAL, lambda: self.ask(["secret-17"], sum=wire.SumTask(4)))
        self.assertEqual(len(self.ask(["p"], sum=wire.SumTask(4))), 2, "and goes on")

    def test_the_codes_digest_changes_with_the_code(self):
        first = Known().code_digest()
        self.assertEqual(first, Known().code_digest())
        with tempfile.TemporaryDirectory() as folder:
            sys.path.insert(0, folder)
            try:
                Path(folder, "other_trainer.py").write_text("from consilium_trainer import Trainer\nclass T(Trainer):\n    pass\n")
                import other_trainer  # type: ignore[import-not-found]

                before = other_trainer.T().code_digest()
                with open(Path(folder, "other_trainer.py"), "a") as file:
                    file.write("# changed\n")
                self.assertNotEqual(before, other_trainer.T().code_digest())
                self.assertNotEqual(before, first)
            finally:
                sys.path.remove(folder)

    def test_places_that_contradict_each_other_are_refused(self):
        for where in ({}, {"socket": "s", "address": "a:1"}, {"address": "a:1"}, {"socket": "s", "keys": "k"}):
            with self.assertRaises(ValueError):
                Server(Known(), **where)


if __name__ == "__main__":
    unittest.main()
