"""Two days: the champion of the first is judged on the second day's split, beside a challenger that learned there."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from days import Day, enter, judge, learn, prepare_day
from finished import edit
from kit import BACKBONE, CPU, says
from registered import opened, with_evidence
from tiny import make_log

from hisac_lab.base.artifacts import sha256_tree
from hisac_lab.config.events import ColumnsConfig, PrepareConfig
from hisac_lab.config.promotion import PromotionConfig
from hisac_lab.evaluation.records import Scores
from hisac_lab.events.batches import Requests
from hisac_lab.events.store import EventStore
from hisac_lab.inference.bundle import load_model
from hisac_lab.inference.loader import Loader, score
from hisac_lab.inference.records import Trained
from hisac_lab.models.champion import Champion
from hisac_lab.models.contract import History
from hisac_lab.registry.records import Evidence, Registered


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> tuple[Day, Day]:
    """The first has the earlier half of the log and `quick`, which learned little; the second has all of it."""
    home = tmp_path_factory.mktemp("days")
    events, table = make_log(users=60, items=80)
    first = events[events["time"] < events["time"].quantile(0.6)]
    first = first[first["item"] > 8]
    made = prepare_day(home / "first", first, table[table["item"].isin(first["item"])])
    learn(made, "quick", epochs=1, batch=512)
    one = judge(made, "popularity", "quick")
    made = prepare_day(home / "second", events, table[::-1])
    enter(made, one.made.bundle("quick"), one.digest("quick"))
    learn(made, "fresh", epochs=6, batch=32)
    return one, judge(made, "champion", "champion", "fresh")


def test_the_champion_scores_today_as_its_own_weights_would_on_what_they_know(days: tuple[Day, Day]) -> None:
    one, two = days
    run, _ = load_model(two.made.run("champion", 0))
    own, _ = load_model(one.made.bundle("quick"))
    assert isinstance(run, Champion)
    theirs, ours = (day.store.item_table["item"].tolist() for day in days)
    number = {item: place for place, item in enumerate(theirs)}
    requests = Requests.of(two.store, two.store.samples("test"), 4)
    found = score(run, Loader.of(run, requests, CPU))
    loader, unknown, checked = Loader.of(run, requests, CPU), set(), 0
    for row in range(0, len(requests), 7):
        batch = loader.batch(np.array([row]))
        known = [
            at
            for at in range(batch.history.items.shape[1])
            if batch.history.mask[0, at] and ours[int(batch.history.items[0, at])] in number
        ]
        items = torch.tensor([[number[ours[int(batch.history.items[0, at])]] for at in known]])
        kept = [part[:, known] for part in (batch.history.ages, batch.history.mask, batch.history.feedback)]
        history = History(items, kept[0], kept[1], feedback=kept[2])
        for column in np.flatnonzero(requests.mask[row]) if known else ():
            item = ours[int(batch.candidates[0, column])]
            if item not in number:
                unknown.add(float(found[row, column]))
                continue
            context = None if batch.context is None else batch.context[:, column : column + 1]
            with torch.inference_mode():
                wanted = own(history, torch.tensor([[number[item]]]), context)
            assert found[row, column] == pytest.approx(float(wanted), abs=1e-5)
            checked += 1
    clicked = two.store.samples("train")["label"].mean()
    assert checked > 20
    assert len(unknown) == 1
    assert 1 / (1 + np.exp(-unknown.pop())) == pytest.approx(clicked, abs=1e-5)


def test_what_the_champion_does_not_know_changes_nothing_of_what_it_knows(days: tuple[Day, Day]) -> None:
    run, _ = load_model(days[1].made.run("champion", 0))
    assert isinstance(run, Champion)
    known, strange = ((run.place >= 0) == wanted for wanted in (True, False))
    knows, new = known.nonzero()[:5, 0], strange.nonzero()[:2, 0]
    assert len(new) == 2
    items = torch.stack(
        [torch.cat([knows[:2], new[:1], knows[2:4], new[1:]]), torch.cat([knows[:2], knows[2:4], knows[:2]])]
    )
    ages, mask = torch.arange(60, 0, -10).repeat(2, 1), torch.ones(2, 6, dtype=torch.bool)
    mixed = run.translated(History(items, ages, mask))
    assert mixed.mask.tolist() == [[False] * 2 + [True] * 4, [True] * 6]
    assert mixed.ages[0].tolist() == [0, 0, 60, 50, 30, 20]
    assert mixed.items[0, 2:].tolist() == run.place[knows[:4]].tolist()


def test_both_are_evaluated_and_tested_on_the_second_days_split(days: tuple[Day, Day]) -> None:
    one, two = days
    scores = Scores.open(two.made.evaluate)
    assert scores.models.keys() == {"champion", "fresh"}
    (pair,) = scores.pairs
    fresh = two.evidence("fresh")
    assert fresh.comparisons["champion"].weights == one.evidence("quick").weights
    assert abs(fresh.comparisons["champion"].difference) == abs(pair.difference)
    assert fresh.abtest is not None
    assert fresh.abtest.control == "champion"
    assert fresh.fingerprint != one.evidence("quick").fingerprint
    trained = Trained.open(two.made.run("champion", 0))
    assert trained.settings["weights"] == one.evidence("quick").weights
    assert (trained.steps, trained.valid_auc > 0.4) == (0, True)


def undecided(day: Day, folder: Path) -> tuple[Path, str]:
    """A copy of the bundle `fresh` whose A/B test tells nothing, and its digest."""
    bundle = Path(shutil.copytree(day.made.bundle("fresh"), folder / "fresh"))
    quiet = {"verdict": "undecided", "sample_ratio_holds": True, "aa_holds": True}
    return bundle, with_evidence(bundle, abtest=day.evidence("fresh").facts()["abtest"] | quiet)


def test_a_better_challenger_replaces_the_champion_a_day_later(
    days: tuple[Day, Day], empty_store: Path, tmp_path: Path
) -> None:
    """By its quality: what a test of so few simulated users says is left out of it."""
    one, two = days
    bundle, digest = undecided(two, tmp_path)
    assert list(Registered.open(two.made.register).models) == ["fresh"]  # the champion is registered already
    easy = PromotionConfig(max_calibration_error=1.0)
    with opened(empty_store, tmp_path) as registry:
        owner = registry.client.create_run(registry.experiment).info.run_id
        registry.versions.register(one.made.bundle("quick"), one.digest("quick"), owner)
        assert registry.promoter.promote("quick", None, easy, forced="whatever popularity is worth").promoted
        registry.versions.register(bundle, digest, owner)
        registry.promoter.challenge({digest: Evidence.open(bundle)})
        done = registry.promoter.promote(None, None, easy)
        entry = registry.promoter.ledger.entries()[-1]
    comparison = two.evidence("fresh").comparisons["champion"]
    assert comparison.interval[0] > 0, "it learned more, on more"
    assert done.gates[0].says.startswith("AUC less that of the champion, quick is +")
    assert (done.model, done.failed) == ("fresh", [])
    assert entry["evidence"]["comparison"]["weights"] == one.evidence("quick").weights
    assert entry["previous"] == "1"


def test_a_newcomers_own_log_has_a_first_champion_with_untouched_gates(
    days: tuple[Day, Day], empty_store: Path, tmp_path: Path
) -> None:
    """By its quality, as above."""
    _, two = days
    bundle, digest = undecided(two, tmp_path)
    with opened(empty_store, tmp_path) as registry:
        owner = registry.client.create_run(registry.experiment).info.run_id
        registry.versions.register(bundle, digest, owner)
        done = registry.promoter.promote("fresh", None, PromotionConfig())
    assert done.failed == [], done.gates


def test_a_folder_with_another_model_is_refused(days: tuple[Day, Day], tmp_path: Path) -> None:
    one, two = days
    bundle = one.made.bundle("quick")
    made = two.made
    digest = one.digest("quick")
    with says(f"{bundle}: has digest {digest[:12]}, params.yaml names other; `hisac-lab sync` restores it"):
        enter(made, bundle, "other")
    for file in ("weights.safetensors", "vocabulary.json", "evidence.json"):
        forged = Path(shutil.copytree(bundle, tmp_path / file.partition(".")[0]))
        content = bytearray((forged / file).read_bytes())
        content[-5] ^= 1
        (forged / file).write_bytes(content)
        with says(f"{forged}: has digest", f"params.yaml names {digest[:12]}"):
            enter(made, forged, digest)
    with says(f"{tmp_path / 'nothing'}/weights.safetensors: does not exist"):
        enter(made, tmp_path / "nothing", "other")
    stored = Path(shutil.copytree(bundle, tmp_path / "stored"))
    edit(stored / "model.json", instances="a digest")
    with says(f"{stored}: instances: reads stored instances: a later day has others; leave it off the board"):
        enter(made, stored, sha256_tree(stored))
    assert sha256_tree(made.run("champion", 0))


COLUMNS = ColumnsConfig(text=("title",), request_fields=("device",), request_numbers=("hour",))
TOLD = BACKBONE.model_copy(update={"features": ("length", "request")})


def test_the_champion_is_told_the_columns_of_requests_as_it_learned_them(tmp_path: Path) -> None:
    """On the second day a new device takes the code of an old one, and the hours have other moments."""
    events, table = make_log(users=30, items=60)
    random, late = np.random.default_rng(0), events["time"].quantile(0.6)
    early = (events["time"] < late).to_numpy()
    events["device"] = np.where(random.random(len(events)) < 0.5, "phone", np.where(early, "tv", "car"))
    events["hour"] = events["time"] // 3600 % 24 * np.where(early, 1, 9)
    config = PrepareConfig(history="positives", positive_from=4.0, columns=COLUMNS)
    one = prepare_day(tmp_path / "first", events[early], table, config)
    learn(one, "quick", epochs=1, batch=64, backbone=TOLD)
    first = judge(one, "popularity", "quick")
    two = prepare_day(tmp_path / "second", events, table, config)
    enter(two, one.bundle("quick"), first.digest("quick"))
    run, _ = load_model(two.run("champion", 0))
    assert isinstance(run, Champion)
    stores = [EventStore.open(made.prepare) for made in (one, two)]
    then, now = (store.manifest.context.request for store in stores)
    assert (then.fields[0].values, now.fields[0].values) == (("phone", "tv"), ("car", "phone", "tv"))
    assert then.numbers != now.numbers
    requests = Requests.of(stores[1], stores[1].samples("test"), 4)
    told = Loader.of(run, requests, CPU).batch(np.arange(len(requests))).history.request
    assert told is not None
    raw = stores[1].side("request").values[requests.request]
    for row, (code, hour) in zip(told, raw.tolist(), strict=True):
        device = ("", *now.fields[0].values)[int(code)]
        assert row.tolist() == then.row({"device": device, "hour": hour})[0].tolist()
    assert {int(code) for code in raw[:, 0]} >= {1, 2}, "both a device that it knows and one that it does not"
    assert np.isfinite(score(run, Loader.of(run, requests, CPU))[requests.mask]).all()
