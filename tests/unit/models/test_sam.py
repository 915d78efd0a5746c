"""SAM: the factorized gates against the paper's form, the memory's steps, and the variants."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kit import BACKBONE, ask, make_history, make_items
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from hisac_lab.models.contract import UserState
from hisac_lab.models.sam import DualQueryAttention, SAMBranch, SAMConfig

LENGTHS = [9, 4, 0]


def _branch(**changes: Any) -> SAMBranch:
    torch.manual_seed(0)
    return SAMBranch(SAMConfig.model_validate({"positions": 12} | changes), BACKBONE, make_items()).eval()


def _setting(branch: SAMBranch, candidates: int = 2) -> tuple[UserState, Tensor]:
    torch.manual_seed(1)
    history = make_history(LENGTHS)
    return UserState(branch.encode(history, torch.randn(3, 9, BACKBONE.dim))), torch.randn(3, candidates, BACKBONE.dim)


def _plain_gates(unit: DualQueryAttention, v: Tensor, q: Tensor, events: Tensor, mask: Tensor) -> Tensor:
    """The paper's form: one layer on the (R, C, L, 4D) tensor."""
    shape = (*v.shape[:2], events.shape[1], v.shape[2])
    v, q, e = (part.expand(shape) for part in (v[:, :, None], q[:, :, None], events[:, None]))
    features = torch.cat([v - e, v * e, q - e, q * e], dim=-1)
    layer = torch.cat(list(unit.weight), dim=1)
    hidden = torch.sigmoid(features @ layer.T + unit.bias)
    return torch.sigmoid(hidden @ unit.out + unit.out_bias) * mask[:, None, :]


def test_gates_are_factorized() -> None:
    unit, mask = DualQueryAttention(6, 5), make_history(LENGTHS).mask
    v, q, events = torch.randn(3, 2, 6), torch.randn(3, 2, 6), torch.randn(3, 9, 6)
    expected = _plain_gates(unit, v, q, events, mask)
    torch.testing.assert_close(unit(v, q, events, mask), expected, atol=1e-6, rtol=1e-5)
    assert ((expected > 0) == mask[:, None]).all()


class _Largest(TorchDispatchMode):
    """Numbers in the largest tensor any operation makes."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for part in out if isinstance(out, tuple | list) else [out]:
            if isinstance(part, Tensor):
                self.size = max(self.size, part.numel())
        return out


def test_the_wide_tensor_is_never_built() -> None:
    unit, length = DualQueryAttention(16, 4), 500
    v, q, events = torch.randn(2, 3, 16), torch.randn(2, 3, 16), torch.randn(2, length, 16)
    mask = torch.ones(2, length, dtype=torch.bool)
    with _Largest() as largest:
        unit(v, q, events, mask)
    assert largest.size == max(2 * 3 * length * 4, events.numel())
    with _Largest() as plain:
        _plain_gates(unit, v, q, events, mask)
    assert plain.size >= 2 * 3 * length * 64


def test_the_read_vector_is_a_plain_sum() -> None:
    """Twice the same history reads twice as much; beyond `scale_from` events the square root of that."""
    read = {}
    for scale in (None, 1, 9, 12):
        branch = _branch(passes=1, scale_from=scale)
        seen: list[Tensor] = []
        assert branch.memory is not None
        branch.memory.register_forward_hook(lambda module, args, out, seen=seen: seen.append(args[0]))
        state, v = _setting(branch)
        twice = UserState({name: part.repeat(1, 2, *[1] * (part.dim() - 2)) for name, part in state.tensors.items()})
        branch.read(state, v)
        branch.read(twice, v)
        read[scale] = seen
    plain, double = read[None]
    torch.testing.assert_close(double, 2 * plain)
    torch.testing.assert_close(read[1][0][:2], plain[:2] / 3)  # nine events
    torch.testing.assert_close(read[1][1], 2**0.5 * read[1][0])
    torch.testing.assert_close(read[9][0], plain)
    torch.testing.assert_close(read[9][1][:2], 2**0.5 * plain[:2])
    torch.testing.assert_close(read[12][1][:2], 2 * plain[:2] / 1.5**0.5)
    assert not plain[4:].any()


def test_the_memory_is_updated_by_one_gru() -> None:
    """The paper's pseudo-code, with the plain gates."""
    branch = _branch()
    assert branch.memory is not None
    state, v = _setting(branch)
    memory = query = v
    gates, memories = branch.read(state, v)
    for step, unit in enumerate(branch.passes):
        assert isinstance(unit, DualQueryAttention)
        gate = _plain_gates(unit, v, query, state["long_events"], state["long_mask"])
        total = torch.einsum("rcl,rld->rcd", gate, state["long_events"])
        memory = torch.stack([branch.memory(total[row], memory[row]) for row in range(3)])
        query = memory
        torch.testing.assert_close(gates[step], gate, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(memories[step], memory, atol=1e-5, rtol=1e-4)


def test_memories_agree_in_the_first_pass_only() -> None:
    """The released code writes the new memory into another name, so that every pass asks with the candidate."""
    found = {}
    for memory in ("iterating", "fixed"):
        branch = _branch(memory=memory)
        found[memory] = branch.read(*_setting(branch))
    for iterating, fixed in zip(found["iterating"], found["fixed"], strict=True):
        torch.testing.assert_close(iterating[0], fixed[0])
        assert not torch.allclose(iterating[1], fixed[1])
        assert not torch.allclose(iterating[2], fixed[2])


def test_enhancement_refines_the_last_memory() -> None:
    branch = _branch(enhance=True)
    state, v = _setting(branch)
    gates, memories = branch.read(state, v)
    refined = memories[-1].flatten(0, 1)
    for step in branch.steps:
        refined = branch.refine(torch.cat([step(refined), v.flatten(0, 1)], dim=1), refined)
    (layer,) = branch.places
    assert isinstance(layer, nn.Linear)
    by_place = torch.relu(gates[-1] @ layer.weight[:, -9:].T + layer.bias)
    expected = branch.merge(torch.cat([by_place, refined.view_as(v)], dim=-1))
    torch.testing.assert_close(branch.attend(state, ask(v)), expected, atol=1e-5, rtol=1e-4)
    assert branch.norm is None
    assert len(branch.steps) == 3


@pytest.mark.parametrize("positions", [4, 9, 30])
def test_weight_features_look_at_places_from_the_newest(positions: int) -> None:
    """A place keeps its weight however long the history is padded; beyond `positions` gates do not count."""
    branch = _branch(positions=positions)
    (layer, *_), size = branch.places, min(positions, 9)
    assert isinstance(layer, nn.Linear)
    gates = torch.rand(1, 1, 9)
    found = branch._by_place(layer, gates)
    expected = layer.bias.clone()
    for back in range(1, size + 1):
        expected = expected + layer.weight[:, -back] * gates[0, 0, -back]
    torch.testing.assert_close(found[0, 0], torch.relu(expected))
    torch.testing.assert_close(branch._by_place(layer, nn.functional.pad(gates, (5, 0))), found)


@pytest.mark.parametrize(("norm", "kind"), [("batch", nn.BatchNorm1d), ("layer", nn.LayerNorm), ("none", type(None))])
def test_two_and_three_passes_are_normalized(norm: str, kind: type) -> None:
    for passes in (2, 3):
        branch = _branch(passes=passes, norm=norm)
        assert type(branch.norm) is kind
        assert branch.merge.in_features == passes * (16 + BACKBONE.dim)
    state, v = _setting(branch, candidates=40)
    branch.train()
    seen: list[Tensor] = []
    branch.merge.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    branch.attend(state, ask(v))
    axes = {"batch": (0, 1), "layer": (2,)}.get(norm)
    if axes is not None:
        assert seen[0].mean(dim=axes).abs().max() < 1e-4
    one = UserState({name: part[:1] for name, part in state.tensors.items()})
    assert torch.isfinite(branch.attend(one, ask(v[:1, :1]))).all()  # one row has no spread to normalize by


def test_gates_start_small() -> None:
    branch = _branch()
    state, v = _setting(branch)
    gates, _ = branch.read(state, v)
    assert 0 < gates[0][0].mean().item() < 0.15


def test_sam_stands_in_the_frame() -> None:
    for changes in ({}, {"enhance": True}, {"weight_features": 0, "norm": "none"}):
        branch = _branch(**changes)
        state, v = _setting(branch)
        assert branch.attend(state, ask(v)).shape == v.shape
    assert not branch.ordered


def test_gates_of_the_memory_start_with_their_bias() -> None:
    """A cell without input and memory opens both gates by the bias alone."""
    for bias in (1.0, 0.0):
        branch = _branch(enhance=True, gate_bias=bias)
        for cell in (branch.memory, branch.refine):
            assert cell is not None
            update = (cell.bias_ih + cell.bias_hh).chunk(3)[:2]
            for gate in update:
                torch.testing.assert_close(torch.sigmoid(gate), torch.full_like(gate, 0.7310586 if bias else 0.5))


def test_the_output_goes_straight_into_the_tower() -> None:
    """The released module: what the tower gets is the normalized output, without a layer or a gate between."""
    branch = _branch(memory="fixed", into="tower", norm="none")
    state, v = _setting(branch)
    gates, memories = branch.read(state, v)
    by_place = [
        torch.relu(gate @ layer.weight[:, -9:].T + layer.bias)
        for gate, layer in zip(gates, branch.places, strict=True)
        if isinstance(layer, nn.Linear)
    ]
    torch.testing.assert_close(branch.extra(state, ask(v)), torch.cat([*by_place, *memories], dim=-1))
    assert not branch.answers
    assert branch.extra_width == 3 * (16 + BACKBONE.dim)


def test_without_a_memory_it_is_the_authors_din() -> None:
    """Difference and product alone, 8 sigmoid units, sigmoid weights, a plain sum; features of the weights."""
    branch = _branch(memory="none", passes=1, norm="none", into="tower")
    state, v = _setting(branch)
    (unit,), (layer,) = branch.passes, branch.places
    assert isinstance(unit, DualQueryAttention)
    assert isinstance(layer, nn.Linear)
    e, mask = state["long_events"][:, None], state["long_mask"][:, None]
    features = torch.cat([v[:, :, None] - e, v[:, :, None] * e], dim=-1)
    hidden = torch.sigmoid(features @ torch.cat(list(unit.weight), dim=1).T + unit.bias)
    weights = torch.sigmoid(hidden @ unit.out + unit.out_bias) * mask
    assert hidden.shape[-1] == 8
    by_place = torch.relu(weights @ layer.weight[:, -9:].T + layer.bias)
    expected = torch.cat([by_place, weights @ state["long_events"]], dim=-1)
    torch.testing.assert_close(branch.extra(state, ask(v)), expected, atol=1e-5, rtol=1e-4)
    assert not [name for name, _ in branch.named_parameters() if name.startswith("memory")]


def test_what_has_no_memory_reads_once() -> None:
    for changes in ({"passes": 2}, {"passes": 1, "enhance": True}):
        with pytest.raises(ValueError, match="memory: none reads the history once"):
            SAMConfig.model_validate({"memory": "none"} | changes)
