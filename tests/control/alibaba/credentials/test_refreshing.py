"""When temporary keys are renewed."""

from __future__ import annotations

import asyncio

import pytest

from flowmap.control.alibaba.credentials.base import Credentials
from flowmap.control.alibaba.credentials.refreshing import AGAIN_AFTER, AHEAD, RefreshingCredentials
from flowmap.control.clock import Clock
from flowmap.errors import Transient
from tests.support.control_clients import EPOCH
from tests.support.credentials import get


class CountingExchange:
    """An exchange that gives numbered keys, and a clock."""

    def __init__(self, life: float = 3600.0) -> None:
        self.now = EPOCH
        self.life = life
        self.fetched = 0
        self.failing = False

    async def fetch(self) -> Credentials:
        self.fetched += 1
        await asyncio.sleep(0)
        if self.failing:
            raise Transient("down")
        return Credentials(f"k{self.fetched}", "s", "t", self.now + self.life)

    def provider(self, chance: float = 0.0) -> RefreshingCredentials:
        return RefreshingCredentials(self, clock=Clock(wall=lambda: self.now, chance=lambda: chance))


def test_one_refresh_at_a_time() -> None:
    mint = CountingExchange()
    provider = mint.provider()

    async def many() -> list[Credentials]:
        return await asyncio.gather(*(provider.get() for _ in range(20)))

    assert {found.access_key_id for found in asyncio.run(many())} == {"k1"}
    assert mint.fetched == 1


def test_keys_are_renewed_ahead_of_their_expiry() -> None:
    mint = CountingExchange()
    provider = mint.provider()
    assert get(provider).access_key_id == "k1"
    mint.now += 3600 - AHEAD - 1
    assert get(provider).access_key_id == "k1"
    mint.now += 1
    assert get(provider).access_key_id == "k2"


def test_valid_keys_are_kept_if_the_renewal_fails() -> None:
    mint = CountingExchange()
    provider = mint.provider()
    get(provider)
    mint.failing = True
    mint.now += 3600 - AHEAD
    assert [get(provider).access_key_id for _ in range(5)] == ["k1"] * 5
    assert mint.fetched == 2  # not asked again at once
    mint.now += AGAIN_AFTER
    assert get(provider).access_key_id == "k1" and mint.fetched == 3
    mint.now = EPOCH + 3600
    with pytest.raises(Transient):
        get(provider)


def test_keys_with_a_short_life_are_not_renewed_at_once() -> None:
    mint = CountingExchange(life=60)
    provider = mint.provider()
    assert [get(provider).access_key_id for _ in range(3)] == ["k1"] * 3
    mint.now += 30
    assert get(provider).access_key_id == "k2"


def test_refused_keys_are_dropped_but_not_newer_ones() -> None:
    mint = CountingExchange()
    provider = mint.provider()
    old = get(provider)
    assert provider.reject(old) is True
    new = get(provider)
    assert provider.reject(old) is True
    assert get(provider) == new and mint.fetched == 2
