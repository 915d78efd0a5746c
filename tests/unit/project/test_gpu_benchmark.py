"""The GPU script, on a processor: forms of the routing are one function, and no mishap costs more than its own cell."""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
NAMES = ("gpu", "gpu_kernel", "gpu_lab", "gpu_memory", "gpu_models", "gpu_routes", "gpu_routing", "machine", "pages",
         "workload")  # fmt: skip


@pytest.fixture(scope="module")
def bench() -> Iterator[SimpleNamespace]:
    """The script's modules."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        patch.syspath_prepend(str(BENCHMARKS))
        for path in BENCHMARKS.glob("*.py"):
            patch.delitem(sys.modules, path.stem, raising=False)
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})


def by_distance(task: Any, over_agents: bool = False) -> torch.Tensor:
    """The routing by its definition, one user after another, events of the padding left out."""
    found = torch.zeros(*task.real.shape, task.values.shape[2])
    for user, (items, counts, real) in enumerate(zip(task.items, task.counts, task.real, strict=True)):
        own = counts > 0
        if not own.any() or not real.any():
            continue
        gaps = (task.agents[user][real][:, None] - task.table[items[own]][None]).double().square().sum(dim=2)
        scores = -gaps / task.tau
        if over_agents:
            mass = torch.softmax(scores, dim=0) * counts[own]
            weights = mass / mass.sum(dim=1, keepdim=True).clamp(min=1e-9)
        else:
            weights = torch.softmax(scores + counts[own].log(), dim=1)
        found[user, real] = (weights @ task.values[user][own].double()).float()
    return found


@settings(max_examples=20)
@given(
    users=st.integers(1, 4),
    agents=st.integers(1, 80),
    length=st.integers(1, 140),
    widths=st.tuples(st.sampled_from([16, 32]), st.sampled_from([16, 32])),
    seed=st.integers(0, 99),
)
def test_every_form_of_the_routing_is_the_same_function(
    bench: SimpleNamespace, users: int, agents: int, length: int, widths: tuple[int, int], seed: int
) -> None:
    forms, tile = bench.gpu_routing, bench.gpu_kernel.Tile(32, 32, 4, 2)
    task = forms.Task.make(users, agents, length, widths, "cpu", torch.float32, 50, seed)
    expected = by_distance(task)
    found = {
        "plain": forms.plain(task),
        "as the model": forms.as_the_model(task)(),
        "attention, math": forms.by_attention(task, "math")(),
        "attention, flash": forms.by_attention(task, "flash")(),
        "flex": forms.by_flex(task)(),
        "kernel": forms.by_kernel(task, tile)(),
        "kernel, gathering": forms.by_kernel(task, tile, gather=True)(),
    }
    for name, answer in found.items():
        torch.testing.assert_close(answer, expected, atol=1e-5, rtol=1e-5, msg=functools.partial("{}: {}".format, name))
    expected, wide = by_distance(task, over_agents=True), bench.gpu_kernel.Tile(128, 32, 4, 2)
    torch.testing.assert_close(forms.plain(task, over_agents=True), expected, atol=1e-5, rtol=1e-5)
    answer = forms.by_kernel(task, wide, over_agents=True)()
    torch.testing.assert_close(answer, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("axis", ["behaviors", "agents"])
def test_the_reference_is_the_routing_of_the_model(bench: SimpleNamespace, axis: str) -> None:
    load = bench.workload.Workload.make(3, 40, 2, seed=0)
    branch = bench.workload.ranker(load, {"kind": "hisac", "agents": 8, "softmax_over": axis}).long
    history = load.history(SimpleNamespace(sides=branch.sides, reads=branch.reads))
    history.mask[1, :25] = False
    agents = branch.agents(history)
    task = bench.gpu_routing.Task(
        branch.leaf_vectors[agents.nodes.clamp(min=0)], agents.nodes >= 0, branch.semantic, history.items,
        history.mask.float(), torch.zeros(3, 40, 16), branch.config.temperature, torch.float32,
    )  # fmt: skip
    found = bench.gpu_routing.shares(task, over_agents=axis == "agents")
    torch.testing.assert_close(found, branch.shares(branch.units(history), agents), atol=1e-5, rtol=1e-4)


def test_two_columns_keep_the_bias_where_one_in_bf16_does_not(bench: SimpleNamespace) -> None:
    forms = bench.gpu_routing
    task = forms.Task.make(3, 20, 90, (32, 16), "cpu", torch.bfloat16, 200)
    queries, keys = forms.columns(task)
    own = keys[..., 32].float() + keys[..., 33].float()
    there = task.counts > 0
    torch.testing.assert_close(own[there], task.own[there], atol=2e-3, rtol=0)
    assert (keys[..., 32].float() - task.own)[there].abs().max() > 1e-2
    assert queries.shape[2] == keys.shape[2] == 40
    assert forms.gap(forms.by_attention(task, "math")(), forms.plain(task)) < 3e-3
    assert forms.gap(torch.full((1,), torch.nan), torch.ones(1)) == torch.inf


def test_the_kernel_refuses_what_it_would_get_wrong(bench: SimpleNamespace) -> None:
    forms, kernel = bench.gpu_routing, bench.gpu_kernel
    tile = kernel.Tile(16, 16, 4, 2)
    task = forms.Task.make(2, 20, 30, (24, 16), "cpu", torch.float32, 50)
    with pytest.raises(ValueError, match="24 and 16 are not powers of two"):
        forms.by_kernel(task, tile)()
    task = forms.Task.make(2, 20, 30, (16, 16), "cpu", torch.float32, 50)
    with pytest.raises(ValueError, match="20 agents do not fit a tile of 16"):
        forms.by_kernel(task, tile, over_agents=True)()
    with pytest.raises(ValueError, match="not contiguous"):
        kernel.route(task.queries, task.keys, task.own.T.contiguous().T, task.bias, task.mixed, tile)


def section(bench: SimpleNamespace, title: str, **cells: Any) -> Any:
    return bench.gpu_lab.Section(title, 1.0, [], ["what"], cells)


def options(page: Path, minutes: float = 1.0, resume: bool = False) -> argparse.Namespace:
    return argparse.Namespace(page=page, minutes=minutes, resume=resume, rehearse=True)


def run(bench: SimpleNamespace, given: argparse.Namespace, *sections: Any) -> int:
    found: int = bench.gpu.run(given, time.monotonic(), sections)
    return found


def last(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def test_what_fails_is_one_line_and_the_next_goes_on(
    bench: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "gpu.md"

    def fail(lab: Any) -> None:
        assert "not run yet, or no time was left: bad; missing" in page.read_text()  # written as it goes
        raise RuntimeError("two\nlines")

    def lack(lab: Any) -> None:
        raise ModuleNotFoundError("none", name="pydantic")

    first = section(bench, "One", good=lambda lab: {"rows": [["x"]], "numbers": {"a": 1.23456}}, bad=fail, missing=lack)
    second = section(bench, "Two", good=lambda lab: {"rows": [["y"]]})
    assert run(bench, options(page), first, second) == 1
    text = page.read_text()
    assert "- **failed**, RuntimeError: two lines: bad\n" in text
    assert "- not run, no pydantic here (pydantic is one of those that --fetch brings): missing\n" in text
    assert "| y    |" in text
    found = last(capsys)
    assert (found["failed"], found["absent"], found["not_run"], found["a"]) == (
        ["One: bad"],
        ["One: missing"],
        [],
        1.235,
    )
    assert not (tmp_path / ".gpu.json").exists()
    assert run(bench, options(page), second) == 0


def test_time_that_is_over_ends_a_cell_and_names_the_rest(
    bench: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "gpu.md"

    def swallow(lab: Any) -> dict[str, Any]:
        for _ in range(100):
            try:
                time.sleep(0.1)
            except Exception:
                continue
        return {"rows": [["never"]]}

    slow = section(bench, "Slow", one=swallow, two=swallow)
    quick = section(bench, "Quick", one=lambda lab: {"rows": [["z"]]})
    begin = time.monotonic()
    assert run(bench, options(page, minutes=0.02), slow, quick) == 0
    assert time.monotonic() - begin < 3
    text = page.read_text()
    assert "- stopped, after 1 s: one\n- not run yet, or no time was left: two\n" in text
    assert "| z    |" in text
    assert last(capsys)["not_run"] == ["Slow: one", "Slow: two"]

    again = section(bench, "Slow", one=lambda lab: {"rows": [["won"]]}, two=lambda lab: {"rows": [["too"]]})
    never = section(bench, "Quick", one=swallow)
    assert run(bench, options(page, resume=True), again, never) == 0
    assert [word in page.read_text() for word in ("won", "too", "z", "taken up again", "never")] == [True] * 4 + [False]


def test_a_page_goes_on_where_the_process_ended(
    bench: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, written = tmp_path / "gpu.md", []

    def stop(lab: Any) -> None:
        written.append(page.read_text())
        raise KeyboardInterrupt

    cells: dict[str, Any] = {"first": lambda lab: {"rows": [["done"]], "numbers": {"n": 7}}, "second": stop}
    with pytest.raises(KeyboardInterrupt):
        run(bench, options(page), section(bench, "One", **cells, third=stop))
    assert page.read_text() == written[0]
    assert "| done |" in written[0]

    cells = {"first": stop, "second": stop, "third": lambda lab: {"rows": [[f"{lab.page.numbers['n']}"]]}}
    assert run(bench, options(page, resume=True), section(bench, "One", **cells)) == 1
    text = page.read_text()
    assert "| done |" in text
    assert "| 7    |" in text
    assert "- **failed**, the process ended while this ran: second" in text
    other = bench.pages.Page(page, ["head"], "another card", resume=True)
    assert other.sections == {}

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(Exception, match="no space left"):
        run(bench, options(page), section(bench, "One", **cells))
    assert page.read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["gpu.md"]


def test_an_unusable_device_is_left_for_a_new_process(
    bench: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Replaced(BaseException):
        pass

    def replace(program: str, arguments: list[str]) -> None:
        raise Replaced(arguments)

    def fail(lab: Any) -> None:
        raise RuntimeError("an illegal memory access was encountered")

    monkeypatch.setattr(bench.gpu_routes, "broken", lambda: True)
    monkeypatch.setattr(os, "execv", replace)
    page = tmp_path / "gpu.md"
    with pytest.raises(Replaced) as caught:
        run(bench, options(page), section(bench, "One", bad=fail))
    arguments = caught.value.args[0]
    assert arguments[-3:] == ["--page", str(page), "--resume"]
    assert 0.9 < float(arguments[arguments.index("--minutes") + 1]) <= 1
    assert "illegal memory access" in page.read_text()


def test_the_rehearsal_measures_and_checks_a_part_of_everything(
    bench: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sections = []
    for part in bench.gpu.every():
        if part.title != "GPU tests":
            names = [name for name in part.cells if "events" not in name or "10,000" in name]
            wanted = [name for name in names if not name.startswith(("din", "sim", "r2led", "200"))]
            sections.append(bench.gpu_lab.Section(
                part.title, part.share, part.notes, part.columns, {name: part.cells[name] for name in wanted}
            ))  # fmt: skip
    assert run(bench, options(tmp_path / "gpu.md", minutes=2), *sections) == 0
    found = last(capsys)
    assert found["not_run"] == []
    assert all("attention" in name for name in found["absent"])
    expected = {"copy_byte_s", "product_flop_s", "routing_64_triton_us", "routing_64_flex_as_it_chooses_share",
                "train_hisac_100_samples_s", "score_iat_100_ms", "take_rows_128_bfloat16_of_copy"}  # fmt: skip
    assert expected <= set(found)


def test_a_form_that_differs_from_the_reference_fails(bench: SimpleNamespace, tmp_path: Path) -> None:
    lab = bench.gpu_lab.Lab("cpu", bench.pages.Page(tmp_path / "gpu.md", [], "here"))
    task, expected, _ = bench.gpu_routes.task_of(lab, 64, 1_000)
    with pytest.raises(bench.gpu_lab.Wrong, match=r"differs by 1\.0e-04 from the reference, 1e-05 allowed"):
        bench.gpu_routes.measure(lab, 64, 1_000, "bad", lambda: expected * 1.0001)
    assert not bench.gpu_routing.gap(task.values * torch.nan, task.values) < 1


TESTS = """
import time, pytest
def test_good(): pass
def test_bad(): assert False
@pytest.mark.skip(reason="none")
def test_left(): pass
"""


def test_gpu_tests_are_counted_named_and_ended_in_time(bench: SimpleNamespace, tmp_path: Path) -> None:
    lab = bench.gpu_lab.Lab("cpu", bench.pages.Page(tmp_path / "gpu.md", [], "here"))
    (tmp_path / "test_some.py").write_text(TESTS)
    found = bench.gpu_models.run_tests(lab, str(tmp_path / "test_some.py"))
    assert found["rows"] == [["tests/gpu", "1", "1", "0", "1"]]
    assert found["failed"] == "1 tests: test_bad (assert False)"
    (tmp_path / "test_long.py").write_text("import time\ndef test_a(): pass\ndef test_b(): time.sleep(60)\n")
    lab.until = time.monotonic() + 10
    found = bench.gpu_models.run_tests(lab, str(tmp_path / "test_long.py"))
    assert found["rows"] == [["tests/gpu", "1", "0", "0", "0"]]
    assert found["late"] == "after 10 s"
    with pytest.raises(ModuleNotFoundError) as caught:
        bench.gpu_models.verdict(["E   ModuleNotFoundError: No module named 'pydantic'"], 4)
    assert caught.value.name == "pydantic"


def test_cards_are_known_by_their_name(bench: SimpleNamespace) -> None:
    speed = {name: bench.machine.nominal(name).bandwidth for name in ("NVIDIA H200", "NVIDIA H100 80GB HBM3")}
    assert speed == {"NVIDIA H200": 4.8e12, "NVIDIA H100 80GB HBM3": 3.35e12}
    assert bench.machine.nominal("NVIDIA H100 PCIe").arithmetic == 756e12
    assert bench.machine.nominal("another") is None
