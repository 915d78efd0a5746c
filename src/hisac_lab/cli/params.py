"""The whole of params.yaml: the check at the door, the generated defaults and JSON schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, model_validator

from hisac_lab.config.abtest import ABTestConfig
from hisac_lab.config.acquire import AcquireConfig
from hisac_lab.config.base import PARAMS_FILE, Section, parse, read_yaml
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.evaluate import EvaluateConfig
from hisac_lab.config.events import PrepareConfig
from hisac_lab.config.mlflow import MLflowConfig
from hisac_lab.config.model import ExperimentConfig, FrameConfig, InstancesConfig, ModelConfig
from hisac_lab.config.promotion import PromotionConfig
from hisac_lab.config.sweep import SweepConfig
from hisac_lab.config.tokens import EmbedConfig, TokenizeConfig
from hisac_lab.config.train import TrainConfig
from hisac_lab.models.catalog import AnyModel
from hisac_lab.models.din import DINConfig
from hisac_lab.models.hisac import HiSACConfig
from hisac_lab.models.iat import IATConfig

SCHEMA_FILE = Path("workflow/params.schema.json")


class Params(Section):
    """Every choice a user can make."""

    compute: ComputeConfig = Field(ComputeConfig(), description="where the mathematics runs")
    acquire: AcquireConfig = Field(AcquireConfig(), description="the raw log")
    prepare: PrepareConfig = Field(PrepareConfig(), description="histories, requests, samples, the split in time")
    embed: EmbedConfig = Field(EmbedConfig(), description="item embeddings: the frozen semantic space")
    tokenize: TokenizeConfig = Field(TokenizeConfig(), description="semantic IDs by residual k-means")
    experiment: ExperimentConfig = Field(ExperimentConfig(), description="the matrix of training runs")
    frame: FrameConfig = Field(FrameConfig(), description="what every model shares")
    models: dict[str, AnyModel] = Field(
        {"din_50": DINConfig(whole_history=False), "din_whole": DINConfig(), "hisac": HiSACConfig()},
        description="models by name; a variant is one more entry",
    )
    instances: InstancesConfig = Field(InstancesConfig(), description="IAT's store of compressed training instances")
    sweep: SweepConfig = Field(SweepConfig(), description="the Optuna study")
    train: TrainConfig = Field(TrainConfig(), description="one training run")
    evaluate: EvaluateConfig = Field(EvaluateConfig(), description="offline evaluation on the test period")
    abtest: ABTestConfig = Field(ABTestConfig(), description="the simulated A/B test")
    promotion: PromotionConfig = Field(PromotionConfig(), description="gates in front of the alias champion")
    mlflow: MLflowConfig = Field(MLflowConfig(), description="where runs and models are shown")

    @model_validator(mode="after")
    def _names_exist(self) -> Params:
        for place, name in [
            *(("experiment.models", name) for name in self.experiment.models),
            ("sweep.model", self.sweep.model),
        ]:
            if name not in self.models:
                raise ValueError(f"{place} names {name!r}, which is not in the section models")
        if not isinstance(self.models[self.sweep.model], HiSACConfig):
            raise ValueError(f"sweep.model names {self.sweep.model!r}, but only a model of kind hisac can be swept")
        for place, name in [
            ("evaluate.reference", self.evaluate.reference),
            ("abtest.control", self.abtest.control),
        ]:
            if name not in self.experiment.models:
                raise ValueError(f"{place} names {name!r}, which is not in experiment.models")
        for name in self.experiment.models:
            self._instances_fit(name, self.models[name])
        deepest = len(self.tokenize.widths)
        if max(self.sweep.depth) > deepest:
            raise ValueError(f"sweep.depth holds {max(self.sweep.depth)}, but tokenize.widths has {deepest} levels")
        return self

    def _instances_fit(self, name: str, model: ModelConfig) -> None:
        if not isinstance(model, IATConfig):
            return
        made = self.instances
        if made.order == "none":
            raise ValueError(f"models.{name} reads instances, but instances.order is none: set it to temporal or user")
        if model.dim != made.dim:
            raise ValueError(f"models.{name}.dim is {model.dim}, but instances.dim is {made.dim}: give both the same")
        if model.stored == "after" and made.order == "temporal":
            rule = f"models.{name}.stored is after, but instances.order temporal has no transformer"
            raise ValueError(f"{rule}: set stored to before")


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Reads and checks the whole file.

    Raises:
        UserError: One line that names the first field at fault, its value and the mend.
    """
    return parse(Params, read_yaml(path), path)


def schema() -> str:
    """The JSON schema that editors use for completion."""
    return json.dumps(Params.model_json_schema(), indent=1, sort_keys=True) + "\n"


def defaults() -> str:
    """params.yaml with every default, each explained by the description of its field."""
    lines = [
        f"# yaml-language-server: $schema={SCHEMA_FILE.as_posix()}",
        "# Every choice a user can make. `hisac-lab params default` prints this file with its defaults.",
    ]
    params = Params()
    for name, field in Params.model_fields.items():
        lines += ["", f"{name}:  # {field.description}"]
        lines += _render(getattr(params, name), 1)
    return "\n".join(lines) + "\n"


def _render(value: BaseModel | dict[str, BaseModel], depth: int) -> list[str]:
    pad = "  " * depth
    lines: list[str] = []
    if isinstance(value, dict):
        for name, entry in value.items():
            lines += [f"{pad}{name}:", *_render(entry, depth + 1)]
        return lines
    for name, field in type(value).model_fields.items():
        entry = getattr(value, name)
        if isinstance(entry, BaseModel):
            lines += [f"{pad}{name}:  # {field.description}", *_render(entry, depth + 1)]
        else:
            lines.append(f"{pad}{name}: {_scalar(entry)}  # {field.description}")
    return lines


def _scalar(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_scalar(entry) for entry in value) + "]"
    text: str = yaml.safe_dump(value, default_flow_style=True, width=1000, allow_unicode=True)
    return text.replace("\n...\n", "").strip()
