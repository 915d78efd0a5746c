"""The stage `acquire`: bringing the raw files, from a local path, the official archive, or a copy inside a package.

Data sets that bring themselves: whatever is tried, only bytes with the expected SHA-256 become an input, and an
interrupted or tampered download is dropped with the temporary folder it came in. Own logs and the other public sets
are read from a path.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from hisac_lab.base import plugins
from hisac_lab.base.artifacts import sha256_file
from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.base.progress import say
from hisac_lab.config.acquire import AcquireConfig
from hisac_lab.sources import changelog
from hisac_lab.sources.archives import members
from hisac_lab.sources.downloads import SourceUnavailable, check, fetch, fetch_package, fetch_wheel
from hisac_lab.sources.records import Acquired
from hisac_lab.tables.files import ITEM_SUFFIXES, kind_of, log_files, refuse_pipe
from hisac_lab.tables.layouts import SOURCES
from hisac_lab.world.simulate import simulate

Facts = dict[str, Any]
Finder = Callable[[AcquireConfig, Path], Path]

MOVIELENS_URL = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
ARCHIVE_SHA256 = "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229"
WHEEL = "recbole==1.2.1"
WHEEL_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
LAYOUTS = {"movielens-official": ("u.data", "u.item"), "recbole-atomic": ("ml-100k.inter", "ml-100k.item")}
"""Files of MovieLens-100K by the layout they make."""
PEOPLE = {"movielens-official": "u.user", "recbole-atomic": "ml-100k.user"}
"""Its table of users, which a copy may lack."""

GCC_URLS = (
    "https://ftp.gnu.org/gnu/gcc/gcc-12.2.0/gcc-12.2.0.tar.xz",
    "https://ftpmirror.gnu.org/gnu/gcc/gcc-12.2.0/gcc-12.2.0.tar.xz",
)
GCC_SHA256 = "e549cf9cf3594a00e27b6589d4322d70e0720cdd213f39beb4181e06926230ff"
GCC_PACKAGE = "gcc-12-source"
CHANGELOGS_SHA256 = "7556d4beff6262c3525242e9e2dff4f211cd5f35c3c990692aa4322e1882a66e"
"""Of the ChangeLogs of GCC 12.2.0, whatever they are packed in: over their paths and the SHA-256 of each."""

PUBLISHED: dict[str, tuple[str, ...]] = {
    "movielens": ("ratings.csv", "movies.csv", "ratings.dat", "movies.dat", *LAYOUTS["movielens-official"]),
    "kuairand": ("log_standard_*.csv", "log_random_*.csv", "video_features_basic_*.csv"),
    "taobao-mm": (
        "item_features.parquet",
        "scl_embedding_int8_p90.parquet",
        "*_samples.parquet",
        "*_user_features.parquet",
    ),
    "taobao-userbehavior": ("UserBehavior.csv",),
    "amazon-reviews-2023": ("*.csv", "*.jsonl"),
    "yambda": (
        "multi_event.parquet",
        "listens.parquet",
        "likes.parquet",
        "dislikes.parquet",
        "embeddings.parquet",
        "*_item_mapping.parquet",
    ),
    "lastfm-1k": ("userid-timestamp-artid-artname-traid-traname.tsv",),
    "vk-lsvd": ("week_[0-9][0-9].parquet", "items_metadata.parquet", "item_embeddings.npz"),
}
"""Official files that the loaders read; text may also be compressed."""

RELATIVE = "name an existing file (a relative path counts from the project's folder)"
COMPRESSED = ("", ".gz", ".zst", ".bz2")


def acquire(config: AcquireConfig, *, out: Path) -> None:
    """Puts the raw files of the data set into `out`, with a manifest that names their layout and their SHA-256.

    Args:
        config: The section `acquire`.
        out: An empty directory.

    Raises:
        UserError: No source serves, or a file is not what it should be.
    """
    if config.dataset in BROUGHT:
        facts = _brought(BROUGHT[config.dataset], config, out)
    elif config.dataset == "own":
        facts = _take_own(config, out)
    elif config.dataset == "world":
        facts = {"layout": "world", **simulate(config.world, out=out)}
    elif config.dataset in SOURCES:
        facts = _foreign(config, out)
    else:
        facts = _published(config, PUBLISHED[config.dataset], out)
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    files = {name: sha256_file(out / name) for name in names}
    Acquired(dataset=config.dataset, files=files, **facts).save(out)


@dataclass(frozen=True)
class Brought:
    """A data set that brings itself.

    Attributes:
        finders: By source, what puts a folder or an archive at hand.
        take: Takes the data out of it into the stage's output; told whether the source is a local path. Gives the
            layout and other facts for the manifest.
        hint: What a user can do when no source serves.
    """

    finders: dict[str, Finder]
    take: Callable[[Path, Path, bool], Facts]
    hint: str


def _brought(data_set: Brought, config: AcquireConfig, out: Path) -> Facts:
    refusals = []
    for source in config.sources:
        if source not in data_set.finders:
            continue
        with tempfile.TemporaryDirectory(dir=out) as draft:
            try:
                raw = data_set.finders[source](config, Path(draft))
                facts = data_set.take(raw, out, source == "path")
            except SourceUnavailable as refusal:
                refusals.append(f"{source}: {refusal}")
                say(f"acquire: {refusals[-1]}")
                continue
        say(f"acquire: {config.dataset} from {source} ({facts['layout']})")
        return facts
    what = f"no source of {config.dataset} serves ({'; '.join(refusals)})"
    raise UserError(SETTINGS, what, data_set.hint, "acquire.sources")


def _local(config: AcquireConfig, draft: Path) -> Path:
    if config.path is None:
        raise SourceUnavailable("acquire.path is null")
    path = Path(config.path)
    if not path.exists():
        raise UserError(SETTINGS, f"{config.path!r} does not exist", RELATIVE, "acquire.path")
    refuse_pipe(path, "acquire.path")
    return path


def _download(config: AcquireConfig, draft: Path, urls: tuple[str, ...], sha256: str) -> Path:
    refusals = []
    for url in urls if config.archive_url is None else (config.archive_url,):
        try:
            return check(fetch(url, draft, config.timeout_seconds), sha256)
        except SourceUnavailable as refusal:
            refusals.append(str(refusal))
    raise SourceUnavailable(", ".join(refusals))


def _take_movielens(raw: Path, out: Path, is_local: bool) -> Facts:
    """The files of either layout; an archive must be the official one, or the wheel."""
    if raw.is_file() and is_local:
        check(raw, ARCHIVE_SHA256)
    wanted = {name for layout, names in LAYOUTS.items() for name in (*names, PEOPLE[layout])}
    contents: dict[str, bytes] = {}
    for name, content in members(raw, lambda name: PurePosixPath(name).name in wanted):
        contents.setdefault(PurePosixPath(name).name, content.read())
    for layout, names in LAYOUTS.items():
        if all(name in contents for name in names):
            for name in (*names, *({PEOPLE[layout]} & contents.keys())):
                if not contents[name]:
                    raise UserError(raw, "is empty", "fetch the data set again", name)
                (out / name).write_bytes(contents[name])
            return {"layout": layout}
    raise SourceUnavailable(f"no {' or '.join('+'.join(names) for names in LAYOUTS.values())} in it")


def _take_changelogs(raw: Path, out: Path, is_local: bool) -> Facts:
    """The ChangeLogs of GCC, parsed at once so that no names lie about; those of another release only from a path."""
    contents = {
        name: content.read()
        for name, content in members(
            raw,
            lambda name: PurePosixPath(name).name.startswith("ChangeLog"),
            nested=lambda name: re.fullmatch(r"gcc-\d.*\.tar\.\w+", PurePosixPath(name).name) is not None,
        )
    }
    top = min((name for name in contents if PurePosixPath(name).name == "ChangeLog"), key=len, default="ChangeLog")
    root = top.removesuffix("ChangeLog")
    if f"{root}gcc/ChangeLog" not in contents:
        raise SourceUnavailable("no ChangeLogs of GCC in it")
    logs = {name.removeprefix(root): content for name, content in contents.items() if name.startswith(root)}
    digest = hashlib.sha256()
    for name in sorted(logs):
        digest.update(f"{name} {hashlib.sha256(logs[name]).hexdigest()}\n".encode())
    if digest.hexdigest() != CHANGELOGS_SHA256:
        if not is_local:
            raise SourceUnavailable("its ChangeLogs are not those of GCC 12.2.0")
        say("acquire: these are not the ChangeLogs of GCC 12.2.0, so the counts are not those of the benchmark")
    counts = changelog.write_log(logs.items(), out)
    source = {"changelogs": len(logs), "sha256": digest.hexdigest(), "license": changelog.LICENSE}
    return {"layout": "gcc-changelog", "source": source, "counts": counts}


BROUGHT: dict[str, Brought] = {
    "movielens-100k": Brought(
        {
            "path": _local,
            "archive": lambda config, draft: _download(config, draft, (MOVIELENS_URL,), ARCHIVE_SHA256),
            "wheel": lambda config, draft: check(fetch_wheel(WHEEL, draft), WHEEL_SHA256),
        },
        _take_movielens,
        "put ml-100k.zip somewhere and name it in acquire.path",
    ),
    "gcc-changelog": Brought(
        {
            "path": _local,
            "archive": lambda config, draft: _download(config, draft, GCC_URLS, GCC_SHA256),
            "package": lambda config, draft: fetch_package(GCC_PACKAGE, draft),
        },
        _take_changelogs,
        "put gcc-12.2.0.tar.xz or gcc-12-source.deb somewhere and name it in acquire.path",
    ),
}


def _take_own(config: AcquireConfig, out: Path) -> Facts:
    """Copies an own log: a file, all tables in a folder, or those a pattern with a star names."""
    if config.path is None:
        raise UserError(SETTINGS, "is null, but acquire.dataset is own", "name your file", "acquire.path")
    path = Path(config.path)
    files = log_files(path)
    if not files:
        hint = "name .csv, .tsv, .jsonl or .parquet"
        raise UserError(SETTINGS, f"{config.path!r} names no table", hint, "acquire.path")
    (out / "events").mkdir()
    for number, file in enumerate(files):
        _table(file, "path", config.path)
        shutil.copyfile(file, out / "events" / (f"{number:04d}-{file.name}" if len(files) > 1 else file.name))
    for key, name, given in (("items_path", "items", config.items_path), ("users_path", "users", config.users_path)):
        if given is not None:
            _table(Path(given), key, given)
            shutil.copyfile(given, out / f"{name}{_suffix(Path(given))}")
    if config.vectors_path is not None:
        vectors = Path(config.vectors_path)
        if not vectors.is_file() or vectors.suffix != ".npy":
            what = f"{config.vectors_path!r} is no .npy file"
            raise UserError(SETTINGS, what, RELATIVE, "acquire.vectors_path")
        shutil.copyfile(vectors, out / "vectors.npy")
    return {"layout": "own"}


def _foreign(config: AcquireConfig, out: Path) -> Facts:
    """Brings a data set of another distribution."""
    source = SOURCES[config.dataset]
    if source.fetch is None:
        facts = _published(config, source.files, out)
    else:
        source.fetch(config, out)
        facts = {"layout": config.dataset}
    return facts | plugins.origin(plugins.SOURCES, config.dataset)


def _published(config: AcquireConfig, patterns: tuple[str, ...], out: Path) -> Facts:
    """Copies the official files of a public set out of a file, a folder or an archive; folders are dropped."""

    def wanted(name: str) -> bool:
        path = PurePosixPath(name)
        packed = path.suffix if path.suffix in COMPRESSED else ""
        return any(fnmatch(path.name, pattern + packed) for pattern in patterns) and "sequential" not in path.parts

    if config.path is None:
        what = f"is null, but {config.dataset} does not bring itself"
        raise UserError(SETTINGS, what, "name the folder or archive with the official files", "acquire.path")
    path = _local(config, out)
    if path.is_file() and wanted(path.name):
        shutil.copyfile(path, out / path.name)
        return {"layout": config.dataset}
    origins: dict[str, str] = {}
    for name, content in members(path, wanted):
        target = out / PurePosixPath(name).name
        if target.name in origins:
            what = f"holds {target.name} twice ({origins[target.name]} and {name})"
            raise UserError(path, what, "name the folder of one edition", "acquire.path")
        origins[target.name] = name
        content.save(target)
    if not origins:
        what = f"holds no file of {config.dataset} ({', '.join(patterns)})"
        raise UserError(path, what, "name the folder or archive with the official files", "acquire.path")
    return {"layout": config.dataset}


def _table(path: Path, key: str, name: str) -> None:
    if not path.is_file():
        raise UserError(SETTINGS, f"{name!r} is no file", RELATIVE, f"acquire.{key}")
    if not _suffix(path):
        hint = "rename it to .csv, .tsv, .jsonl or .parquet"
        raise UserError(SETTINGS, f"{name!r} has no suffix of a table", hint, f"acquire.{key}")
    if path.stat().st_size == 0:
        raise UserError(path, "is empty", "name a file with a header and rows", f"acquire.{key}")


def _suffix(path: Path) -> str:
    """What the name says of a table: kind and compression; empty: it is none."""
    packed = path.suffix if path.suffix in COMPRESSED else ""
    return kind_of(path) + packed if kind_of(path) in ITEM_SUFFIXES else ""
