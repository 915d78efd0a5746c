"""Bringing the raw files: a local path, the official archive, or a copy inside a PyPI wheel.

Whatever is tried, only bytes with the expected SHA-256 become an input: an interrupted or tampered download is
dropped with the temporary folder it came in.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import requests

from hisac_lab.base.artifacts import sha256_file, write_manifest
from hisac_lab.base.errors import UserError
from hisac_lab.base.progress import say
from hisac_lab.config.events import AcquireConfig

ARCHIVE_SHA256 = "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229"
ARCHIVE_MEMBERS = ("u.data", "u.item")
WHEEL = "recbole==1.2.1"
WHEEL_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
ATOMIC_MEMBERS = ("ml-100k.inter", "ml-100k.item")
LAYOUTS = {"movielens-official": ARCHIVE_MEMBERS, "recbole-atomic": ATOMIC_MEMBERS}


class SourceUnavailable(Exception):
    """This source cannot serve; the next one is tried."""


def acquire(config: AcquireConfig, out: Path) -> None:
    """Puts the raw files of the data set into `out`, with a manifest that names their origin.

    Args:
        config: The section `acquire`.
        out: An empty directory.

    Raises:
        UserError: No source serves, or a file is not what it should be.
    """
    layout = _own_log(config, out) if config.dataset == "csv" else _movielens(config, out)
    files = {path.name: sha256_file(path) for path in sorted(out.iterdir())}
    write_manifest(out, dataset=config.dataset, layout=layout, files=files)


def _own_log(config: AcquireConfig, out: Path) -> str:
    if config.path is None:
        raise UserError("params.yaml", "is null, but acquire.dataset is csv", "name your file", "acquire.path")
    for name, key, given in (("events", "path", config.path), ("items", "items_path", config.items_path)):
        if given is None:
            continue
        path = Path(given)
        if not path.is_file():
            raise UserError("params.yaml", f"{given!r} is no file", "name an existing file", f"acquire.{key}")
        if not path.suffix:
            raise UserError("params.yaml", f"{given!r} has no suffix", "rename it to .csv or .tsv", f"acquire.{key}")
        if path.stat().st_size == 0:
            raise UserError(path, "is empty", "name a file with a header and rows", f"acquire.{key}")
        shutil.copyfile(path, out / f"{name}{''.join(path.suffixes[-2:])}")
    return "csv"


def _movielens(config: AcquireConfig, out: Path) -> str:
    getters: dict[str, Callable[[AcquireConfig, Path], None]] = {
        "path": _from_path,
        "archive": _from_archive,
        "wheel": _from_wheel,
    }
    refusals = []
    for source in config.sources:
        with tempfile.TemporaryDirectory(dir=out) as draft:
            try:
                getters[source](config, Path(draft))
                layout = _layout_of(Path(draft))
            except SourceUnavailable as refusal:
                refusals.append(f"{source}: {refusal}")
                say(f"acquire: {refusals[-1]}")
                continue
            for name in LAYOUTS[layout]:
                shutil.copyfile(Path(draft) / name, out / name)
            say(f"acquire: {config.dataset} from {source} ({layout})")
            return layout
    raise UserError(
        "params.yaml",
        f"no source of {config.dataset} serves ({'; '.join(refusals)})",
        "put ml-100k.zip somewhere and name it in acquire.path",
        "acquire.sources",
    )


def _layout_of(folder: Path) -> str:
    for layout, members in LAYOUTS.items():
        if all((folder / name).is_file() for name in members):
            for name in members:
                if (folder / name).stat().st_size == 0:
                    raise UserError(folder / name, "is empty", "fetch the data set again")
            return layout
    expected = " or ".join("+".join(members) for members in LAYOUTS.values())
    raise SourceUnavailable(f"no {expected} in it")


def _from_path(config: AcquireConfig, draft: Path) -> None:
    if config.path is None:
        raise SourceUnavailable("acquire.path is null")
    path = Path(config.path)
    if path.is_dir():
        for name in (*ARCHIVE_MEMBERS, *ATOMIC_MEMBERS):
            for found in (path / name, path / "ml-100k" / name):
                if found.is_file():
                    shutil.copyfile(found, draft / name)
    elif path.is_file():
        _unzip(path, draft, ARCHIVE_SHA256)
    else:
        raise UserError("params.yaml", f"{config.path!r} does not exist", "mend it or set null", "acquire.path")


def _from_archive(config: AcquireConfig, draft: Path) -> None:
    target = draft / "archive.zip"
    try:
        with requests.get(config.archive_url, stream=True, timeout=config.timeout_seconds) as answer:
            answer.raise_for_status()
            with target.open("wb") as file:
                for block in answer.iter_content(1 << 16):
                    file.write(block)
    except requests.RequestException as error:
        raise SourceUnavailable(f"{config.archive_url} does not answer ({type(error).__name__})") from error
    _unzip(target, draft, ARCHIVE_SHA256)


def _from_wheel(config: AcquireConfig, draft: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary",
        ":all:",
        WHEEL,
    ]
    answer = subprocess.run([*command, "--dest", str(draft)], capture_output=True, text=True, check=False)
    wheels = sorted(draft.glob("*.whl"))
    if answer.returncode or not wheels:
        last = (answer.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise SourceUnavailable(f"pip download {WHEEL} failed ({last})")
    _unzip(wheels[0], draft, WHEEL_SHA256)


def _unzip(archive: Path, draft: Path, sha256: str) -> None:
    """Takes the members we know out of a checked archive; their folder is dropped."""
    found = sha256_file(archive)
    if found != sha256:
        raise SourceUnavailable(f"{archive.name} has sha256 {found[:12]}..., expected {sha256[:12]}...")
    with zipfile.ZipFile(archive) as box:
        for member in box.namelist():
            name = Path(member).name
            if name in ARCHIVE_MEMBERS or name in ATOMIC_MEMBERS:
                (draft / name).write_bytes(box.read(member))
