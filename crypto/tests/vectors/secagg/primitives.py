"""The primitives of the suite in plain Python: slow, not constant-time, and for checking vectors only.

SHA-256 and HMAC come from the standard library. Everything else is written from its standard: Ed25519 (RFC 8032),
ristretto255 (RFC 9496), ChaCha20-Poly1305 (RFC 8439), AES-256 (FIPS 197), HKDF (RFC 5869).
"""

import hashlib
import hmac

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)


def sha256(data):
    return hashlib.sha256(data).digest()


def hkdf(key, info, length):
    """HKDF-SHA-256 with an empty salt."""
    extracted = hmac.digest(b"", key, "sha256")
    out, block, counter = b"", b"", 1
    while len(out) < length:
        block = hmac.digest(extracted, block + info + bytes([counter]), "sha256")
        out, counter = out + block, counter + 1
    return out[:length]


# The curve that Ed25519 and ristretto255 share: -x^2 + y^2 = 1 + d x^2 y^2, points as (X, Y, Z, T).

IDENTITY = (0, 1, 1, 0)


def add(p, q):
    (x1, y1, z1, t1), (x2, y2, z2, t2) = p, q
    a, b = (y1 - x1) * (y2 - x2) % P, (y1 + x1) * (y2 + x2) % P
    c, d = 2 * t1 * t2 * D % P, 2 * z1 * z2 % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def multiply(scalar, point):
    result = IDENTITY
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point, scalar = add(point, point), scalar >> 1
    return result


def _recover_x(y, sign):
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * SQRT_M1 % P
    if (x * x - square) % P or (x == 0 and sign):
        raise ValueError("not a point")
    return P - x if x & 1 != sign else x


_BASE_Y = 4 * pow(5, -1, P) % P
_BASE_X = _recover_x(_BASE_Y, 0)
BASE = (_BASE_X, _BASE_Y, 1, _BASE_X * _BASE_Y % P)

# Multiples of the base by powers of two: most multiplications here are of the base.
_POWERS = [BASE]
for _ in range(255):
    _POWERS.append(add(_POWERS[-1], _POWERS[-1]))


def multiply_base(scalar):
    result = IDENTITY
    for bit in range(scalar.bit_length()):
        if scalar >> bit & 1:
            result = add(result, _POWERS[bit])
    return result


# Ed25519.


def _compress(point):
    x, y, z, _ = point
    inverse = pow(z, -1, P)
    x, y = x * inverse % P, y * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _expand(seed):
    digest = hashlib.sha512(seed).digest()
    scalar = int.from_bytes(digest[:32], "little") & (1 << 254) - 8 | 1 << 254
    return scalar, digest[32:]


def verifying_key(seed):
    return _compress(multiply_base(_expand(seed)[0]))


def sign(seed, message):
    scalar, prefix = _expand(seed)
    public = _compress(multiply_base(scalar))
    nonce = int.from_bytes(hashlib.sha512(prefix + message).digest(), "little") % ORDER
    point = _compress(multiply_base(nonce))
    challenge = int.from_bytes(hashlib.sha512(point + public + message).digest(), "little") % ORDER
    return point + ((nonce + challenge * scalar) % ORDER).to_bytes(32, "little")


# ristretto255.


def _sqrt_ratio(u, v):
    """Whether u/v is a square, and a root of u/v or of SQRT_M1 times it: the nonnegative one."""
    root = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    check = v * root * root % P
    correct, flipped, flipped_i = check == u % P, check == -u % P, check == -u * SQRT_M1 % P
    if flipped or flipped_i:
        root = root * SQRT_M1 % P
    return correct or flipped, min(root, P - root, key=lambda value: value & 1)


_INV_SQRT_A_MINUS_D = _sqrt_ratio(1, -1 - D)[1]


def decode(data):
    """A point from its canonical 32 bytes; ValueError for anything else."""
    s = int.from_bytes(data, "little")
    if len(data) != 32 or s >= P or s & 1:
        raise ValueError("not canonical")
    u1, u2 = (1 - s * s) % P, (1 + s * s) % P
    v = (-D * u1 * u1 - u2 * u2) % P
    square, inverse = _sqrt_ratio(1, v * u2 * u2)
    den_x = inverse * u2 % P
    den_y = inverse * den_x * v % P
    x = 2 * s * den_x % P
    x = P - x if x & 1 else x
    y = u1 * den_y % P
    t = x * y % P
    if not square or t & 1 or y == 0:
        raise ValueError("not a point")
    return (x, y, 1, t)


def encode(point):
    x0, y0, z0, t0 = point
    u1, u2 = (z0 + y0) * (z0 - y0) % P, x0 * y0 % P
    inverse = _sqrt_ratio(1, u1 * u2 * u2)[1]
    den1, den2 = inverse * u1 % P, inverse * u2 % P
    z_inverse = den1 * den2 * t0 % P
    if t0 * z_inverse % P & 1:
        x, y, den = y0 * SQRT_M1 % P, x0 * SQRT_M1 % P, den1 * _INV_SQRT_A_MINUS_D % P
    else:
        x, y, den = x0, y0, den2
    if x * z_inverse % P & 1:
        y = -y % P
    s = den * (z0 - y) % P
    return min(s, P - s, key=lambda value: value & 1).to_bytes(32, "little")


# ChaCha20-Poly1305.


def _quarter(state, a, b, c, d):
    for left, right, by, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        state[left] = state[left] + state[right] & 0xFFFFFFFF
        word = state[by] ^ state[left]
        state[by] = (word << turn | word >> 32 - turn) & 0xFFFFFFFF


def _chacha_block(key, counter, nonce):
    start = [0x61707865, 0x3320646E, 0x79622D32, 0x6B206574]
    start += [int.from_bytes(key[i : i + 4], "little") for i in range(0, 32, 4)]
    start += [counter] + [int.from_bytes(nonce[i : i + 4], "little") for i in range(0, 12, 4)]
    state = list(start)
    for _ in range(10):
        for i in range(4):
            _quarter(state, i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            _quarter(state, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return b"".join((a + b & 0xFFFFFFFF).to_bytes(4, "little") for a, b in zip(state, start))


def seal(key, plaintext, associated, nonce=bytes(12)):
    """ChaCha20-Poly1305; the protocol's nonce is zero."""
    stream = b"".join(_chacha_block(key, 1 + i, nonce) for i in range(-(-len(plaintext) // 64)))
    cipher = bytes(a ^ b for a, b in zip(plaintext, stream))
    one_time = _chacha_block(key, 0, nonce)
    r = int.from_bytes(one_time[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    data = b""
    for part in (associated, cipher):
        data += part + bytes(-len(part) % 16)
    data += len(associated).to_bytes(8, "little") + len(cipher).to_bytes(8, "little")
    tag = 0
    for i in range(0, len(data), 16):
        tag = (tag + int.from_bytes(data[i : i + 16] + b"\1", "little")) * r % (2**130 - 5)
    tag = tag + int.from_bytes(one_time[16:], "little") & 2**128 - 1
    return cipher + tag.to_bytes(16, "little")


# AES-256.


def _double(byte):
    return (byte << 1) ^ (0x11B if byte & 0x80 else 0)


def _sbox():
    box, p, q = [0] * 256, 1, 1
    while True:
        p = p ^ _double(p)
        for shift in (1, 2, 4):
            q ^= q << shift & 0xFF
        q ^= 0x09 if q & 0x80 else 0
        turned = q
        for turn in (1, 2, 3, 4):
            turned ^= (q << turn | q >> 8 - turn) & 0xFF
        box[p] = turned ^ 0x63
        if p == 1:
            break
    box[0] = 0x63
    return box


SBOX = _sbox()


def expand_aes_key(key):
    """The fifteen round keys of an AES-256 key."""
    words, constant = [key[i : i + 4] for i in range(0, 32, 4)], 1
    for i in range(8, 60):
        word = words[-1]
        if i % 8 == 0:
            word = bytes(SBOX[b] for b in word[1:] + word[:1])
            word, constant = bytes([word[0] ^ constant]) + word[1:], _double(constant)
        elif i % 8 == 4:
            word = bytes(SBOX[b] for b in word)
        words.append(bytes(a ^ b for a, b in zip(words[i - 8], word)))
    return [b"".join(words[i : i + 4]) for i in range(0, 60, 4)]


def encrypt_block(round_keys, block):
    state = [a ^ b for a, b in zip(block, round_keys[0])]
    for number, key in enumerate(round_keys[1:], 1):
        state = [SBOX[state[(i + 4 * (i % 4)) % 16]] for i in range(16)]
        if number < 14:
            mixed = []
            for column in range(0, 16, 4):
                a = state[column : column + 4]
                total = a[0] ^ a[1] ^ a[2] ^ a[3]
                mixed += [a[i] ^ total ^ _double(a[i] ^ a[(i + 1) % 4]) for i in range(4)]
            state = mixed
        state = [a ^ b for a, b in zip(state, key)]
    return bytes(state)


def self_test():
    """Known answers, so that a wrong primitive is not taken for a wrong vector."""
    h = bytes.fromhex
    assert hkdf(h("0b" * 22), b"", 42).hex() == (
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    ), "HKDF: RFC 5869, A.3"
    seed = h("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    assert sign(seed, b"").hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24"
        "655141438e7a100b"
    ), "Ed25519: RFC 8032, 7.1, test 1"
    two = "6a493210f7499cd17fecb510ae0cea23a110e8d5b901f8acadd3095c73a3b919"
    assert encode(multiply_base(2)).hex() == two and encode(decode(h(two))).hex() == two, "ristretto255: RFC 9496, A.1"
    assert seal(
        bytes(range(0x80, 0xA0)),
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.",
        h("50515253c0c1c2c3c4c5c6c7"),
        h("070000004041424344454647"),
    ).hex().endswith("1ae10b594f09e26a7e902ecbd0600691"), "ChaCha20-Poly1305: RFC 8439, 2.8.2"
    key = expand_aes_key(bytes(range(32)))
    assert encrypt_block(key, h("00112233445566778899aabbccddeeff")).hex() == "8ea2b7ca516745bfeafc49904b496089", (
        "AES-256: FIPS 197, C.3"
    )
