"""The gates: what they say is what they compare, and noise in the last digits opens or closes none."""

from __future__ import annotations

from typing import Any

import pytest

from hisac_lab.config.promotion import PromotionConfig
from hisac_lab.registry.gates import Gate, ahead_of, check_gates
from hisac_lab.registry.records import Evidence

CONFIG = PromotionConfig()
TEST: dict[str, Any] = {
    "kind": "fitted",
    "verdict": "better",
    "reason": "",
    "control": "din_50",
    "lift": {"value": 0.005, "low": 0.0012, "high": 0.0098, "p_value": 0.01},
    "sample_ratio_holds": True,
    "aa_holds": True,
    "fingerprint": "abc",
    "test_fingerprint": "def",
}


def against(low: float, high: float = 0.02, weights: str = "of din_50") -> dict[str, Any]:
    """A paired difference."""
    return {"difference": (low + high) / 2, "interval": [low, high], "p": 0.01, "weights": weights}


GOOD: dict[str, Any] = {
    "model": "hisac",
    "seed": 0,
    "seeds": [0, 1],
    "weights": "of hisac",
    "negatives": "real exposures",
    "valid_auc": 0.7,
    "side": None,
    "metrics": {},
    "parameters": 1234,
    "popularity": {"difference": 0.0105, "interval": [0.001, 0.02]},
    "comparisons": {"din_50": against(0.001), "mean": against(-0.004, weights="of mean")},
    "abtest": TEST,
    "calibration_error": 0.0312,
    "cost": {"candidate_macs": 28404.5, "encode_macs": 1.0, "state_bytes": 4096.2},
    "fingerprint": "abc",
}


def evidence(**changes: Any) -> Evidence:
    """Good evidence with these changes."""
    return Evidence.of(GOOD | changes, "evidence.json")


CHAMPION = evidence(model="din_50", weights="of din_50")


def asked(name: str, champion: Evidence | None = None, config: PromotionConfig = CONFIG, **changes: Any) -> Gate:
    """What one gate says of good evidence with these changes."""
    return {gate.name: gate for gate in check_gates(evidence(**changes), champion, config)}[name]


def met(low: float) -> dict[str, Any]:
    """The same difference to popularity and to din_50."""
    gap = against(low)
    return {"popularity": {part: gap[part] for part in ("difference", "interval")}, "comparisons": {"din_50": gap}}


def with_verdict(verdict: str, **changes: Any) -> dict[str, Any]:
    """A test with this verdict."""
    return TEST | {"verdict": verdict} | changes


def cost(**changes: float) -> dict[str, float]:
    """A cost with these changes."""
    found: dict[str, float] = GOOD["cost"]
    return found | changes


def test_good_evidence_passes_every_gate_with_and_without_a_champion() -> None:
    for champion in (None, CHAMPION):
        gates = check_gates(evidence(), champion, CONFIG)
        assert [gate.name for gate in gates if not gate.holds] == []
        assert len(gates) == 7


@pytest.mark.parametrize(
    ("name", "changes", "holds", "says"),
    [
        ("max_calibration_error", {"calibration_error": 0.050049}, True, "is 0.0500, the limit is 0.05"),
        ("max_calibration_error", {"calibration_error": 0.050051}, False, "is 0.0501, the limit is 0.05"),
        (
            "max_calibration_error",
            {"calibration_error": 0.08, "calibration_chance": 0.03},
            True,
            "is 0.0800, the limit is 0.08 (0.05, and 0.0300 that chance alone gives)",
        ),
        ("max_calibration_error", {"calibration_error": 0.0802, "calibration_chance": 0.03}, False, "is 0.0802, the"),
        ("max_request_cost", {"cost": cost(candidate_macs=2e6, encode_macs=0.4)}, True, "is 1,000,000,000, the limit"),
        ("max_request_cost", {"cost": cost(candidate_macs=2e6, encode_macs=0.6)}, False, "is 1,000,000,001, the limit"),
        ("max_state_bytes", {"cost": cost(state_bytes=200000.4)}, True, "is 200,000, the limit is 200,000"),
        ("max_state_bytes", {"cost": cost(state_bytes=200001)}, False, "limit is 200,000"),
        ("abtest_checks", {"abtest": with_verdict("better", aa_holds=False)}, False, "holds, A/A test does not hold"),
        (
            "abtest_checks",
            {"abtest": with_verdict("better", sample_ratio_holds=False)},
            False,
            "sample ratio does not hold",
        ),
        ("abtest_checks", {"abtest": None}, True, "it is the control"),
        ("fingerprints", {"fingerprint": "other"}, False, "evaluated under other, A/B-tested under abc"),
    ],
)
def test_a_gate_compares_the_value_that_it_says(name: str, changes: dict[str, Any], holds: bool, says: str) -> None:
    gate = asked(name, **changes)
    assert gate.holds == holds
    assert says in gate.says


def test_a_verdict_of_a_kind_that_is_not_accepted_has_no_say() -> None:
    strict = PromotionConfig(evidence=("truth", "replay"))
    worse = with_verdict("worse")
    assert not asked("abtest", abtest=worse).holds
    gate = asked("abtest", config=strict, abtest=worse)
    assert gate.holds
    assert "of a kind that promotion.evidence (truth, replay) does not accept; AUC is better" in gate.says
    assert not asked("abtest", config=strict, **met(-0.001)).holds
    replayed = with_verdict("better", kind="replay")
    assert asked("abtest", config=strict, abtest=replayed, **met(-0.001)).holds


@pytest.mark.parametrize(
    ("low", "holds", "says"),
    [(-0.00504, True, "[-0.0050, +0.0200]"), (-0.00506, False, "[-0.0051,"), (0.3, True, "[+0.3000,")],
)
@pytest.mark.parametrize(("champion", "name"), [(None, "popularity"), (CHAMPION, "the champion, din_50")])
def test_quality_may_lose_the_margin_and_no_more(
    low: float, holds: bool, says: str, champion: Evidence | None, name: str
) -> None:
    gate = asked("max_auc_loss", champion, **met(low))
    assert gate.holds == holds
    assert f"AUC less that of {name} is" in gate.says
    assert says in gate.says
    assert gate.says.endswith("the lower end must reach -0.005")


def test_a_champion_is_found_on_the_board_by_its_weights_under_whatever_name() -> None:
    champion = evidence(model="hisac", weights="of last month", fingerprint="of last month")
    assert not asked("max_auc_loss", champion).holds
    assert "not evaluated on one board with the champion, hisac" in asked("max_auc_loss", champion).says
    met = {"champion": against(0.001, weights="of last month")}
    assert asked("max_auc_loss", champion, comparisons=met).holds


def test_the_champions_own_weights_are_no_gain_whatever_else_was_measured() -> None:
    gate = asked("max_auc_loss", evidence(model="old name"))
    assert not gate.holds
    assert gate.says == "it has the champion's own weights"


def test_a_first_champion_has_met_popularity_and_the_control_may_be_it() -> None:
    control: dict[str, Any] = {"abtest": None, "model": "din_50"}
    assert all(gate.holds for gate in check_gates(evidence(**control), None, CONFIG))
    assert asked("abtest", **control).says == "it is the A/B test's control; AUC is better by its interval"
    assert not asked("abtest", CHAMPION, **control, comparisons={"mean": against(1, weights="of mean")}).holds
    unmet = asked("max_auc_loss", popularity=None)
    assert (unmet.holds, unmet.says) == (False, "it was not evaluated on one board with popularity")


@pytest.mark.parametrize("low", [-0.001, 0.00004, 0.00006, 0.01])
@pytest.mark.parametrize("verdict", ["better", "worse", "equivalent", "undecided", "no verdict"])
def test_a_verdict_decides_where_it_can_and_else_quality_must_be_better(verdict: str, low: float) -> None:
    holds = {"better": True, "worse": False}.get(verdict, low > 0.00005)
    gate = asked("abtest", **met(low), abtest=with_verdict(verdict))
    assert gate.holds == holds
    assert gate.says.startswith(
        f"{verdict} by fitted evidence, lift +0.12% to +0.98% after Holm's correction, against din_50"
    )
    assert ("better by its interval" in gate.says) == (verdict not in ("better", "worse"))


@pytest.mark.parametrize(
    ("verdict", "low", "holds"), [("better", -0.001, False), ("better", 0.001, True), ("worse", 1, False)]
)
def test_a_test_against_another_than_the_champion_does_not_speak_for_it(verdict: str, low: float, holds: bool) -> None:
    champion = evidence(model="mean", weights="of mean")
    comparisons = {"din_50": against(0.01), "mean": against(low, 2, weights="of mean")}
    gate = asked("abtest", champion, comparisons=comparisons, abtest=with_verdict(verdict))
    assert gate.holds == holds
    assert gate.says.startswith("din_50 is the test's control, not the champion; ")


def test_no_verdict_says_its_reason_and_has_no_lift() -> None:
    test = with_verdict("no verdict", reason="the world knows less than din_50", lift=None)
    said = asked("abtest", abtest=test).says
    assert said.startswith("no verdict by fitted evidence, against din_50: the world knows less than din_50; AUC is")


def test_models_that_are_ahead_by_the_whole_interval_are_told_the_furthest_first() -> None:
    gaps = {
        "near": against(-0.02, 0.001),
        "ahead": against(-0.02, -0.01),
        "behind": against(0.01, 0.02),
        "far_ahead": against(-0.08, -0.04),
    }
    assert ahead_of(evidence(comparisons=gaps)) == pytest.approx({"far_ahead": 0.06, "ahead": 0.015})
    assert list(ahead_of(evidence(comparisons=gaps))) == ["far_ahead", "ahead"]
