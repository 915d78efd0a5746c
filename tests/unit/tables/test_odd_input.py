"""Logs that are odd but clear: each is read as it is meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from kit import HEADER

from hisac_lab.config.events import ColumnsConfig, PrepareConfig
from hisac_lab.tables.layouts.own import own


def mapped(**names: Any) -> PrepareConfig:
    return PrepareConfig(columns=ColumnsConfig(**names), positive_from=4.0)


ODD = HEADER + "007,NA,4,100\n"
ACCEPTED: dict[str, tuple[str | bytes, PrepareConfig, list[Any]]] = {
    "byte order mark": (ODD.encode("utf-8-sig"), mapped(), ["007", "NA", 4.0, 100]),
    "mixed line ends": (HEADER.strip() + "\r\nu,a,5,1\r007,NA,4,100\n", mapped(), ["007", "NA", 4.0, 100]),
    "no last line end": (ODD.strip(), mapped(), ["007", "NA", 4.0, 100]),
    "blank lines": ("\n\n" + ODD + "\n\n", mapped(), ["007", "NA", 4.0, 100]),
    "quoted line ends": ("note," + HEADER + '"x\n\ny, ""z""",007,"NA",4,"100"\n', mapped(), ["007", "NA", 4.0, 100]),
    "a lonely quote inside a value": ("note," + HEADER + '5" pipe,007,NA,4,100\n', mapped(), ["007", "NA", 4.0, 100]),
    "ids above 2^63": (HEADER + "9223372036854775808,18446744073709551616,1,1\n", mapped(),
                       ["9223372036854775808", "18446744073709551616", 1.0, 1]),
    "ids beyond ASCII": (HEADER + "ü,日本,1,1\n", mapped(), ["ü", "日本", 1.0, 1]),
    "spaces and exponents in numbers": (HEADER + "u,a, 4.50,1e3\n", mapped(), ["u", "a", 4.5, 1000]),
    "milliseconds": (HEADER + "u,a,1,881250949999\n", mapped(time_format="milliseconds"), ["u", "a", 1.0, 881250949]),
    "ISO with an offset": (HEADER + "u,a,1,1997-12-04T17:55:49.5+02:00\n", mapped(time_format="iso"),
                           ["u", "a", 1.0, 881250949]),
    "before 1970": (HEADER + "u,a,1,-757378579\n", mapped(), ["u", "a", 1.0, -757378579]),
    "before 1970, ISO": (HEADER + "u,a,1,1901-01-01\n", mapped(time_format="iso"), ["u", "a", 1.0, -2177452800]),
    "fractions": (HEADER + "u,a,1,-0.25\n", mapped(), ["u", "a", 1.0, -1]),
    "fractions with a comma": (HEADER.replace(",", ";") + "u;a;3,5;100,75\n", mapped(separator=";", decimal=","),
                               ["u", "a", 3.5, 100]),
    "nanoseconds": (HEADER + "u,a,1,881250949999999999\n", mapped(time_format="nanoseconds"),
                    ["u", "a", 1.0, 881250949]),
    "UTC behind a time": (HEADER + "u,a,1,1997-12-04 15:55:49 UTC\n", mapped(time_format="iso"),
                          ["u", "a", 1.0, 881250949]),
    "a form of one's own": (HEADER + "u,a,1,04.12.1997 15:55\n", mapped(time_format="%d.%m.%Y %H:%M"),
                            ["u", "a", 1.0, 881250900]),
    "days as numbers": (HEADER + "u,a,1,19971204\n", mapped(time_format="%Y%m%d"), ["u", "a", 1.0, 881193600]),
    "True and False": (HEADER + "u,a,True,1\nu,a, false,1\n", mapped(), ["u", "a", 0.0, 1]),
    "words": (HEADER + "u,a,no,1\nu,a,Yes ,1\n", mapped(label_values={"yes": 3.0, "no": 0.0}), ["u", "a", 3.0, 1]),
    "blanks around ids": (HEADER + " u ,a\u00a0,1,1\n", mapped(), ["u", "a", 1.0, 1]),
    "decomposed ids": (HEADER + "u,cafe\u0301,1,1\n", mapped(), ["u", "caf\u00e9", 1.0, 1]),
    "two colons": (HEADER.replace(",", "::") + "u::a::1::7\n", mapped(separator="::"), ["u", "a", 1.0, 7]),
}  # fmt: skip


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_odd_but_clear_is_read(tmp_path: Path, name: str) -> None:
    events, config, expected = ACCEPTED[name]
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "events.csv").write_bytes(events if isinstance(events, bytes) else events.encode())
    block = list(own(tmp_path, config).blocks())[-1]
    values = [block.columns[role][len(block) - 1] for role in ("user", "item", "label", "time")]
    assert [value.as_py() if isinstance(value, pa.Scalar) else value for value in values] == expected
