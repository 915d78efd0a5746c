"""The champion of an earlier day is a model like any other, and the one that it was."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import pytest
import torch
from kit import BACKBONE, MODELS, lively, make_history, make_items, says

from hisac_lab.events.batches import Requests
from hisac_lab.inference.loader import Loader
from hisac_lab.models.backbone import Ranker
from hisac_lab.models.catalog import build
from hisac_lab.models.champion import Champion, ChampionConfig
from hisac_lab.models.contract import ItemSpace
from hisac_lab.testing import ModelContract
from hisac_lab.testing.samples import CPU, ITEMS

SPACE = make_items()
CANDIDATES = torch.randint(0, ITEMS, (3, 6), generator=torch.Generator().manual_seed(5))
KNOWN = torch.arange(ITEMS) % 5 != 4
"""Items that the champion knows."""
LEARNED = ("hisac", "din-whole")
"""One with agents, which are counted of its own items, and one without."""


def settings(name: str, space: ItemSpace = SPACE) -> ChampionConfig:
    """Those of a champion with the small settings of this name."""
    model, backbone = MODELS[name].model_dump(mode="json"), BACKBONE.model_dump(mode="json")
    return ChampionConfig(digest="any", model=model, backbone=backbone, items=space.shape())


def champion(name: str, place: torch.Tensor) -> tuple[Champion, Ranker]:
    """A champion that finds today's items at these places, and the model that it was."""
    own = lively(name, SPACE)
    model = build(settings(name), BACKBONE, SPACE, 0).eval()
    assert isinstance(model, Champion)
    model.inner.load_state_dict(own.state_dict())
    model.place.copy_(place)
    model.level.copy_(torch.arange(len(model.level)))
    model.unknown.fill_(-1.25)
    return model, own


def moved() -> torch.Tensor:
    """Numbers of yesterday by those of today."""
    return torch.randperm(ITEMS, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_champion_scores_as_the_model_that_it_is_whatever_numbers_today_gives_the_items(name: str) -> None:
    place = moved()
    model, own = champion(name, place)
    history = make_history([14, 3, 0])
    then = dataclasses.replace(history, items=place[history.items].where(history.mask, 0))
    asked = place[CANDIDATES]
    with torch.no_grad():
        found = model(history, CANDIDATES, model.no_context(CANDIDATES))
        wanted = own(then, asked, own.no_context(asked))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", LEARNED)
def test_an_unknown_candidate_gets_one_logit_and_an_unknown_event_is_not_read(name: str) -> None:
    model, _ = champion(name, torch.where(KNOWN, moved(), -1))
    history = make_history([14, 9, 4])
    context = model.no_context(CANDIDATES)
    with torch.no_grad():
        found = model(history, CANDIDATES, context)
        other = dataclasses.replace(history, items=torch.where(KNOWN[history.items], history.items, 4))
        assert not torch.equal(other.items, history.items)
        assert torch.equal(model(other, CANDIDATES, context), found)
    strange = ~KNOWN[CANDIDATES]
    assert strange.any()
    assert (found[strange] == -1.25).all()
    assert (found[~strange] != -1.25).all()


class TestChampion(ModelContract):
    """A champion that knows all of today's items under other numbers."""

    models: ClassVar = {name: settings(name) for name in LEARNED}

    @pytest.fixture
    def model(self, name: str) -> Ranker:
        return champion(name, moved())[0]

    def test_what_comes_later_reaches_no_score(self, space: ItemSpace, requests: Requests) -> None:
        model, _ = champion("hisac", moved())
        index = np.flatnonzero(requests.lengths > 0)[:4]
        loader = Loader.of(model, requests, CPU)
        expected = loader.batch(index)
        later = requests.store.times >= requests.time[index].max()
        items = np.where(later, (requests.store.items + 1) % len(space.semantic), requests.store.items)
        store = dataclasses.replace(requests.store, items=items.astype(np.int32))
        batch = Loader.of(model, dataclasses.replace(requests, store=store), CPU).batch(index)
        with torch.no_grad():
            before, after = (model(one.history, one.candidates, one.context) for one in (expected, batch))
        torch.testing.assert_close(after, before)


def test_settings_without_a_champion_are_refused() -> None:
    with says("is the champion's, and there is none", "leave the entry to `hisac-lab promote`"):
        build(ChampionConfig(), BACKBONE, SPACE, 0)
