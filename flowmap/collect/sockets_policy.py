"""What is known of the connections of this namespace at one moment, put together for a set of sockets."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flowmap.collect.sockets_closing import Closings, Kernel
from flowmap.collect.sockets_ledger import Facts, Ledger
from flowmap.collect.sockets_orient import Listeners, LocalAddresses, decide, guess, pair_keys
from flowmap.collect.sockets_payload import opened
from flowmap.wire.inet_diag import Socket
from flowmap.wire.inet_diag_columns import SOCKETS, Rows

Roles = npt.NDArray[np.int8]
Mask = npt.NDArray[np.bool_]


class Policy:
    """Judges sockets: role, pair, and whether the connection is within this host. Decided once for each connection."""

    def __init__(self, ledger: Ledger, closings: Closings, kernel: Kernel, *, seed: int) -> None:
        self._ledger, self._closings, self._kernel, self._seed = ledger, closings, kernel, seed
        self.listeners = Listeners()
        self.addresses = LocalAddresses()
        self.ephemeral = (0, 0)

    def judge(self, rows: Rows) -> tuple[Facts, Mask]:
        """Facts of ``rows``, remembered or new; and which of them had nothing but the ports to go by."""
        facts = self._ledger.recall(rows)
        new = facts["role"] == 0
        if not new.any():
            return facts, np.zeros(len(rows), bool)
        facts["here"][new] = self.addresses.holds(rows["remote_high"], rows["remote_low"])[new]
        pair, side = pair_keys(rows, self._seed)
        facts["pair"][new], facts["side"][new] = pair[new], side[new]
        proof = opened(rows)
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
        """As :meth:`judge`; where it must guess about a connection within this host, the other socket is asked.

        If that was aborted this one was reset, so what is unclear in its counters is no FIN but its own SYN.
        """
        facts, guessed = self.judge(rows)
        asked = False
        for at in np.flatnonzero(guessed & facts["here"]).tolist():
            twin = self._kernel.lookup(Socket(*rows[at].tolist()), turned=True)
            told = int(opened(np.array([tuple(twin)], SOCKETS))[0]) if twin else 0
            if self._closings.met_abort(int(rows["remote_port"][at])):
                told = -1
            if told:
                self._closings.remember_role(int(facts["pair"][at]), -told * int(facts["side"][at]))
                asked = True
        return self.judge(rows) if asked else (facts, guessed)

    def remember(self, facts: Facts, which: Mask) -> None:
        """Hold the other socket of these connections within this host, if it is not here, to the same decision."""
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
