"""A trained model on disk: safetensors and JSON, enough to build it again anywhere; never a pickle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from hisac_lab.base import plugins
from hisac_lab.base.artifacts import digest_of, sha256_file
from hisac_lab.base.errors import UserError, explain_os_error
from hisac_lab.base.records import Digested
from hisac_lab.config.base import parse
from hisac_lab.config.model import BackboneConfig, ModelConfig
from hisac_lab.inference.records import ModelFile
from hisac_lab.inference.weights import Streamed, write_weights
from hisac_lab.models.backbone import Ranker
from hisac_lab.models.catalog import KINDS, build, config_of
from hisac_lab.models.contract import ItemSpace
from hisac_lab.models.tables import Embedding

WEIGHTS, MODEL = "weights.safetensors", ModelFile.FILE
MODEL_FILES = (WEIGHTS, MODEL)
"""What makes a folder the model that it is."""
RESTORE = "restore it with `dvc checkout`, or train it again"


def save_model(
    out: Path,
    model: Ranker,
    config: ModelConfig,
    items: ItemSpace,
    instances: str | None = None,
    streamed: Mapping[str, Streamed] = MappingProxyType({}),
) -> None:
    """Writes weights and everything needed to build the model again; no pickles.

    Args:
        out: A directory.
        model: Its weights.
        config: Its settings.
        items: What it knows of the items.
        instances: Digest of the instance store it was trained with, for a model that reads one.
        streamed: Tables that are too large for this process, by the names of their weights.
    """
    held = {name: part for name, part in model.state_dict().items() if name not in streamed}
    tensors = {name: part.detach().cpu().clone().contiguous() for name, part in held.items()}
    twins = _tied({name: tensors[name] for name, _ in model.named_buffers(remove_duplicate=False) if name in tensors})
    write_weights(out / WEIGHTS, {name: part for name, part in tensors.items() if name not in twins}, streamed)
    facts = {
        "model": config.model_dump(mode="json"),
        "backbone": model.backbone.model_dump(mode="json"),
        "items": items.shape(),
        "codebook": items.codebook.digest,
        "tied": twins,
        **plugins.origin(plugins.MODELS, config.kind),
    }
    ModelFile.of(facts if instances is None else facts | {"instances": instances}, out / MODEL).save(out)


def weights_of(folder: Path) -> str:
    """Digest of the weights and settings in a folder that `save_model` wrote, or in a copy of it.

    Raises:
        UserError: A file is missing.
    """
    try:
        return digest_of({file: sha256_file(folder / file) for file in MODEL_FILES})
    except OSError as error:
        raise explain_os_error(error, folder) from error


def load_model(path: Path, codebook: Path | None = None, instances: Path | None = None) -> tuple[Ranker, ModelConfig]:
    """Builds a saved model again, from its own two files alone.

    Args:
        path: Where `save_model` wrote it.
        codebook: The codebook it is about to be used with (output of the stage `codebook`), or None.
        instances: The instance store it is about to be used with (output of the stage `instances`), or None.

    Raises:
        UserError: The files are missing or damaged, the package that brought the model is not installed, or the model
            was trained with another codebook or instance store.
    """
    facts = ModelFile.open(path)
    if codebook is not None:
        check_codebook(path, codebook)
    if instances is not None and facts.instances is not None:
        _check(path, "instances", instances, "instance store")
    if (kind := facts.model.get("kind")) not in KINDS:
        package = facts.package or "another version of hisac-lab"
        raise UserError(path / MODEL, f"{kind!r} comes from {package}, which is not here", "install it", "model.kind")
    backbone = parse(BackboneConfig, facts.backbone, path / MODEL, "backbone")
    try:
        config = config_of(facts.model)
        model = build(config, backbone, replace(ItemSpace.blank(**facts.items), blanked=True), seed=0)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(path / MODEL, f"is damaged ({_last_line(error)})", RESTORE) from error
    try:
        tensors = load_file(str(path / WEIGHTS))
        mapped = _map_tables(model, tensors)
        state = tensors | {name: tensors[kept] for name, kept in facts.tied.items()}
        lacking, unknown = model.load_state_dict({k: v for k, v in state.items() if k not in mapped}, strict=False)
        if unknown or set(lacking) != mapped:
            raise KeyError(", ".join([*unknown, *sorted(set(lacking) - mapped)]))
    except OSError as error:
        raise explain_os_error(error, path / WEIGHTS) from error
    except (SafetensorError, KeyError, RuntimeError) as error:
        what = f"is damaged, or not of the model in {MODEL} beside it ({_last_line(error)})"
        raise UserError(path / WEIGHTS, what, RESTORE) from error
    model.eval()
    return model, config


def _map_tables(model: nn.Module, tensors: Mapping[str, Tensor]) -> set[str]:
    """Gives large tables the file's own numbers, of which the rows that are asked for are read, and no others."""
    mapped = set()
    for path, table in model.named_modules():
        if isinstance(table, Embedding) and table.sparse:
            name = f"{path}.weight"
            if tensors[name].shape != table.weight.shape:
                raise KeyError(f"{name} has another shape")
            table.weight = nn.Parameter(tensors[name])
            mapped.add(name)
    return mapped


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _tied(buffers: dict[str, Tensor]) -> dict[str, str]:
    """Frozen tensors that hold the same numbers as an earlier one, with its name; they are stored once."""
    kept: list[str] = []
    tied: dict[str, str] = {}
    for name, buffer in buffers.items():
        alike = (
            other for other in kept if buffers[other].dtype == buffer.dtype and torch.equal(buffers[other], buffer)
        )
        first = next(alike, None)
        if first is None:
            kept.append(name)
        else:
            tied[name] = first
    return tied


def check_codebook(path: Path, codebook: Path) -> None:
    """Refuses a codebook that a saved model was not trained with.

    Args:
        path: Where `save_model` wrote the model.
        codebook: Output of the stage `codebook`.

    Raises:
        UserError: They do not belong together.
    """
    _check(path, "codebook", codebook, "codebook")


def _check(path: Path, key: str, output: Path, what: str) -> None:
    trained_with, present = getattr(ModelFile.open(path), key), Digested.open(output).digest
    if present != trained_with:
        raise UserError(
            path / MODEL,
            f"the model was trained with {what} {trained_with}, {output} holds {present}",
            f"train it again, or restore the {what} of then",
            key,
        )
