"""The laws of hisac-lab."""

from pathlib import Path
from typing import ClassVar

import pandas as pd
from shop_models.peak import PeakBranch

from hisac_lab.config.events import PrepareConfig
from hisac_lab.config.tokens import TokenizeConfig
from hisac_lab.testing import ModelContract, QuantizerContract, SourceContract


class TestPeak(ModelContract):
    """Its model."""

    models = PeakBranch.examples


class TestBrief(QuantizerContract):
    """Its quantizer."""

    quantizers: ClassVar = {"brief": TokenizeConfig(method="brief", widths=(6, 5, 4))}


def write_log(folder: Path) -> pd.DataFrame:
    """Ninety events of three users."""
    rows = [
        (f"u{user}", f"i{(7 * user + event) % 20}", 1000 * event + user) for event in range(30) for user in range(3)
    ]
    events = pd.DataFrame(rows, columns=["user", "item", "time"])
    events["label"] = 1.0 + events.index % 5
    table = events.set_axis(["who", "what", "when", "stars"], axis=1)
    table.to_csv(folder / "shop.csv", index=False, lineterminator="\n")
    return events


class TestShop(SourceContract):
    """Its data set."""

    logs: ClassVar = {"shop": ("shop-log", write_log, PrepareConfig())}
