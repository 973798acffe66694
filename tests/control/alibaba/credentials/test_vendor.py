"""Keys through the vendor's library."""

from __future__ import annotations

import asyncio

import pytest

from flowmap.control.alibaba.credentials.base import Credentials
from flowmap.control.alibaba.credentials.vendor import VendorExchange
from flowmap.errors import AuthError
from tests.support.credentials import SECRET, TOKEN


def test_errors_of_the_library_are_not_quoted() -> None:
    class Keys:
        get_access_key_id = staticmethod(lambda: "v-id")
        get_access_key_secret = staticmethod(lambda: SECRET)
        get_security_token = staticmethod(lambda: TOKEN)

    class Provider:
        failing = False

        def get_credentials(self) -> Keys:
            if self.failing:
                raise RuntimeError(f"cannot parse {SECRET}")
            return Keys()

    provider = Provider()
    exchange = VendorExchange(provider, profile="p")
    assert asyncio.run(exchange.fetch()) == Credentials("v-id", SECRET, TOKEN, origin="p")
    provider.failing = True
    with pytest.raises(AuthError, match="RuntimeError") as caught:
        asyncio.run(exchange.fetch())
    assert SECRET not in str(caught.value) and caught.value.__suppress_context__
