"""A bundle with more items: a new bundle, whose evidence is that of the earlier one and says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from hisac_lab.base.artifacts import Array, sha256_tree
from hisac_lab.inference.append import append_items
from hisac_lab.inference.bundle import load_model, weights_of
from hisac_lab.inference.records import CARD
from hisac_lab.registry.context import extend_snapshots
from hisac_lab.registry.records import Appended, Evidence


def append_bundle(
    bundle: Path,
    table: pd.DataFrame,
    out: Path,
    *,
    where: Path,
    vectors: Array | None = None,
    model_path: str | None = None,
) -> int:
    """Writes a bundle with more items behind those of an earlier one; arguments as of `append_items`.

    Returns:
        How many of them have a semantic ID.

    Raises:
        UserError: As `append_items`; or the earlier bundle holds no evidence.
    """
    earlier, since = Evidence.open(bundle), weights_of(bundle)
    space = append_items(bundle, table, out, where=where, vectors=vectors, model_path=model_path)
    extend_snapshots(bundle, load_model(bundle)[0], len(table), out)
    shutil.copyfile(bundle / CARD, out / CARD)
    more = Appended(items=len(table), since=len(space.semantic) - len(table), bundle=sha256_tree(bundle), weights=since)
    changes = {"weights": weights_of(out), "appended": (*earlier.appended, more)}
    earlier.model_copy(update=changes).save(out)
    return int(np.count_nonzero(space.codebook.item_nodes[-len(table) :, 0] >= 0))
