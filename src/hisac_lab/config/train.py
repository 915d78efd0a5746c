"""Section `train`: one training run."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from hisac_lab.config.base import AnySection, Section

MOST_RATE = 1e30  # steps of larger ones leave single precision


Labels: TypeAlias = Literal["own", "shuffled"]


class TrainConfig(Section):
    """One training run."""

    epochs: int = Field(3, ge=1, description="passes over the training samples")
    batch_requests: int = Field(256, ge=1, description="requests per step; their candidates stay together")
    accumulate: int = Field(
        1, ge=1, description="parts a step is computed in, one after another: less memory, the same gradient"
    )
    share_by: Literal["rows", "events"] = Field(
        "rows",
        description="how processes of one training (torchrun) share a batch; rows: as many each; events: near lengths "
        "together, as many padded events each",
    )
    item_table: Literal["whole", "sharded"] = Field(
        "whole",
        description="of processes of one training; whole: each has all of it; sharded: each holds a part of the rows, "
        "and asks the others for those of its batch",
    )
    max_candidates: int = Field(4, ge=1, description="a request with more candidates becomes several rows")
    learning_rate: float = Field(0.002, gt=0, le=MOST_RATE, description="Adam, dense parameters")
    embedding_learning_rate: float = Field(0.02, gt=0, le=MOST_RATE, description="Adagrad, embedding tables")
    schedule: Literal["constant", "linear"] = Field(
        "constant",
        description="of both rates; linear: they fall from the first step to the last, to final_rate (the stage "
        "instances keeps them)",
    )
    final_rate: float = Field(0.0, ge=0, le=1, description="linear only: share of each rate at the last step")
    labels: Labels = Field(
        "own",
        description="shuffled: in the training and the validation period the labels of a user's candidates change "
        "places, so that the user's rate is all they tell (control; the stages sweep and instances keep the log's)",
    )
    weight_decay: float = Field(0.0001, ge=0, description="decoupled weight decay of dense parameters")
    checks_per_epoch: int = Field(2, ge=1, description="validations per epoch; the best state is kept")
    patience: int | None = Field(
        None, ge=1, description="training ends after so many validations without a better AUC; null: never early"
    )
    checkpoint_every: int = Field(100, ge=1, description="steps between checkpoints")
    start_from: str | None = Field(
        None,
        description="digest of the folder champion, as models.champion has it: a run of its settings begins with its "
        "weights; null: with drawn ones (so do the stages sweep and instances)",
    )


class TunedConfig(Section):
    """What the runs of one model have of their own in place of the sections `train` and `backbone`."""

    learning_rate: float | None = Field(None, gt=0, le=MOST_RATE, description="as train.learning_rate")
    embedding_learning_rate: float | None = Field(
        None, gt=0, le=MOST_RATE, description="as train.embedding_learning_rate"
    )
    schedule: Literal["constant", "linear"] | None = Field(None, description="as train.schedule")
    batch_requests: int | None = Field(None, ge=1, description="as train.batch_requests")
    epochs: int | None = Field(None, ge=1, description="as train.epochs")
    labels: Labels | None = Field(None, description="as train.labels: a control of the model with the same settings")
    dim: int | None = Field(None, ge=4, description="as backbone.dim")

    def over(self, section: AnySection) -> AnySection:
        """A section with what this has of it."""
        own = type(section).model_fields
        changes = {name: value for name, value in self.model_dump(exclude_none=True).items() if name in own}
        return section.model_copy(update=changes)


Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Temperature = Annotated[float, Field(gt=0)]
