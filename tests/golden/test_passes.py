"""A golden metric of the claim that is confirmed: a further pass of SAM finds what depends on another event.

Chains of two guides, fresh users at every step, 900 steps, one seed. One pass, and two passes that both ask with the
candidate, know what one guide tells and nothing of what two tell; two passes know both.
"""

from __future__ import annotations

import pytest
from chains import trained_auc

GOLDEN = {
    (1, "iterating"): (1.0, 0.9914, 0.5192),
    (2, "fixed"): (1.0, 1.0, 0.5101),
    (2, "iterating"): (1.0, 1.0, 0.9997),
}
"""AUC of candidates no, one and two guides away from the click, by passes and memory."""
TOLERANCE = 0.01


@pytest.mark.parametrize(("passes", "memory"), GOLDEN)
def test_two_passes_find_what_two_guides_tell_and_one_does_not(passes: int, memory: str) -> None:
    found = trained_auc(2, passes, 900, memory)
    assert found == pytest.approx(GOLDEN[passes, memory], abs=TOLERANCE)
