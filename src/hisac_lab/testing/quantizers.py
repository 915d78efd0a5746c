"""What every quantizer must do, however it is fitted: nested codes, one space for routing, the same bytes again."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from hisac_lab.base import arithmetic
from hisac_lab.base.artifacts import Array, save_arrays, sha256_tree, write_manifest
from hisac_lab.config.tokens import TokenizeConfig
from hisac_lab.tokens import kmeans
from hisac_lab.tokens.kmeans import nearest
from hisac_lab.tokens.methods import fit_quantizer, open_quantizer, refit_quantizer
from hisac_lab.tokens.quantizer import ResidualQuantizer


def make_vectors(count: int = 300, seed: int = 0) -> Array:
    """Clustered unit rows without a common direction."""
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(9, 12))[random.integers(0, 9, count)] + random.normal(0, 0.5, (count, 12))
    vectors -= vectors.mean(axis=0)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


VECTORS = make_vectors()


@cache
def _fitted(settings: str) -> ResidualQuantizer:
    config = TokenizeConfig.model_validate_json(settings)
    return fit_quantizer(config, VECTORS, config.seed)


def save(quantizer: ResidualQuantizer, path: Path) -> Path:
    """The parts of a stage's output that a quantizer needs to be opened again."""
    path.mkdir()
    quantizer.save(path)
    save_arrays(path, {"codes": quantizer.encode(VECTORS)})
    write_manifest(path, method=quantizer.kind)
    return path


class QuantizerContract:
    """The laws; a subclass whose name begins with Test says which quantizers they are for.

    Attributes:
        quantizers: Settings of the section `tokenize` by name, three levels each.
        controls: Names of those whose codes are meant to mean nothing.
    """

    quantizers: ClassVar[Mapping[str, TokenizeConfig]]
    controls: ClassVar[frozenset[str]] = frozenset()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Runs each law with every quantizer."""
        if "name" in metafunc.fixturenames:
            metafunc.parametrize("name", self.quantizers)

    @pytest.fixture
    def quantizer(self, name: str) -> ResidualQuantizer:
        """Fitted by these settings."""
        return _fitted(self.quantizers[name].model_dump_json())

    def test_codes_have_their_shape_and_range(self, name: str, quantizer: ResidualQuantizer) -> None:
        codes, widths = quantizer.encode(VECTORS), self.quantizers[name].widths
        assert codes.shape == (len(VECTORS), len(widths))
        assert codes.dtype == np.int32
        assert quantizer.widths == widths
        assert (codes >= 0).all()
        assert (codes < widths).all()

    @pytest.mark.parametrize("depth", [1, 2, 3])
    def test_codes_of_depth_l_are_the_first_levels(self, quantizer: ResidualQuantizer, depth: int) -> None:
        shallow = quantizer.cut(depth)
        assert shallow.depth == depth
        np.testing.assert_array_equal(shallow.encode(VECTORS), quantizer.encode(VECTORS)[:, :depth])
        codes = quantizer.encode(VECTORS)[:, :depth]
        np.testing.assert_array_equal(shallow.decode(codes), quantizer.decode(codes))

    def test_fitting_twice_gives_the_same_and_another_seed_other_codes(
        self, name: str, quantizer: ResidualQuantizer
    ) -> None:
        again, other = (fit_quantizer(self.quantizers[name], VECTORS, seed) for seed in (0, 1))
        for one, two in zip(quantizer.codewords, again.codewords, strict=True):
            np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(quantizer.encode(VECTORS), again.encode(VECTORS))
        assert not np.array_equal(quantizer.encode(VECTORS), other.encode(VECTORS))

    def test_threads_do_not_show_in_the_result(
        self, name: str, quantizer: ResidualQuantizer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Blocks are small here, so that there are several for three threads."""
        fitted = []
        for threads in (1, 3):
            monkeypatch.setattr(arithmetic, "threads", lambda threads=threads: threads)
            monkeypatch.setattr(kmeans, "BLOCK", 32)
            fitted.append(fit_quantizer(self.quantizers[name], VECTORS, 0))
            fitted[-1].encode(VECTORS)
        for one, two in zip(*(one.codewords for one in fitted), strict=True):
            np.testing.assert_array_equal(one, two)

    def test_the_global_generators_are_neither_used_nor_disturbed(self, name: str) -> None:
        torch.manual_seed(3)
        np.random.seed(3)  # noqa: NPY002
        before = repr(np.random.get_state()), torch.get_rng_state().clone()  # noqa: NPY002
        fit_quantizer(self.quantizers[name], VECTORS, 0)
        assert repr(np.random.get_state()) == before[0]  # noqa: NPY002
        assert torch.equal(torch.get_rng_state(), before[1])

    def test_a_row_alone_is_encoded_as_among_others(self, quantizer: ResidualQuantizer) -> None:
        together = quantizer.encode(VECTORS[:40])
        alone = np.concatenate([quantizer.encode(VECTORS[row : row + 1]) for row in range(40)])
        assert (together == alone).mean() > 0.98  # a matrix product may round otherwise by its shape

    def test_equal_vectors_have_equal_codes_and_later_ones_have_codes(self, quantizer: ResidualQuantizer) -> None:
        np.testing.assert_array_equal(quantizer.encode(VECTORS[:9]), quantizer.encode(VECTORS[:9].copy()))
        assert (quantizer.encode(make_vectors(50, seed=7)) >= 0).all()

    def test_each_level_takes_the_codeword_nearest_in_its_own_space(
        self, name: str, quantizer: ResidualQuantizer
    ) -> None:
        """Where routing compares agents with items, an item's prefix is the greedy nearest; random codes are not."""
        codes, residual = quantizer.encode(VECTORS), quantizer.project(VECTORS).copy()
        assert residual.shape == (len(VECTORS), quantizer.codewords[0].shape[1])
        if name in self.controls:
            assert (nearest(residual, quantizer.codewords[0])[0] == codes[:, 0]).mean() < 0.6
            return
        for level, words in enumerate(quantizer.codewords):
            prices = quantizer.prices[level] if quantizer.prices else 0
            scores = ((residual[:, None] - words) ** 2).sum(axis=2) + prices
            distance = np.take_along_axis(scores, codes[:, [level]].astype(np.int64), 1)[:, 0]
            assert (distance <= scores.min(axis=1) + 1e-5).all()
            residual -= words[codes[:, level]]

    def test_projected_items_are_unit_rows_and_decoding_comes_near_them(
        self, name: str, quantizer: ResidualQuantizer
    ) -> None:
        """One temperature fits all spaces; the mean alone is 1 away from unit rows without a common direction."""
        places = quantizer.project(VECTORS)
        np.testing.assert_allclose(np.linalg.norm(places, axis=1), 1, atol=1e-5)
        far = ((quantizer.decode(quantizer.encode(VECTORS)) - places) ** 2).sum(axis=1).mean()
        assert far < (1.0 if name in self.controls else 0.6)

    def test_every_level_brings_the_reconstruction_nearer(self, name: str, quantizer: ResidualQuantizer) -> None:
        codes = quantizer.encode(VECTORS)
        errors = [((VECTORS - quantizer.reconstruct(codes[:, :depth])) ** 2).sum(axis=1).mean() for depth in (1, 2, 3)]
        assert errors[0] > errors[1] > errors[2]
        assert errors[2] < (1.0 if name in self.controls else 0.6)

    def test_it_opens_again_as_it_was_and_writes_the_same_bytes(
        self, quantizer: ResidualQuantizer, tmp_path: Path
    ) -> None:
        opened = open_quantizer(save(quantizer, tmp_path / "one"))
        assert type(opened) is type(quantizer)
        np.testing.assert_array_equal(opened.encode(VECTORS), quantizer.encode(VECTORS))
        codes = quantizer.encode(VECTORS)
        np.testing.assert_array_equal(opened.reconstruct(codes), quantizer.reconstruct(codes))
        assert sha256_tree(save(opened, tmp_path / "two")) == sha256_tree(tmp_path / "one")

    def test_a_refit_without_new_items_changes_nothing(self, name: str, quantizer: ResidualQuantizer) -> None:
        again = refit_quantizer(quantizer, self.quantizers[name], VECTORS, fresh=0.0)
        np.testing.assert_array_equal(again.encode(VECTORS), quantizer.encode(VECTORS))

    def test_a_refit_on_a_few_more_items_keeps_nearly_all_codes(self, name: str) -> None:
        vectors = make_vectors(2020)
        first = fit_quantizer(self.quantizers[name], vectors[:2000], 0)
        again = refit_quantizer(first, self.quantizers[name], vectors, fresh=0.01)
        changed = (first.encode(vectors[:2000]) != again.encode(vectors[:2000])).any(axis=1).mean()
        assert changed <= 0.02

    def test_a_refit_follows_when_everything_is_new(self, name: str, quantizer: ResidualQuantizer) -> None:
        """Residual codewords move to where the new items are; random codes hold no places to move."""
        others = make_vectors(300, seed=5)
        again = refit_quantizer(quantizer, self.quantizers[name], others, fresh=1.0)
        before, after = (
            ((one.project(others) - one.decode(one.encode(others))) ** 2).sum() for one in (quantizer, again)
        )
        assert after < before or name in self.controls
