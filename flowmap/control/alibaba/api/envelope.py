"""Reads the bytes of an answer into its elements, and never mistakes a broken answer for an empty one.

The documents define that ``success`` decides, not the HTTP status and not ``httpCode``. A body without a boolean
``success``, or a successful one without a list ``data``, is not an answer of this API. An unreadable element is dropped
and counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from flowmap.control.alibaba.api.models import ApiModel, camel
from flowmap.control.http.json_tree import read_tree
from flowmap.control.http.text import plain_text
from flowmap.errors import BusinessError, ControlError, ProtocolError, Throttled, Transient

Element = TypeVar("Element", bound=ApiModel)


@dataclass(frozen=True, slots=True)
class Elements(Generic[Element]):
    """The elements of one successful answer."""

    items: tuple[Element, ...]
    request_id: str = ""
    dropped: int = 0
    """Elements that were not as documented. If there are any, the answer is incomplete."""
    page_index: int | None = None
    page_size: int | None = None
    total_size: int | None = None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


_Text = Annotated[str | None, BeforeValidator(plain_text)]
_Count = Annotated[int | None, BeforeValidator(_count)]


class _Envelope(BaseModel, Generic[Element]):
    """The fields around the elements. Only ``success`` and ``data`` can make an answer unusable."""

    model_config = ConfigDict(strict=True, extra="ignore", alias_generator=camel)

    success: bool
    http_code: _Count = None
    error_code: _Text = None
    error_message: _Text = None
    request_id: _Text = None
    page_index: _Count = None
    page_size: _Count = None
    total_size: _Count = None
    data: list[Element] | None = None


def read_answer(body: bytes, element: type[Element], *, status: int = 200) -> Elements[Element]:
    """Read the body of an answer.

    BusinessError, Throttled or Transient for ``success: false``, by its ``httpCode`` and ``errorCode``; ProtocolError
    for a body that is not an answer of this API.
    """
    dropped = 0
    body = body.removeprefix(b"\xef\xbb\xbf")
    try:
        envelope = _Envelope[element].model_validate_json(body)  # type: ignore[valid-type]
    except ValidationError:
        envelope, dropped = _read_by_element(body, element, status)
    if not envelope.success:
        raise _refusal(envelope, status)
    if envelope.data is None:
        raise ProtocolError(
            "the answer has 'success' but no list 'data'", status=status, request_id=envelope.request_id
        )
    return Elements(
        items=tuple(envelope.data),
        request_id=envelope.request_id or "",
        dropped=dropped,
        page_index=envelope.page_index,
        page_size=envelope.page_size,
        total_size=envelope.total_size,
    )


def _read_by_element(body: bytes, element: type[Element], status: int) -> tuple[_Envelope[Element], int]:
    """Read an answer with an error in it element by element. Returns it with the number of dropped elements."""
    try:
        tree: Any = read_tree(body)
    except ValueError as error:
        raise ProtocolError(f"the answer is not JSON: {error}", status=status, reason="malformed") from error
    if not isinstance(tree, dict):
        raise ProtocolError(f"the answer is {_json_kind(tree)}, not an object", status=status)
    items = tree.get("data")
    request_id = plain_text(tree.get("requestId"))
    if not isinstance(tree.get("success"), bool):
        raise ProtocolError("the answer has no boolean 'success'", status=status, request_id=request_id)
    if items is not None and not isinstance(items, list) and tree["success"]:
        raise ProtocolError(f"'data' is {_json_kind(items)}, not a list", status=status, request_id=request_id)
    envelope = _Envelope[element].model_validate({**tree, "data": None})  # type: ignore[valid-type]
    if not isinstance(items, list):
        return envelope, 0
    kept = [good for item in items if (good := _read_element(item, element)) is not None]
    envelope.data = kept
    return envelope, len(items) - len(kept)


def _read_element(item: object, element: type[Element]) -> Element | None:
    try:
        return element.model_validate(item)
    except ValueError:
        return None


def _refusal(envelope: _Envelope[Any], status: int) -> ControlError:
    code = envelope.error_code
    message = f"the control plane refused: {code or 'no error code'}: {envelope.error_message or 'no message'}"
    kind: type[ControlError] = BusinessError
    if envelope.http_code == 429 or (code or "").startswith("Throttling"):
        kind = Throttled
    elif (envelope.http_code or 0) >= 500:
        kind = Transient
    return kind(message, code=code, request_id=envelope.request_id, status=envelope.http_code or status)


def _json_kind(value: object) -> str:
    kinds = {dict: "an object", list: "a list", str: "text", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")
