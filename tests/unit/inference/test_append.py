"""New items in a bundle: told apart by what is frozen, voted, routed and scored; older items as before, to the byte."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from bundles import bundle_of, new_rows
from kit import BACKBONE, EVERY, Stages, make_history, says

from hisac_lab.base.artifacts import MARK, load_array, sha256_tree
from hisac_lab.cli.rebuild import differences
from hisac_lab.codebook.tree import Codebook
from hisac_lab.events.store import EventStore
from hisac_lab.inference.append import append_items, same_model
from hisac_lab.inference.bundle import load_model, save_model
from hisac_lab.inference.records import VocabularyFile
from hisac_lab.models.backbone import Backbone
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import ItemSpace
from hisac_lab.tokens.methods import open_quantizer

pytestmark = pytest.mark.skipif("not __import__('importlib').util.find_spec('wordllama')")
WHERE = Path("new.csv")
CONTROLS = [name for name in EVERY if "shuffled" in EVERY[name].model_dump_json()]


def append(bundle: Path, table: pd.DataFrame, out: Path) -> ItemSpace:
    out.mkdir()
    return append_items(bundle, table, out, where=WHERE)


@pytest.fixture
def titles(stages: Stages) -> list[str]:
    """The text of an item that is there, two new ones, and one without a word."""
    known = EventStore.open(stages.prepare).item_table["text"].iloc[5]
    return [known, "river storm over green mountains", "a quiet winter in space", ""]


@pytest.mark.parametrize("name", [name for name in EVERY if name not in CONTROLS])
def test_older_items_score_as_before_to_the_byte_and_new_ones_are_scored(
    name: str, stages: Stages, items: ItemSpace, titles: list[str], tmp_path: Path
) -> None:
    bundle = bundle_of(tmp_path / "before", name, stages, items)
    append(bundle, new_rows(stages, titles), tmp_path / "after")
    before, after = load_model(bundle)[0], load_model(tmp_path / "after")[0]
    count = len(items.semantic)
    history, candidates = make_history([9, 0, 3], items=count), torch.arange(12).view(3, 4)
    context = before.no_context(candidates)
    with torch.inference_mode():
        assert torch.equal(before(history, candidates, context), after(history, candidates, context))
        asked = torch.tensor([[count, count + 1, count + 2, count + 3]]).repeat(3, 1)
        scores = after(history, asked, context)
        assert torch.isfinite(scores).all()
        mixed = torch.cat([history.items[:, :-1], torch.full((3, 1), count + 1)], dim=1)
        told = after(replace(history, items=mixed), asked, context)
        assert torch.isfinite(told).all()
    assert same_model(bundle, tmp_path / "after")


def test_a_bundle_has_the_same_files_whichever_engine_ran_the_stages(
    stages: Stages, items: ItemSpace, tmp_path: Path
) -> None:
    marked = replace(stages, embed=tmp_path / "embed", tokenize=tmp_path / "tokenize")
    for old, new in ((stages.embed, marked.embed), (stages.tokenize, marked.tokenize)):
        shutil.copytree(old, new)
        (new / MARK).touch()
    plain, other = (bundle_of(tmp_path / str(at), "hisac", one, items) for at, one in enumerate((stages, marked)))
    assert differences(plain, other) == []
    assert not list(other.rglob(MARK))


def test_new_items_are_voted_for_and_routed_at_once(
    stages: Stages, items: ItemSpace, titles: list[str], tmp_path: Path
) -> None:
    bundle = bundle_of(tmp_path / "before", "hisac", stages, items)
    space = append(bundle, new_rows(stages, titles), tmp_path / "after")
    model, _ = load_model(tmp_path / "after")
    count = len(items.semantic)
    twin = 5
    assert torch.equal(space.semantic[count], items.semantic[twin])
    history = make_history([4], items=4)
    history = replace(history, items=torch.tensor([[twin, twin, count, count + 1]]), feedback=torch.zeros(1, 4).long())
    agents = model.agents(history)
    assert agents is not None
    leaves = torch.from_numpy(space.codebook.item_nodes[:, -1])
    votes = dict(zip(agents.nodes[0].tolist(), agents.votes[0].tolist(), strict=True))
    assert votes[int(leaves[twin])] == 3, "a new item with the text of an older one votes as that one does"
    assert votes[int(leaves[count + 1])] == 1
    assert leaves[count + 3] == -1, "without a known word there is no semantic ID"


def test_codes_of_older_items_stay_and_new_ones_come_from_the_frozen_quantizer(
    stages: Stages, items: ItemSpace, titles: list[str], tmp_path: Path
) -> None:
    bundle = bundle_of(tmp_path / "before", "hisac", stages, items)
    untouched = sha256_tree(bundle)
    space = append(bundle, new_rows(stages, titles), tmp_path / "after")
    before, after = (np.asarray(load_array(home / "tokens", "codes")) for home in (bundle, tmp_path / "after"))
    count = len(before)
    np.testing.assert_array_equal(after[:count], before)
    vectors = space.semantic[count : count + 3].numpy()
    np.testing.assert_array_equal(after[count : count + 3], open_quantizer(stages.tokenize).encode(vectors))
    for item in range(count + 3):
        leaf = int(space.codebook.item_nodes[item, -1])
        assert space.codebook.path(leaf, 2) == tuple(after[item].tolist())
    for path in sorted((bundle / "tokens").glob("codewords_*.npy")):
        assert path.read_bytes() == (tmp_path / "after/tokens" / path.name).read_bytes()
    assert sha256_tree(bundle) == untouched
    assert list(pd.read_parquet(tmp_path / "after/tokens/ids.parquet")["item"])[-4:] == ["n0", "n1", "n2", "n3"]


def test_the_same_items_give_the_same_bytes_and_more_can_follow(
    stages: Stages, items: ItemSpace, titles: list[str], tmp_path: Path
) -> None:
    bundle, table = bundle_of(tmp_path / "before", "r2led", stages, items), new_rows(stages, titles)
    for name in ("one", "two"):
        append(bundle, table, tmp_path / name)
    assert sha256_tree(tmp_path / "one") == sha256_tree(tmp_path / "two") != sha256_tree(bundle)
    append(bundle, table[:2], tmp_path / "half")
    append(tmp_path / "half", table[2:], tmp_path / "whole")
    assert VocabularyFile.open(tmp_path / "whole") == VocabularyFile.open(tmp_path / "one")
    for file in ("codes.npy", "ids.parquet", "manifest.json"):
        assert (tmp_path / "whole/tokens" / file).read_bytes() == (tmp_path / "one/tokens" / file).read_bytes()
    assert same_model(bundle, tmp_path / "whole")


def test_a_table_by_node_finds_its_rows_in_a_tree_that_has_grown(
    stages: Stages, items: ItemSpace, titles: list[str], tmp_path: Path
) -> None:
    bundle = bundle_of(tmp_path / "before", "r2led", stages, items)
    space = append(bundle, new_rows(stages, titles), tmp_path / "after")
    before, after = (load_model(home)[0].state_dict() for home in (bundle, tmp_path / "after"))
    last = space.codebook.depth - 1
    grown = Codebook.open(stages.codebook)
    assert len(space.codebook.parents[last]) > len(grown.parents[last]), "new texts have IDs that no item had"
    for item in range(len(items.semantic)):
        there, here = grown.item_nodes[item, last] + 1, space.codebook.item_nodes[item, last] + 1
        name = f"long.tables.{last}.weight"
        assert torch.equal(before[name][there], after[name][here])


def test_what_cannot_be_told_apart_from_what_is_there_is_refused(
    stages: Stages, items: ItemSpace, titles: list[str], tmp_path: Path
) -> None:
    bundle, table = bundle_of(tmp_path / "before", "hisac", stages, items), new_rows(stages, titles)
    known = VocabularyFile.open(bundle).items[0]
    cases = [
        (table[:0], ("new.csv: holds no items",)),
        (table.assign(item=[known, "a", "b", "c"]), (f"new.csv: item: item {known!r} is one of the model's already",)),
    ]
    for number, (wrong, words) in enumerate(cases):
        with says(*words):
            append(bundle, wrong, tmp_path / str(number))
    shutil.rmtree(bundle / "tokens")
    with says(f"{bundle}: tokens: holds no encoder of items", "register the model again"):
        append(bundle, table, tmp_path / "bare")
    control = bundle_of(tmp_path / "control", CONTROLS[0], stages, items)
    with says("is a control whose semantic IDs are shuffled"):
        append(control, table, tmp_path / "of control")


def test_rows_that_items_share_stay_theirs_and_a_table_that_would_have_to_share_is_refused(
    stages: Stages, items: ItemSpace, titles: list[str], tmp_path: Path
) -> None:
    config, table = EVERY["hisac"], new_rows(stages, titles)
    row = 2 * 4 * BACKBONE.dim / 10**6
    for name, rows in (("shared", 40), ("full", len(items.semantic) + 1)):
        bundle = bundle_of(tmp_path / name, "hisac", stages, items)
        model = build(config, BACKBONE.model_copy(update={"table_mb": rows * row + 1e-9}), items, 3)
        save_model(bundle, model, config, items)
    append(tmp_path / "shared", table, tmp_path / "more")
    assert same_model(tmp_path / "shared", tmp_path / "more")
    with says("full: its model cannot take more items as it is (encoder.ids."):
        append(tmp_path / "full", table, tmp_path / "fuller")


def test_a_model_with_other_weights_is_not_the_same_model(
    stages: Stages, items: ItemSpace, titles: list[str], tmp_path: Path
) -> None:
    bundle = bundle_of(tmp_path / "before", "hisac", stages, items)
    append(bundle, new_rows(stages, titles), tmp_path / "after")
    other = Path(shutil.copytree(bundle, tmp_path / "other"))
    config = EVERY["hisac"]
    model = build(config, BACKBONE, items, 7)
    assert isinstance(model, Backbone)
    save_model(other, model, config, items)
    assert not same_model(other, tmp_path / "after")
    assert not same_model(tmp_path / "after", bundle), "it has fewer items"
    codes = np.array(load_array(tmp_path / "after/tokens", "codes"))
    codes[0, 0] += 1
    np.save(tmp_path / "after/tokens/codes.npy", codes)
    assert not same_model(bundle, tmp_path / "after"), "an older item has another semantic ID"
