"""Every way to fit a quantizer obeys the laws in `hisac_lab.testing`."""

from __future__ import annotations

from hisac_lab.config.tokens import RQVAEConfig, TokenizeConfig
from hisac_lab.testing import QuantizerContract
from hisac_lab.testing.quantizers import VECTORS
from hisac_lab.tokens.methods import BUILT_IN, fit_quantizer

WIDTHS = (6, 5, 4)
QUANTIZERS = {
    "residual-kmeans": TokenizeConfig(widths=WIDTHS),
    "residual-kmeans-on-a-sample": TokenizeConfig(widths=WIDTHS, sample_per_code=20),
    "residual-kmeans-mini-batch": TokenizeConfig(widths=WIDTHS, fit="mini_batch", iterations=30, batch=64),
    "residual-kmeans-balanced": TokenizeConfig(widths=WIDTHS, balanced=True),
    "rqvae": TokenizeConfig(
        method="rqvae",
        widths=WIDTHS,
        rqvae=RQVAEConfig(latent=5, hidden=(12,), steps=300, batch=64, learning_rate=0.01, revive_every=20),
    ),
    "random": TokenizeConfig(method="random", widths=WIDTHS),
}


class TestQuantizers(QuantizerContract):
    """All of them."""

    quantizers = QUANTIZERS
    controls = frozenset({"random"})


def test_every_kind_of_quantizer_stands_in_this_suite() -> None:
    assert {config.method for config in QUANTIZERS.values()} == set(BUILT_IN)
    assert {type(fit_quantizer(config, VECTORS, 0)) for config in QUANTIZERS.values()} == set(BUILT_IN.values())
