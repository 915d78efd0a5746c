"""The name of the user."""

from __future__ import annotations

import getpass
import os
import pwd
from pathlib import Path

import pytest

from hisac_lab.cli.user import name_the_user


def test_a_user_without_an_entry_has_a_name_and_a_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in a container that runs under a number."""

    def nobody(number: int) -> pwd.struct_passwd:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("USER", "LOGNAME", "LNAME", "USERNAME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises((KeyError, OSError)):
        getpass.getuser()
    name_the_user()
    assert getpass.getuser() == str(os.getuid())
    assert Path.home() == tmp_path / ".work"


def test_a_user_with_an_entry_keeps_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("USER", raising=False)
    name_the_user()
    assert "USER" not in os.environ
