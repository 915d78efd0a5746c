"""What a trained model leaves on disk beside its weights: its file, its run, its curve, its fidelity card."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from hisac_lab.base.records import Output, Record, Stored

CURVE, CARD = "curve.jsonl", "card.json"


class ModelFile(Stored):
    """All that is needed to build a model again, but its weights.

    Attributes:
        model: Its settings.
        backbone: The section `backbone`.
        items: Shapes of what it knows of the items.
        codebook: Digest of the codebook it was trained with.
        instances: Digest of the instance store it was trained with; None for a model that reads none.
        tied: Names of frozen tensors that are stored once, under another name.
        package: Distribution and version that brought the model; None for a kind of this package.
    """

    FILE: ClassVar[str] = "model.json"

    model: dict[str, Any]
    backbone: dict[str, Any]
    items: dict[str, Any]
    codebook: str
    instances: str | None = None
    tied: dict[str, str] = Field(default_factory=dict)
    package: str | None = None


class VocabularyFile(Stored):
    """Item ids in the order of their numbers, and how many events of a history the model reads."""

    FILE: ClassVar[str] = "vocabulary.json"

    items: list[str]
    history_limit: int


class FieldLevels(Record):
    """A categorical field of the items; the place of a value is its code."""

    name: str
    values: list[str]


class NumberScale(Record):
    """A numeric column of the items, and what standardizes its logarithms."""

    name: str
    center: float
    spread: float


class CatalogFile(Stored):
    """How a bundle reads the columns of an item table.

    Attributes:
        fields: Categorical columns, in the order of the codes in `item_fields.npy` beside it.
        numbers: Numeric columns.
    """

    FILE: ClassVar[str] = "catalog.json"

    fields: list[FieldLevels]
    numbers: list[NumberScale]


class Trained(Output):
    """Manifest of one training run, `train@MODEL-SEED`.

    Attributes:
        name: Of the model in the section `models`.
        settings: Its settings, after the sweep.
        valid_auc: Best AUC on the validation period.
        features_left_out: Context features that it asks for and the data cannot give.
        labels: Which it learned from (`train.labels`).
        started_from: Digest of the bundle whose weights it began with; None: they were drawn.
    """

    name: str
    seed: int
    settings: dict[str, Any]
    parameters: int
    steps: int
    valid_auc: float
    features_left_out: tuple[str, ...] = ()
    labels: Literal["own", "shuffled"] = "own"
    started_from: str | None = None


class Point(Record):
    """One validation of a training run, a line of its curve."""

    step: int
    train_loss: float
    valid_auc: float
    valid_log_loss: float


class Claim(Record):
    """One line of a fidelity card, as a bundle holds it.

    Attributes:
        status: stated, inferred or left out.
        source: Heading of a note on the paper.
        test: The test that pins it, if there is one.
    """

    claim: str
    status: str
    source: str
    test: str = ""
