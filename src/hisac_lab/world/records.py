"""What the simulated world says of itself in the manifest of `acquire`."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from hisac_lab.base.records import Output


class Simulated(Output):
    """Manifest of `acquire` for a simulated world, as its layout reads it.

    Attributes:
        examined: Probability that a user looks at each position of a slate.
        rich: Whether its exposures name the scene by hashed columns.
        world: Every knob of the world; empty where an earlier version made it.
    """

    examined: list[float]
    rich: bool = False
    world: dict[str, Any] = Field(default_factory=dict)
