"""Archives: every form gives the same members, and damaged ones are told, wherever they are cut."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from kit import says

from hisac_lab.sources.archives import members

FILES = {"top/a.txt": b"first", "top/deep/b.txt": b"", "top/c.bin": np.random.default_rng(0).bytes(300_000)}
WANTED = {"top/a.txt", "top/c.bin"}
PACK: dict[str, Callable[[bytes], bytes]] = {
    "tar": lambda body: body,
    "tar.gz": gzip.compress,
    "tar.bz2": bz2.compress,
    "tar.xz": lzma.compress,
    "tar.zst": lambda body: pa.compress(body, codec="zstd", asbytes=True),
}


def _tar(files: dict[str, bytes]) -> bytes:
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as box:
        folder = tarfile.TarInfo("top")
        folder.type = tarfile.DIRTYPE
        box.addfile(folder)
        for name, content in files.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(content)
            box.addfile(entry, io.BytesIO(content))
        link = tarfile.TarInfo("top/link")
        link.type, link.linkname = tarfile.SYMTYPE, "a.txt"
        box.addfile(link)
    return body.getvalue()


def _make(path: Path, form: str) -> Path:
    if form == "folder":
        for name, content in FILES.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    elif form == "zip":
        with zipfile.ZipFile(path, "w") as box:
            box.mkdir("top")
            for name, content in FILES.items():
                box.writestr(name, content)
    elif form == "deb":
        data = lzma.compress(_tar(FILES))
        header = f"{'data.tar.xz':<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode()
        path.write_bytes(b"!<arch>\n" + header + data + b"\n" * (len(data) % 2))
    else:
        path.write_bytes(PACK[form](_tar(FILES)))
    return path


def _read(path: Path) -> dict[str, bytes]:
    return {name: content.read() for name, content in members(path, lambda name: name in WANTED)}


@pytest.mark.parametrize("form", [*PACK, "zip", "deb", "folder"])
def test_every_form_gives_the_wanted_members(tmp_path: Path, form: str) -> None:
    assert _read(_make(tmp_path / "any", form)) == {name: FILES[name] for name in WANTED}


@pytest.mark.parametrize("form", [*PACK, "zip", "folder"])
def test_an_archive_inside_is_looked_into_when_told(tmp_path: Path, form: str) -> None:
    inner = gzip.compress(_tar(FILES))
    outer = tmp_path / "outer"
    if form == "folder":
        outer.mkdir()
        (outer / "in.tgz").write_bytes(inner)
    elif form == "zip":
        with zipfile.ZipFile(outer, "w") as box:
            box.writestr("in.tgz", inner)
    else:
        outer.write_bytes(PACK[form](_tar({"in.tgz": inner, "z.txt": b"after"})))
    found = members(outer, lambda name: name.endswith(".txt"), nested=lambda name: name == "in.tgz")
    read = {name: content.read() for name, content in found}
    assert read.pop("z.txt", b"after") == b"after"
    assert read == {"in.tgz/top/a.txt": b"first", "in.tgz/top/deep/b.txt": b""}
    assert [name for name, _ in members(outer, lambda name: name == "top/a.txt")] == []


def test_a_member_is_saved_in_blocks(tmp_path: Path) -> None:
    for name, content in members(_make(tmp_path / "any", "tar.xz"), lambda name: name in WANTED):
        content.save(tmp_path / name.replace("/", "-"))
    assert (tmp_path / "top-c.bin").read_bytes() == FILES["top/c.bin"]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.999])
@pytest.mark.parametrize("form", ["tar.gz", "tar.bz2", "tar.xz", "tar.zst", "zip", "deb"])
@pytest.mark.parametrize("wanted", ["top/c.bin", "no such file"])
def test_a_cut_archive_is_never_taken_for_whole(tmp_path: Path, form: str, share: float, wanted: str) -> None:
    path = _make(tmp_path / "any", form)
    body = path.read_bytes()
    path.write_bytes(body[: int(share * len(body))])
    with says(str(path), "fetch it again"):
        for _, content in members(path, lambda name: name == wanted):
            content.read()


@pytest.mark.parametrize("body", [b"<html>sign in</html>", b"\x1f\x8bnonsense", b"PK\x03\x04nonsense", b"!<arch>\nodd"])
def test_what_is_no_archive_is_told(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "any").write_bytes(body)
    with says(str(tmp_path / "any"), "fetch it again"):
        _read(tmp_path / "any")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with says(str(tmp_path / "gone"), "does not exist"):
        _read(tmp_path / "gone")
