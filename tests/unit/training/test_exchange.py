"""An item table spread over processes: the same draws, the same training, checkpoints in parts, one finished file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from kit import BACKBONE, MODELS, Stages, says
from together import Job, alike, job_of

from hisac_lab.base.artifacts import sha256_tree
from hisac_lab.config.train import TrainConfig
from hisac_lab.inference.records import Trained
from hisac_lab.models import tables
from hisac_lab.models.tables import Embedding, ShardedTable, draw
from hisac_lab.training.checkpoint import ShardedCheckpoint
from hisac_lab.training.exchange import rows_held
from hisac_lab.training.parallel import ProcessGroup
from hisac_lab.training.train import share_items

CONFIG = TrainConfig(epochs=1, batch_requests=96, checkpoint_every=2)


@pytest.mark.parametrize(("items", "dim"), [(50, 4), (3, 2), (67, 3)])
def test_rows_are_drawn_as_those_of_a_whole_table(items: int, dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what is drawn next is the same."""
    monkeypatch.setattr(tables, "BLOCK", 16)
    torch.manual_seed(5)
    whole = Embedding(items, dim)
    draw(whole)
    after = torch.rand(3)
    parts = []
    for rank in range(3):
        torch.manual_seed(5)
        part = ShardedTable(items, dim, rows_held(items, ProcessGroup(rank, 3)))
        draw(part)
        assert torch.equal(torch.rand(3), after)
        assert part.elsewhere == items * dim - part.weight.numel()
        parts.append(part.weight)
    assert torch.equal(torch.cat(parts), whole.weight)


def test_processes_hold_as_many_rows_each_and_every_row_once() -> None:
    for items, processes in ((10, 3), (2, 3), (1, 1), (9, 3)):
        held = [rows_held(items, ProcessGroup(rank, processes)) for rank in range(processes)]
        assert [row for first, end in held for row in range(first, end)] == list(range(items))
        assert max(end - first for first, end in held) <= -(-items // processes)


def test_an_item_that_was_not_fetched_is_refused() -> None:
    table = ShardedTable(10, 2, (0, 5))
    table.known, table.fetched = torch.tensor([1, 7]), torch.tensor([[1.0, 1.0], [7.0, 7.0]])
    assert table(torch.tensor([[7, 1]])).tolist() == [[[7.0, 7.0], [1.0, 1.0]]]
    for items in ([0], [8], [1, 3]):
        with says("settings: train.item_table: is sharded", "set whole"):
            table(torch.tensor(items))


def test_a_sharded_table_has_no_bound_and_no_champion() -> None:
    with says("backbone.table_mb", "train.item_table", "set null"):
        tables.item_table(10, 2, 0.5, (0, 5))
    config = TrainConfig(item_table="sharded", start_from="0123")
    items = None  # it is refused before it is looked at
    with says("train.item_table", "train.start_from", "set whole"):
        share_items(items, config, ProcessGroup(0, 2))  # type: ignore[arg-type]


def test_checkpoints_of_another_number_of_processes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "shard-0-of-2-4.pt").touch()
    with says(tmp_path.name, "holds checkpoints of 2 processes, and 3 are training", "start 2, or remove it"):
        ShardedCheckpoint(tmp_path, ProcessGroup(1, 3)).resume(torch.nn.Linear(1, 1), [])


def test_processes_with_a_sharded_table_train_like_one_and_go_on_after_a_kill(
    stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "SPARSE_ROWS", 16)

    def job(home: Path, trouble: str | None = None, layout: str = "sharded") -> Job:
        config = CONFIG.model_copy(update={"item_table": layout})
        return job_of(stages, home, BACKBONE, MODELS["hisac"], config, trouble)

    alone, calm, killed = (tmp_path / name for name in ("alone", "calm", "killed"))
    job(alone, layout="whole").run()
    assert job(calm).in_processes() == [0, 0]
    alike(alone / "out", calm / "out")
    assert Trained.open(calm / "out").parameters == Trained.open(alone / "out").parameters
    steps = (calm / "steps").read_text().split()
    assert -9 in job(killed, "killed").in_processes()
    parts = sorted(path.name for path in (killed / "work").iterdir())
    assert parts == ["shard-0-of-2-2.pt", "shard-1-of-2-2.pt"]
    assert job(killed).in_processes() == [0, 0]
    assert (killed / "steps").read_text().split() == ["0", "1", "2", *steps[2:]]
    assert sha256_tree(killed / "out") == sha256_tree(calm / "out")
    assert not (killed / "work").exists()
