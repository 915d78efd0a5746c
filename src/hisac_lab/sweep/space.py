"""The search space of one model: which keys there may be, points inside it, and what a point makes of the settings.

A key is a field of the model, or a field of another section after its name: train.learning_rate, backbone.dim,
tokenize.widths. Of `train` and `backbone` there are those that `experiment.tuned` has, where training finds them.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import TypeAdapter, ValidationError

from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.config.base import Section, parse
from hisac_lab.config.model import BackboneConfig, ModelConfig
from hisac_lab.config.sweep import Dimension, Point, Range, Space, SweepConfig, significant, written
from hisac_lab.config.tokens import TokenizeConfig
from hisac_lab.config.train import TrainConfig, TunedConfig

if TYPE_CHECKING:
    import optuna

SECTIONS: dict[str, type[Section]] = {"train": TrainConfig, "backbone": BackboneConfig, "tokenize": TokenizeConfig}
MOST = 4096
"""Points of a space that are looked at one by one."""


@dataclass(frozen=True)
class Base:
    """Settings that a point changes.

    Attributes:
        model: Of the swept model.
        backbone: The section `backbone`.
        train: The section `train`.
        tokenize: The section `tokenize`.
    """

    model: ModelConfig
    backbone: BackboneConfig
    train: TrainConfig
    tokenize: TokenizeConfig

    def at(self, point: Point) -> Base:
        """The settings of a point, checked as a whole.

        Raises:
            UserError: They do not go together.
        """
        parts = {"": self.model, "backbone": self.backbone, "train": self.train, "tokenize": self.tokenize}
        found: dict[str, Any] = {}
        for section, part in parts.items():
            changes = {_field(key): value for key, value in point.items() if _section(key) == section}
            if "budgets" in type(part).model_fields and changes.keys() & {"agents", "breadth", "depth"}:
                changes = {"budgets": None} | changes  # they would override these
            new = parse(type(part), part.model_dump(mode="json") | changes, SETTINGS, section) if changes else part
            found[section or "model"] = new
        return Base(**found)

    def tuned(self, point: Point) -> dict[str, Any]:
        """What a point has of `train` and `backbone`, as `experiment.tuned` names it."""
        return {_field(key): value for key, value in point.items() if _section(key) in ("train", "backbone")}


def _section(key: str) -> str:
    return key.rpartition(".")[0]


def _field(key: str) -> str:
    return key.rpartition(".")[2]


def is_active(dimension: Dimension, point: Point) -> bool:
    """Whether a dimension has a value beside these."""
    return all(key in point and written(point[key]) == written(value) for key, value in dimension.when.items())


def quantile(dimension: Dimension, share: float) -> Any:
    """The value at a share in [0, 1) of a dimension."""
    values = dimension.values
    if isinstance(dimension, Range) and dimension.log:
        ends = math.log(dimension.low), math.log(dimension.high)
        return _inside(dimension, math.exp(ends[0] + share * (ends[1] - ends[0])))
    if values is not None:
        return values[int(share * len(values))]
    assert isinstance(dimension, Range)
    return _inside(dimension, dimension.low + share * (dimension.high - dimension.low))


def _inside(dimension: Range, value: float) -> int | float:
    """A value as settings have it: rounded, and not out of the range by that."""
    if dimension.whole:
        return min(max(round(value), int(dimension.low)), int(dimension.high))
    return min(max(significant(value), float(dimension.low)), float(dimension.high))


def at_quantiles(space: Space, shares: list[float]) -> Point:
    """The point at a share of each dimension; one whose condition is not met has none."""
    point: Point = {}
    for (key, dimension), share in zip(space.items(), shares, strict=True):
        if is_active(dimension, point):
            point[key] = quantile(dimension, share)
    return point


def grid(space: Space) -> Iterator[Point]:
    """Every point in turn, the last dimension fastest.

    Raises:
        UserError: A dimension has no end of values.
    """
    points: Iterator[Point] = iter([{}])
    for key, dimension in space.items():
        if dimension.values is None:
            raise UserError(SETTINGS, f"{key} has no end of values", "give it a step or a list", "sweep.space")
        points = _spread(points, key, dimension)
    return points


def _spread(points: Iterator[Point], key: str, dimension: Dimension) -> Iterator[Point]:
    for point in points:
        if not is_active(dimension, point):
            yield point
            continue
        for value in dimension.values or ():
            yield {**point, key: value}


def is_finite(space: Space) -> bool:
    """Whether every dimension can be counted, and all of them are few enough to be."""
    return math.prod(len(dimension.values) if dimension.values else MOST + 1 for dimension in space.values()) <= MOST


def suggest(space: Space, trial: optuna.Trial) -> Point:
    """The point that Optuna draws; it is told listed values that are no scalars as text."""
    point: Point = {}
    for key, dimension in space.items():
        if not is_active(dimension, point):
            continue
        if not isinstance(dimension, Range):
            labels = {label(value): value for value in dimension.values}
            point[key] = labels[trial.suggest_categorical(key, list(labels))]
            continue
        values: tuple[Any, ...] = dimension.values or (dimension.low, dimension.high)
        low, high, step = values[0], values[-1], None if dimension.log else dimension.step
        if dimension.whole:
            point[key] = trial.suggest_int(key, low, high, step=int(step or 1), log=dimension.log)
        else:
            point[key] = _inside(dimension, trial.suggest_float(key, low, high, step=step, log=dimension.log))
    return point


def label(value: Any) -> str | int | float | bool | None:
    """A value as Optuna has it."""
    scalar: str | int | float | bool | None = json.dumps(value) if isinstance(value, list | dict | tuple) else value
    return scalar


def labels(space: Space, point: Point) -> dict[str, Any]:
    """A point as Optuna has it."""
    return {key: value if isinstance(space[key], Range) else label(value) for key, value in point.items()}


def holds(space: Space, point: Point) -> str | None:
    """Why a point is not in the space; None: it is."""
    for key, dimension in space.items():
        if is_active(dimension, point) != (key in point):
            return f"{key} is missing" if key not in point else f"{key} has a value, but not its condition"
        if key in point and not _takes(dimension, point[key]):
            return f"{key} {written(point[key])} is not in it"
    unknown = [key for key in point if key not in space]
    return f"{unknown[0]} is no dimension" if unknown else None


def _takes(dimension: Dimension, value: Any) -> bool:
    if dimension.values is not None:
        return written(value) in map(written, dimension.values)
    assert isinstance(dimension, Range)
    return isinstance(value, int | float) and dimension.low <= value <= dimension.high


def check(config: SweepConfig, name: str, base: Base) -> None:
    """Checks the space of one model and its fixed points, before anything runs.

    Args:
        config: The section `sweep`.
        name: Of the model.
        base: Its settings.

    Raises:
        UserError: One line on the first fault.
    """
    space, place = config.space[name], f"sweep.space.{name}"
    if type(base.model).needs_instances:
        raise UserError(SETTINGS, f"{name} reads instances, which trials have not", "take it out", "sweep.models")
    for at, (key, dimension) in enumerate(space.items()):
        _check_key(key, base, f"{place}.{key}")
        _check_values(key, dimension, base, f"{place}.{key}")
        for other, value in dimension.when.items():
            above = space.get(other) if other in list(space)[:at] else None
            if above is None or not _takes(above, value):
                what = f"depends on {other} {written(value)}, which is no value of a dimension above it"
                raise UserError(SETTINGS, what, "put that dimension first, or mend the value", f"{place}.{key}")
    _check_depth(space, base, place)
    for point in config.fixed.get(name, ()):
        if why := holds(space, point):
            hint = "name a value of the space for every dimension"
            raise UserError(SETTINGS, f"{written(point)} is outside the space: {why}", hint, f"sweep.fixed.{name}")
        _check_point(point, base, f"sweep.fixed.{name}")
    if is_finite(space):
        points = list(grid(space))
        if config.sampler == "grid" and len(points) > config.trials:
            what = f"the grid has {len(points)} points, but sweep.trials is {config.trials}"
            raise UserError(SETTINGS, what, "raise it, or take values out", place)
        for point in points:
            _check_point(point, base, place)
    elif config.sampler == "grid":
        what = f"sampler grid takes {MOST:,} points at most, each dimension a list or a range with a step"
        raise UserError(SETTINGS, what, "take values out", place)


def _check_key(key: str, base: Base, place: str) -> None:
    section, field = _section(key), _field(key)
    owner: Any = type(base.model) if section == "" else SECTIONS.get(section)
    known = [name for name in owner.model_fields if name != "kind"] if owner else []
    if section in ("train", "backbone"):
        known = [name for name in known if name in TunedConfig.model_fields and name != "epochs"]
    if field in known:
        return
    whose = f"a model of kind {base.model.kind}" if section == "" else f"what sweeps may change of {section}"
    close = difflib.get_close_matches(field, known, n=1)
    hint = f"did you mean `{close[0]}`?" if close else f"there are {', '.join(known[:12]) or 'none'}"
    raise UserError(SETTINGS, f"{field!r} is no field of {whose}", hint, place)


def _check_values(key: str, dimension: Dimension, base: Base, place: str) -> None:
    section = _section(key)
    field = (type(base.model) if section == "" else SECTIONS[section]).model_fields[_field(key)]
    annotation: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    ends = [dimension.low, dimension.high] if isinstance(dimension, Range) else dimension.values
    for value in ends:
        try:
            TypeAdapter(annotation).validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            first = error.errors()[0]["msg"]
            raise UserError(
                SETTINGS, f"value {written(value)} is wrong", first[0].lower() + first[1:], place
            ) from error


def _check_depth(space: Space, base: Base, place: str) -> None:
    """Levels of a codebook are those of `tokenize.widths`, or of the widths that are swept."""
    if "depth" not in space or base.model.kind == "trees":
        return
    widths: Any = space["tokenize.widths"].values if "tokenize.widths" in space else [base.tokenize.widths]
    deepest = max(len(each) for each in widths)
    for value in space["depth"].values or ():
        if isinstance(value, int) and value > deepest:
            what = f"{value} is deeper than the {deepest} levels of tokenize.widths"
            raise UserError(SETTINGS, what, "lower it, or add to tokenize.widths", f"{place}.depth")


def _check_point(point: Point, base: Base, place: str) -> None:
    try:
        base.at(point)
    except UserError as error:
        what = f"{written(point)} does not go together: {error.what}"
        raise UserError(SETTINGS, what, f"{error.hint}, or give a dimension a condition `when`", place) from error
