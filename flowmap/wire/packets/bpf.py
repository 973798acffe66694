"""Builds classic BPF programs (linux/filter.h): which packets the kernel delivers, and how many bytes of each.

A program only reduces the load. :mod:`flowmap.flows.filter` decides which flows count. So a program drops a packet only
if no flow that it can belong to would count. The direction of the connection is not known yet, later fragments have no
ports, and packets behind other headers than IP's are not examined.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from flowmap.flows.filter import Network, Pattern
from flowmap.wire.packets.tpacket import Hardware, PacketType

LIMIT = 4096
"""Largest number of instructions in the kernel (BPF_MAXINSNS)."""

_LOAD_WORD, _LOAD_HALF, _LOAD_BYTE = 0x20, 0x28, 0x30  # BPF_LD | BPF_ABS
_LOAD_HALF_AT_X, _LENGTH_TO_X = 0x48, 0xB1  # BPF_LD | BPF_H | BPF_IND; BPF_LDX | BPF_B | BPF_MSH
_JUMP, _JUMP_EQUAL, _JUMP_SET, _AND, _RETURN = 0x05, 0x15, 0x45, 0x54, 0x06

_NET = 0xFFF0_0000  # SKF_NET_OFF: offsets from the network layer's header
_PROTOCOL, _PACKET_TYPE, _INTERFACE, _HARDWARE = (0xFFFF_F000 + n for n in (0, 4, 8, 28))  # SKF_AD_OFF + SKF_AD_*
_IPV4, _IPV6 = 0x0800, 0x86DD
_WITH_PORTS = (6, 17, 33, 132, 136)


class Instruction(NamedTuple):
    """struct sock_filter."""

    code: int
    yes: int
    no: int
    k: int


Program = list[Instruction]


class Assembler:
    """Collects instructions with labels; jumps go forward, over any distance."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, str | None, str | None, int]] = []
        self._labels: dict[str, int] = {}
        self._names = 0

    def label(self, name: str) -> None:
        """Set a label at the next instruction."""
        self._labels[name] = len(self._lines)

    def name(self) -> str:
        """A new unique label."""
        self._names += 1
        return f"_{self._names}"

    def put(self, code: int, k: int = 0) -> None:
        """Append an instruction that is not a jump."""
        self._lines.append((code, None, None, k))

    def go(self, label: str) -> None:
        """Append an unconditional jump."""
        self._lines.append((_JUMP, label, None, 0))

    def when(self, k: int, yes: str, *, code: int = _JUMP_EQUAL) -> None:
        """Append a jump to ``yes`` if the accumulator equals ``k`` (or, by ``code``, has one of its bits)."""
        # A condition reaches 255 instructions, an unconditional jump any. So the condition skips such a jump.
        following = self.name()
        self._lines.append((code, "+", following, k))
        self._lines.append((_JUMP, yes, None, 0))
        self.label(following)

    def include(self, program: Sequence[Instruction], *, accept: str) -> None:
        """Append another program; where it keeps the packet, continue at ``accept``."""
        places = [self.name() for _ in program]
        for n, (code, yes, no, k) in enumerate(program):
            self.label(places[n])
            if code & 7 == _RETURN:
                if k:
                    self.go(accept)
                else:
                    self.put(_RETURN, 0)
            elif code == _JUMP:
                self.go(places[n + 1 + k])
            elif code & 7 == _JUMP:
                self._lines.append((code, places[n + 1 + yes], places[n + 1 + no], k))
            else:
                self.put(code, k)

    def assemble(self) -> Program:
        """The instructions; OverflowError for too many instructions or too long a jump."""
        program = [self._line(at, *line) for at, line in enumerate(self._lines)]
        if len(program) > LIMIT or any(max(yes, no) > 255 for _, yes, no, _ in program):
            raise OverflowError(f"a filter of {len(program)} instructions")
        return program

    def _line(self, at: int, code: int, yes: str | None, no: str | None, k: int) -> Instruction:
        if yes is None:
            return Instruction(code, 0, 0, k)
        if code == _JUMP:
            return Instruction(code, 0, 0, self._labels[yes] - at - 1)
        taken = 0 if yes == "+" else self._labels[yes] - at - 1
        return Instruction(code, taken, 0 if no is None else self._labels[no] - at - 1, k)


def encode(program: Sequence[Instruction]) -> bytes:
    """The program as an array of struct sock_filter."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def decode(data: bytes) -> Program:
    """The inverse of :func:`encode`."""
    return [Instruction(*fields) for fields in struct.iter_unpack("=HBBI", data)]


def capture_program(
    *,
    snap: int,
    interfaces: Iterable[int] | None = None,
    include: Sequence[Pattern] = (),
    exclude: Sequence[Pattern] = (),
    user: tuple[Sequence[Instruction], Sequence[Instruction]] | None = None,
) -> Program:
    """The program of the capture source.

    ``snap``: bytes kept of each packet. ``interfaces``: numbers; None for all. ``include``, ``exclude``: patterns of
    flows, ignored here if they do not fit into a program. ``user``: programs for frames with and without an Ethernet
    header.
    """
    try:
        return _program(snap, interfaces, include, exclude, user)
    except OverflowError:
        return _program(snap, interfaces, (), (), user)


def _program(
    snap: int,
    interfaces: Iterable[int] | None,
    include: Sequence[Pattern],
    exclude: Sequence[Pattern],
    user: tuple[Sequence[Instruction], Sequence[Instruction]] | None,
) -> Program:
    code = Assembler()
    _sent_to_itself(code)
    if interfaces is not None:
        code.put(_LOAD_WORD, _INTERFACE)
        for number in interfaces:
            code.when(number, "wanted")
        code.put(_RETURN, 0)
        code.label("wanted")
    _patterns(code, include, exclude)
    code.label("user")
    if user is not None:
        code.put(_LOAD_WORD, _HARDWARE)
        code.when(Hardware.ETHER, "ethernet")
        code.when(Hardware.LOOPBACK, "ethernet")
        code.include(user[1], accept="keep")
        code.label("ethernet")
        code.include(user[0], accept="keep")
    code.label("keep")
    code.put(_RETURN, snap)
    code.label("drop")
    code.put(_RETURN, 0)
    return code.assemble()


def _sent_to_itself(code: Assembler) -> None:
    """Drop packets sent through loopback: each is also received there."""
    code.put(_LOAD_WORD, _HARDWARE)
    code.when(Hardware.LOOPBACK, "loopback")
    code.go("once")
    code.label("loopback")
    code.put(_LOAD_WORD, _PACKET_TYPE)
    code.when(PacketType.OUTGOING, "drop")
    code.label("once")


def _patterns(code: Assembler, include: Sequence[Pattern], exclude: Sequence[Pattern]) -> None:
    networks = [one.network for one in exclude if one.port is None and one.protocol is None and one.network]
    if not include and not networks:
        return
    code.put(_LOAD_WORD, _PROTOCOL)
    code.when(_IPV4, "ipv4")
    code.when(_IPV6, "ipv6")
    code.go("user")
    for family in (4, 6):
        code.label(f"ipv{family}")
        for network in networks:
            for end in _ENDS[family]:
                _when_inside(code, family, end, network, "drop")
        for pattern in include:
            _when_matching(code, family, pattern)
        code.go("drop" if include else "user")


_ENDS = {4: (12, 16), 6: (8, 24)}
"""Offsets of source and destination address in the IP header."""


def _when_inside(code: Assembler, family: int, end: int, network: Network, yes: str) -> None:
    """Jump to ``yes`` if the address at offset ``end`` is in the network."""
    words = _words(family, network)
    if words is None:
        return
    outside = code.name()
    for n, (value, mask) in enumerate(words):
        if mask:
            code.put(_LOAD_WORD, _NET + end + 4 * n)
            code.put(_AND, mask)
            inside = code.name()
            code.when(value, inside)
            code.go(outside)
            code.label(inside)
    code.go(yes)
    code.label(outside)


def _words(family: int, network: Network) -> list[tuple[int, int]] | None:
    """Value and mask of each 32-bit word of an address; None for a network of the other family."""
    if network.version != family:
        return None
    value, mask = network.high << 64 | network.low, network.high_mask << 64 | network.low_mask
    shifts = (0,) if family == 4 else (96, 64, 32, 0)
    return [(value >> shift & 0xFFFF_FFFF, mask >> shift & 0xFFFF_FFFF) for shift in shifts]


def _when_matching(code: Assembler, family: int, pattern: Pattern) -> None:
    """Jump to ``user`` if the packet may belong to a flow that the pattern matches."""
    for n, end in enumerate(_ENDS[family]):
        beside, here = code.name(), code.name()
        if pattern.network is not None:
            _when_inside(code, family, end, pattern.network, here)
            code.go(beside)
        code.label(here)
        _when_port(code, family, 2 * n, pattern)
        code.label(beside)


def _when_port(code: Assembler, family: int, port: int, pattern: Pattern) -> None:
    """Jump to ``user`` if protocol and port match; ``port`` is its offset in the transport header."""
    if pattern.protocol is None and pattern.port is None:
        code.go("user")
        return
    other, ports = code.name(), code.name()
    code.put(_LOAD_BYTE, _NET + (9 if family == 4 else 6))
    protocols = _WITH_PORTS if pattern.protocol is None else (pattern.protocol,)
    for protocol in protocols:
        code.when(protocol, ports)
    if family == 6:  # an extension header may precede the transport header
        for extension in (0, 43, 44, 51, 60, 135, 139, 140):
            code.when(extension, "user")
    code.go(other)
    code.label(ports)
    if pattern.port is None or pattern.protocol not in (None, *_WITH_PORTS):
        code.go("user")
    elif family == 6:
        code.put(_LOAD_HALF, _NET + 40 + port)
        code.when(pattern.port, "user")
    else:
        code.put(_LOAD_HALF, _NET + 6)
        code.when(0x1FFF, "user", code=_JUMP_SET)  # a later fragment
        code.put(_LENGTH_TO_X, _NET)
        code.put(_LOAD_HALF_AT_X, _NET + port)
        code.when(pattern.port, "user")
    code.label(other)
