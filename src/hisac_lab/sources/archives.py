"""Reading files out of folders and archives as a stream: nothing is unpacked to disk but what is wanted.

Known are zip, tar (plain, gz, bz2, xz, zst) and Debian packages (an `ar` archive that holds a tar). What an archive is
its first bytes say, not its name.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from hisac_lab.base.errors import UserError, explain_os_error

BLOCK = 1 << 20
_AR = b"!<arch>\n"
_ZIP = b"PK\x03\x04"
_PACKED: dict[bytes, Callable[[Any], Any]] = {
    b"\xfd7zXZ\x00": lzma.LZMAFile,
    b"\x1f\x8b": lambda stream: gzip.GzipFile(fileobj=stream),
    b"BZh": bz2.BZ2File,
    b"\x28\xb5\x2f\xfd": lambda stream: pa.input_stream(stream, compression="zstd"),
}
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, pa.ArrowInvalid)

Wanted = Callable[[str], bool]
"""Says of a name (folders and all, `/` between them) whether it is wanted."""


class Content:
    """The content of a member: only `read`; what is damaged is told as a `UserError`."""

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self._path, self._stream = path, stream

    def read(self, size: int = -1) -> bytes:
        """The next `size` bytes, or all that is left."""
        with _explained(self._path):
            return self._stream.read(size)

    def save(self, target: Path) -> None:
        """Writes the content to a file."""
        with target.open("wb") as file:
            while block := self.read(BLOCK):
                file.write(block)


def members(path: Path, wanted: Wanted, nested: Wanted = lambda name: False) -> Iterator[tuple[str, Content]]:
    """Yields name and content of the wanted files in a folder or an archive, in the order they are stored.

    Args:
        path: The folder or archive; a folder is walked by name.
        wanted: Which files to yield; a content is to be read before the next is asked for.
        nested: Which archives inside to look into as well; their names lead the names of what they hold.

    Raises:
        UserError: It is no archive, ends early or is damaged.
    """
    with _explained(path):
        for name, stream in _folder(path, wanted, nested) if path.is_dir() else _file(path, wanted, nested):
            yield name, Content(path, stream)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        what = f"is no archive, or it is damaged or ends early ({' '.join(str(error).split())[:80]})"
        raise UserError(path, what, "fetch it again") from error
    except OSError as error:
        if error.errno is None:  # what gzip, bz2 and zstd say of broken data
            raise UserError(path, f"the compressed data are broken ({error})", "fetch it again") from error
        raise explain_os_error(error, path) from error


def _file(path: Path, wanted: Wanted, nested: Wanted) -> Iterator[tuple[str, IO[bytes]]]:
    with path.open("rb") as file:
        yield from _archive(file, "", wanted, nested)


def _folder(path: Path, wanted: Wanted, nested: Wanted) -> Iterator[tuple[str, IO[bytes]]]:
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path).as_posix()
        if file.is_file() and (wanted(name) or nested(name)):
            with file.open("rb") as stream:
                if wanted(name):
                    yield name, stream
                else:
                    yield from _archive(stream, f"{name}/", wanted, nested)


def _archive(file: IO[bytes], prefix: str, wanted: Wanted, nested: Wanted) -> Iterator[tuple[str, IO[bytes]]]:
    stream = file if isinstance(file, io.BufferedReader) else io.BufferedReader(file)  # type: ignore[type-var]
    start = stream.peek(8)[:8]
    if start.startswith(_ZIP):
        yield from _zip(stream, prefix, wanted, nested)
    elif start.startswith(_AR):
        yield from _archive(_package(stream), prefix, wanted, nested)
    else:
        unpack = next((opener for magic, opener in _PACKED.items() if start.startswith(magic)), None)
        yield from _tar(unpack(stream) if unpack else stream, prefix, wanted, nested)


def _tar(stream: IO[bytes], prefix: str, wanted: Wanted, nested: Wanted) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(fileobj=stream, mode="r|") as box:
        for member in box:
            name = prefix + member.name.removeprefix("./")
            if not (wanted(name) or nested(name)):
                continue
            content = box.extractfile(member)
            if content is None:  # a folder or a link
                continue
            if wanted(name):
                yield name, content
            else:
                yield from _archive(content, f"{name}/", wanted, nested)
    while stream.read(BLOCK):  # tarfile takes a cut for the end; the packed stream knows better
        pass


def _zip(stream: IO[bytes], prefix: str, wanted: Wanted, nested: Wanted) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(stream) as box:
        for member in box.namelist():
            name = prefix + member
            if member.endswith("/") or not (wanted(name) or nested(name)):
                continue
            with box.open(member) as content:
                if wanted(name):
                    yield name, content
                else:
                    yield from _archive(content, f"{name}/", wanted, nested)


def _package(stream: IO[bytes]) -> IO[bytes]:
    """The member `data.tar...` of a Debian package.

    An `ar` archive is a magic string, then members: a header of 60 bytes (name in the first 16, size in decimal in the
    10 from byte 48, a mark at its end) and the content, padded to an even length.
    """
    stream.read(len(_AR))
    while header := stream.read(60):
        if len(header) < 60 or header[58:] != b"`\n":
            break
        size = int(header[48:58])
        if header[:16].startswith(b"data.tar"):
            return io.BufferedReader(_Member(stream, size))
        stream.read(size + size % 2)
    raise tarfile.ReadError("the package holds no data.tar")


class _Member(io.RawIOBase):
    """The next `size` bytes of a stream."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self.stream, self.left = stream, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self.stream.read(min(len(buffer), self.left))
        self.left -= len(data)
        buffer[: len(data)] = data
        return len(data)
