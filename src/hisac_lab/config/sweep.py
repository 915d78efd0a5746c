"""Section `sweep`: the Optuna studies, their search spaces and the rule that chooses."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    JsonValue,
    Tag,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from hisac_lab.config.base import Name, Section

Point: TypeAlias = dict[str, JsonValue]
"""A value of each dimension that has one, by its key."""
COUNTABLE = 10_000
"""Values of a range beyond which it is not gone through one by one."""
SHARED = re.compile(r"postgresql://[^\s:@/]+@[^\s:@/]+(:\d+)?/[^\s:@/]+")
"""The address of a database, without a password."""
When: TypeAlias = dict[str, JsonValue]


def written(value: JsonValue) -> str:
    """A value as text, by which values are told apart: 1 and true differ."""
    return json.dumps(value, sort_keys=True)


class Values(Section):
    """A dimension of listed values; without a condition it is written as the list."""

    values: tuple[JsonValue, ...] = Field(min_length=1, strict=False, description="what may be taken")
    when: When = Field({}, description="only where these other dimensions have these values")

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, content: Any) -> Any:
        return {"values": content} if isinstance(content, list | tuple) else content

    @model_validator(mode="after")
    def _once(self) -> Values:
        if len({written(value) for value in self.values}) < len(self.values):
            raise ValueError("a value is listed twice: list each once")
        return self

    @model_serializer
    def _as_written(self) -> Any:
        return {"values": list(self.values), "when": self.when} if self.when else list(self.values)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"items": {}, "minItems": 1, "type": "array"}, handler.resolve_ref_schema(handler(core))]}


class Range(Section):
    """A dimension between two bounds, both in it; of whole numbers where all that is given is whole."""

    low: int | float = Field(description="smallest value")
    high: int | float = Field(description="largest value")
    log: bool = Field(False, description="even on a logarithmic scale")
    step: Annotated[int, Field(gt=0)] | Annotated[float, Field(gt=0)] | None = Field(
        None, description="distance of neighboring values; null: 1, or any"
    )
    when: When = Field({}, description="only where these other dimensions have these values")

    @property
    def whole(self) -> bool:
        """Whether its values are integers."""
        return all(isinstance(bound, int) for bound in (self.low, self.high, self.step or 1))

    @property
    def values(self) -> tuple[JsonValue, ...] | None:
        """Every value, where they can be counted; None: they cannot."""
        step = self.step or (1 if self.whole else None)
        if step is None:
            return None
        count = int((self.high - self.low) / step + 1e-9) + 1
        if count > COUNTABLE:
            return None
        steps = [self.low + at * step for at in range(count)]
        return tuple(steps if self.whole else [significant(value) for value in steps])

    @model_validator(mode="after")
    def _holds_something(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"the range from {self.low} to {self.high} is empty: give low below high")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("a logarithmic range has a low above 0 and no step: change it, or set log: false")
        return self


def significant(value: float) -> float:
    """At four significant digits: the last ones depend on the processor."""
    return float(f"{value:.4g}")


def _kind(content: Any) -> str:
    return "range" if isinstance(content, Range) or (isinstance(content, dict) and "values" not in content) else "list"


Dimension: TypeAlias = Annotated[Annotated[Values, Tag("list")] | Annotated[Range, Tag("range")], Discriminator(_kind)]
Space: TypeAlias = dict[str, Dimension]
SPACE: dict[str, Any] = {
    "agents": [4, 8, 16, 32, 64],
    "depth": [1, 2, 3],
    "breadth": [0.4, 0.6, 0.8],
    "temperature": [0.03, 0.07, 0.15],
}


class SweepConfig(Section):
    """The Optuna studies: one for each swept model, all with the same budget."""

    models: tuple[Name, ...] = Field(
        ("hisac",),
        min_length=1,
        description="models that are tuned, each with as many trials; `train` trains the winners",
    )
    space: dict[Name, Space] = Field(
        {"hisac": {key: Values(values=tuple(values)) for key, values in SPACE.items()}},
        description="of each model its dimensions: a field of the model, train.RATE, backbone.dim or tokenize.FIELD, "
        "each a list, {low, high, log, step} or {values, when: {OTHER: VALUE}}",
    )
    sampler: Literal["tpe", "nsga2", "sobol", "grid"] = Field(
        "tpe", description="tpe and nsga2 learn from earlier rounds; sobol: spread evenly; grid: every point in turn"
    )
    fixed: dict[Name, tuple[dict[str, JsonValue], ...]] = Field(
        {}, description="of each model points that are tried first, as the paper's; inside the space"
    )
    trials: int = Field(8, ge=1, description="trials of each model, no two alike; fewer where the space has no more")
    round_size: int = Field(4, ge=1, description="trials asked for at once; they run in parallel")
    seed: int = Field(0, ge=0, description="seed of the study and of every trial's training")
    train_share: float = Field(0.6, gt=0, le=1, description="share of the training requests a trial sees, the latest")
    epochs: int = Field(2, ge=1, description="epochs of a trial")
    halving: int | None = Field(
        None,
        ge=2,
        description="pruning: after 1, N, N x N ... epochs one in N trials of a round goes on; null: all do",
    )
    storage: str | None = Field(
        None,
        description="a database that many machines share, postgresql://USER@HOST:PORT/NAME with the password in "
        "~/.pgpass; its trials are not repeatable to the byte; null: trials of this machine alone, which are",
    )
    max_state_bytes: float | None = Field(
        None, gt=0, description="gate: bytes of user state at most; trials above it are not trained; null: any"
    )
    max_request_macs: float | None = Field(
        None, gt=0, description="gate: multiply-adds of a whole request of 500 candidates at most; null: any"
    )
    finalists: int = Field(
        2,
        ge=2,
        description="trials that are trained with more seeds before the choice: the best and its cheaper rivals",
    )
    finalist_seeds: int = Field(3, ge=1, description="seeds of a finalist, the study's own among them")
    standard_errors: float = Field(
        2.0,
        ge=0,
        description="the choice: the cheapest trial whose AUC is so many standard errors below the best at most",
    )

    @model_validator(mode="after")
    def _whole_rounds(self) -> SweepConfig:
        if self.trials % self.round_size:
            raise ValueError("trials must be a multiple of round_size")
        return self

    @model_validator(mode="after")
    def _shared(self) -> SweepConfig:
        if self.storage is not None and not SHARED.fullmatch(self.storage):
            raise ValueError("storage is postgresql://USER@HOST:PORT/NAME; a password stands in ~/.pgpass, not here")
        if self.storage is not None and self.halving is not None:
            raise ValueError("halving needs the rounds of one machine, storage has none: set one of them to null")
        return self

    @model_validator(mode="after")
    def _named(self) -> SweepConfig:
        if len(set(self.models)) < len(self.models):
            raise ValueError("a model is named twice in models: name each once")
        for name in self.models:
            if not self.space.get(name):
                raise ValueError(f"model {name!r} has no dimension in sweep.space: add sweep.space.{name}")
        return self
