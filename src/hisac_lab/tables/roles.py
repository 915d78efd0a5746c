"""Roles of columns that are kept beside the samples and apart from what models see."""

from __future__ import annotations

WEIGHT = "weight"
"""The role of the weight of an event in training."""
TASK = "task_"
"""Before the name of a further answer of an exposure."""


def task_role(name: str) -> str:
    """The role of a further answer."""
    return f"{TASK}{name}"
