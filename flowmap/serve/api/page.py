"""The landing page: traffic, state and links, as HTML without scripts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from html import escape

from flowmap.export.labels import without_controls
from flowmap.model.status import StatusView
from flowmap.model.views import DeploymentView
from flowmap.serve.api.models import rfc3339

_DEPLOYMENTS_SHOWN = 20
LONGEST = 512  # characters of a text that are shown
_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")

HEADERS = {
    # No script, external resource or frame: names on this page are from the control plane.
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'none'",
}

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2.5rem auto; padding: 0 1.25rem; }
h1 { margin: 0; } h1 small { font-size: 1rem; font-weight: normal; opacity: .65; }
h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .75rem .3rem 0; border-bottom: 1px solid #8884; overflow-wrap: anywhere; }
th { font-weight: 600; opacity: .75; }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.bad { color: #c33; font-weight: 600; }
ul { padding-left: 1.2rem; }
""".strip()


def landing_page(status: StatusView, deployments: Sequence[DeploymentView], links: Iterable[tuple[str, str]]) -> str:
    """The page; ``links`` are paths with a text. Everything that is not fixed text is escaped."""
    body = [
        f"<h1>flowmap <small>{_text(status.version)}</small></h1>",
        "<p>Which Flink job is behind this network connection?</p>",
        f"<p>{_state(status)} Running since {_text(rfc3339(status.started_at) or '')}.</p>",
        _section("Traffic by deployment", _deployments(deployments)),
        _section("Bytes", _bytes(status)),
        _section("Sources", _sources(status)),
        _section("Where to go", _links(links)),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>flowmap</title>'
        '<meta name="viewport" content="width=device-width"><meta http-equiv="refresh" content="5">'
        f"<style>{_STYLE}</style></head><body>{''.join(body)}</body></html>"
    )


def human_bytes(count: int) -> str:
    """``1.5 MiB``; exact below 1 KiB."""
    if count < 1024:
        return f"{count} B"
    power = min((count.bit_length() - 1) // 10, len(_UNITS))
    return f"{count / 1024**power:.1f} {_UNITS[power - 1]}"


def _state(status: StatusView) -> str:
    ready = "Ready." if status.ready else '<span class="bad">Not ready: the first full read is not done.</span>'
    if status.conserved:
        return ready
    return ready + ' <span class="bad">Bytes do not add up.</span>'


def _deployments(deployments: Sequence[DeploymentView]) -> str:
    if not deployments:
        return "<p>None seen yet.</p>"
    ranked = sorted(deployments, key=lambda seen: -(seen.traffic.transmit_bytes + seen.traffic.receive_bytes))
    rows = [
        (
            seen.info.owner.name,
            seen.info.owner.namespace,
            human_bytes(seen.traffic.transmit_bytes),
            human_bytes(seen.traffic.receive_bytes),
            f"{seen.traffic.open_connections:,}",
            f"{len(seen.peers):,}",
        )
        for seen in ranked[:_DEPLOYMENTS_SHOWN]
    ]
    table = _table(("deployment", "namespace", "transmitted", "received", "open connections", "peers"), rows, numbers=4)
    left = len(ranked) - len(rows)
    return table + (f"<p>… and {left:,} more.</p>" if left > 0 else "")


def _bytes(status: StatusView) -> str:
    counts = {part.name: getattr(status.bytes, part.name) for part in fields(status.bytes)}
    rows = [(name, human_bytes(count.transmit), human_bytes(count.receive)) for name, count in counts.items()]
    return _table(("", "transmit", "receive"), rows, numbers=2)


def _sources(status: StatusView) -> str:
    rows = [
        (
            source.name,
            "up" if source.stats.up else f"down: {source.error or 'not open'}",
            "; ".join(source.stats.notes.values()),
            f"{source.stats.records:,}",
            f"{source.stats.overruns:,}",
        )
        for source in status.sources
    ]
    return _table(("source", "state", "notes", "records", "overruns"), rows, numbers=2)


def _links(links: Iterable[tuple[str, str]]) -> str:
    items = (f'<li><a href="{path}">{path}</a>: {_text(text)}</li>' for path, text in links)
    return f"<ul>{''.join(items)}</ul>"


def _section(title: str, content: str) -> str:
    return f"<h2>{_text(title)}</h2>{content}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: int) -> str:
    """A table; the last ``numbers`` columns are numbers. Cells are escaped here only."""
    first_number = len(head) - numbers

    def cells(tag: str, texts: Sequence[str]) -> str:
        return "".join(
            f'<{tag} class="n">{_text(text)}</{tag}>' if place >= first_number else f"<{tag}>{_text(text)}</{tag}>"
            for place, text in enumerate(texts)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table><thead><tr>{cells('th', head)}</tr></thead><tbody>{body}</tbody></table>"


def _text(text: str) -> str:
    """Text as HTML for an element or a quoted attribute, cut, without markup, control and direction characters."""
    shown = without_controls(text[:LONGEST])
    return escape(shown if len(text) <= LONGEST else shown + "…")
