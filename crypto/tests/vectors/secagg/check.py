"""Computes every transcript in this folder again from its inputs and compares it value by value.

Standard library only: `python3 check.py`. It shares no code with the product; what it knows it knows from the manual,
crypto/docs/secure-aggregation.md.
"""

import json
import math
import pathlib
import sys

from primitives import (
    BASE,
    ORDER,
    decode,
    encode,
    encrypt_block,
    expand_aes_key,
    hkdf,
    multiply,
    multiply_base,
    seal,
    self_test,
    sha256,
    sign,
    verifying_key,
)

SUITE = "consilium/1 ristretto255 ed25519-strict chacha20poly1305 aes256ctr hkdf-sha256"
CHUNK = 65536
SHOWN = 64
KINDS = ("mask", "seed")


def h(label, *items):
    """H(label; items): every item after its length."""
    return sha256(hashed(label, *items))


def hashed(label, *items):
    return b"".join(len(item).to_bytes(8, "little") + item for item in (label.encode(), *items))


def u16(value):
    return value.to_bytes(2, "little")


def u32(value):
    return value.to_bytes(4, "little")


def u64(value):
    return value.to_bytes(8, "little")


def sized(content):
    return u32(len(content)) + content


def positions(members):
    return u32(len(members)) + b"".join(map(u16, members))


def hexes(values):
    return [value.hex() for value in values]


def scalar_bytes(scalar):
    return scalar.to_bytes(32, "little")


class Pair:
    """A secret scalar, from 64 random bytes, and its point."""

    def __init__(self, random):
        self.secret = int.from_bytes(random, "little") % ORDER
        self.point = multiply_base(self.secret)
        self.public = encode(self.point)
        self.agreed = {}

    def agree(self, peer):
        if peer.public not in self.agreed:
            # Both sides get the same; compute it once.
            self.agreed[peer.public] = encode(multiply(self.secret, decode(peer.public)))
            peer.agreed[self.public] = self.agreed[peer.public]
        return self.agreed[peer.public]


class Tree:
    def __init__(self, leaves):
        self.levels = [leaves]
        while len(self.levels[-1]) > 1:
            below = self.levels[-1]
            pairs = [below[i : i + 2] for i in range(0, len(below), 2)]
            self.levels.append([h("consilium/1/merkle-node", *pair) if len(pair) == 2 else pair[0] for pair in pairs])
        self.root = h("consilium/1/merkle-root", u64(len(leaves)), self.levels[-1][0])

    def path(self, index):
        siblings = []
        for level in self.levels:
            siblings += level[index ^ 1 : (index ^ 1) + 1]
            index //= 2
        return siblings


class Mask:
    """A mask's elements, computed where they are asked for: long vectors are looked at only at their ends."""

    def __init__(self, seed):
        self.keys = expand_aes_key(seed[:32])
        self.first = int.from_bytes(seed[32:], "big")

    def stream(self, block):
        return encrypt_block(self.keys, ((self.first + block) % 2**128).to_bytes(16, "big"))

    def element(self, j):
        start = j % 4 * 4
        return int.from_bytes(self.stream(j // 4)[start : start + 4], "little")


class Transcript:
    def __init__(self, vector):
        self.vector, inputs = vector, vector["inputs"]
        self.inputs, self.members = inputs, inputs["members"]
        self.n, self.bits, self.dimension = inputs["n"], inputs["ring_bits"], inputs["dimension"]
        self.quorum = (self.n + inputs["t_c"]) // 2 + 1
        self.advertised, self.dealers, self.survivors, self.voters, self.answerers = inputs["speaks"]
        self.ids = [member["id"].encode() for member in self.members]
        self.seeds = [bytes.fromhex(member["signing_seed"]) for member in self.members]
        names = ("sealing_key", "masking_key", "self_mask_seed")
        self.pairs = [[Pair(bytes.fromhex(member["random"][name])) for name in names] for member in self.members]
        self.shown = range(self.dimension)
        if self.dimension > SHOWN:
            self.shown = [*range(8), *range(self.dimension - 8, self.dimension)]

    def whole(self):
        return {
            "format": "consilium/1 secure aggregation, transcript",
            "name": self.vector["name"],
            "about": self.vector["about"],
            "inputs": self.inputs,
            "context": self.context(),
            "step_1": self.advertise(),
            "step_2": self.share(),
            "step_3": self.input(),
            "step_4": self.vote(),
            "step_5": self.unmask(),
        }

    def signed(self, member, what, body):
        digest = h(f"consilium/1/{what}", self.ctx, self.ids[member], sha256(body))
        return digest.hex(), body + sign(self.seeds[member], digest)

    def context(self):
        given = self.inputs
        digest = {name: bytes.fromhex(given[f"{name}_digest"]) for name in ("roster", "plan", "adapter", "optimizer")}
        front = [SUITE.encode(), digest["roster"], digest["plan"], u64(given["round"]), u64(given["attempt"]), u64(self.n)]
        text = hashed("consilium/1/context", *front, *self.ids, digest["adapter"], digest["optimizer"])
        self.ctx = sha256(text)
        return {
            "suite": SUITE,
            "hashed_bytes": text.hex(),
            "ctx": self.ctx.hex(),
            "verifying_keys": hexes(map(verifying_key, self.seeds)),
            "quorum": self.quorum,
        }

    def advertise(self):
        adverts, bodies = [], b""
        for i in self.advertised:
            member, pairs = self.members[i], self.pairs[i]
            body = bytes([1, 1, 0]) + u16(i) + b"".join(pair.public for pair in pairs)
            body += u64(member["ledger_length"]) + bytes.fromhex(member["salted_ledger_head"])
            digest, body = self.signed(i, "advert", body)
            bodies += body
            keys = [{"secret": scalar_bytes(pair.secret).hex(), "public": pair.public.hex()} for pair in pairs]
            adverts.append({
                "position": i,
                "sealing_key": keys[0],
                "masking_key": keys[1],
                "self_mask_seed": keys[2],
                "signed_digest": digest,
                "body": body.hex(),
            })
        self.step1 = h("consilium/1/step-1", self.ctx, bodies)
        self.advert_delivery = bytes([1, 2, 1]) + u32(len(adverts)) + bodies
        return {"adverts": adverts, "step_1_hash": self.step1.hex(), "delivery": self.advert_delivery.hex()}

    def share(self):
        deals, headers, boxes, trees = [], b"", {}, {}
        self.shares, self.salts = {}, {}
        for dealer in self.dealers:
            polynomials = self.polynomials(dealer)
            to, leaves, rest = [], [], b""
            for recipient in range(self.n):
                if recipient not in self.advertised:
                    leaves.append(h("consilium/1/deal/leaf"))
                    continue
                value, entry, leaf = self.deal_to(dealer, recipient, polynomials)
                to.append(value)
                leaves.append(leaf)
                rest += entry
                boxes[dealer, recipient] = entry
            trees[dealer] = Tree(leaves)
            header = bytes([1, 2, 0]) + u16(dealer) + self.step1 + trees[dealer].root
            digest, header = self.signed(dealer, "deal", header)
            headers += header
            deals.append({
                "position": dealer,
                "masking_key_polynomial": hexes(map(scalar_bytes, polynomials[0])),
                "self_mask_seed_polynomial": hexes(map(scalar_bytes, polynomials[1])),
                "to": to,
                "leaves": hexes(leaves),
                "root": trees[dealer].root.hex(),
                "signed_digest": digest,
                "header": header.hex(),
                "body_length": len(header + rest),
                "body_sha256": sha256(header + rest).hex(),
            })
        self.step2 = h("consilium/1/step-2", self.step1, headers)
        self.deal_front = bytes([1, 3, 1]) + u32(len(self.dealers)) + headers
        deliveries = []
        for recipient in sorted({*self.survivors, *self.answerers}):
            delivery, paths = self.deal_front, {}
            for dealer in self.dealers:
                if dealer != recipient:
                    path = trees[dealer].path(recipient)
                    delivery += boxes[dealer, recipient] + b"".join(path)
                    paths[str(dealer)] = hexes(path)
            deliveries.append({
                "to": recipient,
                "paths": paths,
                "delivery_length": len(delivery),
                "delivery_sha256": sha256(delivery).hex(),
            })
        return {"deals": deals, "step_2_hash": self.step2.hex(), "deliveries": deliveries}

    def polynomials(self, dealer):
        """Constant terms first: the masking key's and the self-mask seed's."""
        random = self.members[dealer]["random"]
        drawn = [random["masking_key_coefficients"], random["self_mask_seed_coefficients"]]
        both = []
        for pair, coefficients in zip(self.pairs[dealer][1:], drawn):
            scalars = [int.from_bytes(bytes.fromhex(draw), "little") % ORDER for draw in coefficients]
            both.append([pair.secret, *scalars])
        return both

    def deal_to(self, dealer, recipient, polynomials):
        salt = bytes.fromhex(self.members[dealer]["random"]["salts"][recipient])
        names = self.ids[dealer], self.ids[recipient]
        x = recipient + 1
        shares = [sum(a * math.comb(x, k) for k, a in enumerate(terms)) % ORDER for terms in polynomials]
        shares = [scalar_bytes(share) for share in shares]
        salts = [hkdf(salt, h(f"consilium/1/salt-{kind}"), 32) for kind in KINDS]
        commitments = [
            h(f"consilium/1/open-{kind}", self.ctx, *names, shares[k], salts[k]) for k, kind in enumerate(KINDS)
        ]
        value = {
            "position": recipient,
            "share_of_masking_key": shares[0].hex(),
            "share_of_self_mask_seed": shares[1].hex(),
            "salt": salt.hex(),
            "salt_mask": salts[0].hex(),
            "salt_seed": salts[1].hex(),
            "commitment_mask": commitments[0].hex(),
            "commitment_seed": commitments[1].hex(),
        }
        sealed = b""
        if dealer != recipient:
            own, peer = self.pairs[dealer][0], self.pairs[recipient][0]
            shared = own.agree(peer)
            info = h("consilium/1/seal", self.ctx, self.step1, *names, own.public, peer.public)
            key = hkdf(shared, info, 32)
            associated = self.ctx + self.step1 + b"".join(map(sized, names))
            plaintext = shares[0] + shares[1] + salt
            sealed = seal(key, plaintext, associated)
            value |= {
                "shared_secret": shared.hex(),
                "hkdf_info": info.hex(),
                "sealing_key": key.hex(),
                "associated_data": associated.hex(),
                "plaintext": plaintext.hex(),
                "sealed": sealed.hex(),
            }
        self.shares[dealer, recipient], self.salts[dealer, recipient] = shares, salts
        leaf = h("consilium/1/deal/leaf", sha256(sealed), *commitments)
        return value, sealed + b"".join(commitments), leaf

    def self_mask(self, member):
        info = h("consilium/1/self-mask", self.ctx, self.step2, self.ids[member])
        key = scalar_bytes(self.pairs[member][2].secret)
        return self.mask(key, info, {"kind": "self", "sign": "+"})

    def pair_mask(self, member, peer):
        low, high = sorted((member, peer))
        publics = self.pairs[low][1].public, self.pairs[high][1].public
        info = h("consilium/1/pair-mask", self.ctx, self.step2, self.ids[low], self.ids[high], *publics)
        key = self.pairs[member][1].agree(self.pairs[peer][1])
        return self.mask(key, info, {"kind": "pair", "with": peer, "sign": "+" if member < peer else "-"})

    def mask(self, key, info, value):
        seed = hkdf(key, info, 48)
        return Mask(seed), value | {"hkdf_key": key.hex(), "hkdf_info": info.hex(), "seed": seed.hex()}

    def masks(self, member):
        return [self.self_mask(member)] + [self.pair_mask(member, peer) for peer in self.dealers if peer != member]

    def update(self, member):
        given = self.members[member]["update"]
        if isinstance(given, list):
            return given
        return [(given["start"] + j * given["step"]) % 2**self.bits for j in range(self.dimension)]

    def masked(self, member, masks):
        """The masked elements that are shown, by index."""
        update = self.update(member)
        masked = {}
        for j in self.shown:
            signed = ((1 if value["sign"] == "+" else -1) * mask.element(j) for mask, value in masks)
            masked[j] = (update[j] + sum(signed)) % 2**self.bits
        return masked

    def elements(self, vector, given):
        """A short vector whole; of a long one its ends, and the digest as it is given if only the ends are known."""
        if self.dimension <= SHOWN:
            return [vector[j] for j in self.shown]
        ends = [vector[j] for j in self.shown]
        digest = given["sha256_of_u32_le"]
        if len(vector) == self.dimension:
            digest = sha256(b"".join(map(u32, vector))).hex()
        return {"first": ends[:8], "last": ends[8:], "sha256_of_u32_le": digest}

    def input(self):
        members, headers = [], b""
        self.masked_vectors = {}
        for place, i in enumerate(self.dealers):
            masks = self.masks(i)
            starts = [value | {"keystream_start": b"".join(map(mask.stream, range(3))).hex()} for mask, value in masks]
            shown = {"position": i, "masks": starts}
            if i in self.survivors:
                given = self.vector["step_3"]["members"][place]
                self.masked_vectors[i] = self.masked(i, masks)
                value, header = self.input_of(i, given)
                shown |= value
                headers += header
            members.append(shown)
        self.headers = h("consilium/1/headers", self.step2, headers)
        self.header_delivery = bytes([1, 4, 1]) + u32(len(self.survivors)) + headers
        return {
            "members": members,
            "survivors": self.survivors,
            "headers_hash": self.headers.hex(),
            "delivery": self.header_delivery.hex(),
        }

    def input_of(self, i, given):
        masked = self.masked_vectors[i]
        counts = [min(CHUNK, self.dimension - start) for start in range(0, self.dimension, CHUNK)]
        lengths = [-(-count * self.bits // 8) for count in counts]
        value = {
            "update": self.elements(self.update(i), given["update"]),
            "masked": self.elements(masked, given["masked"]),
            "chunk_lengths": lengths,
        }
        if self.dimension <= SHOWN:
            packed = sum(masked[j] << j * self.bits for j in self.shown).to_bytes(lengths[0], "little")
            value["chunks"] = [packed.hex()]
            digests = [sha256(packed)]
        else:
            # A long vector's chunks are known by their digests, except the last, which is short.
            digests = [bytes.fromhex(digest) for digest in given["chunk_digests"]]
            last = [masked[j] for j in range(self.dimension - counts[-1], self.dimension)]
            packed = sum(element << j * self.bits for j, element in enumerate(last))
            digests[-1] = sha256(packed.to_bytes(lengths[-1], "little"))
        leaves = [h("consilium/1/chunks/leaf", digest) for digest in digests]
        root = Tree(leaves).root
        header = bytes([1, 3, 0]) + u16(i) + self.step2 + root + u64(sum(lengths))
        digest, header = self.signed(i, "input", header)
        return value | {
            "chunk_digests": hexes(digests),
            "chunk_leaves": hexes(leaves),
            "chunk_root": root.hex(),
            "signed_digest": digest,
            "body": (header + b"".join(digests)).hex(),
        }, header

    def vote(self):
        ballot = bytes([1, 4, 0]) + self.step1 + self.step2 + self.headers + positions(self.survivors)
        votes, signatures = [], b""
        for i in self.voters:
            digest, body = self.signed(i, "vote", ballot)
            signatures += u16(i) + body[-64:]
            votes.append({"position": i, "signed_digest": digest, "body": body.hex()})
        self.vote_delivery = bytes([1, 5, 1]) + self.headers + positions(self.survivors) + u32(len(votes)) + signatures
        return {"ballot": ballot.hex(), "votes": votes, "delivery": self.vote_delivery.hex()}

    def unmask(self):
        answers = [self.answer(i) for i in self.answerers]
        used = self.answerers[: self.quorum]
        xs = [i + 1 for i in used]
        weights = []
        for x in xs:
            weight = 1
            for other in xs:
                if other != x:
                    weight = weight * other * pow(other - x, -1, ORDER) % ORDER
            weights.append(weight)
        secrets, secret_bytes, left = [], b"", []
        for dealer in self.dealers:
            kind = int(dealer in self.survivors)
            shares = [int.from_bytes(self.shares[dealer, i][kind], "little") for i in used]
            secret = sum(weight * share for weight, share in zip(weights, shares)) % ORDER
            public = self.pairs[dealer][1 + kind].public
            assert encode(multiply(secret, BASE)) == public, f"{dealer}'s secret does not fit its point"
            secret_bytes += scalar_bytes(secret)
            secrets.append({"dealer": dealer, "kind": KINDS[kind], "secret": scalar_bytes(secret).hex()})
            if kind:
                left.append((dealer, *self.self_mask(dealer)))
            else:
                left += [(survivor, *self.pair_mask(survivor, dealer)) for survivor in self.survivors]
        given = self.vector["step_5"]
        masked_sum = {j: sum(vector[j] for vector in self.masked_vectors.values()) % 2**self.bits for j in self.shown}
        unmasked = {}
        for j in self.shown:
            masks = sum((1 if value["sign"] == "+" else -1) * mask.element(j) for _, mask, value in left)
            unmasked[j] = (masked_sum[j] - masks) % 2**self.bits
        updates = [self.update(i) for i in self.survivors]
        plain = [sum(column) % 2**self.bits for column in zip(*updates)]
        assert all(plain[j] == unmasked[j] for j in self.shown), "the masks do not come off"
        parts = (self.advert_delivery, self.deal_front, self.header_delivery, self.vote_delivery)
        return {
            "answers": answers,
            "reconstructed_from": used,
            "lagrange_weights": hexes(map(scalar_bytes, weights)),
            "secrets": secrets,
            "masks_in_the_sum": [value | {"of": of} for of, _, value in left],
            "masked_sum": self.elements(masked_sum, given["masked_sum"]),
            "sum": self.elements(plain, given["sum"]),
            "record": (b"\1" + self.ctx + b"".join(map(sized, parts)) + secret_bytes).hex(),
        }

    def answer(self, i):
        body, released = bytes([1, 5, 0]) + u16(i) + self.headers, []
        for dealer in self.dealers:
            kind = int(dealer in self.survivors)
            share, salt = self.shares[dealer, i][kind], self.salts[dealer, i][kind]
            body += share + salt
            released.append({"dealer": dealer, "kind": KINDS[kind], "share": share.hex(), "salt": salt.hex()})
        digest, body = self.signed(i, "answer", body)
        return {"position": i, "released": released, "signed_digest": digest, "body": body.hex()}


def compare(at, found, frozen):
    """How many values are the same; stops at the first that is not."""
    if isinstance(found, dict) and isinstance(frozen, dict):
        assert found.keys() == frozen.keys(), f"{at}: {sorted(found.keys() ^ frozen.keys())}"
        return sum(compare(f"{at}.{key}", found[key], frozen[key]) for key in found)
    if isinstance(found, list) and isinstance(frozen, list) and len(found) == len(frozen):
        return sum(compare(f"{at}[{i}]", *pair) for i, pair in enumerate(zip(found, frozen)))
    assert found == frozen, f"{at}: computed {found}, the vector says {frozen}"
    return 1


def main():
    self_test()
    folder = pathlib.Path(__file__).parent
    transcripts = values = 0
    for path in sorted(folder.glob("n*.json")):
        vector = json.loads(path.read_text())
        values += compare(path.stem, Transcript(vector).whole(), vector)
        transcripts += 1
    print(f"{transcripts} transcripts, {values} values, all the same")
    return 0 if transcripts else "no transcripts beside this script"


if __name__ == "__main__":
    sys.exit(main())
