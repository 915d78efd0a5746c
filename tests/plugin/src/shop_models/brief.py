"""Residual k-means of three passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from hisac_lab.config.tokens import TokenizeConfig
from hisac_lab.tokens.quantizer import ResidualQuantizer
from hisac_lab.tokens.quantizer import fit as fit_kmeans


@dataclass(frozen=True)
class BriefKMeans(ResidualQuantizer):
    """Codewords after three passes."""

    kind: ClassVar[str] = "brief"

    @classmethod
    def fit(cls, vectors: Any, config: TokenizeConfig, seed: int) -> Self:
        """Fits on all rows, (n, D) float32."""
        return cls(fit_kmeans(np.array(vectors, np.float32), config.widths, 3, seed).codewords)
