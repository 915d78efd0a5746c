"""The commands `score` and `export`: whole tables with a schema, or none; bad input is one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from kit import MODELS, Stages, lively, says

from hisac_lab.base.artifacts import sha256_tree
from hisac_lab.cli import bulk as command
from hisac_lab.cli.params import defaults
from hisac_lab.events.store import EventStore
from hisac_lab.inference.bundle import save_model
from hisac_lab.inference.records import VocabularyFile
from hisac_lab.models.backbone import Backbone
from hisac_lab.models.contract import ItemSpace
from hisac_lab.serving import bulk
from hisac_lab.serving.engine import Engine
from hisac_lab.tokens.tokenize import IDS


@pytest.fixture
def home(stages: Stages, items: ItemSpace, store: EventStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Bundle of HiSAC in a project with the prepared log, which is the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(defaults())
    Path("artifacts").mkdir()
    for name in ("prepare", "codebook"):
        Path("artifacts", name).symlink_to(getattr(stages, name))
    bundle = tmp_path / "hisac"
    bundle.mkdir()
    save_model(bundle, lively("hisac", items), MODELS["hisac"], items)
    (bundle / "tokens").symlink_to(stages.tokenize)
    VocabularyFile(items=store.item_table["item"].tolist(), history_limit=store.limit).save(bundle)
    return bundle


def test_all_users_of_the_log_are_ranked_into_one_table(
    home: Path, store: EventStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "GROUP", 25)
    command.score("all", top=3, bundle=home)
    file = pq.ParquetFile("exports/scores.parquet")
    assert [f"{field.name}: {field.type}" for field in file.schema_arrow] == [
        "user: string", "rank: int32", "item: string", "score: float", "version: string"]  # fmt: skip
    assert file.schema_arrow.metadata[b"hisac_lab.bundle"].decode() == sha256_tree(home)
    assert file.metadata.num_row_groups == -(-len(store.user_ids) // 25)
    table = file.read().to_pandas()
    assert table.groupby("user")["rank"].apply(list).map(lambda ranks: ranks == [1, 2, 3]).all()
    assert (table.groupby("user")["score"].diff().dropna() <= 0).all()
    assert set(table["version"]) == {"hisac"}
    said = capsys.readouterr().out
    assert f"exports/scores.parquet: {len(table):,} rows of {table['user'].nunique()} users" in said
    assert said.rstrip().endswith("users/s")


def test_a_table_names_users_or_brings_their_events_and_another_the_candidates(
    home: Path, store: EventStore, capsys: pytest.CaptureFixture[str]
) -> None:
    user, items = str(store.user_ids[0]), store.item_table["item"].tolist()
    Path("users.csv").write_text(f"user\n{user}\nnobody\n")
    Path("items.csv").write_text(f"item\n{items[3]}\n{items[1]}\nnothing\n")
    command.score("users.csv", candidates=Path("items.csv"), seen=True, out=Path("one.parquet"), bundle=home)
    said = capsys.readouterr().err
    assert "users.csv: 1 of 2 users are not in the log" in said
    assert "items.csv: 1 of 3 items are unknown to the model" in said
    events = slice(store.offsets[0], store.offsets[1])
    rows = zip(store.items[events], store.times[events], strict=True)
    Path("events.csv").write_text("user,item,time\n" + "".join(f"me,{items[item]},{time}\n" for item, time in rows))
    at = int(np.asarray(store.times).max()) + 1
    command.score("events.csv", candidates=Path("items.csv"), seen=True, at=at, out=Path("two.parquet"), bundle=home)
    one, two = (pq.read_table(name).to_pandas() for name in ("one.parquet", "two.parquet"))
    assert one["item"].tolist() == two["item"].tolist()
    assert set(one["item"]) == {items[1], items[3]}
    assert (set(one["user"]), set(two["user"])) == ({user}, {"me"})


def test_bad_input_is_one_line_and_leaves_no_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("users.csv").write_text("user\nnobody\n")
    Path("items.csv").write_text("item\nnothing\n")
    with says("none.csv: USERS: does not exist; name a table with a column user, or write all"):
        command.score("none.csv", bundle=home)
    with says("users.csv: user: names no user of the log; give their events too"):
        command.score("users.csv", bundle=home)
    with says("items.csv: names no item that the model knows"):
        command.score("all", candidates=Path("items.csv"), bundle=home)
    monkeypatch.setattr(bulk.Bulk, "best", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        command.score("all", bundle=home)
    assert not list(Path.cwd().glob("exports/*")) + list(Path.cwd().glob("exports/.*"))


def test_exports_hold_what_the_model_and_its_codebook_hold(home: Path, store: EventStore) -> None:
    engine, names = Engine(home, "hisac"), store.item_table["item"].tolist()
    command.items(bundle=home)
    command.ids(bundle=home)
    command.states(bundle=home)
    vectors = pq.read_table("exports/items.parquet")
    assert vectors["item"].to_pylist() == names
    assert isinstance(engine.model, Backbone)
    with torch.inference_mode():
        wanted = engine.model.encoder(torch.arange(len(names))).numpy()
    np.testing.assert_array_equal(np.array(vectors["vector"].to_pylist(), np.float32), wanted)
    semantic = pq.read_table("exports/ids.parquet").to_pandas().set_index("item")
    assert semantic.index.tolist() == names
    told = semantic["semantic_id"].dropna()
    assert [list(map(int, one.split("-"))) for one in told] == [list(codes) for codes in semantic["codes"].dropna()]
    states = pq.read_table("exports/states.parquet")
    assert states.schema.metadata[b"hisac_lab.bundle"].decode() == engine.digest
    assert sorted(states["user"].to_pylist()) == sorted(
        str(user) for user in store.user_ids[np.diff(store.offsets) > 0]
    )
    assert any(name.startswith("state.") for name in safetensors.torch.load(states["state"][0].as_py()))


def test_semantic_ids_are_those_of_the_bundle_whatever_the_stages_hold(home: Path, stages: Stages) -> None:
    """A bundle with items appended has a codebook of its own, and so has that of an earlier day."""
    table = pd.read_parquet(home / "tokens" / IDS)
    added = {"item": ["new-1", "new-2"], **{code: [7, -1] for code in table.columns[1:]}}
    (home / "tokens").unlink()
    (home / "tokens").mkdir()
    pd.concat([table, pd.DataFrame(added)]).astype(table.dtypes).to_parquet(home / "tokens" / IDS, index=False)
    Path("artifacts/codebook").unlink()
    command.ids(bundle=home)
    found = pq.read_table("exports/ids.parquet").to_pandas().set_index("item")
    assert len(found) == len(table) + 2
    assert list(found["codes"]["new-1"]) == [7] * (table.shape[1] - 1)
    assert found["semantic_id"]["new-1"] == "-".join("7" * (table.shape[1] - 1))
    assert found["codes"]["new-2"] is None
