"""No result depends on the number of threads, on where memory lies, or on what the process computed before.

Everything that is fitted or trained here runs in one process three times: in order on one thread, in reverse order on
two threads, and in order again on three, with other memory taken in between.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import MODELS, train_briefly
from kit import BACKBONE, Stages
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from hisac_lab.base import arithmetic
from hisac_lab.base.artifacts import sha256_tree
from hisac_lab.codebook.build import build_codebook
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.model import InstancesConfig
from hisac_lab.config.tokens import EmbedConfig, RQVAEConfig, TokenizeConfig
from hisac_lab.config.train import TrainConfig
from hisac_lab.inference.items import load_items
from hisac_lab.tokens.embeddings import embed
from hisac_lab.tokens.tokenize import tokenize
from hisac_lab.training.instances import make_instances

STEPS = 6
WIDTHS = (8, 8, 8)
TOKENIZERS = {
    "k-means": TokenizeConfig(widths=WIDTHS),
    "balanced": TokenizeConfig(widths=WIDTHS, balanced=True),
    "mini-batch": TokenizeConfig(widths=WIDTHS, fit="mini_batch", iterations=20, batch=64),
    "flat": TokenizeConfig(widths=WIDTHS, flat=(6, 9)),
    "rqvae": TokenizeConfig(widths=WIDTHS, method="rqvae", rqvae=RQVAEConfig(steps=60)),
}
LOOSE = {"min_occupancy": 0.0, "max_bucket_share": 1.0, "min_evenness": 0.0, "min_use": 0.0,
         "min_explained_variance": -10.0, "min_purity_lift": 0.0, "min_fan_out": 0.0}  # fmt: skip


@pytest.fixture
def jobs(stages: Stages, tmp_path: Path) -> dict[str, Callable[[], str]]:
    """Name of each fit or training to a function that runs it and gives a hash of its result."""

    def tree(run: Callable[[Path], None]) -> Callable[[], str]:
        def job() -> str:
            out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
            out.mkdir()
            run(out)
            return sha256_tree(out)

        return job

    def tokens(config: TokenizeConfig) -> Callable[[Path], None]:
        loose = config.model_copy(update={"limits": config.limits.model_copy(update=LOOSE)})
        return lambda out: tokenize(loose, prepared=stages.prepare, embedded=stages.embed, out=out)

    def training(name: str) -> Callable[[], str]:
        def job() -> str:
            losses, model = train_briefly(name, STEPS)
            weights = b"".join(part.detach().numpy().tobytes() for part in model.state_dict().values())
            return hashlib.sha256(weights + repr(losses).encode()).hexdigest()

        return job

    def instances(out: Path) -> None:
        items = load_items(prepared=stages.prepare, embedded=stages.embed, codebook=stages.codebook)
        config = InstancesConfig(order="user", dim=8, decoder=(8,), window=16, layers=1, heads=2, chunks=3)
        make_instances(
            config, BACKBONE, TrainConfig(epochs=1), ComputeConfig(), items, prepared=stages.prepare, out=out
        )

    return {
        "text": tree(lambda out: embed(EmbedConfig(), prepared=stages.prepare, out=out)),
        "co-occurrence": tree(
            lambda out: embed(EmbedConfig(method="cooccurrence", cooccurrence_dim=16), prepared=stages.prepare, out=out)
        ),
        "codebook": tree(lambda out: build_codebook(tokenized=stages.tokenize, out=out)),
        "instances": tree(instances),
        **{name: tree(tokens(config)) for name, config in TOKENIZERS.items()},
        **{name: training(name) for name in MODELS},
    }


@pytest.fixture
def _threads_as_before() -> Iterator[None]:
    torch_threads, own_threads = torch.get_num_threads(), arithmetic.threads()
    yield
    torch.set_num_threads(torch_threads)
    arithmetic.choose("portable", own_threads)


@pytest.mark.usefixtures("_threads_as_before")
def test_results_do_not_depend_on_threads_memory_or_order(jobs: dict[str, Callable[[], str]]) -> None:
    results: list[dict[str, str]] = []
    for threads in (1, 2, 3):
        order = list(jobs) if threads != 2 else list(jobs)[::-1]
        arithmetic.choose("portable", threads)
        torch.set_num_threads(threads)
        held = []
        with threadpool_limits(threads):
            results.append({})
            for place, name in enumerate(order):
                held += [torch.empty(97 * place + 4 * threads + 1), np.empty(31 * place + threads, np.uint8)]
                results[-1][name] = jobs[name]()
    one, two, three = results
    assert {name for name in one if len({one[name], two[name], three[name]}) > 1} == set()
