"""A listing that is asked for page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Generic

from flowmap.control.alibaba.api.envelope import Element, Elements
from flowmap.control.alibaba.api.paging import Pager


class Listing(Generic[Element]):
    """A paged answer, read once with ``async for``: each turn gives the elements of a page that were not seen before.

    :attr:`total`, :attr:`complete` and :attr:`dropped` say how far it got; nothing is asked before the first turn.
    """

    def __init__(
        self,
        ask: Callable[[int], Awaitable[Elements[Element]]],
        identity: Callable[[Element], str],
        *,
        page_size: int,
    ) -> None:
        """``ask`` gets the page of an index, from 1; ``identity`` is the id of an element."""
        self._ask = ask
        self._pager = Pager(identity, page_size=page_size)

    @property
    def total(self) -> int:
        """Elements the listing has, by the last page read."""
        return self._pager.total

    @property
    def complete(self) -> bool:
        """Whether everything was seen; False while reading, and after a listing that changed under every pass."""
        return self._pager.complete

    @property
    def dropped(self) -> int:
        """Elements that could not be read."""
        return self._pager.dropped

    async def __aiter__(self) -> AsyncIterator[tuple[Element, ...]]:
        while (index := self._pager.next_page) is not None:
            yield self._pager.take(await self._ask(index))

    async def all(self) -> tuple[Element, ...]:
        """Every element, in order of first sight. A long listing is better reduced page by page."""
        return tuple([item async for page in self for item in page])
