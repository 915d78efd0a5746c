"""What every loader must do: give the log as its publisher wrote it, whole, and again when asked again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from hisac_lab.config.events import PrepareConfig
from hisac_lab.events.records import Prepared
from hisac_lab.sources.records import Acquired
from hisac_lab.tables.columns import logged_role
from hisac_lab.tables.layouts import LOADERS
from hisac_lab.tables.layouts.contract import RawLog
from hisac_lab.testing.samples import prepare_log, says

Writer = Callable[[Path], pd.DataFrame]
Written = tuple[Path, str, pd.DataFrame, PrepareConfig]


def _load(written: tuple[Path, str, pd.DataFrame, PrepareConfig]) -> RawLog:
    folder, layout, _, config = written
    return LOADERS[layout](folder, config)


def _table(log: RawLog) -> pd.DataFrame:
    """All events inside the publisher's window."""
    frames = []
    for block in log.blocks():
        columns = {
            role: values.to_pandas().astype(str) if isinstance(values, pa.Array) else values
            for role, values in block.columns.items()
        }
        frames.append(pd.DataFrame(columns))
    table = pd.concat(frames, ignore_index=True)
    if log.window is not None:
        table = table[(table["time"] >= log.window[0]) & (table["time"] < log.window[1])]
    return table.reset_index(drop=True)


class SourceContract:
    """The laws; a subclass whose name begins with Test says which data sets they are for.

    Attributes:
        logs: By name: the data set (or layout), a function that writes small raw files into a folder and gives the
            events in them (columns user, item, time and what else the loader gives), and settings that suit.
    """

    logs: ClassVar[Mapping[str, tuple[str, Writer, PrepareConfig]]]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Runs each law with every log."""
        if "name" in metafunc.fixturenames:
            metafunc.parametrize("name", self.logs)

    @pytest.fixture
    def written(self, name: str, tmp_path: Path) -> Written:
        """A folder with the files of one layout, its name, the events in it and settings that suit."""
        layout, write, config = self.logs[name]
        return tmp_path, layout, write(tmp_path), config

    def test_the_events_are_those_in_the_files(self, written: Written) -> None:
        expected = written[2]
        table = _table(_load(written))[list(expected)]
        pd.testing.assert_frame_equal(table, expected, check_dtype=False)

    def test_blocks_are_typed_alike_and_can_be_read_anew(self, written: Written) -> None:
        log = _load(written)

        def types() -> list[dict[str, Any]]:
            return [
                {
                    role: values.type if isinstance(values, pa.Array) else values.dtype
                    for role, values in block.columns.items()
                }
                for block in log.blocks()
            ]

        first = types()
        assert all(each == first[0] for each in first)
        kinds = {role: str(kind) for role, kind in first[0].items()}
        assert kinds["user"] == kinds["item"] == "dictionary<values=string, indices=int32, ordered=0>"
        assert kinds["time"] == "int64"
        assert kinds.get("label", "float64") == "float64"
        assert kinds.get("random", "bool") == "bool"
        assert kinds.get("part", "int8") == "int8"
        beside = {*log.extras, *map(logged_role, log.logged)}
        assert beside <= set(kinds) <= {"user", "item", "time", "label", "random", "part"} | beside
        assert types() == first

    def test_the_item_table_is_text_without_repeats_and_covers_the_log_where_promised(self, written: Written) -> None:
        log = _load(written)
        assert log.items is not None or not log.fields
        if log.items is None:
            return
        table = log.items()
        assert list(table)[:2] == ["item", "text"]
        assert set(log.fields) <= set(table)
        assert table["item"].is_unique
        for name in table:
            assert all(isinstance(value, str) for value in table[name])
        assert (table[list(log.fields)] != "").all(axis=None) or "genres" in log.fields
        if log.complete:
            assert set(_table(log)["item"]) <= set(table["item"])

    def test_vectors_are_finite_and_of_one_width(self, written: Written) -> None:
        log = _load(written)
        if log.vectors is None:
            return
        batches = list(log.vectors())
        assert all(vectors.dtype == np.float32 and len(ids) == len(vectors) for ids, vectors in batches)
        assert len({vectors.shape[1] for _, vectors in batches}) == 1
        assert all(np.isfinite(vectors).all() for _, vectors in batches)
        names = [name for ids, _ in batches for name in ids]
        assert len(set(names)) == len(names)
        assert log.items is None or set(names) <= set(log.items()["item"])

    def test_the_log_can_be_prepared(self, written: Written) -> None:
        folder, layout, expected, config = written
        Acquired(dataset=layout, layout=layout, files={}).save(folder)
        out = folder / "prepared"
        prepare_log(config, folder, out)
        prepared = Prepared.open(out)
        assert prepared.users == expected["user"].nunique()
        assert prepared.events + prepared.events_repeated == len(expected)

    def test_feedback_that_the_layout_has_not_is_refused(self, written: Written) -> None:
        folder, layout, _, config = written
        with says("settings", "prepare.feedback", "'applause' is none of"):
            LOADERS[layout](folder, config.model_copy(update={"feedback": "applause"}))

    def test_a_folder_without_the_files_is_told(self, tmp_path: Path, written: Written) -> None:
        _, layout, _, config = written
        (tmp_path / "empty").mkdir()
        with says(str(tmp_path / "empty"), "does not exist"):
            log = LOADERS[layout](tmp_path / "empty", config)
            list(log.blocks())
