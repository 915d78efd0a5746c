"""Items appended to the champion: a version of its own, with its evidence, promoted as the same model or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from bundles import bundle_of, new_rows
from finished import edit
from kit import Stages, says
from registered import opened

from hisac_lab.base.artifacts import sha256_tree, stage_output
from hisac_lab.base.stages import Artifacts
from hisac_lab.config.promotion import PromotionConfig
from hisac_lab.inference.bundle import weights_of
from hisac_lab.models.contract import ItemSpace
from hisac_lab.registry.appended import append_bundle
from hisac_lab.registry.records import Evidence
from hisac_lab.registry.versions import APPENDED
from hisac_lab.serving.engine import Engine
from hisac_lab.tokens.changes import changed_ids

pytestmark = pytest.mark.skipif("not __import__('importlib').util.find_spec('wordllama')")
TITLES = ["river storm over green mountains", "a quiet winter in space"]
REQUEST = {"history_times": [10, 20, 30], "time": 90_000}


@pytest.fixture
def bundle(run_made: Artifacts, stages: Stages, items: ItemSpace, tmp_path: Path) -> Path:
    """A bundle of HiSAC with the evidence of the finished run."""
    home = bundle_of(tmp_path / "before", "hisac", stages, items)
    for file in ("card.json", "evidence.json"):
        shutil.copyfile(run_made.bundle("new") / file, home / file)
    edit(home / "evidence.json", weights=weights_of(home))
    return home


def append(bundle: Path, table: pd.DataFrame, out: Path) -> Path:
    with stage_output(out) as draft:
        append_bundle(bundle, table, draft, where=Path("new.csv"))
    return out


def test_its_evidence_is_that_of_the_earlier_bundle_and_what_was_appended(
    bundle: Path, stages: Stages, items: ItemSpace, tmp_path: Path
) -> None:
    after = append(bundle, new_rows(stages, TITLES), tmp_path / "after")
    earlier, now = Evidence.open(bundle), Evidence.open(after)
    assert (now.weights, earlier.weights) == (weights_of(after), weights_of(bundle))
    (part,) = now.appended
    assert (part.items, part.since) == (2, len(items.semantic))
    assert (part.bundle, part.weights) == (sha256_tree(bundle), earlier.weights)
    said = {"weights": "", "appended": ()}
    assert now.model_copy(update=said) == earlier.model_copy(update=said)


def test_a_server_knows_the_new_items_in_histories_and_as_candidates(
    bundle: Path, stages: Stages, tmp_path: Path
) -> None:
    after = append(bundle, new_rows(stages, TITLES), tmp_path / "after")
    known = Engine(bundle, "1").reader.number
    first, second, third = list(known)[:3]
    request = REQUEST | {"history_items": [first, second, "n0"], "candidates": [third, "n0", "n1"]}
    before, now = (Engine(home, version) for home, version in ((bundle, "1"), (after, "2")))
    asked = before.read(0, request)
    assert asked.unknown == 1
    assert [score is None for score in before.answer([asked])[0]["scores"]] == [False, True, True]
    asked = now.read(0, request)
    assert asked.unknown == 0
    assert None not in now.answer([asked])[0]["scores"]
    (kept,) = now.encode([asked])
    assert now.score(kept, asked)["scores"] == pytest.approx(now.answer([asked])[0]["scores"], abs=1e-6)
    older = REQUEST | {"history_items": [first, second, second], "candidates": [third, first]}
    assert now.answer([now.read(0, older)]) == before.answer([before.read(0, older)])


def test_the_champion_with_more_items_is_promoted_as_itself(
    bundle: Path, stages: Stages, empty_store: Path, tmp_path: Path
) -> None:
    after = append(bundle, new_rows(stages, TITLES), tmp_path / "after")
    with opened(empty_store, tmp_path) as registry:
        versions, promoter = registry.versions, registry.promoter
        owner = registry.client.create_run(registry.experiment).info.run_id
        versions.register(bundle, sha256_tree(bundle), owner)
        assert promoter.promote("new", None, PromotionConfig(), forced="the first").promoted
        number = versions.register(after, sha256_tree(after), owner)
        assert versions.register(after, sha256_tree(after), owner) == number, "the same items make the same version"
        champion = versions.alias("champion")
        assert champion is not None
        assert champion.version != number, "no alias moves by itself"
        done = promoter.promote(None, number, PromotionConfig(max_state_bytes=1))
        assert [(gate.name, gate.holds) for gate in done.gates] == [("items", True), ("bundle", True)]
        assert done.gates[0].says == f"it is the champion, version {champion.version}, with 2 items appended"
        champion = versions.alias("champion")
        assert champion is not None
        assert champion.tags[APPENDED] == sha256_tree(bundle)
        promoter.challenge({sha256_tree(bundle): Evidence.open(bundle)})
        assert versions.alias("challenger") is None, "what the champion was challenges nobody"
        assert promoter.rollback() == (number, "1")


def test_other_weights_that_say_to_be_the_champion_are_refused(
    bundle: Path, stages: Stages, items: ItemSpace, empty_store: Path, tmp_path: Path
) -> None:
    other = bundle_of(tmp_path / "other", "hisac-flat-vote", stages, items)
    for file in ("card.json", "evidence.json"):
        shutil.copyfile(bundle / file, other / file)
    after = append(other, new_rows(stages, TITLES), tmp_path / "after")
    part = Evidence.open(after).appended[0].facts() | {"weights": weights_of(bundle)}
    edit(after / "evidence.json", appended=[part])
    with opened(empty_store, tmp_path) as registry:
        owner = registry.client.create_run(registry.experiment).info.run_id
        registry.versions.register(bundle, sha256_tree(bundle), owner)
        assert registry.promoter.promote("new", None, PromotionConfig(), forced="the first").promoted
        number = registry.versions.register(after, sha256_tree(after), owner)
        done = registry.promoter.promote(None, number, PromotionConfig())
    assert (done.promoted, done.failed) == (False, ["items"])


def test_whose_ids_have_changed_is_told_by_item(bundle: Path, stages: Stages, tmp_path: Path) -> None:
    after = append(bundle, new_rows(stages, TITLES), tmp_path / "after")
    then, now = bundle / "tokens/ids.parquet", after / "tokens/ids.parquet"
    found = changed_ids(then, now)
    assert (len(found), found.attrs) == (0, {"both": 80, "new": 2, "gone": 0})
    table = pd.read_parquet(now)
    codes = table["code_2"].to_numpy().copy()
    codes[7] += 1
    moved = table.assign(code_2=codes)
    moved.iloc[:-1].to_parquet(now, index=False)
    found = changed_ids(then, now)
    assert found.attrs == {"both": 80, "new": 1, "gone": 0}
    (row,) = found.to_dict("records")
    wanted = ("-".join(map(str, one.iloc[7, 1:].tolist())) for one in (table, moved))
    assert (row["item"], row["then"], row["now"]) == (table["item"].iloc[7], *wanted)


def test_a_bundle_without_evidence_is_refused(stages: Stages, items: ItemSpace, tmp_path: Path) -> None:
    bare = bundle_of(tmp_path / "bare", "hisac", stages, items)
    with says("bare/evidence.json: does not exist"):
        append(bare, new_rows(stages, TITLES), tmp_path / "after")
    assert not (tmp_path / "after").exists()
