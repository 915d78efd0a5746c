"""Several projects and several clones on one store: each sees its own, and takes nothing from another."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from finished import edit
from kit import says
from mlflow import MlflowClient
from registered import apart, finish, listing, opened, register, store_in

from hisac_lab.base.artifacts import sha256_tree
from hisac_lab.base.stages import Artifacts
from hisac_lab.config.promotion import PromotionConfig
from hisac_lab.registry.ledger import Ledger
from hisac_lab.registry.mirror import COMPLETE, Lineage
from hisac_lab.registry.store import Registry
from hisac_lab.registry.versions import BUNDLE, CHALLENGER, CHAMPION, DECISION, PROJECT

CONFIG = PromotionConfig()


class Shared:
    """One store, and folders of projects beside it."""

    def __init__(self, home: Path) -> None:
        self.home, self.store = home, home / "store"

    @contextmanager
    def project(self, name: str) -> Iterator[Registry]:
        """Opens the store from the folder of a project, or of a clone."""
        folder = self.home / name
        folder.mkdir(exist_ok=True)
        with (
            apart(folder),
            Registry.open(store_in(self.store), folder / "ledger.jsonl", folder / ".work") as registry,
        ):
            yield registry

    def listed(self, name: str) -> list[tuple[str, str, tuple[str, ...]]]:
        """What `hisac-lab models` shows there."""
        with apart(self.home / name), Registry.look(store_in(self.store), self.home / name / "ledger.jsonl") as found:
            return [(one.model, one.version, one.aliases) for one in found.list()]

    def aliases(self, model: str) -> dict[str, str]:
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


def untag(registry: Registry, *models: str) -> None:
    """Makes models look as versions before this one made them."""
    for model in models:
        registry.client.delete_registered_model_tag(model, PROJECT)
        for version in registry.versions.all(model):
            registry.client.delete_model_version_tag(model, version.version, PROJECT)


def test_another_projects_model_is_seen_by_nobody_else_and_its_name_is_refused(shared: Shared, run: Artifacts) -> None:
    with shared.project("one") as one:
        assert mirror(one, run)
        one.promoter.promote("new", None, CONFIG)
    before = listing(shared.store)
    with shared.project("two") as two:
        ours, theirs = two.versions.project[:12], one.versions.project[:12]
        assert ours != theirs
        for name in ("base", "new"):
            with says(f"registry: the model {name!r} is of project {theirs}, this one is {ours}; name it otherwise"):
                two.versions.claim(name)
        with says("registry: the model 'base' is of project", "mlflow.tracking_uri", "restore its ledger"):
            mirror(two, run)
        two.promoter.restore_aliases()
        with says("registry: there is no model 'new' (there are: none yet: run the graph)"):
            two.promoter.promote("new", None, CONFIG)
        with says("registry: there is no model 'new'"):
            two.promoter.rollback("new")
    assert shared.listed("two") == []
    assert listing(shared.store) == before
    assert shared.aliases("new") == {CHAMPION: "1", CHALLENGER: "1"}


def test_projects_with_names_of_their_own_live_beside_each_other(shared: Shared, run: Artifacts) -> None:
    bundle = run.bundle("new")
    for project, model in (("one", "mine"), ("two", "yours"), ("one", "mine")):
        with shared.project(project) as registry:
            owner = registry.client.create_run(registry.experiment).info.run_id
            registry.versions.register(model, bundle, sha256_tree(bundle), owner)
            if registry.versions.alias(model, CHAMPION) is None:
                registry.promoter.promote(model, None, CONFIG)
            registry.promoter.restore_aliases()
            assert registry.versions.names() == [model]
    assert shared.listed("one") == [("mine", "1", (CHAMPION, CHALLENGER))]
    assert shared.listed("two") == [("yours", "1", (CHAMPION, CHALLENGER))]


def test_a_model_of_someone_else_with_our_name_is_left_as_it_is(shared: Shared, run: Artifacts) -> None:
    with shared.project("one") as one:
        one.client.create_registered_model("new")
        one.client.create_model_version("new", str(run.bundle("new")))
        one.client.set_registered_model_alias("new", CHAMPION, "1")
        with says("registry: the model 'new' is of someone else; name it otherwise in params.yaml"):
            mirror(one, run)
        assert one.versions.names() == []
        assert one.client.search_runs([one.experiment]) == []
    assert shared.aliases("new") == {CHAMPION: "1"}


def test_a_listing_writes_nothing_there_or_here(shared: Shared, run: Artifacts) -> None:
    with shared.project("one") as one:
        mirror(one, run)
        one.promoter.promote("new", None, CONFIG)
        one.client.set_registered_model_alias("new", CHALLENGER, "1")
        one.client.delete_registered_model_alias("new", CHAMPION)
    before = listing(shared.home)
    assert shared.listed("one") == [("base", "1", (CHALLENGER,)), ("new", "1", (CHALLENGER,))]
    assert listing(shared.home) == before


def test_a_listing_makes_no_store(tmp_path: Path) -> None:
    config = store_in(tmp_path / "nowhere")
    told = says(f"{config.tracking_uri}: holds nothing yet; run the graph, or")
    with apart(tmp_path), told, Registry.look(config, tmp_path / "ledger.jsonl"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_clone_shares_models_and_does_not_undo_what_its_ledger_does_not_know(
    shared: Shared, run: Artifacts, capsys: pytest.CaptureFixture[str]
) -> None:
    with shared.project("one") as one:
        mirror(one, run)
        one.promoter.promote("new", None, CONFIG)
    shared.clone("one", "clone")
    edit(run.abtest / "manifest.json", test_fingerprint="another")
    register(run)
    with shared.project("one") as one:
        mirror(one, run)
        one.promoter.promote("new", None, CONFIG)
    path = shared.home / "clone/ledger.jsonl"
    what = f"{path}: new: does not hold the line "
    capsys.readouterr()
    with shared.project("clone") as clone:
        assert clone.versions.project == one.versions.project
        assert not mirror(clone, run)
        assert capsys.readouterr().err.startswith(what)
        assert shared.aliases("new")[CHAMPION] == "2"
        with says(what, "that set the champion in MLflow; pull the ledger from the clone that wrote it"):
            clone.promoter.promote("new", "1", CONFIG)
        with says(what):
            clone.promoter.rollback("new")
    assert len(Ledger(path).entries()) == 2
    shutil.copyfile(shared.home / "one/ledger.jsonl", path)  # pulled
    with shared.project("clone") as clone:
        assert clone.promoter.rollback("new") == ("2", "1")
    assert shared.aliases("new")[CHAMPION] == "1"


def test_models_from_before_identities_become_ours_where_our_files_name_them(shared: Shared, run: Artifacts) -> None:
    with shared.project("one") as one:
        mirror(one, run)
        one.promoter.promote("new", None, CONFIG)
        untag(one, "base", "new")
        one.client.delete_registered_model_tag("new", DECISION)
        (top,) = one.client.search_runs([one.experiment], f"tags.`{COMPLETE}` = 'true'")
        one.client.delete_tag(top.info.run_id, PROJECT)
        bundle = str(run.bundle("new"))
        one.client.create_registered_model("other")
        one.client.create_model_version("other", bundle, tags={BUNDLE: "of another project"})
    assert shared.listed("one") == []
    with shared.project("one") as one:
        assert not mirror(one, run)
    assert shared.listed("one") == [("base", "1", (CHALLENGER,)), ("new", "1", (CHAMPION, CHALLENGER))]


def test_in_a_store_of_ones_own_all_versions_from_before_are_ours(registry: Registry, run: Artifacts) -> None:
    tags = {BUNDLE: "of last year"}
    registry.client.create_registered_model("old")
    registry.client.create_model_version("old", str(run.bundle("new")), tags=tags)
    mirror(registry, run)
    assert registry.versions.names() == ["base", "new", "old"]


def test_another_projects_runs_are_neither_taken_nor_removed(shared: Shared, run: Artifacts, tmp_path: Path) -> None:
    with shared.project("one") as one:
        mirror(one, run)
        (top,) = one.client.search_runs([one.experiment], f"tags.`{COMPLETE}` = 'true'")
        one.client.delete_tag(top.info.run_id, COMPLETE)  # as one that is being written
        for model in ("base", "new"):
            one.client.rename_registered_model(model, f"{model} of one")
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
        assert ledger.champions("new") == []
