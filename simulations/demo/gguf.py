#!/usr/bin/env python3
"""A Llama model from a GGUF file, written once as a Hugging Face folder: config.json, tokenizer.json, model.safetensors.

    gguf.py MODEL.gguf FOLDER

Quantized blocks (Q4_1, Q8_0) become half precision. Two things differ between the two formats, and both are undone here:
GGUF names tensors by its own scheme, and it stores the rows of the query and key projections permuted, so that the pairs that
rotary embedding turns lie next to each other ("interleaved"); Hugging Face keeps the two halves of a head apart.

Only what SmolLM2 needs: llama architecture, byte-level BPE, no scaling of the rotary embedding. Anything else is refused. Needs
nothing beyond Python's own library; 135 million weights take about half a minute. Block formats: ggml's `ggml-common.h`.
"""
import json
import struct
import sys
from pathlib import Path

F32, F16, Q4_1, Q8_0 = 0, 1, 3, 8
BLOCK = 32
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
CONTROL = 3  # a token that is never part of a text

MODULES = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
           "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
           "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
WHOLE = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
         "output.weight": "lm_head.weight"}


class Refused(Exception):
    """The file is not one that this script converts."""


class Reader:
    """Metadata and tensor directory of a GGUF file."""

    def __init__(self, data):
        self.data, self.at = data, 0
        if data[:4] != b"GGUF":
            raise Refused("does not begin with GGUF")
        self.at = 4
        version, = self.unpack("I")
        if version not in (2, 3):
            raise Refused(f"GGUF version {version}; 2 and 3 are read")
        tensors, entries = self.unpack("QQ")
        self.metadata = {self.string(): self.value(self.unpack("I")[0]) for _ in range(entries)}
        self.tensors = {}
        for _ in range(tensors):
            name = self.string()
            axes = self.unpack("I")[0]
            shape = self.unpack("Q" * axes)[::-1]  # GGUF counts axes from the innermost
            self.tensors[name] = (shape, *self.unpack("IQ"))
        align = self.metadata.get("general.alignment", 32)
        self.begin = (self.at + align - 1) // align * align

    def unpack(self, layout):
        values = struct.unpack_from("<" + layout, self.data, self.at)
        self.at += struct.calcsize("<" + layout)
        return values

    def string(self):
        length, = self.unpack("Q")
        text = bytes(self.data[self.at:self.at + length]).decode("utf-8", "replace")
        self.at += length
        return text

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            inner, count = self.unpack("IQ")
            return [self.value(inner) for _ in range(count)]
        if kind not in SCALARS:
            raise Refused(f"metadata of unknown type {kind}")
        return self.unpack(SCALARS[kind])[0]

    def get(self, key):
        if key not in self.metadata:
            raise Refused(f"metadata `{key}` is missing")
        return self.metadata[key]

    def half(self, name):
        """A tensor's values in half precision, little-endian."""
        shape, kind, offset = self.tensors[name]
        count = 1
        for axis in shape:
            count *= axis
        begin = self.begin + offset
        if kind == F16:
            return bytearray(self.data[begin:begin + 2 * count])
        if kind == F32:
            values = struct.unpack_from(f"<{count}f", self.data, begin)
            return bytearray(struct.pack(f"<{count}e", *values))
        if count % BLOCK:
            raise Refused(f"tensor {name}: {count} values are not whole blocks")
        if kind == Q4_1:
            return q4_1(self.data, begin, count // BLOCK)
        if kind == Q8_0:
            return q8_0(self.data, begin, count // BLOCK)
        raise Refused(f"tensor {name}: block type {kind}; F32, F16, Q4_1 and Q8_0 are read")


# The upper four bits of a byte, as an index that `translate` can use.
UPPER = bytes(b >> 4 for b in range(256))


def q4_1(data, begin, blocks):
    """Scale, least value (half precision each), then 16 bytes: value i in the lower bits of byte i, value i + 16 in the upper."""
    out = bytearray(2 * BLOCK * blocks)
    size, levels, pack = 20, range(16), struct.Struct("<16e").pack
    for block, (scale, least) in enumerate(struct.iter_unpack("<ee16x", data[begin:begin + size * blocks])):
        at, to = begin + size * block + 4, 64 * block
        codes = bytes(data[at:at + 16])
        upper = codes.translate(UPPER)
        table = pack(*[scale * level + least for level in levels])
        # A code's two bytes are looked up apart; sixteen copies make the table ignore the upper bits.
        even, odd = table[0::2] * 16, table[1::2] * 16
        out[to:to + 32:2], out[to + 1:to + 32:2] = codes.translate(even), codes.translate(odd)
        out[to + 32:to + 64:2], out[to + 33:to + 64:2] = upper.translate(even), upper.translate(odd)
    return out


def q8_0(data, begin, blocks):
    """Scale in half precision, then 32 signed bytes."""
    pack, unpack, out = struct.Struct("<32e").pack, struct.Struct("<e32b").unpack_from, bytearray()
    for block in range(blocks):
        scale, *codes = unpack(data, begin + 34 * block)
        out += pack(*[scale * code for code in codes])
    return out


def apart(values, heads, width, columns):
    """Rows (0, 1), (2, 3), … of each head, which rotary embedding pairs in GGUF, become (0, w/2), (1, w/2 + 1), …"""
    row = 2 * columns
    out = bytearray(len(values))
    for head in range(heads):
        for pair in range(width // 2):
            for half in range(2):
                source = (head * width + 2 * pair + half) * row
                target = (head * width + half * width // 2 + pair) * row
                out[target:target + row] = values[source:source + row]
    return out


def config(reader):
    get = lambda key: reader.get("llama." + key)  # noqa: E731
    if reader.get("general.architecture") != "llama":
        raise Refused(f"architecture {reader.get('general.architecture')}; llama is read")
    scaled = [key for key in reader.metadata if key.startswith("llama.rope.scaling")]
    if scaled:
        raise Refused(f"{scaled[0]} is not supported")
    heads, width = get("attention.head_count"), get("embedding_length")
    ids = {part: reader.get(f"tokenizer.ggml.{part}_token_id") for part in ("bos", "eos", "padding")}
    return {
        "architectures": ["LlamaForCausalLM"], "attention_bias": False, "bos_token_id": ids["bos"],
        "eos_token_id": ids["eos"], "head_dim": width // heads, "hidden_act": "silu", "hidden_size": width,
        "intermediate_size": get("feed_forward_length"), "max_position_embeddings": get("context_length"),
        "mlp_bias": False, "model_type": "llama", "num_attention_heads": heads, "num_hidden_layers": get("block_count"),
        "num_key_value_heads": get("attention.head_count_kv"), "pad_token_id": ids["padding"],
        # GGUF keeps single precision: 1e-05 is stored as 9.99999975e-06.
        "rms_norm_eps": float(f"{get('attention.layer_norm_rms_epsilon'):.6g}"), "rope_scaling": None,
        "rope_theta": get("rope.freq_base"), "tie_word_embeddings": "output.weight" not in reader.tensors,
        "torch_dtype": "float16", "vocab_size": len(reader.get("tokenizer.ggml.tokens")),
    }


def tokenizer(reader):
    """Byte-level BPE as `tokenizers` writes it; SmolLM's pre-tokenizer takes digits one by one."""
    kind = reader.get("tokenizer.ggml.model"), reader.get("tokenizer.ggml.pre")
    if kind != ("gpt2", "smollm"):
        raise Refused(f"tokenizer {kind}; gpt2 with the pre-tokenizer smollm is read")
    tokens, types = reader.get("tokenizer.ggml.tokens"), reader.get("tokenizer.ggml.token_type")
    special = [{"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
                "special": True} for i, (token, kind) in enumerate(zip(tokens, types)) if kind == CONTROL]
    bytes_as_text = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, bytes_as_text]},
        "post_processor": None, "decoder": dict(bytes_as_text, add_prefix_space=True),
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {token: i for i, token in enumerate(tokens)}, "merges": reader.get("tokenizer.ggml.merges")},
    }


def named(name):
    """GGUF's name of a tensor → Hugging Face's."""
    if name in WHOLE:
        return WHOLE[name]
    parts = name.split(".")
    if len(parts) == 4 and parts[0] == "blk" and parts[3] == "weight" and parts[2] in MODULES:
        return f"model.layers.{int(parts[1])}.{MODULES[parts[2]]}.weight"
    raise Refused(f"tensor {name} is not part of a plain llama")


def write_weights(reader, described, path):
    heads = {"attn_q": described["num_attention_heads"], "attn_k": described["num_key_value_heads"]}
    order = sorted(reader.tensors, key=named)
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name in order:
        shape, begin = reader.tensors[name][0], end
        end += 2 * shape[0] * (shape[1] if len(shape) == 2 else 1)
        header[named(name)] = {"dtype": "F16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for name in order:
            values, module = reader.half(name), name.split(".")[2] if name.startswith("blk.") else ""
            if module in heads:
                values = apart(values, heads[module], described["head_dim"], reader.tensors[name][0][1])
            out.write(values)


def convert(source, folder):
    """Writes the three files of a Hugging Face folder."""
    reader = Reader(memoryview(Path(source).read_bytes()))
    described = config(reader)
    (folder / "config.json").write_text(json.dumps(described, indent=2) + "\n")
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer(reader), ensure_ascii=False) + "\n", encoding="utf-8")
    write_weights(reader, described, folder / "model.safetensors")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    out = Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    try:
        convert(sys.argv[1], out)
    except Refused as refused:
        sys.exit(f"{sys.argv[1]}: {refused}")
