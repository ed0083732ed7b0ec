"""The protobuf wire format, as far as trainer.proto needs it: no protoc, and no protobuf run-time whose version could clash.

Scalars, strings, bytes, messages and lists of them; unknown fields are passed over, as protobuf asks. What does not parse is
a `ValueError`, never a crash: lengths are checked before they are believed. Reference: "Encoding", protobuf.dev.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Callable, ClassVar, Iterator, Optional, Type, TypeVar

_M = TypeVar("_M", bound="Message")
_VARINTS = ("uint32", "uint64", "sint64", "bool")


@dataclass(frozen=True)
class Field:
    """One field of a message, as the .proto file declares it."""

    number: int
    name: str
    kind: str
    message: Optional[Callable[[], Type["Message"]]] = None
    repeated: bool = False

    @property
    def wire_type(self) -> int:
        """0: varint, 1: eight bytes, 2: a length and so many bytes."""
        return 0 if self.kind in _VARINTS else 1 if self.kind == "double" else 2


class Message:
    """Base of the generated messages."""

    FIELDS: ClassVar[tuple[Field, ...]] = ()

    def encode(self) -> bytes:
        """The message's bytes."""
        out: list[bytes] = []
        for field in self.FIELDS:
            value = getattr(self, field.name)
            if field.repeated:
                _encode_list(field, value, out)
            elif value is not None and (field.kind == "message" or value != type(value)()):
                _encode_one(field, value, out)
        return b"".join(out)

    @classmethod
    def decode(cls: Type[_M], data: bytes) -> _M:
        """The message of these bytes; `ValueError` if they are none."""
        message = cls()
        known = {field.number: field for field in cls.FIELDS}
        for number, wire_type, value in _split(memoryview(data)):
            field = known.get(number)
            if field is None:
                continue
            if field.repeated and wire_type == 2 and field.wire_type != 2:
                getattr(message, field.name).extend(_unpack(field, value))
            elif wire_type != field.wire_type:
                raise ValueError(f"{cls.__name__}.{field.name} has wire type {wire_type}, expected {field.wire_type}")
            elif field.repeated:
                getattr(message, field.name).append(_decode_one(field, value))
            else:
                setattr(message, field.name, _decode_one(field, value))
        return message


def _varint(value: int) -> bytes:
    if not 0 <= value < 1 << 64:
        raise ValueError(f"{value} does not fit 64 bits")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: Field, value: int) -> int:
    """A number as the varint that stands for it: zigzag for signed ones, so that -1 is as short as 1."""
    return int(value) if field.kind != "sint64" else int(value) << 1 if value >= 0 else (-int(value) << 1) - 1


def _encode_list(field: Field, values: list[Any], out: list[bytes]) -> None:
    if field.wire_type == 2:
        for value in values:
            _encode_one(field, value, out)
    elif values:
        packed = b"".join(_varint(_number(field, value)) for value in values)
        out += [_varint(field.number << 3 | 2), _varint(len(packed)), packed]


def _encode_one(field: Field, value: Any, out: list[bytes]) -> None:
    out.append(_varint(field.number << 3 | field.wire_type))
    if field.wire_type == 0:
        out.append(_varint(_number(field, value)))
    elif field.wire_type == 1:
        out.append(struct.pack("<d", value))
    else:
        body = value.encode() if isinstance(value, (Message, str)) else bytes(value)
        out += [_varint(len(body)), body]


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for count in range(10):
        if at + count >= len(data):
            raise ValueError("a number is cut off")
        byte = data[at + count]
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            if value >= 1 << 64:
                break
            return value, at + count + 1
    raise ValueError("a number has more than 64 bits")


def _split(data: memoryview) -> Iterator[tuple[int, int, Any]]:
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == 0:
            value, at = _read_varint(data, at)
            yield number, wire_type, value
            continue
        if wire_type == 2:
            length, at = _read_varint(data, at)
        elif wire_type in (1, 5):
            length = 8 if wire_type == 1 else 4
        else:
            raise ValueError(f"wire type {wire_type} is not in use")
        if length > len(data) - at:
            raise ValueError(f"a field claims {length} bytes, {len(data) - at} are left")
        yield number, wire_type, data[at : at + length]
        at += length


def _unpack(field: Field, data: memoryview) -> list[Any]:
    values, at = [], 0
    while at < len(data):
        value, at = _read_varint(data, at)
        values.append(_decode_one(field, value))
    return values


def _decode_one(field: Field, value: Any) -> Any:
    if field.kind == "sint64":
        return value >> 1 if value & 1 == 0 else -(value >> 1) - 1
    if field.kind == "bool":
        return value != 0
    if field.wire_type == 0:
        return value
    if field.kind == "double":
        return struct.unpack("<d", value)[0]
    if field.kind == "string":
        return str(value, "utf-8")
    if field.message is not None:
        return field.message().decode(bytes(value))
    return bytes(value)
