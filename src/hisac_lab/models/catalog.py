"""The catalog of models: each class with a `Config`, in the modules of this package or named by an entry point.

Another distribution brings a kind by an entry point of the group `hisac_lab.models`, `KIND = "MODULE:CLASS"`.
Importing this module imports every model, and with them torch.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import torch
from pydantic import ConfigDict, Field, RootModel, TypeAdapter

from hisac_lab import models
from hisac_lab.base import plugins
from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.config.model import BackboneConfig, ModelConfig, SequenceConfig, StateConfig
from hisac_lab.models.backbone import BACKBONE_CARD, Backbone, Ranker
from hisac_lab.models.contract import CardLine, ItemSpace, Kind, LongBranch

MODULES = sorted(f"{models.__name__}.{module.name}" for module in pkgutil.iter_modules(models.__path__))


def _built_in() -> Iterator[type[Kind]]:
    """The kinds of this package."""
    for name in MODULES:
        if name != __name__:
            for value in vars(importlib.import_module(name)).values():
                if isinstance(value, type) and value.__module__ == name and "Config" in vars(value):
                    yield value


def _name(kind: type[Kind]) -> str:
    return str(kind.Config.model_fields["kind"].default)


def _fault(name: str, kind: Any) -> str | None:
    if not (isinstance(kind, type) and issubclass(kind, Kind) and "Config" in vars(kind)):
        return "is no class of a model with a Config"
    return None if _name(kind) == name else f"has a Config of kind {_name(kind)!r}"


BUILT_IN: dict[str, type[Kind]] = {_name(kind): kind for kind in sorted(_built_in(), key=_name)}
KINDS: dict[str, type[Kind]] = BUILT_IN | plugins.load(plugins.MODELS, BUILT_IN, _fault)
"""Each kind's class by name; `BUILT_IN` are those of this package."""

if TYPE_CHECKING:
    AnyModel: TypeAlias = ModelConfig
    EveryModel: TypeAlias = ModelConfig
else:
    EveryModel = Annotated[reduce(or_, (kind.Config for kind in KINDS.values())), Field(discriminator="kind")]
    AnyModel = Annotated[
        reduce(or_, (kind.Config for kind in KINDS.values() if kind.Config.configurable)), Field(discriminator="kind")
    ]


class Models(RootModel[dict[str, AnyModel]]):
    """The section `models`: settings by name."""

    model_config = ConfigDict(frozen=True, strict=True)

    def get(self, name: str) -> ModelConfig:
        """The settings of one model.

        Raises:
            UserError: There is no model of that name.
        """
        if name not in self.root:
            names = ", ".join(self.root)
            raise UserError(SETTINGS, f"{name!r} is not in it (there are: {names})", "add it", "models")
        return self.root[name]


def config_of(settings: dict[str, Any]) -> ModelConfig:
    """Settings of any kind as they were saved; pydantic's errors pass."""
    adapter: TypeAdapter[ModelConfig] = TypeAdapter(EveryModel)
    return adapter.validate_json(json.dumps(settings))


def learns(settings: dict[str, Any]) -> bool:
    """Whether runs with these settings, as they were saved, learn (see `ModelConfig`)."""
    return KINDS[settings["kind"]].Config.learns


def build(config: ModelConfig, backbone: BackboneConfig, items: ItemSpace, seed: int) -> Ranker:
    """Builds a model with weights drawn from `seed`.

    Raises:
        UserError: The configuration asks for more than codebook, items or backbone can give.
    """
    if not backbone.feedback:
        items = replace(items, feedback=None)
    torch.manual_seed(seed)
    made = KINDS[config.kind].make(config, backbone, items)
    assert made is None or isinstance(made, LongBranch | Ranker)
    if isinstance(made, LongBranch) and isinstance(config, SequenceConfig):
        made.length = config.length
    model = made if isinstance(made, Ranker) else Backbone(backbone, items, made, config.attention)
    if isinstance(config, StateConfig):
        model.state_bits = config.state_bits
    return model


def fidelity_card(config: ModelConfig) -> tuple[CardLine, ...]:
    """What is stated, inferred and left out in the reconstruction, and what the backbone around a long branch adds."""
    kind = KINDS[config.kind]
    return kind.card + (BACKBONE_CARD if issubclass(kind, LongBranch) else ())
