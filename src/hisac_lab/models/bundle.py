"""A trained model on disk: safetensors and JSON, enough to build it again anywhere; never a pickle."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import TypeAdapter
from safetensors.torch import load_file, save

from hisac_lab.base.artifacts import read_json, write_file, write_json
from hisac_lab.base.errors import explain_os_error
from hisac_lab.config.model import AnyModel, FrameConfig, ModelConfig
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import ItemSpace
from hisac_lab.models.frame import Ranker

WEIGHTS, MODEL = "weights.safetensors", "model.json"


def save_model(out: Path, model: Ranker, config: AnyModel, items: ItemSpace) -> None:
    """Writes weights and everything needed to build the model again; no pickles."""
    tensors = {name: part.detach().cpu().clone().contiguous() for name, part in model.state_dict().items()}
    write_file(out / WEIGHTS, save(tensors))
    write_json(
        out / MODEL,
        {
            "model": config.model_dump(mode="json"),
            "frame": model.frame.model_dump(mode="json"),
            "items": items.shape(),
        },
    )


def load_model(path: Path) -> tuple[Ranker, AnyModel]:
    """Builds a saved model again, from its own two files alone.

    Raises:
        UserError: The files are missing.
    """
    facts = read_json(path / MODEL)
    adapter: TypeAdapter[AnyModel] = TypeAdapter(ModelConfig)
    config = adapter.validate_json(json.dumps(facts["model"]))
    frame = FrameConfig.model_validate_json(json.dumps(facts["frame"]))
    model = build(config, frame, ItemSpace.blank(**facts["items"]), seed=0)
    try:
        model.load_state_dict(load_file(str(path / WEIGHTS)))
    except OSError as error:
        raise explain_os_error(error, path / WEIGHTS) from error
    model.eval()
    return model, config
