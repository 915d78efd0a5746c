"""Models side by side: training with the DIN of deepctr-torch and torch-rechub, HiSAC's serving beside DIN's, one run.

    make bench-models          or  python benchmarks/models.py [--requests 50] [--rounds 3] [--write]

Both peers and ours train on the same requests, five candidates each, history 1,000. The peers get a row per sample, its
history joined; ours gets a row per request. Sides take turns, each in a process of its own with one thread; medians of
the CPU seconds of single steps count. Serving is one user with 500 candidates at history 1,000 and 10,000, cold
and from a cached state, the models in turn. All of it is in native arithmetic, in which the peers compute; two rows are
of ours in portable arithmetic, the default. Then a fixed small board of long histories is run (see long_run.py). The
last line printed is JSON; with --write the tables go to reports/bench-models.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch
from long_run import BOARD, auc_long
from pages import table
from peer import PEERS, python_of
from prepare import ONE_THREAD
from serving import Serving, take_turns
from usage import run
from workload import CODES, ITEMS, SEMANTIC, Workload, ranker

from hisac_lab.base import arithmetic
from hisac_lab.base.artifacts import write_file
from hisac_lab.base.errors import UserError
from hisac_lab.base.progress import say
from hisac_lab.ops.tally import count_votes

REPORT = Path(__file__).parents[1] / "reports" / "bench-models.md"
SIDE = PEERS / "models_side.py"
LENGTH, LONG, CANDIDATES, SLATE = 1_000, 10_000, 5, 500
HALF_LIVES, HISTORIES, AT_ONCE = (1.0, 7.0, 30.0, 90.0), 512, 32  # of counting votes in time
STEPS = {"deepctr": 3, "rechub": 3}  # of one turn; ours are cheaper and take more
OUR_STEPS = 10
DIN, HISAC = {"kind": "din"}, {"kind": "hisac"}
FROZEN = HISAC | {"score": "frozen", "facts": True, "pruned": "routed", "sums": True}
OURS: dict[str, dict[str, Any]] = {
    "din": DIN,
    "hisac": HISAC,
    "hisac, frozen": FROZEN,
    "hisac, paper": HISAC | {"score": "learned", "facts": False, "pruned": "dropped"},
    "hisac by items": HISAC | {"route_by": "items"},
    "hisac by leaves": HISAC | {"route_by": "leaves"},
    "hisac, 64 agents": HISAC | {"agents": 64},
    "din on the last 50": {"kind": "din", "whole_history": False},
}
PORTABLE = ("din", "hisac, frozen")
"""Ours that are measured in portable arithmetic as well."""
PACKAGES = {"deepctr": "deepctr-torch", "rechub": "torch-rechub"}
LONGCTR = {"DIN": 324, "SIM": 1236, "ETA": 508, "SDIM": 946, "TWIN": 1018, "MIRRN": 695}
"""Samples per CPU-second at L = 1,000 that we once measured of LongCTR, elsewhere: width 16 x 2, with its loader."""


def measure(side: str, python: str | Path, data: Path, steps: int, portable: bool = False) -> list[float]:
    """CPU seconds of each training step of one side; `portable` says in which arithmetic ours computes.

    Raises:
        UserError: It ends with an error.
    """
    say(f"bench-models: {side}")
    mode = arithmetic.PORTABLE | {arithmetic.MODE: "portable"} if portable else {arithmetic.MODE: "native"}
    answer = run([python, SIDE, side, data, str(steps)], data.parent, ONE_THREAD | mode)
    seconds: list[float] = json.loads(answer.output.strip().splitlines()[-1])["steps"]
    return seconds


def train_all(data: Path, rounds: int) -> dict[str, list[float]]:
    """CPU seconds of the steps of every side, sides in turn.

    Raises:
        UserError: A peer cannot be installed or a side fails.
    """
    pythons = {peer: python_of(peer) for peer in PACKAGES}
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        for peer, python in pythons.items():
            times.setdefault(peer, []).extend(measure(peer, python, data, STEPS[peer]))
        for name, settings in OURS.items():
            times.setdefault(name, []).extend(measure(json.dumps(settings), sys.executable, data, OUR_STEPS))
        for name in PORTABLE:
            taken = measure(json.dumps(OURS[name]), sys.executable, data, OUR_STEPS, portable=True)
            times.setdefault(f"{name}, portable", []).extend(taken)
    return times


def serve(seed: int, repeats: int) -> dict[tuple[str, int], Serving]:
    """Seconds of one user with a slate, by model and length of history."""
    servings = {}
    short = Workload.make(1, LENGTH, SLATE, seed)
    space = short.space()
    for length in (LENGTH, LONG):
        load = short if length == LENGTH else Workload.make(1, length, SLATE, seed)
        for name, settings in (("hisac", HISAC), ("din", DIN)):
            say(f"bench-models: serving, {name}, {length:,} events")
            servings[name, length] = Serving.of(ranker(load, settings, space), load)
    take_turns(list(servings.values()), repeats)
    return servings


def count_in_time(seed: int, repeats: int) -> float:
    """Events per CPU-second that votes with half-lives take in: 1,024 nodes, histories of 1,000, one thread, median."""
    load = Workload.make(HISTORIES, LENGTH, 1, seed)
    nodes = torch.from_numpy(load.codes[:, 0] * CODES[1] + load.codes[:, 1])[torch.from_numpy(load.items)]
    ages, every = torch.from_numpy(load.ages), torch.ones_like(nodes, dtype=torch.bool)
    seconds = []
    for _ in range(repeats + 1):  # the first one warms up
        begin = time.process_time()
        for first in range(0, HISTORIES, AT_ONCE):
            rows = slice(first, first + AT_ONCE)
            count_votes(nodes[rows], ages[rows], every[rows], HALF_LIVES)
        seconds.append(time.process_time() - begin)
    return nodes.numel() / median(seconds[1:])


def ratios(
    samples: int, steps: dict[str, list[float]], serving: dict[tuple[str, int], Serving], votes: float
) -> dict[str, float]:
    """The numbers of the last line.

    Args:
        samples: Of one training step.
        steps: CPU seconds of each step by side.
        serving: By model and length.
        votes: Events per CPU-second that votes with half-lives take in.
    """
    spent = {name: median(parts) for name, parts in steps.items()}
    return {
        "din_vs_deepctr": round(spent["deepctr"] / spent["din"], 2),
        "din_vs_rechub": round(spent["rechub"] / spent["din"], 2),
        "hisac_samples_per_cpu_second": round(samples / spent["hisac"]),
        "hisac_frozen_samples_per_cpu_second": round(samples / spent["hisac, frozen"]),
        "cached_time_ratio_10k_1k": round(serving["hisac", LONG].cached / serving["hisac", LENGTH].cached, 3),
        "hisac_vs_din_time_10k": round(serving["hisac", LONG].cold / serving["din", LONG].cold, 4),
        "votes_half_lives_per_second": round(votes),
    }


def report(
    options: argparse.Namespace,
    load: Workload,
    steps: dict[str, list[float]],
    serving: dict[tuple[str, int], Serving],
    numbers: dict[str, float],
) -> list[str]:
    """The page as lines of Markdown."""
    samples = load.labels.size
    spent = {name: median(parts) for name, parts in steps.items()}
    names = {
        "deepctr": f"deepctr-torch {pinned('deepctr')}, DIN",
        "rechub": f"torch-rechub {pinned('rechub')}, DIN",
        "din": "ours: din, whole history",
        "hisac": "ours: hisac",
        "hisac, frozen": "ours: hisac, frozen score, all facts, sums",
        "hisac, paper": "ours: hisac_paper, nothing of ours",
        "hisac by items": "ours: hisac, route_by items",
        "hisac by leaves": "ours: hisac, route_by leaves (approximate)",
        "hisac, 64 agents": "ours: hisac, 64 agents",
        "din on the last 50": "ours: din, last 50 events",
        "din, portable": "ours: din, whole history, portable arithmetic",
        "hisac, frozen, portable": "ours: hisac, frozen score, all facts, sums, portable arithmetic",
    }
    rows = [
        [names[name], f"{seconds * 1e3:.1f}", f"{samples / seconds:,.0f}", f"{seconds / spent['din']:.2f}"]
        for name, seconds in spent.items()
    ]
    served = [
        [f"{name}, {length:,} events", f"{one.cold * 1e3:.2f}", f"{one.cached * 1e3:.2f}", f"{one.bytes:,}"]
        for (name, length), one in serving.items()
    ]
    cached = serving["hisac", LONG].cached / serving["din", LONG].cached
    world = BOARD["acquire"]["world"]
    votes = numbers["votes_half_lives_per_second"]
    machine = f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}"
    return [
        "# Models: side by side",
        "",
        f"`python benchmarks/models.py --requests {options.requests} --rounds {options.rounds}"
        f" --repeats {options.repeats} --write` on {machine}, torch {version('torch')}.",
        "",
        f"**Training**, history {LENGTH:,}: forward, backward, optimizer on {samples} samples"
        f" ({len(load.items)} requests",
        f"of {CANDIDATES} candidates), CPU seconds of the process with one thread, medians of all steps over"
        f" {options.rounds} turns.",
        "",
        *table(["", "CPU ms per step", "samples per CPU-second", "times din"], rows),
        "",
        f"DIN is {numbers['din_vs_deepctr']:g} times as fast as deepctr-torch's"
        f" and {numbers['din_vs_rechub']:g} times as fast as torch-rechub's.",
        "",
        "Same on all sides: requests, items, labels, samples per step, item vectors of width 16, an"
        " attention network with",
        "one hidden layer of 32, relu and softmax over events, tower of 64 and 32 with dropout 0.1,"
        " one thread; batches lie",
        "ready as tensors, no loader is counted. What differs:",
        "",
        "- Ours gets a request once with its candidates, so a history is encoded once; the peers' APIs take a row per",
        "  sample.",
        "- Ours does more per event: beside the item's id a field, a frozen vector of width"
        f" {SEMANTIC} that is projected,",
        "  and the age of the event; and a second attention over the last 50 events (the short"
        " branch of every model here).",
        "  The peers know the item id alone.",
        "- The peers' attention networks read query, key, difference and product; ours has no"
        " difference, which is linear",
        "  in the others. torch-rechub normalizes each layer over the batch and has Dice in its"
        " tower (fixed in its code).",
        "- All in native arithmetic, each library's fastest code, but for the last two rows: portable arithmetic, the",
        "  default here, gives the same bytes on every processor (`arithmetic.md` has its price in whole runs).",
        "- Optimizers: Adam in both peers, regularization off; AdamW and, for tables, Adagrad in ours.",
        "- HiSAC's votes are counted once per run, as the stage `train` does, and not in the step.",
        "",
        f"{ITEMS:,} items, of which a history of {LENGTH:,} events holds {load.distinct:,.0f}"
        " distinct ones on average (each",
        "user's events follow Zipf's law over a ranking of their own); codebook"
        f" {' x '.join(map(str, CODES))}; HiSAC has 32",
        "agents at most unless said otherwise. `route_by: items` gives the same numbers as `events`, the default.",
        "",
        f"**Serving**, one user with {SLATE} candidates, float32, one thread, medians of {options.repeats} turns. Cold:"
        " history to",
        "scores, votes counted too; cached: from the user state.",
        "",
        *table(["", "cold, CPU ms", "cached, CPU ms", "bytes of state"], served),
        "",
        f"HiSAC's cached scoring at {LONG:,} events takes {numbers['cached_time_ratio_10k_1k']:g} of"
        f" that at {LENGTH:,};",
        f"per candidate at {LONG:,} events it takes {numbers['hisac_vs_din_time_10k']:g} of DIN's time cold,"
        f" {cached:.4f} cached.",
        "DIN scores its slate in slices where that is quicker.",
        "",
        f"Votes with {len(HALF_LIVES)} half-lives at 1,024 nodes, histories of {LENGTH:,}: {votes / 1e6:.1f} million"
        " events per CPU-second.",
        "",
        f"**A short run** on a small world of long histories ({world['users']} users of {world['events_per_user']:,}"
        " exposures, one seed; long_run.py), test AUC:",
        ", ".join(f"{name} {numbers[name]:.4f}" for name in sorted(numbers) if name.endswith("_auc_long")) + ".",
        "",
        "For orientation, not measured in this run: LongCTR on FuxiCTR, on another machine, width 16"
        " x 2, batch 256, its",
        f"loader included, samples per CPU-second at {LENGTH:,} events:",
        ", ".join(f"{name} {speed:,}" for name, speed in LONGCTR.items()) + ".",
    ]


def pinned(peer: str) -> str:
    """The version of a peer in its list."""
    lines = (PEERS / f"{peer}.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)[PACKAGES[peer]]


def main() -> None:
    """Trains, serves, compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=50, help="of one training step, five candidates each")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side in training")
    parser.add_argument("--repeats", type=int, default=15, help="turns of each model in serving")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="write reports/bench-models.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    try:
        for name in ("requests", "rounds", "repeats"):
            if getattr(options, name) < 1:
                raise UserError(f"--{name}", f"is {getattr(options, name)}", "give 1 or more")
        load = Workload.make(options.requests, LENGTH, CANDIDATES, options.seed)
        with tempfile.TemporaryDirectory(prefix="hisac-lab-bench-") as scratch:
            data = Path(scratch) / "requests.npz"
            load.save(data)
            steps = train_all(data, options.rounds)
        serving = serve(options.seed, options.repeats)
    except UserError as error:
        raise SystemExit(f"bench-models: error: {error}") from error
    numbers = ratios(load.labels.size, steps, serving, count_in_time(options.seed, options.repeats))
    arithmetic.choose("portable")  # what the graph below computes in
    numbers |= auc_long()
    lines = report(options, load, steps, serving, numbers)
    print("\n".join(lines), end="\n\n")
    if options.write:
        write_file(REPORT, "\n".join(lines) + "\n")
    print(json.dumps(numbers))


if __name__ == "__main__":
    if os.environ[arithmetic.MODE] != "native":  # torch is loaded: start again
        arithmetic.choose("native")
        os.execv(sys.executable, [sys.executable, *sys.argv])
    main()
