"""Every number of every section has a bound, and every name one rule: what passes the door fails in no other tool."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kit import says

from hisac_lab.cli.params import Params, defaults, schema
from hisac_lab.config.base import parse, read_yaml

ANY = {
    "ColumnsConfig.label_range",
    "ColumnsConfig.label_values",
    "PrepareConfig.cuts",
    "PrepareConfig.positive_from",
    "Range.high",
    "Range.low",
    "WorldConfig.repeat",
}
"""Feedback and times as the log has them; ends of a range, which the field that it is of bounds; logits."""
BOUNDS = {"minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"}


def numbers(node: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Places of all numbers in a schema, each with its rules."""
    if isinstance(node, list):
        for part in node:
            yield from numbers(part, path)
    elif isinstance(node, dict):
        if node.get("type") in ("integer", "number") and "const" not in node and "enum" not in node:
            yield path, node
        for key in ("anyOf", "items", "prefixItems", "additionalProperties"):
            yield from numbers(node.get(key), path)


def fields() -> list[tuple[str, dict[str, Any]]]:
    """Every number of every class, by `Class.field`."""
    definitions = json.loads(schema())["$defs"]
    return [
        found
        for name, section in definitions.items()
        for field, node in section.get("properties", {}).items()
        for found in numbers(node, f"{name}.{field}")
    ]


def test_there_are_numbers_to_look_at() -> None:
    names = {path for path, _ in fields()}
    assert len(names) > 100
    assert {"BackboneConfig.tower", "ExperimentConfig.seeds", "TokenizeConfig.widths", "HiSACConfig.agents"} <= names


@pytest.mark.parametrize(("path", "node"), fields())
def test_every_number_has_a_bound(path: str, node: dict[str, Any]) -> None:
    assert BOUNDS & set(node) or path in ANY


@pytest.mark.parametrize(
    "name",
    ["hisac_v1.5", "hisac 32", "team/hisac", "hisac@32", "o'brien", "../escape", "", "1st", "ünder", "a-b", "x" * 65],
)
def test_a_name_that_another_tool_would_refuse_is_refused_at_the_door(name: str) -> None:
    content = yaml.safe_load(defaults())
    content["models"][name] = {"kind": "mean"}
    with says("params.yaml", f"models.{name}", "is no name", "letters, digits and underscores"):
        parse(Params, content, "params.yaml")
    content = yaml.safe_load(defaults())
    content["experiment"]["models"] = [name]
    with says("params.yaml", "experiment.models.0", "is no name"):
        parse(Params, content, "params.yaml")


def test_names_of_letters_digits_and_underscores_pass() -> None:
    content = yaml.safe_load(defaults())
    content["models"] |= {name: {"kind": "mean"} for name in ("a", "hisac_v15", "X9", "x" * 64)}
    assert set(parse(Params, content, "params.yaml").models) >= {"a", "hisac_v15", "X9"}


def test_aliases_that_would_fill_the_memory_are_refused_at_once(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{at}: &a{at} [{', '.join([f'*a{at - 1}'] * 10)}]" for at in range(1, 12)]
    (tmp_path / "params.yaml").write_text("\n".join(lines) + "\n")
    with says("params.yaml", "YAML", "more than 1,000,000 values", "write them out"):
        read_yaml(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("a: &a [1, 2]\nb: *a\n")
    assert read_yaml(tmp_path / "params.yaml") == {"a": [1, 2], "b": [1, 2]}
