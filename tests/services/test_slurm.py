"""The tiny graph on a real Slurm gives the bytes of a local run, whatever is killed meanwhile; a card has one job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from disturbed import CARDS, FEW, LIMITED, MET, Disturbed, page
from lab import Lab
from slurm import Cluster, cluster

pytestmark = pytest.mark.services


# All of the session, so that a test skips before the local run where something is missing.
@pytest.fixture(scope="session")
def nodes() -> Iterator[Cluster]:
    with cluster() as started:
        yield started


@pytest.fixture(scope="session")
def executor() -> None:
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="pip install -c constraints.txt -e '.[slurm]'")


@pytest.fixture(scope="session")
def away(executor: None, nodes: Cluster, begun: Lab, finished: Lab) -> Disturbed:
    """A run through disturbances, after the local one."""
    run = Disturbed(nodes, begun.copy(begun.path.with_name("away")))
    run.run(FEW)
    return run


def test_a_run_through_many_disturbances_ends_in_the_bytes_of_an_undisturbed_one(
    away: Disturbed, finished: Lab
) -> None:
    assert sorted(stage for stage, _ in away.rows) == sorted(FEW)
    assert away.lab.hashes() == finished.hashes()
    assert away.lab.both_idle()


def test_a_training_whose_time_is_up_goes_on_from_its_checkpoint_in_the_next_job(away: Disturbed) -> None:
    assert [end.split()[0] for end in away.ends()[LIMITED]] == ["timeout", "completed"]
    for stage, steps in away.steps.items():
        assert steps == sorted(steps), f"{stage} went back"
    assert max(away.steps[LIMITED]) > MET


def test_stages_that_ask_for_a_gpu_hold_a_card_and_no_two_jobs_the_same(away: Disturbed) -> None:
    assert {LIMITED} <= away.asked <= CARDS, "short jobs may not have been looked at"
    for held in away.cards:
        assert len(set(held)) == len(held)


def test_the_page_has_a_row_for_each_disturbance(away: Disturbed, finished: Lab) -> None:
    text = page(away, len(finished.hashes()))
    for stage, what in away.rows:
        assert f"| `{stage}` | {what} | " in text


def test_jobs_beyond_the_cards_wait_for_one_of_their_own(nodes: Cluster, tmp_path: Path) -> None:
    card = nodes.folder / "dev/${SLURMD_NODENAME}-gpu${CUDA_VISIBLE_DEVICES}"
    done, shared = tmp_path / "done", tmp_path / "shared"
    tmp_path.chmod(0o755)
    work = f"test -e {card} && flock --nonblock {card}.lock sleep 2 && echo {card} >> {done} || touch {shared}"
    for _ in range(6):
        nodes.ask("sbatch", "--gpus=1", "--mem=100", "-o", "/dev/null", "--wrap", work)
    nodes.wait_for(lambda: (done.exists() and len(done.read_text().split()) == 6) or shared.exists())
    assert not shared.exists()
    assert len(set(done.read_text().split())) == 3
