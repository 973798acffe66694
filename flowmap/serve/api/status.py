"""The answer of /api/v1/status, made from the declarations in ``flowmap.model.status``.

A field of :class:`StatusView` is in the answer, with its docstring as description, and needs nothing here. Where JSON
differs from Python, its type or its name says how:

    ``…_at``                         seconds since the epoch become RFC 3339
    ``None`` in a docstring          ``null``
    :data:`INLINED` value types      their fields stand among those of the value that holds them
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from functools import cache
from itertools import pairwise
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from pydantic import AliasPath, Field, create_model

from flowmap.model.address import Endpoint
from flowmap.model.deployment import Owner
from flowmap.model.source import SourceStats
from flowmap.model.status import QuestionCounts, StatusView
from flowmap.serve.api.models import Answer, DeploymentName, FlowEndpoint, Text, Time

INLINED = (QuestionCounts, SourceStats)

_FORMS: Mapping[object, Any] = {str: Text, Owner: DeploymentName, Endpoint: FlowEndpoint}


@cache
def answer_of(value: type) -> type[Answer]:
    """The pydantic model of a dataclass or named tuple, and of those that it holds."""
    name = value.__name__.removesuffix("View")
    fields = {field: (form, described) for field, form, described in _fields(value)}
    created: type[Answer] = create_model(  # type: ignore[call-overload]
        name, __base__=Answer, __doc__=_plain(inspect.getdoc(value) or ""), __module__=__name__, **fields
    )
    return created


def _fields(value: type, *path: str) -> Iterator[tuple[str, Any, Any]]:
    """Name, type and description of each field; ``path``: the attributes that lead to the value."""
    descriptions = _docstrings(value.__module__).get(value.__name__, {})
    for name, hint in get_type_hints(value).items():
        if hint in INLINED:
            yield from _fields(hint, *path, name)
        else:
            alias = AliasPath(*path, name) if path else None
            yield name, _form(name, hint), Field(validation_alias=alias, description=descriptions.get(name))


def _form(name: str, hint: Any) -> Any:
    if name.endswith(("_at", "_until")):
        return Time
    if hint in _FORMS:
        return _FORMS[hint]
    if get_origin(hint) in (Union, UnionType):
        return Union[tuple(part if part is NoneType else _form(name, part) for part in get_args(hint))]  # noqa: UP007
    if get_origin(hint) is tuple:
        return list[_form(name, get_args(hint)[0])]  # type: ignore[misc]
    if get_origin(hint) is dict:
        return dict[Text, _form(name, get_args(hint)[1])]  # type: ignore[misc]
    return answer_of(hint) if is_dataclass(hint) or hasattr(hint, "_fields") else hint


@cache
def _docstrings(module: str) -> dict[str, dict[str, str]]:
    """The docstring behind each field of each class; empty for an installation without sources."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except OSError:
        return {}
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    return {one.name: dict(_behind_fields(one)) for one in classes}


def _behind_fields(declared: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, behind in pairwise(declared.body):
        match field, behind:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, _plain(text)


def _plain(docstring: str) -> str:
    return " ".join(docstring.replace("``", "").replace("None", "null").split())


Status = answer_of(StatusView)
