"""Promotion and rollback: the gates decide, the ledger remembers, the aliases follow."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from kit import says
from registered import PRODUCT, add_foreign, opened, with_evidence

from hisac_lab.base.artifacts import sha256_tree
from hisac_lab.base.errors import UserError
from hisac_lab.base.stages import Artifacts
from hisac_lab.config.promotion import PromotionConfig
from hisac_lab.registry.gates import Gate
from hisac_lab.registry.ledger import Entry
from hisac_lab.registry.promotion import Listed
from hisac_lab.registry.records import Evidence
from hisac_lab.registry.store import Registry
from hisac_lab.registry.versions import BUNDLE, CHALLENGER, CHAMPION, FORCED

CONFIG = PromotionConfig()
COUNT = 8
"""Gates."""


class Shop:
    """A registry with versions of two models: 1, 2 and 3 each beat the one before; then come others."""

    LOSER, ELSEWHERE, AT_LIMITS, CONTROL = "4", "5", "6", "7"

    def __init__(self, registry: Registry) -> None:
        self.registry, self.promoter, self.versions = registry, registry.promoter, registry.versions
        self.challenge("1")

    def digest(self, version: str) -> str:
        return self.versions.pick(None, version).tags[BUNDLE]

    def challenge(self, version: str) -> None:
        self.registry.client.set_registered_model_alias(PRODUCT, CHALLENGER, version)

    def promote(self, version: str | None, config: PromotionConfig = CONFIG) -> list[str]:
        """Asks for a promotion; gives the names of the gates that failed."""
        return self.promoter.promote(None, version, config).failed

    def champion(self) -> str | None:
        found = self.versions.alias(CHAMPION)
        return None if found is None else str(found.version)

    def entries(self) -> list[Entry]:
        """The ledger behind its first line."""
        begin, *entries = self.promoter.ledger.entries()
        assert begin["action"] == "begin"
        return entries

    def decisions(self) -> list[tuple[str, str, str | None]]:
        """What each entry of the ledger decided."""
        return [(entry["action"], entry["version"], entry["previous"]) for entry in self.entries()]


def met(*names: str) -> dict[str, Any]:
    """Comparisons with models of these weights, each won."""
    return {name: {"difference": 0.01, "interval": [0.007, 0.013], "p": 0.01, "weights": name} for name in names}


@pytest.fixture(scope="module")
def stocked(empty_store: Path, run_made: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with all versions."""
    home = tmp_path_factory.mktemp("stocked")
    bundle = Path(shutil.copytree(run_made.bundle("new"), home / "bundle"))
    good = Evidence.open(bundle).facts()
    board = good["comparisons"] | met(*"123456")
    cost = {"candidate_macs": 1e6, "encode_macs": 5e8, "state_bytes": 4000.5}
    changes: list[dict[str, Any]] = [{}, {}, {}, {"calibration_error": 0.06}, {"comparisons": good["comparisons"]}]
    changes += [{"calibration_error": 0.02, "cost": cost}]
    with opened(empty_store, home) as registry:
        owner = registry.client.create_run(registry.experiment).info.run_id
        for number, change in enumerate(changes, 1):
            facts = good | {"weights": str(number), "comparisons": board} | change
            registry.versions.register(bundle, with_evidence(bundle, **facts), owner)
        control = run_made.bundle("base")
        registry.versions.register(control, sha256_tree(control), owner)
    return home / "mlflow.db"


@pytest.fixture
def shop(stocked: Path, tmp_path: Path) -> Iterator[Shop]:
    """A shop of its own for each test."""
    with opened(stocked, tmp_path) as registry:
        yield Shop(registry)


def test_a_winner_becomes_champion_and_the_ledger_says_why(shop: Shop) -> None:
    done = shop.promoter.promote(None, None, CONFIG)
    assert (done.model, done.version, done.promoted, done.failed) == ("new", "1", True, [])
    assert shop.champion() == "1"
    assert len(done.gates) == COUNT
    assert done.gates[-1].says == "its files and its code are those that were registered"
    (entry,) = shop.entries()
    wanted = {"action": "promote", "model": "new", "version": "1", "bundle": shop.digest("1"), "previous": None}
    assert entry | wanted | {"product": PRODUCT} == entry
    assert entry["gates"] == [gate._asdict() for gate in done.gates]
    assert "forced" not in entry


def test_the_ledger_keeps_the_evidence_its_seeds_and_the_champion_compared_with(shop: Shop) -> None:
    shop.promote("1")
    shop.promote("2")
    first, second = (entry["evidence"] for entry in shop.entries())
    facts = {"fingerprint": "fedcba9876543210", "seeds": [0], "auc": 0.71, "interval": [0.7, 0.72]}
    for found in (first, second):
        assert found | facts | {"seed_spread": 0.001} == found
        assert (found["abtest"]["kind"], found["abtest"]["verdict"]) == ("fitted", "better")
    assert (first["against"], first["comparison"]["interval"]) == ("popularity", [0.012, 0.028])
    assert (second["against"], second["comparison"]["weights"]) == ("the champion, new", "1")
    assert [entry["previous"] for entry in shop.entries()] == [None, "1"]


def test_a_loser_is_refused_and_only_the_ledger_has_changed(shop: Shop) -> None:
    shop.promote("1")
    assert shop.promote(Shop.LOSER) == ["max_calibration_error"]
    assert shop.champion() == "1"
    assert shop.decisions() == [("promote", "1", None), ("refuse", Shop.LOSER, "1")]
    assert shop.entries()[1]["gates"][3]["says"] == "calibration error is 0.0600, the limit is 0.05"
    assert shop.promoter.ledger.champions(PRODUCT) == [shop.digest("1")]


def test_values_at_their_limits_pass(shop: Shop) -> None:
    config = PromotionConfig(max_calibration_error=0.02, max_request_cost=1e9, max_state_bytes=4000)
    assert shop.promote(Shop.AT_LIMITS, config) == []
    assert shop.champion() == Shop.AT_LIMITS


def test_a_version_or_a_model_may_be_named_in_place_of_the_challenger(shop: Shop) -> None:
    shop.challenge("3")
    for model, version, wanted in ((None, "2", "2"), (None, None, "3"), ("new", None, "6"), ("new", "1", "1")):
        assert shop.promoter.promote(model, version, CONFIG).version == wanted
        assert shop.champion() == wanted


def test_the_control_may_be_the_first_champion_and_a_better_model_the_second(shop: Shop) -> None:
    done = shop.promoter.promote("base", None, CONFIG)
    assert (done.version, done.failed) == (Shop.CONTROL, [])
    assert shop.promoter.promote("new", "1", CONFIG).failed == []
    assert shop.promoter.promote("base", None, CONFIG).failed == ["max_auc_loss", "abtest"]
    assert shop.decisions()[1:] == [("promote", "1", "7"), ("refuse", "7", "1")]


def test_a_model_that_never_met_the_champion_is_refused(shop: Shop) -> None:
    shop.promote("1")
    assert shop.promote(Shop.ELSEWHERE) == ["max_auc_loss", "abtest"]
    assert shop.champion() == "1"
    shop.promoter.rollback()
    assert shop.promote(Shop.ELSEWHERE) == []  # popularity it has met


def test_force_promotes_past_the_gates_and_ledger_and_version_keep_the_reason(shop: Shop) -> None:
    done = shop.promoter.promote(None, Shop.LOSER, CONFIG, forced="the old one is down")
    assert (done.promoted, done.failed) == (True, ["max_calibration_error"])
    assert shop.champion() == Shop.LOSER
    (entry,) = shop.entries()
    assert (entry["action"], entry["forced"]) == ("promote", "the old one is down")
    assert shop.versions.pick(None, Shop.LOSER).tags[FORCED] == "the old one is down"
    shop.promoter.promote(None, "1", CONFIG, forced="not needed")
    assert "forced" not in shop.entries()[1]
    assert FORCED not in shop.versions.pick(None, "1").tags


@pytest.mark.parametrize("holds", [True, False])
def test_a_version_is_served_before_the_alias_moves_and_what_it_answers_is_a_gate(shop: Shop, holds: bool) -> None:
    served = list[str]()

    def replay(bundle: Path, evidence: Evidence) -> Gate:
        served.append(sha256_tree(bundle))
        assert Evidence.open(bundle) == evidence
        assert shop.champion() is None
        return Gate("max_skew", holds, "64 requests over HTTP")

    done = shop.promoter.promote(None, "1", CONFIG, replay=replay)
    assert served == [shop.digest("1")]
    assert (done.promoted, done.failed) == (holds, [] if holds else ["max_skew"])
    assert shop.champion() == ("1" if holds else None)
    (entry,) = shop.entries()
    assert entry["gates"][-1] == {"name": "max_skew", "holds": holds, "says": "64 requests over HTTP"}


@pytest.mark.parametrize("file", ["weights.safetensors", "evidence.json", "served.py", "code/hisac_lab/api/model.py"])
def test_what_was_tampered_with_is_not_promoted_by_force_either(shop: Shop, file: str) -> None:
    shop.promote("1")
    home = Path(mlflow.artifacts.download_artifacts(f"models:/{PRODUCT}/2"))
    path = min(
        (found for found in home.rglob(Path(file).name) if str(found).endswith(file)), key=lambda at: len(at.parts)
    )
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    for forced in (None, "must"):
        with pytest.raises(UserError, match=r"is damaged|is not the code that was registered") as told:
            shop.promoter.promote(None, "2", CONFIG, forced)
        assert "delete this version in MLflow, then `hisac-lab sync`" in str(told.value)
    assert (shop.champion(), shop.decisions()) == ("1", [("promote", "1", None)])


def test_a_payload_beside_the_code_is_refused_by_a_rollback_too(shop: Shop) -> None:
    shop.promote("1")
    shop.promote("2")
    home = Path(mlflow.artifacts.download_artifacts(f"models:/{PRODUCT}/1"))
    (home / "code" / "torch.py").write_text("print('payload')")
    with says("/code: is not the code that was registered"):
        shop.promoter.rollback()
    assert shop.champion() == "2"


def test_what_cannot_be_promoted_leaves_no_entry(shop: Shop) -> None:
    with says("registry: ranker has no version of a model 'old' (there are: base, new); name one of them"):
        shop.promoter.promote("old", None, CONFIG)
    with says("registry: ranker has no version 8 (there are: 1, 2, 3, 4, 5, 6, 7); name one of them"):
        shop.promote("8")
    with says("registry: ranker has no version 1 of base (there are: 7); name one of them"):
        shop.promoter.promote("base", "1", CONFIG)
    assert shop.entries() == []
    shop.promote("1")
    with says("registry: new version 1 is champion already; nothing to do"):
        shop.promote("1")
    assert len(shop.entries()) == 1


def test_the_champion_is_no_challenger(shop: Shop) -> None:
    shop.promote(None)
    assert shop.versions.alias(CHALLENGER) is None
    with says("registry: ranker has no challenger: no model but controls and the champion (there are: base, new)"):
        shop.promote(None)


def test_the_challenger_is_the_best_by_validation_that_is_no_control_and_not_the_champion(shop: Shop) -> None:
    good = Evidence.open(Path(mlflow.artifacts.download_artifacts(f"models:/{PRODUCT}/1/artifacts/bundle")))
    judged = {
        shop.digest(version): good.model_copy(update={"valid_auc": auc, "model": model} | changes)
        for version, auc, model, changes in (
            ("1", 0.7, "b", {}),
            ("2", 0.70004, "a", {}),
            ("3", 0.69, "c", {}),
            ("4", 0.9, "d", {"side": "item"}),
            ("7", 0.9, "e", {"abtest": None}),
        )
    }
    for champion, wanted in ((None, "2"), ("2", "1"), ("1", "2")):
        if champion:
            shop.promote(champion)
        shop.promoter.challenge(judged)
        found = shop.versions.alias(CHALLENGER)
        assert found is not None
        assert str(found.version) == wanted
    shop.promoter.challenge({digest: one for digest, one in judged.items() if not one.may_challenge})
    assert shop.versions.alias(CHALLENGER) is None


def test_champions_from_before_there_was_a_product_are_told_and_left(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    for model, action in (("new", "promote"), ("old", "promote"), ("old", "rollback")):
        shop.promoter.ledger.append(action=action, model=model, bundle="b", version="3", previous=None, gates=[])
    capsys.readouterr()
    shop.promoter.restore_alias()
    line = "champions of single models (new) stay as they were; ranker begins without one\n"
    assert (capsys.readouterr().err, shop.champion()) == (line, None)
    shop.promote("1")
    shop.promoter.restore_alias()
    assert (capsys.readouterr().err, shop.champion()) == ("", "1")
    assert shop.promoter.rollback() == ("1", None)


def test_a_rollback_restores_the_champion_before_and_at_last_none(shop: Shop) -> None:
    shop.promote("1")
    shop.promote("2")
    shop.promote(Shop.LOSER)
    assert shop.promoter.rollback() == ("2", "1")
    assert shop.champion() == "1"
    assert shop.promoter.rollback() == ("1", None)
    assert shop.champion() is None
    assert shop.decisions()[3:] == [("rollback", "2", "1"), ("rollback", "1", None)]
    assert [entry["bundle"] for entry in shop.entries()[3:]] == [shop.digest("2"), shop.digest("1")]
    with says(f"{shop.promoter.ledger.path}: ranker has no champion; nothing to roll back"):
        shop.promoter.rollback()
    assert len(shop.entries()) == 5


def test_a_version_may_be_champion_again_and_what_was_between_comes_back(shop: Shop) -> None:
    for version in ("1", "2", "1"):
        shop.promote(version)
    assert shop.promoter.rollback() == ("1", "2")
    assert shop.promoter.rollback() == ("2", "1")
    assert shop.champion() == "1"


def test_a_rollback_to_a_bundle_that_is_gone_changes_nothing(shop: Shop) -> None:
    gone = shop.digest("1")
    shop.promote("1")
    shop.promote("2")
    shop.registry.client.delete_model_version(PRODUCT, "1")
    with says(f"registry: ranker {gone[:12]} is not in it", "dvc checkout", "hisac-lab sync"):
        shop.promoter.rollback()
    assert shop.champion() == "2"
    assert len(shop.entries()) == 2


def test_a_broken_ledger_stops_promotion_and_rollback(shop: Shop) -> None:
    shop.promote("1")
    path = shop.promoter.ledger.path
    path.write_text(path.read_text().replace("promote", "Promote"))
    with says(f"{path}: line 2: "):
        shop.promote("2")
    with says(f"{path}: line 2: "):
        shop.promoter.rollback()
    assert shop.champion() == "1"


def test_aliases_say_what_the_ledger_says(shop: Shop) -> None:
    client = shop.registry.client
    client.set_registered_model_alias(PRODUCT, CHAMPION, "2")  # by hand, in MLflow
    shop.promoter.restore_alias()
    assert shop.champion() == "2"  # the ledger says nothing yet
    shop.promote("1")
    client.set_registered_model_alias(PRODUCT, CHAMPION, "2")
    shop.promoter.restore_alias()
    assert shop.champion() == "1"
    client.delete_registered_model_alias(PRODUCT, CHAMPION)
    shop.promoter.restore_alias()
    assert shop.champion() == "1"
    shop.promoter.rollback()
    client.set_registered_model_alias(PRODUCT, CHAMPION, "2")
    shop.promoter.restore_alias()
    assert shop.champion() is None


def test_a_promotion_and_a_rollback_ask_the_ledger_and_not_an_alias_set_by_hand(shop: Shop) -> None:
    shop.promote("1")
    shop.registry.client.set_registered_model_alias(PRODUCT, CHAMPION, "2")
    shop.promote("2")
    shop.registry.client.set_registered_model_alias(PRODUCT, CHAMPION, "3")
    assert shop.promoter.rollback() == ("2", "1")
    assert shop.decisions() == [("promote", "1", None), ("promote", "2", "1"), ("rollback", "2", "1")]


def test_an_alias_stays_where_the_champions_bundle_is_not_at_hand(shop: Shop) -> None:
    shop.promoter.ledger.append(
        action="promote", product=PRODUCT, model="new", bundle="elsewhere", version="1", previous=None
    )
    shop.registry.client.set_registered_model_alias(PRODUCT, CHAMPION, "1")
    shop.promoter.restore_alias()
    assert shop.champion() == "1"


def test_a_kill_between_ledger_and_alias_is_made_good(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(version: object, decision: str) -> None:
        if version is not None:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shop.versions, "set_champion", kill)
        with pytest.raises(KeyboardInterrupt):
            shop.promote("1")
    assert shop.champion() is None
    shop.promoter.restore_alias()
    assert shop.champion() == "1"


def test_models_of_others_on_a_shared_server_keep_their_aliases(shop: Shop, tmp_path: Path) -> None:
    add_foreign(shop.registry, tmp_path)
    shop.promote("1")
    assert list(shop.registry.client.get_registered_model("foreign").aliases) == [CHAMPION]
    assert {one.model for one in shop.promoter.list()} == {"base", "new"}


def test_every_version_is_listed_with_its_model_aliases_and_evidence(shop: Shop) -> None:
    shop.promote("2")
    versions = shop.versions.all()
    aliases = [(CHALLENGER,), (CHAMPION,), (), (), (), (), ()]
    assert shop.promoter.list() == [
        Listed(version.tags["model"], str(version.version), held, dict(version.tags))
        for version, held in zip(versions, aliases, strict=True)
    ]
    assert [one.model for one in shop.promoter.list()] == ["new"] * 6 + ["base"]
