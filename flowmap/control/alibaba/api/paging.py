"""Reads a listing page by page so that nothing is lost or told twice while it changes. Pure.

Pages are positions in a listing that others change: what is created while we read shifts the rest to later pages (seen
twice), what is deleted shifts it to earlier ones (never seen). So elements are told once, and when fewer turned up
than the last page says there are, the listing is read again from the start, a few times at most.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic

from flowmap.control.alibaba.api.envelope import Element, Elements

PAGES = 1000
"""Pages of one pass; a listing that is longer is incomplete."""

PASSES = 3


class Pager(Generic[Element]):
    """Decides which page to ask for next. ``identity`` gives the id of an element."""

    def __init__(self, identity: Callable[[Element], str], *, page_size: int, pages: int = PAGES) -> None:
        self._identity = identity
        self._page_size = page_size
        self._pages = pages
        self._passes = 0
        self._seen: set[str] = set()
        self.total = 0
        """Elements the listing has, by the last page read."""
        self.complete = False
        """Whether all of them were seen, once the listing is read."""
        self._begin()

    def _begin(self) -> None:
        """Start a pass."""
        self._passes += 1
        self._in_pass: set[str] = set()
        self._shrunk = False
        self.dropped = 0
        """Elements of this pass that could not be read."""
        self.next_page: int | None = 1
        """Index of the page to ask for, from 1; None when the listing is read."""

    def take(self, answer: Elements[Element]) -> tuple[Element, ...]:
        """Elements of the page just read that were not seen before; moves :attr:`next_page`."""
        fresh = []
        for item in answer.items:
            identity = self._identity(item)
            self._in_pass.add(identity)
            if identity not in self._seen:
                self._seen.add(identity)
                fresh.append(item)
        self.dropped += answer.dropped
        # A server may give smaller pages than asked for, and says so.
        size = min(answer.page_size or self._page_size, self._page_size)
        self._advance(len(answer.items) + answer.dropped, size, answer.total_size)
        return tuple(fresh)

    def _advance(self, read: int, size: int, total: int | None) -> None:
        page = self.next_page or 1
        if total is None:  # without a total a page that is not full is the last
            total = page * size + 1 if read >= size else len(self._in_pass) + self.dropped
        elif page > 1 and total < self.total:
            self._shrunk = True
        self.total = total
        at_end = read == 0 or page * size >= total
        if not at_end and page < self._pages:
            self.next_page = page + 1
            return
        self.complete = at_end and not self._shrunk and len(self._in_pass) + self.dropped >= total
        if self.complete or not at_end or self._passes >= PASSES:
            self.next_page = None
        else:
            self._begin()
