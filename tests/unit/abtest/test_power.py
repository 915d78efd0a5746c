"""The size of a test: beside the integrated power, its inverse, and the command that says it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from finished import ab_result, make
from hypothesis import given
from hypothesis import strategies as st
from kit import says
from scipy import integrate, stats
from typer.testing import CliRunner

from hisac_lab.abtest.power import least_lift, relative_spread, users_needed
from hisac_lab.abtest.records import Users
from hisac_lab.abtest.statistics import relative_lift
from hisac_lab.cli.main import app
from hisac_lab.cli.params import defaults


def _power(effect: float, spread: float, users: float, confidence: float) -> float:
    """Power of a t-test of two arms: the normal tails, integrated over the estimated spread."""
    degrees = 2 * users - 2
    reach, shift = stats.t.ppf(0.5 + confidence / 2, degrees), effect / spread / math.sqrt(2 / users)

    def found(square: float) -> float:
        at = reach * math.sqrt(square / degrees)
        return float((stats.norm.sf(at - shift) + stats.norm.cdf(-at - shift)) * stats.chi2.pdf(square, degrees))

    wide = 20 * math.sqrt(2 * degrees)
    return float(
        integrate.quad(found, max(0, degrees - wide), degrees + wide, epsabs=1e-13, limit=400, points=[degrees])[0]
    )


@pytest.mark.parametrize(
    ("effect", "confidence", "power"), [(0.5, 0.95, 0.8), (0.5, 0.99, 0.9), (0.1, 0.9, 0.5), (1.5, 0.95, 0.8)]
)
def test_the_users_needed_are_those_of_the_integrated_power(effect: float, confidence: float, power: float) -> None:
    users = users_needed(effect, 1.0, confidence, power)
    assert _power(effect, 1.0, users, confidence) == pytest.approx(power, abs=1e-9)
    assert users_needed(10 * effect, 10.0, confidence, power) == pytest.approx(users, rel=1e-9)
    shares = stats.norm.ppf(0.5 + confidence / 2) + stats.norm.ppf(power)
    assert users == pytest.approx(2 * (shares / effect) ** 2, abs=3)


def test_known_numbers_of_users() -> None:
    """Cohen's medium and small effects at 5 % and 80 %, as tables of the t-test have them: 64 and 394 an arm."""
    assert [math.ceil(users_needed(effect, 1.0, 0.95, 0.8)) for effect in (0.5, 0.2)] == [64, 394]
    assert users_needed(1000.0, 1.0, 0.95, 0.8) == 2


@given(st.floats(2, 1e6), st.floats(0.01, 10), st.sampled_from([0.9, 0.95, 0.99]), st.floats(0.2, 0.99))
def test_the_least_lift_and_the_users_needed_are_inverse(
    users: float, spread: float, confidence: float, power: float
) -> None:
    lift = least_lift(users, spread, confidence, power)
    assert users_needed(lift, spread, confidence, power) == pytest.approx(users, rel=1e-6)


def test_the_spread_is_that_behind_a_lift() -> None:
    random = np.random.default_rng(0)
    control, treatment = random.gamma(4, 1, 30_000), 1.1 * random.gamma(4, 1, 20_000)
    found = relative_lift(treatment, control, 0.9)
    assert relative_spread(found, Users(treatment=20_000, control=30_000), 0.9) == pytest.approx(0.5, rel=0.02)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with settings alone."""
    (tmp_path / "params.yaml").write_text(defaults())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _said(*words: str) -> str:
    found = CliRunner().invoke(app, ["ab", "power", *words], catch_exceptions=False)
    assert found.exit_code == 0
    return found.output


def test_the_command_says_users_and_lift(here: Path) -> None:
    said = _said("--spread", "0.5", "--lift", "0.25", "--users", "128")
    assert "a lift of 25.00% needs 128 users" in said
    assert f"128 users find lifts from {least_lift(64, 0.5, 0.95, 0.8):.2%}" in said
    facts = json.loads(_said("--spread", "0.5", "--lift", "0.25", "--json"))
    assert facts["found"][""]["users"] == 128
    assert facts["users"] == 20_000


def test_the_command_takes_the_spread_of_the_last_test(here: Path) -> None:
    make(here / "artifacts")
    said = _said()
    draw = ab_result(0.012, "better")["draw"]
    error = 0.004 / stats.norm.ppf(0.975) / 1.012 / math.sqrt(1 / 1000 + 1 / 1010)
    assert draw["lift"]["value"] == 0.012
    assert f"new over base: spread {error:.3f} of the mean" in said
    assert "the same with CUPED" in said
    assert "the same post-stratified" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "there is no A/B test yet"),
        (("--lift", "0", "--spread", "1"), "--lift: 0 is out of range"),
        (("--spread", "nan"), "--spread: nan is out of range"),
        (("--spread", "1", "--confidence", "1"), "--confidence: 1 is out of range"),
        (("--spread", "1", "--power", "0.04"), "--power: 0.04 is out of range"),
    ],
)
def test_numbers_out_of_range_are_refused(here: Path, words: tuple[str, ...], said: str) -> None:
    with says("hisac-lab ab power", said):
        _said(*words)
