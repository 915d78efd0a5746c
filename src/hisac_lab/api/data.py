"""Prepared data: histories and samples, semantic IDs, and models fitted on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hisac_lab.api.settings import settings
from hisac_lab.api.workspace import Workspace
from hisac_lab.base.artifacts import MANIFEST, sha256_file
from hisac_lab.codebook.build import build_codebook
from hisac_lab.codebook.tree import Codebook
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.model import BackboneConfig, InstancesConfig
from hisac_lab.config.tokens import EmbedConfig, TokenizeConfig
from hisac_lab.config.train import TrainConfig
from hisac_lab.events.records import Prepared
from hisac_lab.events.store import EventStore
from hisac_lab.tokens.embeddings import embed
from hisac_lab.tokens.tokenize import tokenize

if TYPE_CHECKING:
    import pandas as pd

    from hisac_lab.api.model import Model
    from hisac_lab.config.model import ModelConfig


@dataclass(frozen=True)
class Data:
    """Histories, requests and samples; with semantic IDs once tokenized.

    Attributes:
        workspace: Where outputs go.
        prepared: Output of the stage `prepare`.
        embedded: Output of the stage `embed`; None before `tokenize`.
        codebook: Output of the stage `codebook`; None before `tokenize`.
    """

    workspace: Workspace
    prepared: Path
    embedded: Path | None = None
    codebook: Path | None = None

    @cached_property
    def store(self) -> EventStore:
        """The events, memory-mapped."""
        return EventStore.open(self.prepared)

    @property
    def items(self) -> pd.DataFrame:
        """One row per item: its id, text and categorical fields."""
        return self.store.item_table

    @property
    def users(self) -> list[str]:
        """The users' ids."""
        return [str(user) for user in self.store.user_ids]

    def tokenize(self, *, embed_by: dict[str, Any] | None = None, **changes: Any) -> Data:
        """Gives every item a semantic ID and builds the codebook over them.

        Args:
            embed_by: Settings of the section `embed` that differ from the defaults, as `{"method": "cooccurrence"}`,
                which is the default itself where no item has a text.
            changes: Settings of the section `tokenize` that differ from the defaults, as `widths=[64, 64, 64]`.

        Raises:
            UserError: A setting is wrong, the vectors cannot carry so many codes, or the quality gate closes.
        """
        if embed_by is None and not Prepared.open(self.prepared).items_described:
            embed_by = {"method": "cooccurrence"}
        semantics = settings(EmbedConfig, embed_by or {}, "tokenize", "embed_by")
        config = settings(TokenizeConfig, changes, "tokenize")
        make, prepared = self.workspace.make, self.prepared
        key = [semantics.model_dump(mode="json"), _output_key(prepared)]
        embedded = make("embed", key, lambda out: embed(semantics, prepared=prepared, out=out))
        key = [config.model_dump(mode="json"), _output_key(prepared), _output_key(embedded)]
        tokenized = make("tokenize", key, lambda out: tokenize(config, prepared=prepared, embedded=embedded, out=out))
        codebook = make("codebook", _output_key(tokenized), lambda out: build_codebook(tokenized=tokenized, out=out))
        return replace(self, embedded=embedded, codebook=codebook)

    def semantic_ids(self) -> pd.DataFrame:
        """One row per item with a semantic ID: its id, text and semantic ID, neighbors in the codebook together."""
        import pandas as pd

        table, book = self.items, self._codebook()
        with_id = np.flatnonzero(book.item_nodes[:, -1] >= 0)
        with_id = with_id[np.argsort(book.item_nodes[with_id, -1], kind="stable")]
        paths = ["-".join(map(str, book.path(int(node), book.depth - 1))) for node in book.item_nodes[with_id, -1]]
        column = "title" if "title" in table else "text"
        return pd.DataFrame({"item": table["item"].to_numpy()[with_id], "semantic_id": paths,
                             column: table[column].to_numpy()[with_id]})  # fmt: skip

    def fit(
        self,
        model: str | ModelConfig = "hisac",
        *,
        seed: int = 0,
        backbone: dict[str, Any] | None = None,
        train: dict[str, Any] | None = None,
        compute: dict[str, Any] | None = None,
        on_step: Callable[[int, float], None] | None = None,
        **changes: Any,
    ) -> Model:
        """Trains a model; data without semantic IDs are tokenized first, as by default.

        Args:
            model: A kind, as "hisac", "din" or "sim", or its settings.
            seed: Of weights, order and dropout.
            backbone: Settings of the section `backbone` that differ from the defaults.
            train: Settings of the section `train` that differ from the defaults, as `{"epochs": 3}`.
            compute: Settings of the section `compute` that differ from the defaults.
            on_step: Told the number and the mean loss of every step; not called when the model is there already.
            changes: Settings of the model that differ from the defaults, as `agents=64`.

        Raises:
            UserError: A setting is wrong or does not fit the data, or training diverges.
        """
        from hisac_lab.api.model import fit

        data = self if self.codebook else self.tokenize()
        return fit(
            data,
            model,
            changes,
            seed,
            settings(BackboneConfig, backbone or {}, "fit", "backbone"),
            settings(TrainConfig, train or {}, "fit", "train"),
            settings(ComputeConfig, compute or {}, "fit", "compute"),
            on_step,
        )

    def instances(self, backbone: BackboneConfig, train: TrainConfig, compute: ComputeConfig) -> Path:
        """The store of training instances that IAT reads, made once."""
        from hisac_lab.inference.items import load_items
        from hisac_lab.training.instances import make_instances

        assert self.embedded is not None
        assert self.codebook is not None
        embedded, codebook = self.embedded, self.codebook
        config = InstancesConfig(order="temporal")
        sections = [part.model_dump(mode="json") for part in (config, backbone, train, compute)]
        key = [sections, _output_key(self.prepared), _output_key(embedded), _output_key(codebook)]

        def build(out: Path) -> None:
            items = load_items(prepared=self.prepared, embedded=embedded, codebook=codebook)
            make_instances(config, backbone, train, compute, items, prepared=self.prepared, out=out)

        return self.workspace.make("instances", key, build)

    def key(self) -> list[str]:
        """What names these data in the key of a model."""
        return [_output_key(path) for path in (self.prepared, self.embedded, self.codebook) if path is not None]

    def _codebook(self) -> Codebook:
        data = self if self.codebook else self.tokenize()
        assert data.codebook is not None
        return Codebook.open(data.codebook)

    def __repr__(self) -> str:
        facts = Prepared.open(self.prepared)
        ids = "with" if self.codebook else "without"
        return (
            f"Data({facts.dataset}: {facts.events:,} events of {facts.users:,} users on {facts.items:,} items, {ids}"
            " semantic IDs)"
        )


def _output_key(path: Path) -> str:
    """What names an output: its step, its key and its manifest."""
    return f"{path.parent.name}/{path.name}/{sha256_file(path / MANIFEST)}"
