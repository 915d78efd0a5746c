"""Loaders: one module per layout, each giving a `RawLog`.

Another distribution brings a data set by an entry point of the group `hisac_lab.sources`, `DATASET = "MODULE:SOURCE"`.
"""

from __future__ import annotations

from typing import Any

from hisac_lab.base import plugins
from hisac_lab.config.acquire import DATASETS
from hisac_lab.tables.layouts.amazon_reviews_2023 import amazon_reviews_2023
from hisac_lab.tables.layouts.contract import Loader, Source
from hisac_lab.tables.layouts.gcc_changelog import gcc_changelog
from hisac_lab.tables.layouts.kuairand import kuairand
from hisac_lab.tables.layouts.lastfm_1k import lastfm_1k
from hisac_lab.tables.layouts.movielens import movielens
from hisac_lab.tables.layouts.movielens_100k import official, recbole
from hisac_lab.tables.layouts.own import own
from hisac_lab.tables.layouts.taobao_mm import taobao_mm
from hisac_lab.tables.layouts.taobao_userbehavior import taobao_userbehavior
from hisac_lab.tables.layouts.vk_lsvd import vk_lsvd
from hisac_lab.tables.layouts.world import world
from hisac_lab.tables.layouts.yambda import yambda

OWN: dict[str, Loader] = {
    "movielens-official": official,
    "recbole-atomic": recbole,
    "own": own,
    "world": world,
    "gcc-changelog": gcc_changelog,
    "movielens": movielens,
    "kuairand": kuairand,
    "taobao-mm": taobao_mm,
    "taobao-userbehavior": taobao_userbehavior,
    "amazon-reviews-2023": amazon_reviews_2023,
    "yambda": yambda,
    "lastfm-1k": lastfm_1k,
    "vk-lsvd": vk_lsvd,
}


def _fault(name: str, source: Any) -> str | None:
    if not isinstance(source, Source):
        return "is no Source"
    return None if source.files or source.fetch else "has neither files nor fetch"


SOURCES: dict[str, Source] = plugins.load(plugins.SOURCES, {*OWN, *DATASETS}, _fault)
LOADERS: dict[str, Loader] = OWN | {name: source.load for name, source in SOURCES.items()}
"""By the layout that the manifest of `acquire` names; a loader takes the folder of raw files and its settings."""
