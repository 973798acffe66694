"""A listing that is read page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Generic

from flowmap.control.alibaba.api.envelope import Element, Elements
from flowmap.control.alibaba.api.paging import Pager


class Listing(Generic[Element]):
    """A paged answer, read once with ``async for``: each turn yields the elements of a page that are new.

    No call is made before the first turn. :attr:`total`, :attr:`complete` and :attr:`dropped` are updated at each turn.
    """

    def __init__(
        self,
        ask: Callable[[int], Awaitable[Elements[Element]]],
        identity: Callable[[Element], str],
        *,
        page_size: int,
    ) -> None:
        """``ask`` reads the page with an index, from 1; ``identity`` returns the id of an element."""
        self._ask = ask
        self._pager = Pager(identity, page_size=page_size)

    @property
    def total(self) -> int:
        """Number of elements of the listing, by the last page read."""
        return self._pager.total

    @property
    def complete(self) -> bool:
        """Whether every element was read. False during the reading, and if the listing changed during every pass."""
        return self._pager.complete

    @property
    def dropped(self) -> int:
        """Elements that could not be read."""
        return self._pager.dropped

    async def __aiter__(self) -> AsyncIterator[tuple[Element, ...]]:
        while (index := self._pager.next_page) is not None:
            yield self._pager.apply(await self._ask(index))

    async def all(self) -> tuple[Element, ...]:
        """Every element, in order of first sight. Long listings should be reduced page by page."""
        return tuple([item async for page in self for item in page])
