"""How numbers are written."""

from __future__ import annotations

from hisac_lab.report.words import excludes_zero


def test_what_is_shown_as_zero_is_zero() -> None:
    assert excludes_zero((0.0001, 0.01))
    assert excludes_zero((-0.01, -0.0001))
    assert not excludes_zero((0.00004, 0.01))
    assert not excludes_zero((-0.01, -0.00004))
