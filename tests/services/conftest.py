"""One finished tiny project per session, for clusters and clones to be compared with."""

from __future__ import annotations

import pytest
from disturbed import prepare
from lab import Lab


@pytest.fixture(scope="session")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Nothing of it has run."""
    return prepare(tmp_path_factory.mktemp("project") / "begun")


@pytest.fixture(scope="session")
def finished(begun: Lab) -> Lab:
    """Run by Snakemake on two cores of this machine, and committed."""
    lab = begun.copy(begun.path.with_name("finished"))
    lab.snakemake("--cores", "2")
    lab.commit("first run")
    return lab
