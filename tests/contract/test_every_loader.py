"""Every loader obeys the laws in `hisac_lab.testing`."""

from __future__ import annotations

import layouts

from hisac_lab.config.events import PrepareConfig
from hisac_lab.testing import SourceContract
from hisac_lab.testing.sources import Writer

DAY = PrepareConfig(time_unit="day")
LAYOUTS: dict[str, tuple[str, Writer, PrepareConfig]] = {
    "movielens csv": ("movielens", layouts.movielens_csv, PrepareConfig()),
    "movielens 1m": ("movielens", layouts.movielens_dat, PrepareConfig()),
    "movielens 10m": ("movielens", lambda folder: layouts.movielens_dat(folder, "utf-8"), PrepareConfig()),
    "kuairand pure": ("kuairand", layouts.kuairand, PrepareConfig()),
    "kuairand 27k": ("kuairand", lambda folder: layouts.kuairand(folder, "27k"), PrepareConfig()),
    "taobao-mm": ("taobao-mm", layouts.taobao_mm, PrepareConfig()),
    "taobao-userbehavior": ("taobao-userbehavior", layouts.taobao_userbehavior, PrepareConfig()),
    "amazon ratings": ("amazon-reviews-2023", layouts.amazon_ratings, PrepareConfig()),
    "amazon raw": ("amazon-reviews-2023", layouts.amazon_raw, PrepareConfig()),
    "yambda multi": ("yambda", layouts.yambda_multi, PrepareConfig()),
    "yambda split": ("yambda", layouts.yambda_split, PrepareConfig()),
    "lastfm-1k": ("lastfm-1k", layouts.lastfm_1k, PrepareConfig()),
    "vk-lsvd": ("vk-lsvd", layouts.vk_lsvd, PrepareConfig()),
    "vk-lsvd likes": ("vk-lsvd", lambda folder: layouts.vk_lsvd(folder, by="like"), PrepareConfig(feedback="like")),
    "gcc-changelog": ("gcc-changelog", layouts.gcc_changelog, DAY),
}


class TestLoaders(SourceContract):
    """Each layout, as its publisher writes it."""

    logs = LAYOUTS
