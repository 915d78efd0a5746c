"""Promotion and rollback: the gates decide, the ledger remembers, the aliases follow."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kit import says
from registered import add_foreign, opened, with_evidence

from hisac_lab.base.stages import Artifacts
from hisac_lab.config.promotion import PromotionConfig
from hisac_lab.registry.ledger import Entry
from hisac_lab.registry.promotion import Listed
from hisac_lab.registry.records import Evidence
from hisac_lab.registry.store import Registry
from hisac_lab.registry.versions import BUNDLE, CHALLENGER, CHAMPION

CONFIG = PromotionConfig()


class Shop:
    """A registry with versions of the model `new`: 1, 2 and 3 win their tests, then come a loser and two more."""

    LOSER, ELSEWHERE, AT_LIMITS = "4", "5", "6"

    def __init__(self, registry: Registry) -> None:
        self.registry, self.promoter, self.versions = registry, registry.promoter, registry.versions
        self.challenge("1")

    def digest(self, version: str) -> str:
        return self.versions.pick("new", version).tags[BUNDLE]

    def challenge(self, version: str) -> None:
        self.registry.client.set_registered_model_alias("new", CHALLENGER, version)

    def promote(self, version: str | None, config: PromotionConfig = CONFIG) -> list[str]:
        """Asks for a promotion; gives the names of the gates that failed."""
        return [gate.name for gate in self.promoter.promote("new", version, config)[1] if not gate.holds]

    def champion(self) -> str | None:
        found = self.versions.alias("new", CHAMPION)
        return None if found is None else str(found.version)

    def entries(self) -> list[Entry]:
        """The ledger behind its first line."""
        begin, *entries = self.promoter.ledger.entries()
        assert begin["action"] == "begin"
        return entries

    def decisions(self) -> list[tuple[str, str, str | None]]:
        """What each entry of the ledger decided."""
        return [(entry["action"], entry["version"], entry["previous"]) for entry in self.entries()]


@pytest.fixture(scope="module")
def stocked(empty_store: Path, run_made: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with all versions."""
    home = tmp_path_factory.mktemp("stocked")
    bundle = Path(shutil.copytree(run_made.bundle("new"), home / "bundle"))
    test = Evidence.open(bundle).facts()["abtest"] | {"fingerprint": "other"}
    cost = {"candidate_macs": 5e4, "encode_macs": 1.0, "state_bytes": 4000.5}
    changes: list[dict[str, Any]] = [{"seed": 1}, {"seed": 2}, {"seed": 3}, {"calibration_error": 0.06}]
    changes += [{"fingerprint": "other", "abtest": test}, {"calibration_error": 0.02, "cost": cost}]
    good = Evidence.open(bundle).facts()
    with opened(empty_store, home) as registry:
        owner = registry.client.create_run(registry.experiment).info.run_id
        for change in changes:
            registry.versions.register("new", bundle, with_evidence(bundle, **good | change), owner)
    return home / "mlflow.db"


@pytest.fixture
def shop(stocked: Path, tmp_path: Path) -> Iterator[Shop]:
    """A shop of its own for each test."""
    with opened(stocked, tmp_path) as registry:
        yield Shop(registry)


def test_a_winner_becomes_champion_and_the_ledger_says_why(shop: Shop) -> None:
    version, gates = shop.promoter.promote("new", None, CONFIG)
    assert version == shop.champion() == "1"
    assert len(gates) == 5
    assert all(gate.holds for gate in gates)
    (entry,) = shop.entries()
    wanted = {"action": "promote", "model": "new", "version": "1", "bundle": shop.digest("1"), "previous": None}
    assert {key: entry[key] for key in wanted} == wanted
    assert entry["gates"] == [gate._asdict() for gate in gates]


def test_a_loser_is_refused_and_only_the_ledger_has_changed(shop: Shop) -> None:
    shop.promote("1")
    assert shop.promote(Shop.LOSER) == ["max_calibration_error"]
    assert shop.champion() == "1"
    assert shop.decisions() == [("promote", "1", None), ("refuse", Shop.LOSER, "1")]
    assert shop.entries()[1]["gates"][1]["says"] == "calibration error is 0.0600, the limit is 0.05"
    assert shop.promoter.ledger.champions("new") == [shop.digest("1")]


def test_a_value_at_its_limit_passes_and_a_lift_at_its_limit_does_not(shop: Shop) -> None:
    config = PromotionConfig(
        min_ab_lift=0.008, max_calibration_error=0.02, max_candidate_cost=50000, max_state_bytes=4000
    )
    assert shop.promote(Shop.AT_LIMITS, config) == ["min_ab_lift"]
    assert shop.champion() is None
    assert shop.promote(Shop.AT_LIMITS, config.model_copy(update={"min_ab_lift": 0.0079})) == []
    assert shop.champion() == Shop.AT_LIMITS


def test_a_version_may_be_named_in_place_of_the_challenger(shop: Shop) -> None:
    shop.challenge("3")
    for version, wanted in (("2", "2"), (None, "3")):
        assert shop.promoter.promote("new", version, CONFIG)[0] == wanted
        assert shop.champion() == wanted


def test_evidence_under_another_protocol_than_the_champions_is_refused(shop: Shop) -> None:
    shop.promote("1")
    assert shop.promote(Shop.ELSEWHERE) == ["fingerprints"]
    assert shop.champion() == "1"
    shop.promoter.rollback("new")
    assert shop.promote(Shop.ELSEWHERE) == []  # nothing is there to compare with


def test_what_cannot_be_promoted_leaves_no_entry(shop: Shop) -> None:
    with says("registry: there is no model 'old' (there are: new)", "name one of them"):
        shop.promoter.promote("old", None, CONFIG)
    with says("registry: new has no version 7 (there are: 1, 2, 3, 4, 5, 6)", "name one of them"):
        shop.promote("7")
    assert shop.entries() == []
    shop.promote("1")
    for version in (None, "1"):
        with says("registry: new version 1 is champion already; nothing to do"):
            shop.promote(version)
    assert len(shop.entries()) == 1


def test_a_rollback_restores_the_champion_before_and_at_last_none(shop: Shop) -> None:
    shop.promote("1")
    shop.promote("2")
    shop.promote(Shop.LOSER)
    assert shop.promoter.rollback("new") == ("2", "1")
    assert shop.champion() == "1"
    assert shop.promoter.rollback("new") == ("1", None)
    assert shop.champion() is None
    assert shop.decisions()[3:] == [("rollback", "2", "1"), ("rollback", "1", None)]
    assert [entry["bundle"] for entry in shop.entries()[3:]] == [shop.digest("2"), shop.digest("1")]
    with says(f"{shop.promoter.ledger.path}: new has no champion; nothing to roll back"):
        shop.promoter.rollback("new")
    assert len(shop.entries()) == 5


def test_a_version_may_be_champion_again_and_what_was_between_comes_back(shop: Shop) -> None:
    for version in ("1", "2", "1"):
        shop.promote(version)
    assert shop.promoter.rollback("new") == ("1", "2")
    assert shop.promoter.rollback("new") == ("2", "1")
    assert shop.champion() == "1"


def test_a_rollback_needs_no_challenger_but_a_model(shop: Shop) -> None:
    shop.promote("1")
    shop.registry.client.delete_registered_model_alias("new", CHALLENGER)
    assert shop.promoter.rollback("new") == ("1", None)
    with says("registry: there is no model 'old' (there are: new)", "name one of them"):
        shop.promoter.rollback("old")


def test_a_rollback_to_a_bundle_that_is_gone_changes_nothing(shop: Shop) -> None:
    gone = shop.digest("1")
    shop.promote("1")
    shop.promote("2")
    shop.registry.client.delete_model_version("new", "1")
    with says(f"registry: new {gone[:12]} is not in it", "dvc checkout", "hisac-lab sync"):
        shop.promoter.rollback("new")
    assert shop.champion() == "2"
    assert len(shop.entries()) == 2


def test_a_broken_ledger_stops_promotion_and_rollback(shop: Shop) -> None:
    shop.promote("1")
    path = shop.promoter.ledger.path
    path.write_text(path.read_text().replace("promote", "Promote"))
    with says(f"{path}: line 2: "):
        shop.promote("2")
    with says(f"{path}: line 2: "):
        shop.promoter.rollback("new")
    assert shop.champion() == "1"


def test_aliases_say_what_the_ledger_says(shop: Shop) -> None:
    client = shop.registry.client
    client.set_registered_model_alias("new", CHAMPION, "2")  # by hand, in MLflow
    shop.promoter.restore_aliases()
    assert shop.champion() == "2"  # the ledger says nothing yet
    shop.promote("1")
    client.set_registered_model_alias("new", CHAMPION, "2")
    shop.promoter.restore_aliases()
    assert shop.champion() == "1"
    client.delete_registered_model_alias("new", CHAMPION)
    shop.promoter.restore_aliases()
    assert shop.champion() == "1"
    shop.promoter.rollback("new")
    client.set_registered_model_alias("new", CHAMPION, "2")
    shop.promoter.restore_aliases()
    assert shop.champion() is None


def test_a_promotion_and_a_rollback_ask_the_ledger_and_not_an_alias_set_by_hand(shop: Shop) -> None:
    shop.promote("1")
    shop.registry.client.set_registered_model_alias("new", CHAMPION, "2")
    shop.promote("2")
    shop.registry.client.set_registered_model_alias("new", CHAMPION, "3")
    assert shop.promoter.rollback("new") == ("2", "1")
    assert shop.decisions() == [("promote", "1", None), ("promote", "2", "1"), ("rollback", "2", "1")]


def test_an_alias_stays_where_the_champions_bundle_is_not_at_hand(shop: Shop) -> None:
    shop.promoter.ledger.append(action="promote", model="new", bundle="of another machine", version="1", previous=None)
    shop.registry.client.set_registered_model_alias("new", CHAMPION, "1")
    shop.promoter.restore_aliases()
    assert shop.champion() == "1"


def test_a_kill_between_ledger_and_alias_is_made_good(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(name: str, version: object, decision: str) -> None:
        if version is not None:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shop.versions, "set_champion", kill)
        with pytest.raises(KeyboardInterrupt):
            shop.promote("1")
    assert shop.champion() is None
    shop.promoter.restore_aliases()
    assert shop.champion() == "1"


def test_models_of_others_on_a_shared_server_keep_their_aliases(shop: Shop, tmp_path: Path) -> None:
    add_foreign(shop.registry, tmp_path)
    shop.promote("1")
    assert list(shop.registry.client.get_registered_model("foreign").aliases) == [CHAMPION]
    assert {one.model for one in shop.promoter.list()} == {"new"}


def test_every_version_is_listed_with_its_aliases_and_evidence(shop: Shop) -> None:
    shop.promote("2")
    versions = shop.versions.all("new")
    aliases = [(CHALLENGER,), (CHAMPION,), (), (), (), ()]
    assert shop.promoter.list() == [
        Listed("new", str(version.version), held, dict(version.tags))
        for version, held in zip(versions, aliases, strict=True)
    ]
    shop.promote("1")
    assert shop.promoter.list()[0].aliases == (CHAMPION, CHALLENGER)
