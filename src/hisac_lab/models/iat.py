"""IAT: instance-as-token compression (Li et al., 2026, arXiv 2604.08933), both stages.

The source model squeezes each training instance through a narrow vector; the vector is stored. The downstream model
reads a user's stored vectors as a sequence. No official code or full text was at hand; sources and differences are in
docs/papers/iat.md.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from hisac_lab.base.errors import UserError
from hisac_lab.config.model import FrameConfig, IATConfig, IATSourceConfig
from hisac_lab.events.instances import InstanceQuery
from hisac_lab.models.contract import Candidates, CardLine, Cost, History, ItemSpace, LongBranch, UserState
from hisac_lab.models.frame import ItemEncoder, Ranker, context_width
from hisac_lab.models.instances import LABELS, Instances
from hisac_lab.models.stack import Stack
from hisac_lab.models.tables import Embedding
from hisac_lab.ops.buckets import AGE_BUCKETS, age_bucket


class InstanceSource(Ranker):
    """Stage one: a ranker whose last hidden layer passes through a vector of width E, the instance.

    Order "temporal" reads the logit off each instance alone. Order "user" lets a transformer read the user's earlier
    instances first; they come from the store, so no gradient reaches them.

    Args:
        config: Order and widths.
        frame: Widths shared by all models.
        items: Frozen knowledge of the items.
    """

    card = (
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
            "streaming with stored instances scores like a batch grouped by user, at a time unit of one second",
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
            "user order trains by stretches of time: whole users inside one, stored instances before it",
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
            "an instance per logged sample; the store has the samples that `prepare.keep` draws",
            "left out",
            "docs/papers/iat.md#where-our-reconstruction-differs",
        ),
    )

    def __init__(self, config: IATSourceConfig, frame: FrameConfig, items: ItemSpace) -> None:
        super().__init__(frame, items, None)
        self.config = config
        self.tower = nn.Sequential(*list(self.tower)[:-1])
        self.squeeze = nn.Linear(frame.tower[-1], config.dim)
        widths = [config.dim, *config.decoder]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Linear(before, after), nn.GELU()]
        self.decode = nn.Sequential(*layers, nn.Linear(widths[-1], 1))
        wanted = config.order == "user"
        self.reader = Stack(config.dim, config.heads, config.layers, config.window) if wanted else None

    def encode(self, history: History) -> UserState:
        """The ranker's state; in user order also keys and values of the stored instances."""
        parts = super().encode(history).parts
        if self.reader is None:
            return UserState(parts)
        past = history.instances
        if past is None:
            past = Instances.none(len(history.items), self.config.dim, history.items.device)
        past = past.last(self.config.window - 1)
        before = past.mask[:, None, :] & (past.ages[:, None, :] > past.ages[:, :, None])
        own = torch.eye(past.mask.shape[1], dtype=torch.bool, device=past.mask.device)
        bias = self.reader.bias(past.ages[:, None, :] - past.ages[:, :, None], before | own)
        kept = self.reader.tokens(past.vectors.detach(), bias)[1]
        return UserState(parts | {"kept": kept, "bias": self.reader.bias(past.ages[:, None], past.mask[:, None])})

    def instance(self, state: UserState, candidates: Tensor) -> Tensor:
        """What is stored of each candidate if it is served: (R, C) items to (R, C, E), each number within -1..1."""
        hidden = self.squeeze(self.tower(self.features(state, candidates)))
        return torch.tanh(nn.functional.layer_norm(hidden, hidden.shape[-1:]))

    def after(self, state: UserState, instances: Tensor) -> Tensor:
        """The row after the transformer, which a control stores instead; (R, C, E). In temporal order, the same row."""
        return instances if self.reader is None else self.reader.queries(instances, state["kept"], state["bias"])

    def score(self, state: UserState, candidates: Tensor) -> Tensor:
        """Per candidate: (R, C) items to (R, C) logits."""
        logits: Tensor = self.decode(self.after(state, self.instance(state, candidates))).squeeze(-1)
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
        own = torch.eye(times.shape[1], dtype=torch.bool, device=times.device)
        gaps = (times[:, :, None] - times[:, None, :]).clamp(min=0)
        return self.reader.tokens(vectors, self.reader.bias(gaps, (before & newest) | own))[0]

    def score_users(
        self,
        history: History,
        candidates: Tensor,
        mask: Tensor,
        users: Tensor,
        times: Tensor,
        past: Instances | None = None,
        unit: int = 1,
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

        Returns:
            (R, C); zeros at candidates that are not real.
        """
        rows = self.instance(super().encode(history), candidates)[mask]  # (N, E)
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
        logits = outputs.new_zeros(mask.shape)
        back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        logits[mask] = self.decode(outputs[back]).squeeze(-1)
        return logits


class IATBranch(LongBranch):
    """Stage two: a transformer over the user's stored instances, read by the whole current request."""

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
            "test_users_without_instances_get_the_learnt_answer",
        ),
        CardLine(
            "stored instances are frozen",
            "stated",
            "docs/papers/iat.md#downstream-model",
            "test_stored_instances_get_no_gradient",
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

    def __init__(self, config: IATConfig, frame: FrameConfig, items: ItemSpace) -> None:
        super().__init__()
        self.config = config
        self.reads = InstanceQuery(config.window, config.dim, config.stored, config.instances == "shuffled")
        dim = config.dim
        handmade = config.tokens == "handmade"
        self.items = ItemEncoder(items, dim) if handmade else None
        self.adapt = nn.Identity() if handmade else nn.Linear(dim, dim)
        self.label = Embedding(LABELS, dim) if config.labels else None
        self.age = Embedding(AGE_BUCKETS, dim)
        for table in (self.age, *([] if self.label is None else [self.label])):
            nn.init.normal_(table.weight, std=0.02)
        self.token = nn.Linear(dim * (3 if config.labels else 2), dim)
        self.query = nn.Linear(2 * frame.dim + context_width(frame.features), dim)
        self.stack = Stack(dim, config.heads, config.layers, config.window)
        self.none = nn.Parameter(torch.zeros(frame.dim))
        self.merge = nn.Linear(dim, frame.dim)

    def encode(self, history: History, events: Tensor) -> dict[str, Tensor]:
        """Keys and values of every block, (R, layers, 2, T, E), and which tokens are there.

        Raises:
            UserError: The history comes without instances.
        """
        if history.instances is None:
            raise UserError("model iat", "there are no stored instances", "fetch them from an instance store")
        past = history.instances.last(self.config.window)
        if self.items is not None:
            parts = [self.items(past.items)]
        else:
            parts = [torch.sigmoid(self.adapt(past.vectors.detach()))]
        parts += [] if self.label is None else [self.label(past.labels)]
        tokens = self.token(torch.cat([*parts, self.age(age_bucket(past.ages))], dim=-1))
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
        dim, frame = self.config.dim, self.merge.out_features
        count = min(history.instances.mask.shape[1], self.config.window)
        tokens, query = self.stack.cost(count)
        adapt = count * dim * dim if self.items is None else self.items.cost(history.instances.last(count).items)
        state = 4 * count * (2 * self.config.layers * dim + self.config.heads) + 1
        return Cost(
            state,
            tokens + adapt + count * self.token.in_features * dim,
            0,
            query + self.query.in_features * dim + dim * frame,
        )
