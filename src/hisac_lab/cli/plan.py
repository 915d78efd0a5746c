"""What the stage `plan` writes of each model."""

from typing import Any

from hisac_lab.base.records import Record


class Plan(Record):
    """What the training of one model takes from the stages before it.

    Attributes:
        settings: Those that the sweep has chosen; None for a model that is not swept.
        instances: Digest of the instance store; None for a model that reads none.
        tuned: What its runs have of their own in place of the sections `train` and `backbone`, where both tell, as the
            sweep has chosen; None: nothing.
    """

    settings: dict[str, Any] | None
    instances: str | None
    tuned: dict[str, Any] | None = None
