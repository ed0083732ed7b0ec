"""gguf.py, on a model of one layer that is written here byte by byte: python3 -m unittest discover -s simulations/demo"""
import json
import struct
import tempfile
import unittest
from pathlib import Path

import gguf

HIDDEN, WIDE, HEADS, KEY_HEADS, WIDTH = 32, 64, 4, 2, 8
TOKENS = ["<s>", "</s>", "a", "b"]


def text(value):
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def entry(key, value):
    """A metadata entry; the type follows from the value."""
    if isinstance(value, str):
        return text(key) + struct.pack("<I", 8) + text(value)
    if isinstance(value, float):
        return text(key) + struct.pack("<If", 6, value)
    if isinstance(value, int):
        return text(key) + struct.pack("<II", 4, value)
    strings = all(isinstance(item, str) for item in value)
    items = b"".join(text(item) if strings else struct.pack("<I", item) for item in value)
    return text(key) + struct.pack("<IIQ", 9, 8 if strings else 4, len(value)) + items


METADATA = {
    "general.architecture": "llama", "llama.attention.head_count": HEADS, "llama.attention.head_count_kv": KEY_HEADS,
    "llama.embedding_length": HIDDEN, "llama.feed_forward_length": WIDE, "llama.context_length": 128, "llama.block_count": 1,
    "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.rope.freq_base": 10000.0, "tokenizer.ggml.bos_token_id": 0,
    "tokenizer.ggml.eos_token_id": 1, "tokenizer.ggml.padding_token_id": 1, "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm", "tokenizer.ggml.tokens": TOKENS, "tokenizer.ggml.token_type": [3, 3, 1, 1],
    "tokenizer.ggml.merges": ["a b"],
}


def q4_1(blocks):
    """Blocks of (scale, least, 32 codes)."""
    raw = b""
    for scale, least, codes in blocks:
        raw += struct.pack("<ee", scale, least) + bytes(codes[i] | codes[i + 16] << 4 for i in range(16))
    return raw


def tensors():
    """Name → (shape, kind, bytes)."""
    def single(shape, value):
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        return shape, gguf.F32, struct.pack(f"<{count}f", *(value(i) for i in range(count)))

    found = {
        "token_embd.weight": ((len(TOKENS), HIDDEN), gguf.F16, struct.pack(f"<{len(TOKENS) * HIDDEN}e", *range(len(TOKENS) * HIDDEN))),
        "output_norm.weight": single((HIDDEN,), lambda _: 1.0),
        # A row's number in each of its columns: a permuted row shows.
        "blk.0.attn_q.weight": single((HEADS * WIDTH, HIDDEN), lambda i: float(i // HIDDEN)),
        "blk.0.attn_k.weight": single((KEY_HEADS * WIDTH, HIDDEN), lambda i: float(i // HIDDEN)),
        "blk.0.attn_v.weight": single((KEY_HEADS * WIDTH, HIDDEN), lambda i: float(i // HIDDEN)),
        "blk.0.attn_output.weight": (
            (HIDDEN, HEADS * WIDTH), gguf.Q4_1,
            q4_1([(0.5, -2.0, [(row + i) % 16 for i in range(32)]) for row in range(HIDDEN)])),
        "blk.0.ffn_down.weight": (
            (HIDDEN, WIDE), gguf.Q8_0,
            b"".join(struct.pack("<e32b", 0.25, *range(-16, 16)) for _ in range(HIDDEN * WIDE // 32))),
    }
    for name, shape in (("attn_norm", (HIDDEN,)), ("ffn_norm", (HIDDEN,)), ("ffn_gate", (WIDE, HIDDEN)), ("ffn_up", (WIDE, HIDDEN))):
        found[f"blk.0.{name}.weight"] = single(shape, lambda i: 1.0)
    return found


def write(metadata=METADATA, parts=None, version=3, magic=b"GGUF"):
    parts = tensors() if parts is None else parts
    out = magic + struct.pack("<IQQ", version, len(parts), len(metadata))
    out += b"".join(entry(key, value) for key, value in metadata.items())
    at = 0
    for name, (shape, kind, raw) in parts.items():
        out += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape[::-1], kind, at)
        at += -(-len(raw) // 32) * 32
    out += bytes(-len(out) % 32)
    for _, _, raw in parts.values():
        out += raw + bytes(-len(raw) % 32)
    return out


def weights(folder):
    """Name → (shape, values) of a folder's safetensors file."""
    data = (folder / "model.safetensors").read_bytes()
    length, = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + length])
    found = {}
    for name, part in header.items():
        if name != "__metadata__":
            begin, end = (8 + length + offset for offset in part["data_offsets"])
            assert part["dtype"] == "F16", part
            found[name] = part["shape"], struct.unpack(f"<{(end - begin) // 2}e", data[begin:end])
    return found


class Converted(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.addCleanup(self.scratch.cleanup)

    def convert(self, **changes):
        source, folder = Path(self.scratch.name) / "model.gguf", Path(self.scratch.name) / "model"
        source.write_bytes(write(**changes))
        folder.mkdir(exist_ok=True)
        gguf.convert(source, folder)
        return folder

    def test_a_folder_has_the_model_and_its_words(self):
        folder = self.convert()
        config = json.loads((folder / "config.json").read_text())
        self.assertEqual((config["hidden_size"], config["head_dim"], config["num_key_value_heads"]), (HIDDEN, WIDTH, KEY_HEADS))
        self.assertEqual((config["rms_norm_eps"], config["rope_theta"], config["tie_word_embeddings"]), (1e-5, 10000.0, True))
        words = json.loads((folder / "tokenizer.json").read_text())
        self.assertEqual(words["model"]["vocab"], {token: i for i, token in enumerate(TOKENS)})
        self.assertEqual([token["content"] for token in words["added_tokens"]], ["<s>", "</s>"])

    def test_values_are_what_the_blocks_say(self):
        found = weights(self.convert())
        self.assertEqual(len(found), len(tensors()))
        shape, values = found["model.embed_tokens.weight"]
        self.assertEqual((shape, values), ([len(TOKENS), HIDDEN], tuple(map(float, range(len(TOKENS) * HIDDEN)))))
        _, values = found["model.layers.0.self_attn.o_proj.weight"]
        self.assertEqual(values, tuple(0.5 * ((row + i) % 16) - 2.0 for row in range(HIDDEN) for i in range(32)))
        _, values = found["model.layers.0.mlp.down_proj.weight"]
        self.assertEqual(values, tuple(0.25 * code for code in range(-16, 16)) * (HIDDEN * WIDE // 32))

    def test_rows_that_turn_together_are_put_half_a_head_apart(self):
        found = weights(self.convert())
        for name, heads in (("q_proj", HEADS), ("k_proj", KEY_HEADS)):
            _, values = found[f"model.layers.0.self_attn.{name}.weight"]
            rows = [int(values[row * HIDDEN]) for row in range(heads * WIDTH)]
            expected = [head * WIDTH + pair * 2 + half for head in range(heads) for half in range(2) for pair in range(WIDTH // 2)]
            self.assertEqual(rows, expected)
        _, values = found["model.layers.0.self_attn.v_proj.weight"]
        self.assertEqual([int(values[row * HIDDEN]) for row in range(KEY_HEADS * WIDTH)], list(range(KEY_HEADS * WIDTH)))

    def test_what_is_not_such_a_model_is_refused_by_name(self):
        stray = {**tensors(), "blk.0.attn_q.bias": ((HIDDEN,), gguf.F32, bytes(4 * HIDDEN))}
        unknown = {**tensors(), "blk.0.ffn_up.weight": ((WIDE, HIDDEN), 2, bytes(WIDE * HIDDEN))}
        for said, changes in (
            ("GGUF", {"magic": b"GGML"}), ("GGUF version 1", {"version": 1}), ("blk.0.attn_q.bias", {"parts": stray}),
            ("block type 2", {"parts": unknown}), ("architecture qwen2", {"metadata": {**METADATA, "general.architecture": "qwen2"}}),
            ("rope.scaling", {"metadata": {**METADATA, "llama.rope.scaling.factor": 2.0}}),
            ("tokenizer", {"metadata": {**METADATA, "tokenizer.ggml.pre": "default"}}),
        ):
            with self.subTest(said), self.assertRaisesRegex(gguf.Refused, said):
                self.convert(**changes)


if __name__ == "__main__":
    unittest.main()
