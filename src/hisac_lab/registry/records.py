"""What the stage `register` writes: bundles, and the evidence that promotion asks for."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from hisac_lab.abtest.records import EvidenceKind, Lift
from hisac_lab.base.records import Output, Record, Stored
from hisac_lab.evaluation.records import Metric, ServingCost


class VocabularyFile(Stored):
    """Item ids in the order of their numbers, and how many events of a history the model reads."""

    FILE: ClassVar[str] = "vocabulary.json"

    items: list[str]
    history_limit: int


class ABEvidence(Record):
    """The A/B test of a model as the treatment.

    Attributes:
        fingerprint: That of the evaluation it was planned on.
        evidence: What kind stands behind the verdict; None where an earlier version tested.
        reasons: Why there is no verdict.
    """

    control: str
    fingerprint: str
    test_fingerprint: str
    lift: Lift
    sample_ratio_p: float
    verdict: str
    evidence: EvidenceKind | None = None
    reasons: list[str] = Field(default_factory=list)


class Evidence(Stored):
    """What the gates ask of a model; no test where it was the control."""

    FILE: ClassVar[str] = "evidence.json"

    model: str
    seed: int
    fingerprint: str
    negatives: str
    metrics: dict[str, Metric]
    calibration_error: float
    cost: ServingCost
    parameters: int
    abtest: ABEvidence | None


class Registered(Output):
    """Manifest of `register`.

    Attributes:
        models: Digest of each model's bundle.
        stages: Digest of each stage's output.
        pipeline: Digest of them all.
    """

    models: dict[str, str]
    stages: dict[str, str]
    pipeline: str
