"""Errors for people: one line, also out of a worker process."""

from __future__ import annotations

import errno
import pickle

import pytest

from hisac_lab.base.errors import UserError, explain_os_error


def test_an_error_is_one_line_with_place_field_trouble_and_mend() -> None:
    error = UserError("log.csv", "value 'x'\nis no   number", "fix it", "line 3: time")
    assert str(error) == "log.csv: line 3: time: value 'x' is no number; fix it"
    assert str(UserError("log.csv", "is empty", "fill it")) == "log.csv: is empty; fill it"


@pytest.mark.parametrize("field", [None, "train.learning_rate"])
def test_an_error_comes_whole_out_of_a_worker_process(field: str | None) -> None:
    error = UserError("params.yaml", "the loss is nan at step 3", "lower it", field)
    found = pickle.loads(pickle.dumps(error))
    assert str(found) == str(error)
    assert vars(found) == vars(error)


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (OSError(errno.ENOSPC, "x"), "here: no space left on the device while writing; free some space and run again"),
        (OSError(errno.EDQUOT, "x"), "here: no space left on the device while writing; free some space and run again"),
        (OSError("10 requested and 3 written"), "here: no space left on the device while writing"),
        (OSError(errno.EACCES, "x", "there"), "there: permission denied; make it readable"),
        (OSError(errno.ENOENT, "x", "there"), "there: does not exist; check the path"),
        (OSError(errno.EIO, "Input/output error", "there"), "there: Input/output error; check the file"),
        (OSError("odd"), "here: odd; check the file and its folder"),
    ],
)
def test_trouble_of_the_system_is_explained(trouble: OSError, said: str) -> None:
    assert str(explain_os_error(trouble, "here")).startswith(said)
