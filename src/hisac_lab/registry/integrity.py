"""Whether a bundle is, to the last bit, the one that was registered."""

from __future__ import annotations

from pathlib import Path

from hisac_lab.base.artifacts import sha256_tree
from hisac_lab.base.errors import UserError

DIGEST = "digest"
"""Key of a bundle's digest in the configuration that MLflow keeps with a version."""


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
