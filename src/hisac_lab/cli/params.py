"""The whole of params.yaml: the check at the door, the generated defaults and JSON schema."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import yaml
from pydantic import BaseModel, Field, model_validator

from hisac_lab.base.errors import UserError
from hisac_lab.config.abtest import POPULARITY, ABTestConfig
from hisac_lab.config.acquire import AcquireConfig
from hisac_lab.config.base import PARAMS_FILE, Name, Section, parse, read_yaml
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.evaluate import EvaluateConfig
from hisac_lab.config.events import PrepareConfig
from hisac_lab.config.mlflow import MLflowConfig
from hisac_lab.config.model import BackboneConfig, ExperimentConfig, InstancesConfig, ModelConfig
from hisac_lab.config.promotion import PromotionConfig
from hisac_lab.config.serve import ServeConfig
from hisac_lab.config.sweep import SweepConfig
from hisac_lab.config.tokens import EmbedConfig, TokenizeConfig, flat_names
from hisac_lab.config.train import TrainConfig
from hisac_lab.models.catalog import AnyModel
from hisac_lab.models.din import DINConfig
from hisac_lab.models.hisac import HiSACConfig
from hisac_lab.models.iat import IATConfig
from hisac_lab.models.linear import LinearConfig
from hisac_lab.sweep.space import Base, check

SCHEMA_FILE = Path("workflow/params.schema.json")
WIDE = 100_000
FLAT = re.compile(r'"(flat_\d+(?:_\d+)?)"')
Note: TypeAlias = Callable[[str, str], str]


class Params(Section):
    """Every choice a user can make."""

    compute: ComputeConfig = Field(ComputeConfig(), description="where the mathematics runs")
    acquire: AcquireConfig = Field(AcquireConfig(), description="the raw log")
    prepare: PrepareConfig = Field(PrepareConfig(), description="histories, requests, samples, the split in time")
    embed: EmbedConfig = Field(EmbedConfig(), description="item embeddings: the frozen semantic space")
    tokenize: TokenizeConfig = Field(TokenizeConfig(), description="semantic IDs by residual k-means")
    backbone: BackboneConfig = Field(BackboneConfig(), description="what every model shares")
    models: dict[Name, AnyModel] = Field(
        {
            "din_50": DINConfig(whole_history=False),
            "din_whole": DINConfig(),
            "hisac": HiSACConfig(),
            "item_alone": LinearConfig(reads=("item_recency", "popularity", "item_rate")),
            "user_alone": LinearConfig(reads=("length", "recency", "pace", "rate")),
        },
        description="models by name; a variant is one more entry",
    )
    instances: InstancesConfig = Field(InstancesConfig(), description="IAT's store of compressed training instances")
    sweep: SweepConfig = Field(SweepConfig(), description="the Optuna study")
    train: TrainConfig = Field(TrainConfig(), description="one training run")
    evaluate: EvaluateConfig = Field(EvaluateConfig(), description="offline evaluation on the test period")
    abtest: ABTestConfig = Field(ABTestConfig(), description="the simulated A/B test")
    promotion: PromotionConfig = Field(PromotionConfig(), description="gates in front of the alias champion")
    serve: ServeConfig = Field(ServeConfig(), description="the server in front of a promoted version")
    mlflow: MLflowConfig = Field(MLflowConfig(), description="where runs and models are shown")
    experiment: ExperimentConfig = Field(ExperimentConfig(), description="the matrix of training runs")

    @model_validator(mode="after")
    def _names_exist(self) -> Params:
        for place, name in [
            *(("experiment.models", name) for name in self.experiment.models),
            *(("experiment.tuned", name) for name in self.experiment.tuned),
            *(("sweep.models", name) for name in self.sweep.models),
        ]:
            if name not in self.models:
                raise ValueError(f"{place} names {name!r}, which is not in the section models")
        for place, name, others in [
            ("evaluate.reference", self.evaluate.reference, ()),
            ("abtest.control", self.abtest.control, (POPULARITY,)),
        ]:
            if name not in (*self.experiment.models, *others):
                raise ValueError(f"{place} names {name!r}, which is not in experiment.models")
        for name in self.backbone.tasks:
            if name not in self.prepare.tasks:
                raise ValueError(f"backbone.tasks names {name!r}, which is not in prepare.tasks: name its column there")
        for name in self.experiment.models:
            self._instances_fit(name, self.models[name])
            self._codebooks_are_there(name, self.models[name])
        return self

    def check_sweeps(self) -> Params:
        """Checks the search spaces.

        Raises:
            UserError: One does not fit its model.
        """
        for name in self.sweep.models:
            check(self.sweep, name, Base(self.models[name], self.backbone, self.train, self.tokenize))
        return self

    def _codebooks_are_there(self, name: str, model: ModelConfig) -> None:
        """Each flat codebook that a model's settings name is one of `tokenize.flat`."""
        there = flat_names(self.tokenize.flat)
        for wanted in FLAT.findall(model.model_dump_json()):
            if wanted not in there:
                width = wanted.split("_")[1]
                rule = f"models.{name} names the codebook {wanted}, but tokenize.flat is {list(self.tokenize.flat)}"
                raise ValueError(f"{rule}: add {width} there")

    def _instances_fit(self, name: str, model: ModelConfig) -> None:
        if not isinstance(model, IATConfig):
            return
        store = self.instances
        if store.order == "none":
            raise ValueError(f"models.{name} reads instances, but instances.order is none: set it to temporal or user")
        if model.dim != store.dim:
            raise ValueError(f"models.{name}.dim is {model.dim}, but instances.dim is {store.dim}: give both the same")
        if model.order is not None and store.order not in (model.order, "both"):
            rule = f"models.{name}.order is {model.order}, but instances.order is {store.order}"
            raise ValueError(f"{rule}: set that to both")
        if model.stored == "after" and "temporal" in (store.order, model.order):
            rule = f"models.{name}.stored is after, but temporal order has no transformer"
            raise ValueError(f"{rule}: set stored to before")


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Reads and checks the whole file.

    Raises:
        UserError: One line that names the first field at fault, its value and a hint.
    """
    return parsed(read_yaml(path), path)


def parsed(content: dict[str, Any], path: Path) -> Params:
    """Checks the whole content of a file, search spaces too.

    Raises:
        UserError: One line that names the first field at fault, its value and a hint.
    """
    params = parse(Params, content, path)
    try:
        return params.check_sweeps()
    except UserError as error:
        raise error.told(path) from error


def schema() -> str:
    """The JSON schema that editors use for completion."""
    return json.dumps(Params.model_json_schema(), indent=1, sort_keys=True) + "\n"


def defaults() -> str:
    """params.yaml with every default, each explained by the description of its field.

    DVC's writer (`dvc exp run -S`) leaves its form alone: lists in lines of their own, nothing for null, comments
    behind their keys. That writer loses a blank line or a comment below a list, so none stands there.
    """
    return render(Params())


def render(params: Params, note: Note = lambda key, text: text) -> str:
    """params.yaml with these settings; `note` makes a key's comment of the key and its field's description."""
    lines = [
        f"# yaml-language-server: $schema={SCHEMA_FILE.as_posix()}",
        "# Every choice a user can make. `hisac-lab params default` prints this file with its defaults.",
    ]
    for name, field in Params.model_fields.items():
        lines += ["", _line(name, 0, note(name, field.description or ""))]
        lines += _render(getattr(params, name), name, note)
    return "\n".join(lines) + "\n"


def _render(value: BaseModel | dict[str, BaseModel], place: str, note: Note) -> list[str]:
    depth, lines = place.count(".") + 1, []
    if isinstance(value, dict):
        for name, entry in value.items():
            key = f"{place}.{name}"
            lines += [_line(name, depth, note(key, "")), *_render(entry, key, note)]
        return lines
    for name in _ordered(value):
        entry, key, field = getattr(value, name), f"{place}.{name}", type(value).model_fields[name]
        entry = field.default if entry == field.default else entry  # 200000 where it is read as 200000.0
        text = note(key, field.description or "")
        if isinstance(entry, BaseModel):
            lines += [_line(name, depth, text), *_render(entry, key, note)]
        else:
            beside, below = written(dict(sorted(entry.items())) if isinstance(entry, dict) else entry)
            lines += [_line(name, depth, text, beside), *("  " * depth + line for line in below)]
    return lines


def _nested(content: dict[str, dict[str, Any]], depth: int) -> list[str]:
    """Mappings in a mapping, a line for each key."""
    lines = []
    for name, entries in content.items():
        lines.append(_line(name, depth, "", "" if entries else "{}"))
        for key, entry in entries.items():
            beside, below = written(entry)
            lines += [_line(key, depth + 1, "", beside), *("  " * (depth + 1) + line for line in below)]
    return lines


def _ordered(section: BaseModel) -> list[str]:
    """Its fields; lists at its end go to its front, for a blank line follows the end."""
    names = list(type(section).model_fields)
    end = next((at for at in range(len(names), 0, -1) if not isinstance(getattr(section, names[at - 1]), tuple)), 0)
    return names[end:] + names[:end]


def _line(name: str, depth: int, comment: str, value: str = "") -> str:
    line = f"{'  ' * depth}{name}:{' ' if value else ''}{value}"
    return f"{line}  # {comment}" if comment else line


def written(value: Any) -> tuple[str, list[str]]:
    """A value as YAML: what stands behind its key, and the lines below it, from the column of the key on."""
    if isinstance(value, tuple | list) and value:
        return "", [f"- {inline(entry)}" for entry in value]
    if isinstance(value, dict) and value and all(isinstance(each, dict) for each in value.values()):
        return "", _nested(plain(value), 1)
    return "" if value is None else inline(value), []


def inline(value: Any) -> str:
    """A value as YAML in one line."""
    text: str = yaml.safe_dump(plain(value), default_flow_style=True, width=WIDE, allow_unicode=True, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")


def plain(value: Any) -> Any:
    """A value in lists and mappings of its own, as YAML has them; of a section what was set."""
    if isinstance(value, BaseModel):
        return plain(value.model_dump(mode="json", exclude_unset=True))
    if isinstance(value, tuple | list):
        return [plain(entry) for entry in value]
    return {name: plain(entry) for name, entry in value.items()} if isinstance(value, dict) else value
