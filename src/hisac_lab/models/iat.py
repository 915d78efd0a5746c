"""IAT: instance-as-token compression (Li et al., 2026, arXiv 2604.08933), stage two.

The source model (`instance_source`) squeezes each training instance through a narrow vector; the vector is stored. The
downstream model reads a user's stored vectors as a sequence. No official code or full text was at hand; sources and
differences are in docs/papers/iat.md.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from hisac_lab.base.errors import UserError
from hisac_lab.config.model import BackboneConfig, ModelConfig
from hisac_lab.events.instances import InstanceQuery
from hisac_lab.models.backbone import ItemEncoder
from hisac_lab.models.contract import Candidates, CardLine, Cost, History, ItemSpace, LongBranch, UserState
from hisac_lab.models.features import UserFeatures
from hisac_lab.models.instances import LABELS
from hisac_lab.models.stack import Stack
from hisac_lab.models.tables import Embedding
from hisac_lab.ops.buckets import AGE_BUCKETS, age_bucket


class IATConfig(ModelConfig):
    """IAT, stage two: reads the user's stored instances."""

    needs_instances: ClassVar[bool] = True

    kind: Literal["iat"] = Field("iat", description="IAT's downstream model; needs `instances.order`")
    tokens: Literal["instances", "handmade"] = Field(
        "instances", description="handmade: item, label and time of the same instances (control)"
    )
    stored: Literal["before", "after"] = Field(
        "before", description="row before the source's transformer, or after it (control)"
    )
    instances: Literal["own", "shuffled"] = Field(
        "own", description="shuffled: vectors change places among all stored instances (control)"
    )
    order: Literal["temporal", "user"] | None = Field(
        None,
        description="which store it reads; null: the one there is, that of user order where there are both",
    )
    labels: bool = Field(True, description="tokens know the label where it had arrived; false: an ablation")
    dim: int = Field(64, ge=1, description="width of a stored instance: instances.dim")
    window: int = Field(256, ge=1, description="instances it reads, the newest")
    layers: int = Field(2, ge=1, description="blocks of the transformer")
    heads: int = Field(4, ge=1, description="its heads")


class IATBranch(LongBranch):
    """Stage two: a transformer over the user's stored instances, read by the whole current request."""

    Config = IATConfig
    sides = frozenset({"instances"})
    examples: ClassVar = {
        "iat": IATConfig(dim=8, window=4, heads=2),
        "iat-handmade": IATConfig(tokens="handmade", labels=False, dim=8, window=4, layers=1),
        "iat-after-shuffled": IATConfig(stored="after", instances="shuffled", dim=8, window=4, layers=1),
    }
    golden: ClassVar = {
        "iat": IATConfig(
            tokens="instances",
            stored="before",
            instances="own",
            order=None,
            labels=True,
            dim=16,
            window=8,
            layers=2,
            heads=4,
        ),
    }
    card = (
        CardLine(
            "tokens are an adapted instance beside its side information",
            "stated",
            "docs/papers/iat.md#downstream-model",
            "test_tokens_know_instance_label_and_age",
        ),
        CardLine(
            "the side information is label and age",
            "inferred",
            "docs/papers/iat.md#downstream-model",
            "test_tokens_know_instance_label_and_age",
        ),
        CardLine(
            "a store maps a user to keys and side information sorted by time, and keys to vectors",
            "stated",
            "docs/papers/iat.md#storage",
            "test_fetch_is_strictly_before_the_request",
        ),
        CardLine(
            "the newest T instances from before the request",
            "stated",
            "docs/papers/iat.md#downstream-model",
            "test_fetch_is_strictly_before_the_request",
        ),
        CardLine(
            "before means strictly before the request's time unit",
            "inferred",
            "docs/papers/iat.md#leak-rules",
            "test_fetch_is_strictly_before_the_request",
        ),
        CardLine(
            "a label is visible only when it had arrived",
            "inferred",
            "docs/papers/iat.md#leak-rules",
            "test_a_label_is_visible_only_after_it_arrived",
        ),
        CardLine(
            "the query is made of the whole current request: candidate, short answer, context features",
            "stated",
            "docs/papers/iat.md#downstream-model",
            "test_the_query_knows_the_request",
        ),
        CardLine(
            "tokens do not see the query, so they are computed once per request",
            "inferred",
            "docs/papers/iat.md#downstream-model",
            "test_a_candidate_reads_like_the_next_event",
        ),
        CardLine(
            "the answer enters before the interaction, beside the short sequence",
            "stated",
            "docs/papers/iat.md#downstream-model",
            "test_scores_depend_on_the_candidate_and_on_the_history",
        ),
        CardLine(
            "users without instances get a learned answer",
            "inferred",
            "docs/papers/iat.md#downstream-model",
            "test_users_without_instances_get_the_learned_answer",
        ),
        CardLine(
            "stored instances are frozen",
            "stated",
            "docs/papers/iat.md#downstream-model",
            "test_stored_instances_get_no_gradient",
        ),
        CardLine(
            "temporal and user order side by side: two stores, and the model names its own (switch `order`)",
            "stated",
            "docs/papers/iat.md#compression-in-temporal-order",
            "test_each_model_reads_the_store_it_names",
        ),
        CardLine(
            "control: vectors change places among instances (switch `instances`)",
            "inferred",
            "docs/papers/iat.md#controls",
            "test_shuffled_instances_change_places_and_nothing_else",
        ),
        CardLine(
            "control: handmade tokens of the same instances (switch `tokens`)",
            "inferred",
            "docs/papers/iat.md#controls",
            "test_handmade_tokens_know_the_item_and_not_the_vector",
        ),
        CardLine(
            "RankMixer; a sequence of 512 behaviors in the same model; DIN and LONGER as readers",
            "left out",
            "docs/papers/iat.md#base-ranker",
        ),
    )

    def __init__(self, config: IATConfig, backbone: BackboneConfig, items: ItemSpace) -> None:
        super().__init__()
        self.config = config
        shuffled = config.instances == "shuffled"
        self.reads = InstanceQuery(config.window, config.dim, config.stored, shuffled, config.order)
        dim = config.dim
        handmade = config.tokens == "handmade"
        self.items = ItemEncoder(items, dim) if handmade else None
        self.adapt = nn.Identity() if handmade else nn.Linear(dim, dim)
        self.label = Embedding(LABELS, dim) if config.labels else None
        self.age = Embedding(AGE_BUCKETS, dim)
        for table in (self.age, *([] if self.label is None else [self.label])):
            nn.init.normal_(table.weight, std=0.02)
        self.token = nn.Linear(dim * (3 if config.labels else 2), dim)
        levels = items.feedback if backbone.feedback else None
        user = UserFeatures(backbone.features, items.context, levels).width
        self.query = nn.Linear(2 * backbone.dim + user, dim)
        self.stack = Stack(dim, config.heads, config.layers, config.window)
        self.none = nn.Parameter(torch.zeros(backbone.dim))
        self.merge = nn.Linear(dim, backbone.dim)

    def encode(self, history: History, events: Tensor) -> dict[str, Tensor]:
        """Keys and values of every block, (R, layers, 2, T, E), and which tokens are there.

        Raises:
            UserError: The history comes without instances.
        """
        if history.instances is None:
            raise UserError("model iat", "there are no stored instances", "fetch them from an instance store")
        past = history.instances.last(self.config.window)
        if self.items is not None:
            columns = [self.items(past.items)]
        else:
            columns = [torch.sigmoid(self.adapt(past.vectors.detach()))]
        columns += [] if self.label is None else [self.label(past.labels)]
        tokens = self.token(torch.cat([*columns, self.age(age_bucket(past.ages))], dim=-1))
        gaps = (past.ages[:, None, :] - past.ages[:, :, None]).abs()
        eye = torch.eye(past.mask.shape[1], dtype=torch.bool, device=past.mask.device)
        kept = self.stack.tokens(tokens, self.stack.bias(gaps, past.mask[:, None, :] | eye))[1]
        bias = self.stack.bias(past.ages[:, None], past.mask[:, None])
        return {"kept": kept, "bias": bias, "some": past.mask.any(dim=1, keepdim=True)}

    def attend(self, state: UserState, candidates: Candidates) -> Tensor:
        """(R, C, D)."""
        context = state["context"][:, None].expand(-1, candidates.items.shape[1], -1)
        query = self.query(torch.cat([candidates.vectors, candidates.short, context], dim=-1))
        answer = self.merge(self.stack.queries(query, state["kept"], state["bias"]))
        return torch.where(state["some"][:, None], answer, self.none.to(answer.dtype))

    def cost(self, history: History) -> Cost:
        """Quadratic in the instances once per request, linear in them per candidate."""
        assert history.instances is not None
        dim, backbone = self.config.dim, self.merge.out_features
        count = min(history.instances.mask.shape[1], self.config.window)
        tokens, query = self.stack.cost(count)
        adapt = count * dim * dim if self.items is None else self.items.cost(history.instances.last(count).items)
        state = 4 * count * (2 * self.config.layers * dim + self.config.heads) + 1
        return Cost(
            state,
            tokens + adapt + count * self.token.in_features * dim,
            0,
            query + self.query.in_features * dim + dim * backbone,
        )
