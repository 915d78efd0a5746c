"""One value of a YAML file replaced, every other byte as it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from hisac_lab.cli.params import inline, written


def replaced(text: str, steps: Sequence[str], value: Any, comment: str = "") -> str | None:
    """`text` with the value at these keys; a key that is not there is written last in its mapping.

    Args:
        text: A YAML mapping.
        steps: Keys from the outermost inward.
        value: The new value.
        comment: Stands behind a key that is not there yet.

    Returns:
        The new text, or None where its form allows no such change. The caller compares what it means.
    """
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    for at, step in enumerate(steps):
        if not isinstance(node, yaml.MappingNode):
            return None
        pair = next((pair for pair in node.value if pair[0].value == step), None)
        rest = value
        for name in reversed(steps[at + 1 :]):
            rest = {name: rest}
        if pair is None:
            return _added(text, node, step, rest, comment if at == len(steps) - 1 else "")
        if at == len(steps) - 1 or not isinstance(pair[1], yaml.MappingNode):
            return _changed(text, node, pair[0], pair[1], rest)
        node = pair[1]
    return None


def _changed(text: str, parent: yaml.MappingNode, key: yaml.Node, old: yaml.Node, value: Any) -> str:
    colon = text.index(":", key.end_mark.index) + 1
    start, end = max(colon, old.start_mark.index), max(colon, _end(text, old))
    if parent.flow_style:
        return f"{text[:colon]} {inline(value)}{text[end:]}"
    beside, below = written(value)
    lines = "".join(f"\n{' ' * key.start_mark.column}{line}" for line in below)
    head = f"{text[:colon]}{' ' if beside else ''}{beside}"
    if isinstance(old, yaml.MappingNode) and not old.flow_style:
        end = _line_end(text, end)  # the comment there goes with the last of its keys
    gap = text[colon:start]
    if "\n" in gap:  # the old value stands below its key, whose comment stays
        return head + gap[: gap.rindex("\n")] + lines + text[end:]
    line_end = _line_end(text, end)
    return head + text[end:line_end].rstrip(" ") + lines + text[line_end:]


def _added(text: str, parent: yaml.MappingNode, name: str, value: Any, comment: str) -> str:
    if parent.flow_style:
        at = _end(text, parent.value[-1][1]) if parent.value else parent.start_mark.index + 1
        comma = ", " if parent.value else ""
        return f"{text[:at]}{comma}{inline(name)}: {inline(value)}{text[at:]}"
    pad = " " * parent.value[0][0].start_mark.column
    at = _line_end(text, _end(text, parent))
    beside, below = written(value)
    line = f"{inline(name)}:{' ' if beside else ''}{beside}{'  # ' if comment else ''}{comment}"
    return text[:at] + "".join(f"\n{pad}{each}" for each in (line, *below)) + text[at:]


def _end(text: str, node: yaml.Node) -> int:
    """Where a node's last character stands; YAML's own mark of a block lies behind the comments below it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(text, last[1] if isinstance(last, tuple) else last)
    start, end = node.start_mark.index, node.end_mark.index
    return start + len(text[start:end].rstrip())


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end - (text[end - 1] == "\r")
