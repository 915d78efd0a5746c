"""IAT, stage one: the source model, which squeezes each training instance through a narrow vector, to be stored.

Instance-as-token compression: Li et al., 2026, arXiv 2604.08933; sources and differences are in docs/papers/iat.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from hisac_lab.config.model import BackboneConfig, InstancesConfig, ModelConfig, SourceConfig
from hisac_lab.events.instances import InstanceQuery
from hisac_lab.models.backbone import Backbone
from hisac_lab.models.contract import CardLine, History, ItemSpace, Kind, UserState
from hisac_lab.models.instances import Instances
from hisac_lab.models.logged import LoggedColumns
from hisac_lab.models.stack import Stack


class IATSourceConfig(SourceConfig, ModelConfig):
    """The source model as it is saved; it is set in the section `instances`, not in `models`."""

    configurable: ClassVar[bool] = False
    needs_instances: ClassVar[bool] = True

    kind: Literal["iat_source"] = Field("iat_source", description="IAT's source model")
    order: Literal["temporal", "user"] = Field(
        "user", description="temporal: each instance alone; user: a transformer reads the user's earlier instances"
    )
    logged: dict[str, int] = Field(
        {}, description="logged columns of an exposure that it reads: how many codes each has, 0 for a number"
    )

    @classmethod
    def of(cls, config: InstancesConfig, logged: Mapping[str, int]) -> IATSourceConfig:
        """The compressor of a store of one order.

        Args:
            config: The section `instances`, its order temporal or user.
            logged: The columns it reads.
        """
        named = {name: getattr(config, name) for name in SourceConfig.model_fields}
        return cls.model_validate(named | {"logged": dict(logged)})


GOLDEN = IATSourceConfig(order="temporal", dim=16, decoder=(16,), window=8, layers=2, heads=4, logged={})


class InstanceSource(Backbone, Kind):
    """Stage one: a ranker whose last hidden layer passes through a vector of width E, the instance.

    Order "temporal" reads the logit off each instance alone. Order "user" lets a transformer read the user's earlier
    instances first; they come from the store, so no gradient reaches them.

    Args:
        config: Order and widths.
        backbone: Widths shared by all models.
        items: Frozen knowledge of the items.
    """

    Config = IATSourceConfig
    examples: ClassVar = {
        "iat-source-temporal": IATSourceConfig(order="temporal", dim=8, decoder=(8,)),
        "iat-source-user": IATSourceConfig(dim=8, decoder=(8,), window=5, layers=1, heads=2),
    }
    golden: ClassVar = {
        "iat_source_temporal": GOLDEN,
        "iat_source_user": GOLDEN.model_copy(update={"order": "user"}),
    }
    card = (
        CardLine(
            "an instance is one sample: user, candidate, context and the sequences of that moment",
            "stated",
            "docs/papers/iat.md#instances",
            "test_an_instance_is_narrow_and_bounded",
        ),
        CardLine(
            "an instance is an image of the ranker's last hidden layer",
            "stated",
            "docs/papers/iat.md#compression-in-temporal-order",
            "test_an_instance_is_narrow_and_bounded",
        ),
        CardLine(
            "layer norm and tanh bound its numbers",
            "inferred",
            "docs/papers/iat.md#compression-in-temporal-order",
            "test_an_instance_is_narrow_and_bounded",
        ),
        CardLine(
            "the logit comes through the instance alone, and nothing passes around it",
            "inferred",
            "docs/papers/iat.md#compression-in-user-order",
            "test_nothing_bypasses_the_instance",
        ),
        CardLine(
            "user order: a causal transformer reads the user's earlier instances, with gradient inside a batch",
            "stated",
            "docs/papers/iat.md#compression-in-user-order",
            "test_in_user_order_gradients_reach_earlier_instances",
        ),
        CardLine(
            "earlier means strictly earlier: instances of one request do not see each other",
            "inferred",
            "docs/papers/iat.md#leak-rules",
            "test_instances_of_one_request_do_not_see_each_other",
        ),
        CardLine(
            "what is stored is the row in front of the transformer (the row behind it: a control)",
            "stated",
            "docs/papers/iat.md#compression-in-user-order",
            "test_the_stored_row_is_the_one_before_the_transformer",
        ),
        CardLine(
            "no gradient reaches stored instances",
            "stated",
            "docs/papers/iat.md#compression-in-user-order",
            "test_stored_instances_get_no_gradient",
        ),
        CardLine(
            "streaming with stored instances scores like a batch grouped by user, whatever the time unit",
            "inferred",
            "docs/papers/iat.md#compression-in-user-order",
            "test_streaming_scores_like_user_order",
        ),
        CardLine(
            "a vector is written before its sample is learned and never rewritten",
            "inferred",
            "docs/papers/iat.md#leak-rules",
            "test_no_vector_depends_on_its_own_or_a_later_label",
        ),
        CardLine(
            "user order trains by chunks of time: whole users inside one, stored instances before it",
            "inferred",
            "docs/papers/iat.md#leak-rules",
            "test_stored_instances_before_a_batch_read_like_a_longer_batch",
        ),
        CardLine(
            "RankMixer and features by the thousand",
            "left out",
            "docs/papers/iat.md#base-ranker",
        ),
        CardLine(
            "training in two passes of opposite order",
            "left out",
            "docs/papers/iat.md#compression-in-user-order",
        ),
        CardLine(
            "an instance per logged sample: with `prepare.exposures: all` those too that are no samples here",
            "stated",
            "docs/papers/iat.md#instances",
            "test_a_store_holds_every_logged_exposure",
        ),
        CardLine(
            "the source reads what the log alone has of an exposure: position, propensity, hashed columns",
            "inferred",
            "docs/papers/iat.md#where-our-reconstruction-differs",
            "test_an_instance_knows_what_the_log_says_of_its_own_exposure_alone",
        ),
        CardLine(
            "vectors of a chunk are in the basis of its own weights; how far it drifts is in the manifest",
            "inferred",
            "docs/papers/iat.md#where-our-reconstruction-differs",
            "test_what_is_explained_is_a_share_of_the_variance",
        ),
        CardLine(
            "switch `instances.basis`: each chunk turned toward the last weights by one rotation (ours)",
            "inferred",
            "docs/papers/iat.md#where-our-reconstruction-differs",
            "test_a_chunk_is_turned_as_a_whole_toward_the_last_weights",
        ),
    )

    @classmethod
    def make(cls, config: ModelConfig, backbone: BackboneConfig, items: ItemSpace) -> Backbone:
        """A whole ranker: it brings a tower of its own."""
        assert isinstance(config, IATSourceConfig)
        return cls(config, backbone, items)

    def __init__(self, config: IATSourceConfig, backbone: BackboneConfig, items: ItemSpace) -> None:
        super().__init__(backbone, items, None)
        self.config = config
        self.tower = nn.Sequential(*list(self.tower)[:-1])
        self.squeeze = nn.Linear(backbone.tower[-1], config.dim)
        widths = [config.dim, *config.decoder]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Linear(before, after), nn.GELU()]
        self.decode = nn.Sequential(*layers, nn.Linear(widths[-1], 1))
        self.logged: LoggedColumns | None = None
        if config.logged:
            with torch.random.fork_rng([]):  # all other weights start as in a source that reads no columns
                self.logged = LoggedColumns(config.logged, backbone.tower[0])
        wanted = config.order == "user"
        self.reader = Stack(config.dim, config.heads, config.layers, config.window) if wanted else None

    @property
    def sides(self) -> frozenset[str]:
        """In user order, stored instances too; the stage that writes them fetches them by itself."""
        return super().sides if self.reads is None else super().sides | {"instances"}

    @property
    def reads(self) -> InstanceQuery | None:
        """In user order, instances before the one that is scored."""
        return None if self.reader is None else InstanceQuery(self.config.window - 1, self.config.dim)

    def encode(self, history: History) -> UserState:
        """The ranker's state; in user order also keys and values of the stored instances."""
        tensors = super().encode(history).tensors
        if self.reader is None:
            return UserState(tensors)
        past = history.instances
        if past is None:
            past = Instances.none(len(history.items), self.config.dim, history.items.device)
        past = past.last(self.config.window - 1)
        before = past.mask[:, None, :] & (past.units[:, None, :] < past.units[:, :, None])
        itself = torch.eye(past.mask.shape[1], dtype=torch.bool, device=past.mask.device)
        bias = self.reader.bias(past.ages[:, None, :] - past.ages[:, :, None], before | itself)
        kept = self.reader.tokens(past.vectors.detach(), bias)[1]
        return UserState(tensors | {"kept": kept, "bias": self.reader.bias(past.ages[:, None], past.mask[:, None])})

    def instance(
        self, state: UserState, candidates: Tensor, context: Tensor | None = None, logged: Tensor | None = None
    ) -> Tensor:
        """What is stored of each candidate if it is served: (R, C) items to (R, C, E), each number within -1..1.

        Args:
            state: Of R requests.
            candidates: (R, C) items.
            context: Of the candidates, where the model reads it; (R, C, F).
            logged: Columns of the exposures; (R, C, G). None: not known, which adds nothing.
        """
        hidden = self.tower[0](self.features(state, candidates, context))
        if self.logged is not None and logged is not None:
            hidden = hidden + self.logged(logged)
        narrow = self.squeeze(self.tower[1:](hidden))
        return torch.tanh(nn.functional.layer_norm(narrow, narrow.shape[-1:]))

    def after(self, state: UserState, instances: Tensor) -> Tensor:
        """The row after the transformer, which a control stores instead; (R, C, E). In temporal order, the same row."""
        return instances if self.reader is None else self.reader.queries(instances, state["kept"], state["bias"])

    def score(self, state: UserState, candidates: Tensor, context: Tensor | None = None) -> Tensor:
        """Per candidate: (R, C) items, and their context (R, C, F) where the model reads it, to (R, C) logits."""
        return self.logits(self.after(state, self.instance(state, candidates, context)))

    def logits(self, instances: Tensor) -> Tensor:
        """Logit of each instance, in single precision: (..., E) to (...)."""
        with torch.autocast(instances.device.type, enabled=False):
            logits: Tensor = self.decode(instances.float()).squeeze(-1)
        return logits

    def sequence(self, vectors: Tensor, times: Tensor, real: Tensor, unit: int = 1) -> Tensor:
        """Rows after the transformer of whole sequences: each row reads the newest strictly before its time unit.

        Args:
            vectors: Instances of U users in time order; (U, T, E).
            times: When each was served, seconds; (U, T) int64.
            real: False in the padding, wherever it lies; (U, T) bool.
            unit: Seconds of a time unit.

        Returns:
            (U, T, E); anything in the padding. In temporal order, `vectors`.
        """
        if self.reader is None:
            return vectors
        moments = times // unit * unit
        before = real[:, None, :] & (times[:, None, :] < moments[:, :, None])
        newest = before.sum(dim=2, keepdim=True) - before.cumsum(dim=2) < self.config.window - 1
        itself = torch.eye(times.shape[1], dtype=torch.bool, device=times.device)
        gaps = (times[:, :, None] - times[:, None, :]).clamp(min=0)
        return self.reader.tokens(vectors, self.reader.bias(gaps, (before & newest) | itself))[0]

    def score_users(
        self,
        history: History,
        candidates: Tensor,
        mask: Tensor,
        users: Tensor,
        times: Tensor,
        past: Instances | None = None,
        unit: int = 1,
        context: Tensor | None = None,
        logged: Tensor | None = None,
    ) -> Tensor:
        """Logits of a batch that holds whole users, every instance of the batch with a gradient (user order).

        Args:
            history: Of R requests, in any order.
            candidates: (R, C) items.
            mask: True at real candidates; (R, C) bool.
            users: User of each request; (R,) int64.
            times: Time of each request, seconds; (R,) int64.
            past: Stored instances of each distinct user before the first of these requests, users rising; no gradient
                reaches them.
            unit: Seconds of a time unit.
            context: Of the candidates, where the model reads it; (R, C, F).
            logged: Columns of the exposures; (R, C, G).

        Returns:
            (R, C); zeros at candidates that are not real.
        """
        rows = self.instance(super().encode(history), candidates, context, logged)[mask]  # (N, E)
        request = torch.arange(len(mask), device=mask.device)[:, None].expand_as(mask)[mask]
        user, time = torch.unique(users[request], return_inverse=True)[1], times[request]
        order = torch.argsort(time, stable=True)
        order = order[torch.argsort(user[order], stable=True)]
        counts = torch.bincount(user)
        starts = counts.cumsum(0) - counts
        place = torch.arange(len(order), device=order.device) - starts[user[order]]
        shape = (len(counts), int(counts.max()))
        x = rows.new_zeros(*shape, rows.shape[1]).index_put((user[order], place), rows[order])
        when = time.new_zeros(shape).index_put((user[order], place), time[order])
        real = torch.zeros(shape, dtype=torch.bool, device=mask.device)
        real[user[order], place] = True
        if past is not None:
            x = torch.cat([past.vectors.detach().to(x.dtype), x], dim=1)
            when = torch.cat([when[:, :1] - past.ages, when], dim=1)
            real = torch.cat([past.mask, real], dim=1)
            place = place + past.mask.shape[1]
        outputs = self.sequence(x, when, real, unit)[user[order], place]
        logits = outputs.new_zeros(mask.shape, dtype=torch.float32)
        back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        logits[mask] = self.logits(outputs[back])
        return logits
