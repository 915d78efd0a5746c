"""The gates: what they say is what they compare, and noise in the last digits opens or closes none."""

from __future__ import annotations

from typing import Any

import pytest

from hisac_lab.config.promotion import PromotionConfig
from hisac_lab.registry.gates import Gate, check_gates
from hisac_lab.registry.records import Evidence

CONFIG = PromotionConfig(max_calibration_error=0.05, max_candidate_cost=50000, max_state_bytes=2000000)
GOOD: dict[str, Any] = {
    "model": "hisac",
    "seed": 0,
    "negatives": "real exposures",
    "metrics": {},
    "parameters": 1234,
    "abtest": {
        "control": "din_50",
        "lift": {"value": 0.005, "low": 0.0012, "high": 0.0098, "p_value": 0.01},
        "fingerprint": "abc",
        "test_fingerprint": "def",
        "sample_ratio_p": 0.5,
        "verdict": "better",
    },
    "calibration_error": 0.0312,
    "cost": {"candidate_macs": 28404.5, "encode_macs": 1.0, "state_bytes": 4096.2},
    "fingerprint": "abc",
}


def evidence(**changes: Any) -> Evidence:
    """Good evidence with these changes."""
    return Evidence.of(GOOD | changes, "evidence.json")


def asked(name: str, champion: Evidence | None = None, config: PromotionConfig = CONFIG, **changes: Any) -> Gate:
    """What one gate says of good evidence with these changes."""
    return {gate.name: gate for gate in check_gates(evidence(**changes), champion, config)}[name]


def lift(low: float) -> dict[str, Any]:
    """An A/B test whose interval begins here."""
    test: dict[str, Any] = GOOD["abtest"]
    return test | {"lift": test["lift"] | {"low": low}}


def cost(**changes: float) -> dict[str, float]:
    """A cost with these changes."""
    found: dict[str, float] = GOOD["cost"]
    return found | changes


def test_good_evidence_passes_every_gate() -> None:
    assert all(gate.holds for gate in check_gates(evidence(), evidence(), CONFIG))


@pytest.mark.parametrize(
    ("name", "changes", "holds", "says"),
    [
        ("min_ab_lift", {"abtest": lift(0.00006)}, True, "is +0.01% to +0.98%, its lower end must be above 0%"),
        ("min_ab_lift", {"abtest": lift(0.00004)}, False, "is +0.00% to"),
        ("min_ab_lift", {"abtest": lift(-0.00004)}, False, "is +0.00% to"),
        ("min_ab_lift", {"abtest": lift(-0.001)}, False, "is -0.10% to"),
        ("min_ab_lift", {"abtest": None}, False, "it is the control"),
        ("max_calibration_error", {"calibration_error": 0.050049}, True, "is 0.0500, the limit is 0.05"),
        ("max_calibration_error", {"calibration_error": 0.050051}, False, "is 0.0501, the limit is 0.05"),
        ("max_candidate_cost", {"cost": cost(candidate_macs=50000.4)}, True, "is 50,000, the limit"),
        ("max_candidate_cost", {"cost": cost(candidate_macs=50000.6)}, False, "is 50,001, the limit"),
        ("max_state_bytes", {"cost": cost(state_bytes=2000001)}, False, "limit is 2,000,000"),
    ],
)
def test_a_gate_compares_the_value_that_it_says(name: str, changes: dict[str, Any], holds: bool, says: str) -> None:
    gate = asked(name, **changes)
    assert gate.holds == holds
    assert says in gate.says


def test_a_lift_may_be_asked_for() -> None:
    config = CONFIG.model_copy(update={"min_ab_lift": 0.0012})
    assert not asked("min_ab_lift", config=config).holds
    assert asked("min_ab_lift", config=config, abtest=lift(0.0013)).holds
    assert "must be above 0.12%" in asked("min_ab_lift", config=config).says


def test_evidence_under_another_protocol_is_refused() -> None:
    assert not asked("fingerprints", fingerprint="other").holds
    assert not asked("fingerprints", champion=evidence(fingerprint="other")).holds


def test_without_a_verdict_no_lift_opens_the_gate() -> None:
    test = lift(0.01) | {"verdict": "no verdict", "evidence": "fitted", "reasons": ["the world knows too little"]}
    gate = asked("min_ab_lift", abtest=test)
    assert not gate.holds
    assert gate.says == "the A/B test gives no verdict: the world knows too little"
