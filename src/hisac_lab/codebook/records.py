"""What the stage `codebook` writes."""

from __future__ import annotations

from pydantic import Field

from hisac_lab.base.records import Digested


class CodebookFacts(Digested):
    """Manifest of `codebook`.

    Attributes:
        widths: Codes that each level could have.
        method: Of the quantizer.
        own_space: Whether the codewords live in a space of their own.
        nodes: Of each level.
        mean_fan_out: Children of a node, by level.
        flat: Nodes of each flat codebook, by its name.
    """

    depth: int
    widths: list[int]
    method: str
    own_space: bool
    nodes: list[int]
    mean_fan_out: list[float]
    items: int
    items_without_id: int
    flat: dict[str, int] = Field(default_factory=dict)
