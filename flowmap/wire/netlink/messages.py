"""Decodes and encodes netlink framing: messages, attributes, errors and requests (linux/netlink.h, RFC 3549).

Headers are in host byte order. The contents of attributes belong to the protocol above.
"""

from __future__ import annotations

import builtins
import struct
import sys
from collections.abc import Iterator
from enum import IntEnum, IntFlag
from typing import NamedTuple

from flowmap.errors import DecodeError

HEADER = struct.Struct("=IHHII")
"""struct nlmsghdr: length (with header), type, flags, sequence, port."""

_ATTRIBUTE = struct.Struct("=HH")
_STATUS = struct.Struct("=i")
_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER


class Control(IntEnum):
    """Message types of netlink itself, below NLMSG_MIN_TYPE."""

    NOOP = 1
    ERROR = 2
    DONE = 3
    OVERRUN = 4


MIN_TYPE = 0x10
"""The first message type of the protocol above."""


class MessageFlag(IntFlag):
    """NLM_F_*. Values from 0x100 on depend on the message: request to read, request to write or event, error."""

    REQUEST = 0x1
    MULTI = 0x2
    ACK = 0x4
    DUMP_INTR = 0x10  # the table was changed during the dump: entries may be missing
    DUMP = 0x300
    EXCL = 0x200
    CREATE = 0x400
    CAPPED = 0x100  # in errors, since 4.2: only the header of the request is repeated
    ACK_TLVS = 0x200  # in errors and ends, since 4.12: attributes with a text follow


class ErrorAttribute(IntEnum):
    """NLMSGERR_ATTR_*: attributes of an extended acknowledgement."""

    MESSAGE = 1
    OFFSET = 2


class Message(NamedTuple):
    """One netlink message; ``payload`` is the part after the header."""

    type: int
    flags: int
    sequence: int
    port: int
    payload: memoryview


class ReplyStatus(NamedTuple):
    """The outcome of a request: ``errno`` is 0 for success; ``text`` is the kernel's message, if any."""

    errno: int
    text: str = ""
    offset: int = 0
    """Offset of the fault in the request; 0 if the kernel does not report it."""


def align(size: int) -> int:
    """``size`` rounded up to the 4 bytes messages and attributes are aligned to (NLMSG_ALIGNTO, NLA_ALIGNTO)."""
    return (size + 3) & ~3


def decode_messages(data: bytes | memoryview) -> Iterator[Message]:
    """The messages of one datagram in order; DecodeError at the first invalid header."""
    view = memoryview(data)
    at, end = 0, len(view)
    while at < end:
        if end - at < HEADER.size:
            raise DecodeError(f"netlink message at byte {at}: header cut after {end - at} bytes")
        length, kind, flags, sequence, port = HEADER.unpack_from(view, at)
        if not HEADER.size <= length <= end - at:
            raise DecodeError(f"netlink message at byte {at}: length {length}, but {end - at} bytes are left")
        yield Message(kind, flags, sequence, port, view[at + HEADER.size : at + length])
        at += align(length)


def decode_status(message: Message) -> ReplyStatus:
    """The outcome in an ERROR or DONE message; DecodeError if it is cut.

    An ERROR repeats the request, or with CAPPED only its header. An empty DONE, from old kernels, means success.
    """
    payload = message.payload
    if message.type == Control.DONE and not payload:
        return ReplyStatus(0)
    if len(payload) < _STATUS.size:
        raise DecodeError(f"netlink status: {len(payload)} bytes, expected at least {_STATUS.size}")
    number = -_STATUS.unpack_from(payload)[0]
    if not message.flags & MessageFlag.ACK_TLVS:
        return ReplyStatus(number)
    return _with_words(number, payload[_skip_request(message) :])


def _skip_request(message: Message) -> int:
    if message.type == Control.DONE:
        return _STATUS.size
    if len(message.payload) < _STATUS.size + HEADER.size:
        raise DecodeError("netlink error: the repeated request is cut")
    length = HEADER.unpack_from(message.payload, _STATUS.size)[0]
    return _STATUS.size + (HEADER.size if message.flags & MessageFlag.CAPPED else align(length))


def _with_words(number: int, attributes: memoryview) -> ReplyStatus:
    text, offset = "", 0
    reader = AttributeReader(attributes, "netlink error")
    while reader.next():
        if reader.type == ErrorAttribute.MESSAGE:
            text = reader.text()
        elif reader.type == ErrorAttribute.OFFSET:
            offset = reader.host(4)
    reader.check()
    return ReplyStatus(number, text, offset)


def encode_message(type: int, flags: int, payload: bytes, *, sequence: int = 0, port: int = 0) -> bytes:
    """One message, padded to the alignment. As in the kernel, its length does not include the padding."""
    length = HEADER.size + len(payload)
    return HEADER.pack(length, type, flags, sequence, port) + payload + bytes(align(length) - length)


def encode_attribute(type: int, payload: bytes, *, nested: bool = False) -> bytes:
    """One attribute, padded to the alignment."""
    length = _ATTRIBUTE.size + len(payload)
    return _ATTRIBUTE.pack(length, type | (0x8000 if nested else 0)) + payload + bytes(align(length) - length)


class AttributeReader:
    """Walks attributes. The first fault is stored and ends the walk, so the reading code is a flat loop.

        while reader.next():
            if reader.type == …:
                value = reader.unsigned(4)
        reader.check()

    Readers of nested attributes share the fault with their parent. A failed read returns zero or an empty value.
    """

    __slots__ = ("_at", "_end", "_fault", "_next", "_what", "length", "start", "type", "view")

    def __init__(self, data: bytes | memoryview, what: str) -> None:
        self.view = memoryview(data)
        self._what = what
        self._at = self._next = self.start = self.length = self.type = 0
        self._end = len(self.view)
        self._fault: list[str] = []

    def next(self) -> bool:
        """Move to the next attribute and set ``type`` (without flag bits), ``start`` and ``length`` of its payload.

        Offsets count from the start of the outermost data. False at the end, or after a fault.
        """
        self._at = at = self._next
        left = self._end - at
        if left <= 0 or self._fault:
            return False
        if left < _ATTRIBUTE.size:
            return self._fail(f"{left} bytes left over")
        size, kind = _ATTRIBUTE.unpack_from(self.view, at)
        self.type = kind & _TYPE_MASK
        if not _ATTRIBUTE.size <= size <= left:
            return self._fail(f"length {size}, but {left} bytes are left")
        self.start = at + _ATTRIBUTE.size
        self.length = size - _ATTRIBUTE.size
        self._next = at + align(size)
        return True

    def check(self) -> None:
        """Raise DecodeError if there was a fault."""
        if self._fault:
            raise DecodeError(self._fault[0])

    def bytes(self) -> memoryview:
        """The raw payload."""
        return self.view[self.start : self.start + self.length]

    def unsigned(self, size: int) -> int:
        """A number of exactly ``size`` bytes in network byte order."""
        return int.from_bytes(self.bytes(), "big") if self._is(size) else 0

    def host(self, size: int) -> int:
        """A number of exactly ``size`` bytes in host byte order."""
        return int.from_bytes(self.bytes(), sys.byteorder) if self._is(size) else 0

    def string(self) -> builtins.bytes:
        """The payload up to the first zero byte; not always UTF-8."""
        return bytes(self.bytes()).split(b"\0", 1)[0]

    def text(self) -> str:
        """The payload as text; invalid UTF-8 is replaced."""
        return self.string().decode(errors="replace")

    def nested(self) -> AttributeReader:
        """A reader of the attributes inside this one."""
        inner = AttributeReader.__new__(AttributeReader)
        inner.view, inner._what, inner._fault = self.view, self._what, self._fault
        inner._at = inner._next = self.start
        inner._end = self.start + self.length
        inner.start = inner.length = inner.type = 0
        return inner

    def _is(self, size: int) -> bool:
        return self.length == size or self._fail(f"{self.length} bytes, expected {size}")

    def _fail(self, fault: str) -> bool:
        if not self._fault:
            self._fault.append(f"{self._what}: attribute {self.type} at byte {self._at}: {fault}")
        return False
