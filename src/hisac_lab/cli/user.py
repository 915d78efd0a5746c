"""The name of the user, for the libraries that ask for one."""

from __future__ import annotations

import os
import pwd

from hisac_lab.cli.paths import WORK


def name_the_user() -> None:
    """Gives a user without an entry among the users, as in a container, a name and a home.

    Every other user keeps the environment: DVC keeps its notes on a folder by the user's name, and under two names `dvc
    checkout` would leave in place what `snakemake` has made.
    """
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ.setdefault("USER", str(os.getuid()))
        os.environ.setdefault("HOME", str(WORK.absolute()))
