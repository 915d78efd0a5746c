"""Section `promotion`: the product, and the gates in front of its alias champion."""

from __future__ import annotations

from pydantic import Field

from hisac_lab.config.abtest import EvidenceKind
from hisac_lab.config.base import Name, Section


class PromotionConfig(Section):
    """The product, and the gates in front of its alias `champion`."""

    product: Name = Field(
        "ranker", description="the registered model: its versions are of any model of the board, one is the champion"
    )
    max_auc_loss: float = Field(
        0.005,
        ge=0,
        le=1,
        description="how far below zero the interval of the paired AUC difference to the champion may reach; before "
        "there is one, to popularity",
    )
    evidence: tuple[EvidenceKind, ...] = Field(
        ("truth", "replay", "fitted"),
        description="kinds of evidence whose A/B verdict has a say; a verdict of another kind counts as none",
    )
    max_calibration_error: float = Field(
        0.05,
        gt=0,
        description="expected calibration error at most, beside what chance alone gives with so few samples",
    )
    max_request_cost: float = Field(
        1e9,
        gt=0,
        description="multiply-adds of a request at most, its history and 500 candidates: a tenth of a second of a core "
        "that does ten billion a second, as was measured",
    )
    max_state_bytes: float = Field(200000, gt=0, description="bytes of user state at most")
    replay_requests: int = Field(
        64,
        ge=0,
        le=100_000,
        description="test requests that the server is asked over HTTP before a promotion, from histories and from "
        "states; 0: none",
    )
    max_skew: float = Field(
        1e-6, gt=0, le=1, description="how far a score of the server may be from the evaluation's at most"
    )
