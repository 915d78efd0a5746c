"""Several projects and several clones on one store: each sees its own, and takes nothing from another."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kit import says
from mlflow import MlflowClient
from registered import PRODUCT, apart, finish, listing, opened, store_in

from hisac_lab.base.stages import Artifacts
from hisac_lab.config.promotion import PromotionConfig
from hisac_lab.registry.ledger import Ledger
from hisac_lab.registry.mirror import COMPLETE, Lineage
from hisac_lab.registry.store import Registry
from hisac_lab.registry.versions import CHALLENGER, CHAMPION

CONFIG = PromotionConfig()


class Shared:
    """One store, and folders of projects beside it."""

    def __init__(self, home: Path) -> None:
        self.home, self.store = home, home / "store"

    @contextmanager
    def project(self, name: str, product: str = PRODUCT) -> Iterator[Registry]:
        """Opens the store from the folder of a project, or of a clone."""
        folder = self.home / name
        folder.mkdir(exist_ok=True)
        with (
            apart(folder),
            Registry.open(store_in(self.store), product, folder / "ledger.jsonl", folder / ".work") as registry,
        ):
            yield registry

    def listed(self, name: str, product: str = PRODUCT) -> list[tuple[str, str, tuple[str, ...]]]:
        """What `hisac-lab models` shows there."""
        with (
            apart(self.home / name),
            Registry.look(store_in(self.store), product, self.home / name / "ledger.jsonl") as found,
        ):
            return [(one.model, one.version, one.aliases) for one in found.list()]

    def aliases(self, model: str = PRODUCT) -> dict[str, str]:
        found = MlflowClient(store_in(self.store).tracking_uri).get_registered_model(model)
        return {alias: str(version) for alias, version in found.aliases.items()}

    def clone(self, old: str, new: str) -> None:
        """Copies a ledger, as git does."""
        (self.home / new).mkdir()
        shutil.copyfile(self.home / old / "ledger.jsonl", self.home / new / "ledger.jsonl")


@pytest.fixture
def shared(empty_store: Path, tmp_path: Path) -> Shared:
    """A store that nobody has used."""
    (tmp_path / "store").mkdir()
    with opened(empty_store, tmp_path / "store"):
        pass
    return Shared(tmp_path)


def mirror(registry: Registry, artifacts: Artifacts) -> bool:
    return registry.mirror(artifacts, Lineage("0123abc", {}), Path("nothing"))[1]


def test_another_projects_model_is_seen_by_nobody_else_and_its_name_is_refused(shared: Shared, run: Artifacts) -> None:
    with shared.project("one") as one:
        assert mirror(one, run)
        one.promoter.promote(None, None, CONFIG)
    before = listing(shared.store)
    with shared.project("two") as two:
        ours, theirs = two.versions.project[:12], one.versions.project[:12]
        assert ours != theirs
        with says(f"registry: the model 'ranker' is of project {theirs}, this one is {ours}; name it otherwise"):
            two.versions.claim()
        with says("is of project", "(promotion.product)", "mlflow.tracking_uri", "restore its ledger"):
            mirror(two, run)
        for model, version in ((None, "1"), ("new", None)):
            with says("registry: the model 'ranker' is of project"):
                two.promoter.promote(model, version, CONFIG)
    assert shared.listed("two") == []
    assert listing(shared.store) == before
    assert shared.aliases() == {CHAMPION: "2"}


def test_products_with_names_of_their_own_live_beside_each_other(shared: Shared, run: Artifacts) -> None:
    for project, product in (("one", "mine"), ("two", "yours"), ("one", "mine")):
        with shared.project(project, product) as registry:
            mirror(registry, run)
            if registry.versions.alias(CHAMPION) is None:
                registry.promoter.promote(None, None, CONFIG)
            registry.promoter.restore_alias()
    for project, product in (("one", "mine"), ("two", "yours")):
        assert shared.listed(project, product) == [("base", "1", ()), ("new", "2", (CHAMPION,))]
    assert shared.listed("one", "yours") == []


def test_a_product_renamed_begins_without_a_champion_and_finds_it_again(shared: Shared, run: Artifacts) -> None:
    with shared.project("one") as one:
        mirror(one, run)
        one.promoter.promote(None, None, CONFIG)
    with shared.project("one", "second") as one:
        mirror(one, run)
    assert shared.listed("one", "second") == [("base", "1", ()), ("new", "2", (CHALLENGER,))]
    with shared.project("one") as one:
        mirror(one, run)
    assert shared.aliases() == {CHAMPION: "2"}


def test_a_model_of_someone_else_with_our_name_is_left_as_it_is(shared: Shared, run: Artifacts) -> None:
    with shared.project("one") as one:
        one.client.create_registered_model(PRODUCT)
        one.client.create_model_version(PRODUCT, str(run.bundle("new")))
        one.client.set_registered_model_alias(PRODUCT, CHAMPION, "1")
        with says("registry: the model 'ranker' is of someone else; name it otherwise (promotion.product)"):
            mirror(one, run)
        assert one.versions.all() == []
        assert one.client.search_runs([one.experiment]) == []
    assert shared.aliases() == {CHAMPION: "1"}


def test_a_listing_writes_nothing_there_or_here(shared: Shared, run: Artifacts) -> None:
    with shared.project("one") as one:
        mirror(one, run)
        one.promoter.promote(None, None, CONFIG)
        one.client.set_registered_model_alias(PRODUCT, CHALLENGER, "1")
        one.client.delete_registered_model_alias(PRODUCT, CHAMPION)
    before = listing(shared.home)
    assert shared.listed("one") == [("base", "1", (CHALLENGER,)), ("new", "2", ())]
    assert listing(shared.home) == before


def test_a_listing_makes_no_store(tmp_path: Path) -> None:
    config = store_in(tmp_path / "nowhere")
    told = says(f"{config.tracking_uri}: holds nothing yet; run the graph, or")
    with apart(tmp_path), told, Registry.look(config, PRODUCT, tmp_path / "ledger.jsonl"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_clone_shares_models_and_does_not_undo_what_its_ledger_does_not_know(
    shared: Shared, run: Artifacts, capsys: pytest.CaptureFixture[str]
) -> None:
    with shared.project("one") as one:
        mirror(one, run)
        one.promoter.promote(None, None, CONFIG)
    shared.clone("one", "clone")
    with shared.project("one") as one:
        mirror(one, run)
        one.promoter.promote("base", None, CONFIG, forced="to have two")
    path = shared.home / "clone/ledger.jsonl"
    what = f"{path}: ranker: does not hold the line "
    capsys.readouterr()
    with shared.project("clone") as clone:
        assert clone.versions.project == one.versions.project
        assert not mirror(clone, run)
        assert capsys.readouterr().err.startswith(what)
        assert shared.aliases()[CHAMPION] == "1"
        with says(what, "that set the champion in MLflow; pull the ledger from the clone that wrote it"):
            clone.promoter.promote("new", None, CONFIG)
        with says(what):
            clone.promoter.rollback()
    assert len(Ledger(path).entries()) == 2
    shutil.copyfile(shared.home / "one/ledger.jsonl", path)  # pulled
    with shared.project("clone") as clone:
        assert clone.promoter.rollback() == ("1", "2")
    assert shared.aliases()[CHAMPION] == "2"


def test_another_projects_runs_are_neither_taken_nor_removed(shared: Shared, run: Artifacts, tmp_path: Path) -> None:
    with shared.project("one") as one:
        mirror(one, run)
        (top,) = one.client.search_runs([one.experiment], f"tags.`{COMPLETE}` = 'true'")
        one.client.delete_tag(top.info.run_id, COMPLETE)  # as one that is being written
        one.client.rename_registered_model(PRODUCT, "product of one")
        runs = {run.info.run_id for run in one.client.search_runs([one.experiment])}
    with shared.project("two") as two:
        assert mirror(two, finish(tmp_path / "same"))
        assert runs < {run.info.run_id for run in two.client.search_runs([two.experiment])}


@pytest.mark.parametrize("facts", [{"action": "promote", "model": "new", "bundle": "a"}, {"action": "begin"}])
def test_a_ledgers_first_line_is_its_identity(tmp_path: Path, facts: dict[str, Any]) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    assert ledger.project() is None
    first = ledger.append(**facts)
    ledger.append(action="promote", model="new", bundle="b")
    before = ledger.path.read_bytes()
    assert ledger.begin() == ledger.project() == first["hash"]
    assert ledger.path.read_bytes() == before


def test_each_ledger_begins_with_a_line_of_its_own(tmp_path: Path) -> None:
    ledgers = [Ledger(tmp_path / name) for name in ("one", "two")]
    assert len({ledger.begin() for ledger in ledgers}) == 2
    for ledger in ledgers:
        assert [entry["action"] for entry in ledger.entries()] == ["begin"]
        assert ledger.champions(PRODUCT) == []
