"""What the stage `register` writes: bundles, and the evidence that promotion asks for."""

from __future__ import annotations

from typing import ClassVar, Literal

from hisac_lab.abtest.records import Lift, Verdict
from hisac_lab.base.records import Output, Record, Stored
from hisac_lab.config.abtest import EvidenceKind
from hisac_lab.evaluation.records import Gap, Metric, ServingCost


class ABEvidence(Record):
    """The A/B test of a model as the treatment.

    Attributes:
        kind: Of the evidence: truth, the known click probabilities of a simulated log, replay, its exposures, or
            fitted, a world fitted on it.
        verdict: better, worse, equivalent, undecided, or no verdict.
        reason: Why there is no verdict; empty where there is one.
        lift: Relative lift over the control, corrected as the verdict is; None where there is no verdict.
        sample_ratio_holds: Whether the arms of all tests have the sizes that the split asks for.
        aa_holds: Whether the control against itself differs by chance alone.
        fingerprint: That of the evaluation it was planned on.
        test_fingerprint: Digest of it and of the section `abtest`.
    """

    kind: EvidenceKind
    verdict: Verdict
    reason: str
    control: str
    lift: Lift | None
    sample_ratio_holds: bool
    aa_holds: bool
    fingerprint: str
    test_fingerprint: str


class Comparison(Gap):
    """AUC of a bundle's model less that of another on the same board, paired over users.

    Attributes:
        p: Holm-corrected over all pairs of the board.
        weights: Of the other (see `Evidence`).
    """

    p: float
    weights: str


class Appended(Record):
    """Items that were put behind those of an earlier bundle; nothing was learned.

    Attributes:
        items: How many.
        since: Items that were there before.
        bundle: Digest of the earlier bundle.
        weights: Digest of its weights and settings.
    """

    items: int
    since: int
    bundle: str
    weights: str


class Evidence(Stored):
    """What the gates ask of a model.

    Attributes:
        weights: Digest of its weights and settings: two bundles that share it are one model, judged twice.
        seeds: All that were trained; `seed` is the one in the bundle.
        calibration_chance: The part of that error which chance alone gives (see `Calibration`).
        valid_auc: Mean over the seeds.
        side: The only side of a request that it reads, item or user; None: both.
        labels: Which its runs learned from.
        popularity: Against who ranks by the positives that items had so far; None: the evaluation did not say.
        comparisons: With every other model of its board, by name.
        abtest: None where it was the control.
        appended: Items that came after the training, oldest first; the rest of the evidence is from before.
    """

    FILE: ClassVar[str] = "evidence.json"

    model: str
    seed: int
    seeds: list[int]
    weights: str
    fingerprint: str
    negatives: str
    valid_auc: float
    side: Literal["item", "user"] | None
    metrics: dict[str, Metric]
    calibration_error: float
    calibration_chance: float = 0.0
    cost: ServingCost
    parameters: int
    labels: Literal["own", "shuffled"] = "own"
    popularity: Gap | None = None
    comparisons: dict[str, Comparison]
    abtest: ABEvidence | None
    appended: tuple[Appended, ...] = ()

    @property
    def may_challenge(self) -> bool:
        """Whether it is no control: not the A/B test's, nor of a single side of a request, nor of shuffled labels."""
        return self.abtest is not None and self.side is None and self.labels == "own"


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
