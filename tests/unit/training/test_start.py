"""A run that begins with the champion's weights: every learned number is carried over, nothing else is."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from kit import BACKBONE, MODELS, Stages, lively, make_history, says

from hisac_lab.base.artifacts import load_array, sha256_tree
from hisac_lab.codebook.build import grow
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.train import TrainConfig
from hisac_lab.events.store import EventStore
from hisac_lab.inference.bundle import load_model, save_model
from hisac_lab.inference.carry import learned_of
from hisac_lab.inference.records import Trained, VocabularyFile
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import ItemSpace
from hisac_lab.models.fitted import Fitted
from hisac_lab.tokens.methods import open_quantizer
from hisac_lab.training.start import begin_from
from hisac_lab.training.train import train_model

WITH_FLAT = ("flat_6",)
CARRIED = [
    name
    for name, config in MODELS.items()
    if not any(word in config.model_dump_json() for word in ('"shuffled"', '"random"', *WITH_FLAT))
]
GONE = 7


def names(stages: Stages) -> list[str]:
    return [str(item) for item in EventStore.open(stages.prepare).item_table["item"]]


def yesterday(stages: Stages, items: ItemSpace) -> tuple[ItemSpace, np.ndarray]:
    """Two thirds of today's items in another order, the same codewords; and today's number of each."""
    place = np.random.default_rng(0).permutation(len(items.semantic))[: len(items.semantic) * 2 // 3]
    codes = np.asarray(load_array(stages.tokenize, "codes"))[place]
    rows = torch.from_numpy(place)
    book = grow(codes, open_quantizer(stages.tokenize))
    return dataclasses.replace(items, semantic=items.semantic[rows], fields=items.fields[rows], codebook=book), place


def champion(home: Path, name: str, stages: Stages, space: ItemSpace, place: np.ndarray) -> tuple[Path, str]:
    """A bundle of a model of yesterday, which also knew an item that is gone; and its digest."""
    home.mkdir()
    save_model(home, lively(name, space, seed=5), MODELS[name], space)
    own = names(stages)
    known = [own[number] for number in place]
    known[GONE] = "gone since"
    VocabularyFile(items=known, history_limit=50).save(home)
    return home, sha256_tree(home)


@pytest.mark.parametrize("name", CARRIED)
def test_all_that_was_learned_is_carried_over_and_new_rows_stay_as_drawn(
    name: str, stages: Stages, items: ItemSpace, tmp_path: Path
) -> None:
    space, place = yesterday(stages, items)
    bundle, digest = champion(tmp_path / "champion", name, stages, space, place)
    model, drawn = (build(MODELS[name], BACKBONE, items, 3) for _ in range(2))
    why = begin_from(model, MODELS[name], names(stages), bundle, digest)
    if isinstance(model, Fitted):
        assert why == "it is fitted at once"
        return
    assert why is None
    before, now, fresh = learned_of(load_model(bundle)[0]), learned_of(model), learned_of(drawn)
    known = np.delete(place, GONE)
    kept = np.delete(np.arange(len(place)), GONE)
    strange = np.setdiff1d(np.arange(len(items.semantic)), known)
    for key, values in now.items():
        if key == "encoder.ids.weight":
            assert torch.equal(values[known], before[key][kept])
            assert torch.equal(values[strange], fresh[key][strange])
        elif values.shape == before[key].shape and "tables" not in key:
            assert torch.equal(values, before[key]), key
    learned = set(now)
    for key, values in model.state_dict().items():
        assert key in learned or torch.equal(values, drawn.state_dict()[key]), f"{key} is a fact of today"


@pytest.mark.parametrize("name", ["hisac", "r2led", "din-whole"])
def test_on_known_items_it_scores_as_the_champion_does(
    name: str, stages: Stages, items: ItemSpace, tmp_path: Path
) -> None:
    space, place = yesterday(stages, items)
    bundle, digest = champion(tmp_path / "champion", name, stages, space, place)
    model = build(MODELS[name], BACKBONE, items, 3).eval()
    assert begin_from(model, MODELS[name], names(stages), bundle, digest) is None
    theirs = make_history([9, 0, 3], items=GONE)
    ours = dataclasses.replace(theirs, items=torch.from_numpy(place)[theirs.items])
    candidates = torch.arange(6).view(3, 2)
    with torch.inference_mode():
        wanted, found = load_model(bundle)[0](theirs, candidates), model(ours, torch.from_numpy(place)[candidates])
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_a_model_of_other_settings_begins_with_drawn_weights(stages: Stages, items: ItemSpace, tmp_path: Path) -> None:
    bundle, digest = champion(tmp_path / "champion", "hisac", stages, items, np.arange(len(items.semantic)))
    for name, why in (("mean", "the champion is of kind hisac"), ("hisac-flat-vote", "the champion has another ")):
        model, drawn = (build(MODELS[name], BACKBONE, items, 3) for _ in range(2))
        said = begin_from(model, MODELS[name], names(stages), bundle, digest)
        assert said is not None
        assert said.startswith(why)
        assert all(torch.equal(part, drawn.state_dict()[key]) for key, part in model.state_dict().items())


def test_what_does_not_fit_is_one_line(stages: Stages, items: ItemSpace, tmp_path: Path) -> None:
    bundle, digest = champion(tmp_path / "champion", "hisac", stages, items, np.arange(len(items.semantic)))
    model = build(MODELS["hisac"], BACKBONE, items, 3)
    with says(f"{bundle}: has digest {digest[:12]}, params.yaml names other; `hisac-lab sync` restores it"):
        begin_from(model, MODELS["hisac"], names(stages), bundle, "other")
    wide = build(MODELS["hisac"], BACKBONE.model_copy(update={"dim": 16}), items, 3)
    with says(
        "settings: train.start_from: the champion was told otherwise of the section backbone", "start_from: null"
    ):
        begin_from(wide, MODELS["hisac"], names(stages), bundle, digest)
    narrow = build(MODELS["hisac"], BACKBONE, dataclasses.replace(items, semantic=items.semantic[:, :-1]), 3)
    with says("settings: train.start_from: the champion's weights do not fit (encoder.project.weight has the shapes"):
        begin_from(narrow, MODELS["hisac"], names(stages), bundle, digest)


def test_a_run_goes_on_from_the_champion_and_says_so(
    stages: Stages, items: ItemSpace, trained: Path, tmp_path: Path
) -> None:
    """With steps of no length it ends as good as it began; drawn weights do not."""
    bundle = tmp_path / "champion"
    bundle.mkdir()
    model, config = load_model(trained / "hisac-0")
    save_model(bundle, model, config, items)
    VocabularyFile(items=names(stages), history_limit=50).save(bundle)
    digest, found = sha256_tree(bundle), dict[str | None, Trained]()
    still = TrainConfig(
        epochs=1, batch_requests=64, learning_rate=1e-30, embedding_learning_rate=1e-30, weight_decay=0.0
    )
    for start in (digest, None):
        out = tmp_path / str(start)
        out.mkdir()
        train_model(
            "hisac",
            config,
            BACKBONE,
            still.model_copy(update={"start_from": start}),
            ComputeConfig(device="cpu"),
            1,
            items,
            prepared=stages.prepare,
            out=out,
            work=tmp_path / ".work",
            champion=bundle,
        )
        found[start] = Trained.open(out)
    assert found[digest].started_from == digest
    assert found[digest].valid_auc == Trained.open(trained / "hisac-0").valid_auc
    assert found[None].started_from is None
    assert found[None].valid_auc != found[digest].valid_auc
