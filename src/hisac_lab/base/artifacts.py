"""Artifacts on disk: one directory per stage, whole or not there at all.

Every stage writes one directory with a `manifest.json`. It is written beside its final place and
renamed at the end, so a killed or failed stage leaves nothing that could be taken for whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hisac_lab.base import arithmetic
from hisac_lab.base.errors import UserError, explain_os_error

MANIFEST = "manifest.json"
MARK = ".snakemake_timestamp"
"""What Snakemake leaves in folders that it has seen."""

Array = npt.NDArray[Any]


@contextmanager
def stage_output(path: Path) -> Iterator[Path]:
    """Gives an empty directory that becomes `path` when the block ends well, and vanishes when it does not.

    Raises:
        UserError: The disk is full or the place cannot be written.
    """
    path = Path(path)
    draft = path.with_name(f".{path.name}.tmp")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        yield draft
        if path.exists():
            shutil.rmtree(path)
        draft.rename(path)
    except OSError as error:
        raise explain_os_error(error, path) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_file(path: Path, content: str | bytes) -> None:
    """Writes a single file whole or not at all.

    Raises:
        UserError: The disk is full or the place cannot be written.
    """
    path = Path(path)
    draft = path.with_name(f".{path.name}.tmp")
    data = content.encode() if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise explain_os_error(error, path) from error
    finally:
        draft.unlink(missing_ok=True)


def dump_json(value: Any) -> str:
    """JSON with sorted keys and a final newline: the same value always gives the same bytes."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as JSON, whole or not at all.

    Raises:
        UserError: A number in it is not finite, or the place cannot be written.
    """
    try:
        text = dump_json(value)
    except ValueError as error:
        hint = "the data are too few for it: give more users or a longer test period"
        raise UserError(path, "a number is not finite", hint) from error
    write_file(path, text)


def read_json(path: Path) -> Any:
    """Reads JSON.

    Raises:
        UserError: The file is missing or not JSON.
    """
    try:
        return json.loads(Path(path).read_text())
    except OSError as error:
        raise explain_os_error(error, path) from error
    except ValueError as error:
        raise UserError(path, f"is not JSON ({error})", "run the stage that makes it again") from error


def write_manifest(directory: Path, **facts: Any) -> None:
    """Writes the manifest of a stage's output; it says in which arithmetic the stage has computed."""
    write_json(directory / MANIFEST, {"arithmetic": arithmetic.in_effect()} | facts)


def read_manifest(directory: Path) -> dict[str, Any]:
    """Reads the manifest of a stage's output.

    Raises:
        UserError: The stage has not run.
    """
    manifest: dict[str, Any] = read_json(Path(directory) / MANIFEST)
    return manifest


def save_arrays(directory: Path, arrays: Mapping[str, Array]) -> None:
    """Saves each array as `NAME.npy` (no pickles, no timestamps)."""
    for name, array in arrays.items():
        np.save(directory / f"{name}.npy", array, allow_pickle=False)


def load_array(directory: Path, name: str) -> Array:
    """Opens `NAME.npy` memory-mapped and read-only."""
    path = Path(directory) / f"{name}.npy"
    try:
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:  # an empty array cannot be mapped
        array = np.load(path, allow_pickle=False)
    except OSError as error:
        raise explain_os_error(error, path) from error
    return array


def array_blocks(directory: Path, name: str, rows: int = 1 << 20) -> Iterator[Array]:
    """Reads `NAME.npy` some rows at a time, in plain reads: no page of it stays mapped."""
    with (Path(directory) / f"{name}.npy").open("rb") as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        left = shape[0]
        while left:
            take = min(rows, left)
            block = np.fromfile(file, dtype, take * int(np.prod(shape[1:])))
            yield block.reshape(take, *shape[1:])
            left -= take


def save_blocks(directory: Path, name: str, rows: int, blocks: Iterable[Array]) -> None:
    """Saves one or more blocks, `rows` rows in all, as one `NAME.npy`: memory does not grow with the array."""
    written = 0
    with (Path(directory) / f"{name}.npy").open("wb") as file:
        for block in blocks:
            if file.tell() == 0:
                shape = (rows, *block.shape[1:])
                descr = np.lib.format.dtype_to_descr(block.dtype)
                np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
            file.write(np.ascontiguousarray(block).data)
            written += len(block)
    if written != rows:
        raise ValueError(f"{name} has {written} rows, not {rows}")


def sha256_file(path: Path) -> str:
    """SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def files_below(directory: Path) -> list[Path]:
    """All files of content below `directory`, sorted: neither Snakemake's marks nor compiled modules."""
    files = (path for path in Path(directory).rglob("*") if path.is_file())
    return sorted(path for path in files if path.suffix != ".pyc" and path.name != MARK)


def copy_tree(source: Path, target: Path, *leave: str) -> None:
    """Copies the content of a folder into `target`, which may be there.

    Args:
        source: Such as a stage's output, which one of the two engines marks.
        target: Where to.
        leave: Patterns of names that are left out.
    """
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(MARK, *leave), dirs_exist_ok=True)


def sha256_tree(directory: Path) -> str:
    """SHA-256 over the relative names and contents of all files of content below `directory`."""
    digest = hashlib.sha256()
    for path in files_below(directory):
        digest.update(path.relative_to(directory).as_posix().encode() + b"\0")
        digest.update(sha256_file(path).encode() + b"\0")
    return digest.hexdigest()


def digest_of(value: Any) -> str:
    """Short SHA-256 of a JSON-able value."""
    return hashlib.sha256(dump_json(value).encode()).hexdigest()[:16]
