"""Decides which page of a changing listing to read next, so that no element is lost or returned twice. Pure.

Pages are positions in a listing that changes during the reading. A new element shifts the rest to later pages (read
twice); a deletion shifts it to earlier ones (never read). So each element is returned once. If fewer were read than the
last page's total, the listing is read again from the start, up to :data:`PASSES` times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic

from flowmap.control.alibaba.api.envelope import Element, Elements

PAGES = 1000
"""Most pages of one pass; a longer listing is incomplete."""

PASSES = 3


class Pager(Generic[Element]):
    """State of the reading of one listing. ``identity`` returns the id of an element."""

    def __init__(self, identity: Callable[[Element], str], *, page_size: int, pages: int = PAGES) -> None:
        self._identity = identity
        self._page_size = page_size
        self._pages = pages
        self._passes = 0
        self._seen: set[str] = set()
        self.total = 0
        """Number of elements of the listing, by the last page read."""
        self.complete = False
        """Whether all elements were read, once the reading has ended."""
        self._begin()

    def _begin(self) -> None:
        """Start a pass."""
        self._passes += 1
        self._in_pass: set[str] = set()
        self._shrunk = False
        self.dropped = 0
        """Elements of this pass that could not be read."""
        self.next_page: int | None = 1
        """Index of the page to read, from 1; None after the last."""

    def apply(self, answer: Elements[Element]) -> tuple[Element, ...]:
        """Apply a page. Returns its new elements and moves :attr:`next_page`."""
        fresh = []
        for item in answer.items:
            identity = self._identity(item)
            self._in_pass.add(identity)
            if identity not in self._seen:
                self._seen.add(identity)
                fresh.append(item)
        self.dropped += answer.dropped
        # A server may return smaller pages than requested, with their size.
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
