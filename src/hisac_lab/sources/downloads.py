"""Fetching one file: from an address, from PyPI, or from Debian's archive; only expected bytes are let through."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import requests

from hisac_lab.base.artifacts import sha256_file
from hisac_lab.base.progress import say

BLOCK = 1 << 16


class SourceUnavailable(Exception):
    """This source cannot serve; the next one is tried."""


def fetch(url: str, folder: Path, timeout_seconds: int) -> Path:
    """Downloads an address into `folder`.

    Raises:
        SourceUnavailable: The server does not answer, refuses, or breaks off.
    """
    target = folder / (url.rpartition("/")[2] or "archive")
    say(f"acquire: fetching {url}")
    try:
        with requests.get(url, stream=True, timeout=timeout_seconds) as answer:
            answer.raise_for_status()
            with target.open("wb") as file:
                for block in answer.iter_content(BLOCK):
                    file.write(block)
    except requests.RequestException as error:
        raise SourceUnavailable(f"{url} does not answer ({type(error).__name__})") from error
    return target


def fetch_wheel(requirement: str, folder: Path) -> Path:
    """Downloads a wheel by its name and version with pip.

    Raises:
        SourceUnavailable: pip has none.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", requirement]
    return _fetched([*command, "--dest", "."], f"pip download {requirement}", folder, "*.whl")


def fetch_package(name: str, folder: Path) -> Path:
    """Downloads a Debian package by its name with apt, which checks its signature.

    Raises:
        SourceUnavailable: There is no apt, or it has no such package.
    """
    return _fetched(["apt-get", "download", "--quiet=2", name], f"apt-get download {name}", folder, "*.deb")


def check(path: Path, sha256: str) -> Path:
    """Gives `path` back when it has this SHA-256.

    Raises:
        SourceUnavailable: It has another.
    """
    digest = sha256_file(path)
    if digest != sha256:
        raise SourceUnavailable(f"{path.name} has sha256 {digest[:12]}..., expected {sha256[:12]}...")
    return path


def _fetched(command: list[str], what: str, folder: Path, pattern: str) -> Path:
    say(f"acquire: {what}")
    try:
        answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise SourceUnavailable(f"{what} failed ({command[0]} is not installed)") from error
    fetched = sorted(folder.glob(pattern))
    if answer.returncode or not fetched:
        last = (answer.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise SourceUnavailable(f"{what} failed ({last})")
    return fetched[0]
