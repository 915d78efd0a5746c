"""Whether a bundle, and the code that serves it, are to the last bit what was registered."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hisac_lab.base.artifacts import digest_of, sha256_file, sha256_tree
from hisac_lab.base.errors import UserError, explain_os_error

DIGEST, CODE = "digest", "code"
"""Keys of the bundle's and the code's digest in the configuration that MLflow keeps with a version."""
SERVED = "served.py"
"""The script that MLflow runs to load a version."""


def check_bundle(bundle: Path, digest: str, hint: str) -> None:
    """Compares a bundle with the digest it was registered under.

    Args:
        bundle: Its directory.
        digest: Its digest.
        hint: What to do where it is not the bundle of then.

    Raises:
        UserError: A file in it was changed, cut short, added or removed.
    """
    digest_now = sha256_tree(bundle)
    if digest_now != digest:
        raise UserError(bundle, f"is damaged: its SHA-256 is {digest_now[:12]}, {digest[:12]} was recorded", hint)


def code_digest(script: Path, parts: Iterable[Path]) -> str:
    """Digest of the code that a version carries.

    Args:
        script: The script that MLflow runs.
        parts: Packages and files that it imports.
    """
    trees = {part.name: sha256_tree(part) if part.is_dir() else sha256_file(part) for part in parts}
    return digest_of({"script": sha256_file(script), "parts": trees})


def check_code(version: Path, digest: str | None, hint: str) -> None:
    """Compares the code in a version's files with the digest of what was registered.

    Args:
        version: Directory of the version.
        digest: Its digest; None, as where nobody recorded one, is no code's.
        hint: What to do where it is not the code of then.

    Raises:
        UserError: A file in it was changed, added or removed.
    """
    try:
        parts = [part for part in (version / "code").iterdir() if part.name != "__pycache__"]
        digest_now = code_digest(version / SERVED, parts)
    except OSError as error:
        raise explain_os_error(error, version) from error
    if digest_now != digest:
        what = f"is not the code that was registered: its digest is {digest_now}, {digest or 'none'} was recorded"
        raise UserError(version / "code", what, hint)
