"""A run that begins with the champion's weights, where it has the champion's settings; anything else begins anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from hisac_lab.base.artifacts import Array, sha256_tree
from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.config.model import ModelConfig
from hisac_lab.inference.bundle import load_model
from hisac_lab.inference.carry import carry_over
from hisac_lab.inference.records import ModelFile, VocabularyFile
from hisac_lab.models.backbone import Ranker
from hisac_lab.models.fitted import Fitted

MEND = "`hisac-lab sync` restores it from the registry"


def check_champion(bundle: Path, digest: str) -> None:
    """Refuses a folder that is not the bundle which the settings name.

    Raises:
        UserError: It is another one, or was changed.
    """
    if (found := sha256_tree(bundle)) != digest:
        raise UserError(bundle, f"has digest {found[:12]}, params.yaml names {digest[:12] or 'none'}", MEND)


def begin_from(model: Ranker, config: ModelConfig, items: list[str], bundle: Path, digest: str) -> str | None:
    """Copies what the champion has learned into a model of the same settings, made for today's items.

    Items and nodes that it did not know keep the rows that were drawn for them; the optimizers begin anew.

    Args:
        model: Just built; changed in place.
        config: Its settings.
        items: Today's items in the order of their numbers.
        bundle: The champion's folder.
        digest: Of the bundle, as the settings name it.

    Returns:
        None: done. Else why the run begins with drawn weights: it is another model.

    Raises:
        UserError: The folder is another bundle, or what its weights are told has another meaning today.
    """
    check_champion(bundle, digest)
    facts = ModelFile.open(bundle)
    if isinstance(model, Fitted):
        return "it is fitted at once"
    settings = config.model_dump(mode="json")
    if facts.model != settings:
        kind, own = facts.model.get("kind"), settings["kind"]
        other = [name for name in sorted(settings) if settings[name] != facts.model.get(name)]
        return f"the champion is of kind {kind}" if kind != own else f"the champion has another {other[0]}"
    before, _ = load_model(bundle)
    hint = "run without it, train.start_from: null, or with the settings of then"
    if (field := _told_otherwise(before, model)) is not None:
        raise UserError(SETTINGS, f"the champion was told otherwise of {field}", hint, "train.start_from")
    place = torch.from_numpy(places(items, VocabularyFile.open(bundle).items))
    try:
        carry_over(before, model, place)
    except ValueError as error:
        raise UserError(SETTINGS, f"the champion's weights do not fit ({error})", hint, "train.start_from") from error
    return None


def places(ours: list[str], theirs: list[str]) -> Array:
    """Number in `ours` of each of `theirs`, -1 where it is not in it; (len(theirs),) int64."""
    number = {item: place for place, item in enumerate(ours)}
    return np.array([number.get(item, -1) for item in theirs], np.int64)


def _told_otherwise(before: Ranker, now: Ranker) -> str | None:
    """The first thing that models are told in columns whose meaning is another one now."""
    if before.backbone != now.backbone:
        return "the section backbone"
    if before.levels != now.levels:
        return "feedback: its levels are others"
    if before.context_columns.names != now.context_columns.names:
        return "the context of candidates"
    if before.user_features.names != now.user_features.names:
        return "the features of users"
    for side, columns in before.user_features.own.items():
        if columns.fields != now.user_features.own[side].fields:
            return f"the {side}: its columns have other values"
    return None
