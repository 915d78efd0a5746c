"""The document as one HTML page and as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from hisac_lab.report.document import Section

_CODE = re.compile(r"`([^`]*)`")
_MARKDOWN = re.compile(r"[\\`*\[\]|~#]|(?<!\w)_|_(?!\w)")


def to_html(sections: Sequence[Section], **page: Any) -> str:
    """One page that needs nothing but itself.

    Args:
        sections: The report.
        page: What the page's head shows: title, subtitle, mark.
    """
    return _environment(escaped=True).get_template("report.html.j2").render(sections=sections, **page)


def to_markdown(sections: Sequence[Section], **page: Any) -> str:
    """The twin: the same sections, numbers in place of charts."""
    return _environment(escaped=False).get_template("report.md.j2").render(sections=sections, **page)


def _environment(escaped: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("hisac_lab.report"),
        autoescape=escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["prose"] = _prose
    environment.filters["md"] = _plain
    environment.filters["md_prose"] = _md_prose
    return environment


def _prose(text: str) -> Markup:
    """Plain text with `code` as HTML."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))


def _plain(text: str) -> str:
    """Plain text that Markdown shows as it is, on one line."""
    safe = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(lambda match: "\\" + match[0], " ".join(safe.split()))


def _md_prose(text: str) -> str:
    """Plain text with `code` as Markdown."""
    return "".join(
        f"`{part}`"
        if place % 2
        else (" " if part[:1] == " " else "") + _plain(part) + (" " if part[-1:] == " " else "")
        for place, part in enumerate(_CODE.split(text))
    )
