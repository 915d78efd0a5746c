"""Published numbers, where the data lie in the folder that HISAC_LAB_PUBLISHED names; hours (docs/published.md)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from hisac_lab.base.stages import Artifacts
from hisac_lab.evaluation.records import Scores

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@dataclass(frozen=True)
class Golden:
    """A published number.

    Attributes:
        board: The leaderboard that has it.
        data: Name of the download, in the folder of all.
        model: Name on the board.
        auc: As published.
        tolerance: As published.
        runs: Seeds whose mean is compared.
    """

    board: str
    data: str
    model: str
    auc: float
    tolerance: float
    runs: int


GOLDEN = [Golden("kuairand-27k", "KuaiRand-27K", "hstu", 0.718, 0.005, 5)]


@pytest.fixture
def leaderboard(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The command's module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return __import__("leaderboard")


def found(leaderboard: ModuleType, folder: Path, golden: Golden, data: Path) -> float:
    """Runs the board's one model, and the reference beside it; the mean AUC of its seeds."""
    chosen = leaderboard.settings(golden.board, data)
    seeds = list(range(golden.runs))
    models = [chosen["evaluate"]["reference"], golden.model]
    chosen = chosen | {"experiment": chosen["experiment"] | {"models": models, "seeds": seeds}}
    leaderboard.run_graph(folder, chosen, ("artifacts/evaluate",))
    scores = Scores.open(Artifacts(folder / "artifacts").evaluate).models[golden.model]
    return float(np.mean([scores.seeds[seed].auc for seed in seeds]))


@pytest.mark.published
@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.board)
def test_a_published_number_is_reached(golden: Golden, leaderboard: ModuleType) -> None:
    data = Path(os.environ.get("HISAC_LAB_PUBLISHED", "nowhere")) / golden.data
    if not data.exists():
        pytest.skip(f"{golden.data} is not in the folder that HISAC_LAB_PUBLISHED names")
    folder = leaderboard.ROOT / ".work" / "published" / golden.board
    assert found(leaderboard, folder, golden, data) == pytest.approx(golden.auc, abs=golden.tolerance)


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.board)
def test_the_mean_of_so_many_seeds_of_the_boards_model_is_compared(
    golden: Golden, leaderboard: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import outputs

    def run_graph(folder: Path, chosen: dict[str, dict[str, object]], targets: tuple[str, ...]) -> None:
        assert chosen["acquire"]["path"] == str(tmp_path.resolve())
        assert chosen["experiment"]["models"] == ["din_50", golden.model]
        seeds = {str(seed): outputs.model_scores(0.7 + seed / 100, 0.0, seed)["seeds"][str(seed)] for seed in range(5)}
        scores = outputs.model_scores(0.7, 0.0) | {"seeds": seeds}
        made = Artifacts(folder / "artifacts").evaluate
        made.mkdir(parents=True)
        Scores.of({"models": {golden.model: scores}, "slices": {}}, made).save(made)

    monkeypatch.setattr(leaderboard, "run_graph", run_graph)
    assert found(leaderboard, tmp_path / "run", golden, tmp_path) == pytest.approx(0.72)
