"""What every model must do, whatever its settings: `encode` once per request, `score` per candidate."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hisac_lab.config.model import ModelConfig
from hisac_lab.events.batches import Requests
from hisac_lab.inference.loader import Loader
from hisac_lab.models.backbone import Ranker
from hisac_lab.models.catalog import KINDS, build
from hisac_lab.models.contract import History, ItemSpace, LongBranch, UserState
from hisac_lab.models.tabular import TabularRanker
from hisac_lab.ops.select import gather_events
from hisac_lab.testing.samples import (
    BACKBONE,
    CPU,
    ITEMS,
    WITHOUT_ID,
    as_backbone,
    asked,
    lively,
    make_history,
    make_items,
    make_requests,
    padded,
    pick,
)

SPACE = make_items()
LENGTHS = [14, 3, 0, 7, 1]
CANDIDATES = torch.randint(0, ITEMS, (len(LENGTHS), 6), generator=torch.Generator().manual_seed(5))
CLOSE: dict[str, Any] = {"atol": 1e-5, "rtol": 1e-5}
Test = TypeVar("Test", bound=Callable[..., None])


def suits(fits: Callable[[ModelConfig, LongBranch | None], bool]) -> Callable[[Test], Test]:
    """Marks a law that holds for some models only, told by their settings and their long branch."""

    def mark(test: Test) -> Test:
        test.suits = fits  # type: ignore[attr-defined]
        return test

    return mark


def _represents(config: ModelConfig, branch: LongBranch | None) -> bool:
    """Whether the model learns representations of items, as all do but those that read columns of numbers."""
    return not issubclass(KINDS[config.kind], TabularRanker)


def _drawn(config: ModelConfig, branch: LongBranch | None) -> bool:
    """The same, of those whose first weights are drawn."""
    return config.learns and _represents(config, branch)


def _long(model: Ranker) -> LongBranch:
    assert model.long is not None
    return model.long


class ModelContract:
    """The laws; a subclass whose name begins with Test says which models they are for.

    Attributes:
        models: Small settings by name, as a model's own `examples`.
    """

    models: ClassVar[Mapping[str, ModelConfig]]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Runs each law with every model that it is for."""
        if "name" in metafunc.fixturenames:
            fits = getattr(metafunc.function, "suits", lambda config, branch: True)
            built = {name: build(config, BACKBONE, SPACE, 0).long for name, config in self.models.items()}
            metafunc.parametrize("name", [name for name, branch in built.items() if fits(self.models[name], branch)])

    @pytest.fixture
    def model(self, name: str) -> Ranker:
        """A model of this configuration."""
        return lively(self.models[name], SPACE)

    @pytest.fixture
    def history(self) -> History:
        """Five histories: long, short, empty, middling, one event; some events have no semantic ID."""
        history = make_history(LENGTHS)
        history.items[0, 2], history.items[3, -2] = WITHOUT_ID
        return history

    @pytest.fixture
    def space(self) -> ItemSpace:
        """The items of `requests`."""
        return SPACE

    @pytest.fixture
    def requests(self) -> Requests:
        """Requests of users in a log."""
        return make_requests()

    @pytest.mark.parametrize("more", [1, 9])
    def test_padding_changes_nothing(self, model: Ranker, history: History, more: int) -> None:
        torch.testing.assert_close(model(padded(history, more), CANDIDATES), model(history, CANDIDATES), **CLOSE)

    def test_what_stands_in_the_padding_changes_nothing(self, model: Ranker, history: History) -> None:
        past = history.instances
        assert past is not None
        dirty = dataclasses.replace(
            history,
            items=torch.where(history.mask, history.items, 11),
            ages=torch.where(history.mask, history.ages, 999),
            feedback=torch.where(history.mask, history.feedback, 1),
            instances=dataclasses.replace(
                past,
                vectors=torch.where(past.mask[..., None], past.vectors, 0.7),
                items=torch.where(past.mask, past.items, 11),
                ages=torch.where(past.mask, past.ages, 999),
                labels=torch.where(past.mask, past.labels, 1),
            ),
        )
        torch.testing.assert_close(model(dirty, CANDIDATES), model(history, CANDIDATES), **CLOSE)

    def test_a_request_alone_scores_as_among_others(self, model: Ranker, history: History) -> None:
        together = model(history, CANDIDATES)
        for row in range(len(LENGTHS)):
            alone = model(pick(history, [row]), CANDIDATES[[row]])
            torch.testing.assert_close(alone, together[[row]], **CLOSE)

    def test_the_order_of_requests_is_the_order_of_scores(self, model: Ranker, history: History) -> None:
        order = [3, 0, 4, 2, 1]
        shuffled = model(pick(history, order), CANDIDATES[order])
        torch.testing.assert_close(shuffled, model(history, CANDIDATES)[order], **CLOSE)

    def test_candidates_do_not_see_each_other(self, model: Ranker, history: History) -> None:
        together = model(history, CANDIDATES)
        for column in range(CANDIDATES.shape[1]):
            torch.testing.assert_close(model(history, CANDIDATES[:, [column]]), together[:, [column]], **CLOSE)
        many = CANDIDATES.repeat(1, 30)
        torch.testing.assert_close(model(history, many), together.repeat(1, 30), **CLOSE)

    @suits(_represents)
    def test_scores_depend_on_the_candidate_and_on_the_history(self, model: Ranker, history: History) -> None:
        scores = model(history, torch.arange(20).expand(len(LENGTHS), -1))
        assert (scores.std(dim=1) > 1e-4).all()
        assert (scores.std(dim=0) > 1e-4).all()

    @suits(_represents)
    def test_scores_depend_on_the_feedback_of_events(self, model: Ranker, history: History) -> None:
        levels = 1 + history.feedback % 2
        scores = model(dataclasses.replace(history, feedback=levels), CANDIDATES)
        moved = (scores - model(dataclasses.replace(history, feedback=3 - levels), CANDIDATES)).abs().amax(dim=1)
        assert (moved[history.mask.any(dim=1)] > 1e-4).all()

    @suits(_drawn)
    def test_unknown_feedback_scores_as_in_a_model_that_is_told_none(self, name: str, history: History) -> None:
        told, untold = (
            build(self.models[name], BACKBONE.model_copy(update={"feedback": told}), SPACE, 0).eval()
            for told in (True, False)
        )
        unknown = dataclasses.replace(history, feedback=torch.zeros_like(history.items))
        assert torch.equal(told(unknown, CANDIDATES), untold(history, CANDIDATES))
        assert set(told.state_dict()) - set(untold.state_dict()) == {"feedback.weight"}

    def test_an_empty_history_gives_finite_scores(self, model: Ranker, history: History) -> None:
        assert torch.isfinite(model(history, CANDIDATES)).all()
        empty = make_history([0, 0])
        assert torch.isfinite(model(empty, CANDIDATES[:2])).all()
        unknown = make_history([4, 4])
        unknown.items[:] = WITHOUT_ID[0]
        assert torch.isfinite(model(unknown, CANDIDATES[:2])).all()

    @suits(_represents)
    def test_an_empty_history_gives_finite_gradients(self, model: Ranker) -> None:
        model(make_history([0, 2]), CANDIDATES[:2]).sum().backward()
        assert all(torch.isfinite(part.grad).all() for part in model.parameters() if part.grad is not None)

    def test_encode_then_score_is_forward(self, model: Ranker, history: History) -> None:
        state = model.encode(history)
        assert torch.equal(model.score(state, CANDIDATES), model(history, CANDIDATES))

    def test_encode_knows_no_candidate_and_score_no_history(self, model: Ranker) -> None:
        assert list(inspect.signature(model.encode).parameters) == ["history"]
        assert list(inspect.signature(model.score).parameters) == ["state", "candidates", "context"]

    def test_side_inputs_that_are_not_named_are_not_read(self, model: Ranker, history: History) -> None:
        assert (model.reads is not None) == ("instances" in model.sides)
        without: dict[str, Any] = {name: None for name in ("time", "instances") if name not in model.sides}
        assert torch.equal(model(dataclasses.replace(history, **without), CANDIDATES), model(history, CANDIDATES))

    def test_a_state_has_one_row_per_request_and_depends_on_it_alone(self, model: Ranker, history: History) -> None:
        state = model.encode(history)
        assert all(len(part) == len(LENGTHS) for part in state.tensors.values())
        first = {name: part[[1]] for name, part in state.tensors.items()}
        torch.testing.assert_close(
            model.score(dataclasses.replace(state, tensors=first), CANDIDATES[[1]]),
            model(history, CANDIDATES)[[1]],
            **CLOSE,
        )
        assert state.bytes == sum(part.nbytes for part in state.tensors.values())

    def test_agents_counted_beforehand_score_like_agents_counted_now(self, model: Ranker, history: History) -> None:
        agents = model.agents(history)
        assert (agents is not None) == ("agents" in model.sides)
        if agents is None:
            return
        beforehand = dataclasses.replace(history, agents=agents)
        assert torch.equal(model(beforehand, CANDIDATES), model(history, CANDIDATES))

    @suits(_represents)
    def test_gradients_reach_every_parameter_and_no_buffer(self, model: Ranker, history: History) -> None:
        wide = make_history([40] * 5, seed=1)
        assert wide.instances is not None
        wide.instances.vectors.requires_grad_()
        losses = model(wide, CANDIDATES).square().mean() + model(history, CANDIDATES).square().mean()
        losses.backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
        assert wide.instances.vectors.grad is None
        assert not any(part.requires_grad for part in model.buffers())
        assert len(list(model.buffers())) >= 2

    @suits(_represents)
    def test_training_leaves_what_is_frozen_as_it_is(self, model: Ranker, history: History) -> None:
        model.train()
        frozen = {name: part.clone() for name, part in model.named_buffers()}
        learned = {name: part.clone() for name, part in model.named_parameters()}
        optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
        for seed in range(2):
            optimizer.zero_grad()
            model(make_history([40, 40, 30, 20, 0], seed=seed), CANDIDATES).square().mean().backward()
            optimizer.step()
        for name, buffer in model.named_buffers():
            moves = "running" in name or "batches_tracked" in name  # statistics of batches
            assert moves or torch.equal(buffer, frozen[name]), name
        assert all(not torch.equal(part, learned[name]) for name, part in model.named_parameters())

    @suits(lambda config, branch: branch is not None)
    def test_the_order_of_events_matters_only_where_it_is_declared(self, model: Ranker) -> None:
        """Events change places together with their ages: only places tell the histories apart."""
        branch = _long(model)
        history = make_history([40, 35])
        history = dataclasses.replace(history, agents=branch.agents(history))
        state = model.encode(history)
        answers = branch.attend(state, asked(model, state, CANDIDATES[:2]))
        moved = 0.0
        for seed in range(3):
            order = torch.stack([torch.randperm(40, generator=torch.Generator().manual_seed(seed))] * 2)
            order[1] = torch.cat([torch.arange(5), order[1][order[1] >= 5]])  # padding stays in front
            mixed = dataclasses.replace(
                history, **{name: getattr(history, name).gather(1, order) for name in ("items", "ages", "feedback")}
            )
            other = as_backbone(model).embed(mixed.items, mixed.ages, mixed.feedback)
            tensors = {name: state[name] for name in ("short_events", "short_mask", "context")} | branch.encode(
                mixed, other
            )
            moved_answers = branch.attend(UserState(tensors), asked(model, state, CANDIDATES[:2]))
            moved = max(moved, ((moved_answers - answers).abs().max() / answers.abs().max().clamp(min=1)).item())
        assert moved > 1e-4 if branch.ordered else moved < 1e-5

    @suits(lambda config, branch: branch is not None)
    def test_features_for_the_tower_are_as_wide_as_declared(self, model: Ranker, history: History) -> None:
        branch, state = _long(model), model.encode(history)
        extra = branch.extra(state, asked(model, state, CANDIDATES))
        assert extra.shape == (*CANDIDATES.shape, branch.extra_width)
        assert torch.isfinite(extra).all()

    @suits(lambda config, branch: hasattr(branch, "retrieve"))
    def test_a_pad_is_never_retrieved_while_a_real_event_exists(self, model: Ranker, history: History) -> None:
        """Whatever the scores: pads lie at place 0, exactly where a candidate looks like them."""
        branch: Any = _long(model)
        hostile = padded(history, 3)
        hostile = dataclasses.replace(hostile, items=torch.where(hostile.mask, hostile.items, int(CANDIDATES[0, 0])))
        state = model.encode(hostile)
        same = CANDIDATES[0, 0].expand_as(CANDIDATES)
        places, valid = branch.retrieve(state, asked(model, state, same))
        rows = torch.arange(len(LENGTHS))[:, None, None].expand_as(places)
        assert hostile.mask[rows, places][valid].all()
        chosen = [
            sorted(row[here].tolist()) for row, here in zip(places.flatten(0, 1), valid.flatten(0, 1), strict=True)
        ]
        assert all(len(set(row)) == len(row) for row in chosen)
        if not getattr(branch, "hard", False):  # a hard search may find nothing, and then takes nothing
            top = places.shape[2]
            wanted = torch.tensor(LENGTHS).clamp(max=top)[:, None].expand(valid.shape[:2])
            assert torch.equal(valid.sum(dim=2), wanted)

    @suits(lambda config, branch: branch is not None and branch.lazy)
    def test_lazy_gradients_equal_eager_ones(
        self, model: Ranker, history: History, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Embedding chosen events again, or taking them from all events embedded with gradient, is one and the same."""
        branch = _long(model)
        both = []
        for lazy in (True, False):
            model.zero_grad()
            if not lazy:
                monkeypatch.setattr(branch, "lazy", False)
                module = sys.modules[type(branch).__module__]
                monkeypatch.setattr(
                    module, "chosen_events", lambda state, _, places: gather_events(state["long_events"], places)
                )
            logits = model(history, CANDIDATES)
            logits.square().sum().backward()
            gradients = {name: part.grad.clone() for name, part in model.named_parameters() if part.grad is not None}
            both.append((logits.detach(), gradients))
        torch.testing.assert_close(both[0][0], both[1][0], **CLOSE)
        for name, gradient in both[0][1].items():
            torch.testing.assert_close(gradient, both[1][1][name], atol=1e-4, rtol=1e-3)

    @suits(lambda config, branch: branch is not None)
    @pytest.mark.parametrize("length", [6, 30])
    def test_state_and_operations_are_those_declared(self, model: Ranker, length: int) -> None:
        branch = _long(model)
        history, candidates = make_history([length], seed=length), CANDIDATES[:1]
        with torch.inference_mode():
            state = model.encode(history)
            events = as_backbone(model).embed(history.items, history.ages, history.feedback)
            with FlopCounterMode(display=False) as counter:
                tensors = branch.encode(history, events)
            encode = counter.get_total_flops() // 2
            wanted = asked(model, state, candidates)
            with FlopCounterMode(display=False) as counter:
                if branch.answers:
                    branch.attend(state, wanted)
                if branch.extra_width:
                    branch.extra(state, wanted)
            attend = counter.get_total_flops() // 2
        declared = branch.cost(history)
        assert UserState(tensors).bytes == declared.state_bytes
        assert encode == declared.encode
        assert attend == declared.slate + CANDIDATES.shape[1] * declared.candidate

    @suits(_represents)
    def test_mixed_precision_scores_near_single_precision(self, model: Ranker, history: History) -> None:
        """bf16 for products, fp32 for weights: scores are near, and gradients reach what single precision reaches.

        Autocast keeps weights it has cast: one that a search used first, without gradient, must not stay cut off.
        """
        expected = model(history, CANDIDATES)
        expected.square().mean().backward()
        reached = {name for name, part in model.named_parameters() if part.grad is not None and part.grad.any()}
        model.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            scores = model(history, CANDIDATES)
        assert float((scores.float() - expected).abs().detach().median()) < 0.1 * float(expected.detach().std())
        scores.float().square().mean().backward()
        gradients = {name: part.grad for name, part in model.named_parameters() if part.grad is not None}
        assert all(torch.isfinite(gradient).all() for gradient in gradients.values())
        assert {name for name, gradient in gradients.items() if gradient.any()} == reached

    @suits(lambda config, branch: config.learns and not config.needs_instances)
    def test_a_target_is_never_in_its_own_history(self, name: str, space: ItemSpace, requests: Requests) -> None:
        """Events at or after a request's time may be anything: nothing of them reaches its scores."""
        index = np.flatnonzero(requests.lengths > 0)[:: max(1, len(requests) // 8)][:8]
        model = build(self.models[name], BACKBONE, space, 0).eval()
        candidates = torch.from_numpy(requests.candidates[index])
        chosen = requests.take(index)
        assert (chosen.histories().ages[chosen.histories().mask] > 0).all()
        batch = Loader.of(model, requests, CPU).batch(index)
        expected = model(batch.history, candidates, batch.context)
        for place in range(len(index)):
            later = chosen.store.times >= chosen.time[place]
            other = np.where(later, (chosen.store.items + 1) % len(space.semantic), chosen.store.items).astype(np.int32)
            given = chosen.store.feedback
            feedback = None if given is None else np.where(later, 1 + given % 2, given).astype(np.uint8)
            row = dataclasses.replace(requests, store=dataclasses.replace(chosen.store, items=other, feedback=feedback))
            batch = Loader.of(model, row, CPU).batch(index[[place]])
            logits = model(batch.history, candidates[[place]], batch.context)
            torch.testing.assert_close(logits, expected[[place]], **CLOSE)

    @suits(_drawn)
    def test_equal_seeds_give_equal_losses(self, name: str, history: History) -> None:
        """Three steps with dropout: the same from one seed, other numbers from another."""
        backbone = BACKBONE.model_copy(update={"dropout": 0.3})
        labels = (CANDIDATES % 3 == 0).float()

        def losses(seed: int) -> list[float]:
            model = build(self.models[name], backbone, SPACE, seed)
            optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
            losses_of_steps = []
            for _ in range(3):
                loss = nn.functional.binary_cross_entropy_with_logits(model(history, CANDIDATES), labels)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                losses_of_steps.append(float(loss.detach()))
            return losses_of_steps

        assert losses(0) == losses(0)
        assert losses(0) != losses(1)
