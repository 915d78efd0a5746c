"""A project whose folder was moved or copied: its store keeps to the new place, and leaves the old one alone."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pytest
from registered import apart, copy_store, finish, listing, opened, where

from hisac_lab.base.stages import Artifacts
from hisac_lab.config.promotion import PromotionConfig
from hisac_lab.registry.ledger import Ledger
from hisac_lab.registry.mirror import Lineage
from hisac_lab.registry.moved import heal
from hisac_lab.registry.store import Registry
from hisac_lab.registry.versions import CHAMPION

LISTED = [("base", "1", ()), ("new", "2", (CHAMPION,))]


@pytest.fixture(scope="module")
def made(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose run is mirrored."""
    home = tmp_path_factory.mktemp("made")
    finish(home / "artifacts")
    with opened(empty_store, home) as registry:
        sync(registry, home)
    return home


@pytest.fixture
def old(made: Path, tmp_path: Path) -> Path:
    """The project where it was, healed there once, with someone else's file beside it."""
    old = tmp_path / "old"
    shutil.copytree(made, old)
    with at(old):
        pass
    (tmp_path / "elsewhere").write_text("of someone else")
    return old


@contextmanager
def at(home: Path) -> Iterator[Registry]:
    with apart(home), Registry.open(*where(home), home / ".work") as registry:
        yield registry


def sync(registry: Registry, home: Path) -> bool:
    top, new = registry.mirror(Artifacts(home / "artifacts"), Lineage("0123abc", {}), Path("nothing"))
    registry.attach(top, [home / "ledger.jsonl"], [])
    return new


def works(home: Path) -> bool:
    """Syncs, promotes, lists and loads the champion; gives whether the run was mirrored anew."""
    with at(home) as registry:
        new = sync(registry, home)
        registry.promoter.promote(None, None, PromotionConfig())
        loaded = Path(mlflow.artifacts.download_artifacts("models:/ranker@champion"))
        assert loaded.is_relative_to(home)
        assert list(loaded.rglob("weights.safetensors"))
    with apart(home), Registry.look(*where(home)) as promoter:
        assert [(one.model, one.version, one.aliases) for one in promoter.list()] == LISTED
    return new


def outside(home: Path) -> dict[str, str]:
    """What lies beside a folder."""
    return {path: digest for path, digest in listing(home.parent).items() if not Path(path).is_relative_to(home)}


def addresses(store: Path) -> str:
    with sqlite3.connect(store) as base:
        return "\n".join(base.iterdump())


def test_a_moved_project_works_in_its_new_place(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = old.rename(old.parent / "with space ö")
    before = outside(new)
    capsys.readouterr()
    assert not works(new)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "the project was at" in line]
    assert line == f"mlflow.db: the project was at {old}, addresses of MLflow's files now name {new}"
    assert outside(new) == before
    assert not old.exists()
    assert f"{old}/" not in addresses(new / "mlflow.db")


def test_a_copy_writes_nothing_into_the_original(old: Path) -> None:
    new = Path(shutil.copytree(old, old.parent / "copy"))
    before = outside(new)
    assert not works(new)
    assert outside(new) == before
    assert not works(old)  # and the original works on


def test_what_did_not_move_along_is_mirrored_anew(old: Path) -> None:
    new = old.rename(old.parent / "new")
    shutil.rmtree(new / "mlruns")
    before = outside(new)
    with at(new) as registry:
        assert sync(registry, new)
        assert not sync(registry, new)
        assert [one.version for one in registry.promoter.list()] == ["3", "4"]
        registry.promoter.promote(None, None, PromotionConfig())
        assert registry.promoter.rollback() == ("4", None)
    assert outside(new) == before


def test_a_store_in_its_place_is_not_touched_and_nothing_is_said(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = listing(old)
    capsys.readouterr()
    heal(old / "mlflow.db", old, None)
    assert listing(old) == before
    assert capsys.readouterr().err == ""


def test_a_store_outside_or_of_several_projects_or_with_a_place_of_choice_is_left(old: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for folder, home, project in ((old, other, None), (other, other, "another project")):
        if folder is other:
            copy_store(old, other)
        before = listing(tmp_path)
        heal(folder / "mlflow.db", home, project)
        assert listing(tmp_path) == before
    with sqlite3.connect(other / "mlflow.db") as base:
        base.execute("DELETE FROM tags")
        base.execute("UPDATE experiments SET artifact_location = 's3://bucket/mlruns/' || experiment_id")
    before = listing(tmp_path)
    heal(other / "mlflow.db", other, None)
    heal(other / "nothing.db", other, None)
    assert listing(tmp_path) == before


def test_addresses_as_uris_are_set_too(old: Path) -> None:
    with sqlite3.connect(old / "mlflow.db") as base:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            base.execute(f"UPDATE {table} SET {column} = 'file://' || {column}")
    base.close()
    new = old.rename(old.parent / "with space")
    heal(new / "mlflow.db", new, Ledger(new / "ledger.jsonl").project())
    assert f"file://{old}/" not in addresses(new / "mlflow.db")
    assert f"{new.as_uri()}/mlruns/1/" in addresses(new / "mlflow.db")
