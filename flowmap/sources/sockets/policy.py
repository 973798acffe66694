"""Decides client or server for a set of sockets, from all evidence at one moment."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flowmap.sources.sockets.closing import Closings, Kernel
from flowmap.sources.sockets.payload import opened
from flowmap.sources.sockets.roles import Listeners, LocalAddresses, decide, guess, pair_keys
from flowmap.sources.sockets.tracker import Facts, SocketTracker
from flowmap.wire.netlink.inet_diag import SENT_COUNTED, TIMER_TIME_WAIT, Socket, SocketState
from flowmap.wire.netlink.inet_diag_columns import SOCKETS, Rows

Roles = npt.NDArray[np.int8]
Mask = npt.NDArray[np.bool_]


class Policy:
    """Decides role, pair and whether the connection is within this host; once for each connection."""

    def __init__(self, tracker: SocketTracker, closings: Closings, kernel: Kernel, *, seed: int) -> None:
        self._tracker, self._closings, self._kernel, self._seed = tracker, closings, kernel, seed
        self.listeners = Listeners()
        self.addresses = LocalAddresses()
        self.ephemeral = (0, 0)

    def judge(self, rows: Rows, hints: Roles | None = None) -> tuple[Facts, Mask]:
        """Facts of ``rows``, remembered or new, and which new ones are guessed from ports only.

        ``hints``: roles known from elsewhere, 0 where unknown.
        """
        facts = self._tracker.recall(rows)
        new = facts["role"] == 0
        if not new.any():
            return facts, np.zeros(len(rows), bool)
        facts["here"][new] = self.addresses.holds(rows["remote_high"], rows["remote_low"])[new]
        pair, side = pair_keys(rows, self._seed)
        facts["pair"][new], facts["side"][new] = pair[new], side[new]
        proof = opened(rows)
        if hints is not None:
            proof = np.where(proof == 0, hints, proof).astype(np.int8)
        roles, guessed = decide(
            proof,
            self._remembered(facts),
            self._listened(rows, facts["here"]),
            guess(rows, self.ephemeral),
            facts["pair"],
            facts["side"],
            facts["here"],
        )
        facts["role"][new], facts["guessed"][new] = roles[new], guessed[new]
        facts["syn"][new] = ((proof > 0) | ((proof == 0) & (roles > 0)))[new]
        return facts, guessed & new

    def judge_destroyed(self, rows: Rows) -> tuple[Facts, Mask]:
        """As :meth:`judge`; instead of guessing it looks for the rest of the connection in the kernel."""
        facts, guessed = self.judge(rows)
        guessed &= rows["remote_port"] != 0
        if not guessed.any():
            return facts, guessed
        hints = np.zeros(len(rows), np.int8)
        for at in np.flatnonzero(guessed).tolist():
            hints[at] = self._look_up_role(Socket(*rows[at].tolist()), bool(facts["here"][at]))
        return self.judge(rows, hints) if hints.any() else (facts, guessed)

    def _look_up_role(self, socket: Socket, here: bool) -> int:
        """The role of a destroyed socket with one acknowledged byte beyond its payload (SYN or FIN); 0: unknown."""
        if socket.info_size < SENT_COUNTED:
            return 0
        own = self._kernel.lookup(socket, turned=False)
        if own is not None and own.timer == TIMER_TIME_WAIT:
            return -1  # a TIME_WAIT socket has sent a FIN
        if not here:
            return 0
        twin = self._kernel.lookup(socket, turned=True)
        if twin is None:
            return int(self._closings.has_abort(socket.remote_port))  # reset: no FIN
        if twin.timer == TIMER_TIME_WAIT:
            return -int(twin.state == SocketState.TIME_WAIT)  # it has received a FIN
        return -int(opened(np.array([tuple(twin)], SOCKETS))[0])

    def remember(self, facts: Facts, which: Mask) -> None:
        """Keep the decision for the peer sockets of connections within this host that are not in ``facts``."""
        local = facts[["pair", "side", "role"]][which & facts["here"]]
        _, first, number = np.unique(local["pair"], return_index=True, return_counts=True)
        for pair, side, role in local[first[number == 1]].tolist():
            self._closings.remember_role(pair, side * role)

    def _remembered(self, facts: Facts) -> Roles:
        roles = facts["role"].copy()
        if self._closings.roles:
            known = self._closings.roles
            for at in np.flatnonzero(facts["here"] & (roles == 0)).tolist():
                roles[at] = known.get(int(facts["pair"][at]), 0) * int(facts["side"][at])
        return roles

    def _listened(self, rows: Rows, here: Mask) -> Roles:
        mine = self.listeners.holds(rows["local_high"], rows["local_low"], rows["local_port"])
        theirs = here & self.listeners.holds(rows["remote_high"], rows["remote_low"], rows["remote_port"])
        return theirs.astype(np.int8) - mine.astype(np.int8)
