"""What stored instances of one domain are worth to a ranker of the same domain, and to a ranker of another.

    python benchmarks/transfer.py [--boards gcc-changelog-ablations movielens] [--seeds 5] [--write]

Data, widths and training are those of a leaderboard (benchmarks/leaderboards/NAME.yaml); the project's graph
runs up to the codebook in .work/transfer/NAME. The items are split into two domains, A and B. IAT's source model sees
the events and samples of A alone and stores an instance of each sample. A downstream ranker is trained and tested on
requests for items of A (in the domain) or of B (across), its own history being of that domain alone; it reads the
user's instances of A from before the request, or nothing, or a control. With --write the tables go to
reports/transfer.md.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from leaderboard import ROOT, run_graph, settings

from hisac_lab.base.artifacts import Array, stage_output, write_file
from hisac_lab.base.errors import UserError
from hisac_lab.base.progress import say
from hisac_lab.cli.params import Params
from hisac_lab.config.model import ModelConfig
from hisac_lab.evaluation.metrics import paired, user_resamples
from hisac_lab.events.batches import Requests
from hisac_lab.events.exposures import Exposures
from hisac_lab.events.instances import BOTH
from hisac_lab.events.records import InstancesMade
from hisac_lab.events.store import SPLITS, EventStore
from hisac_lab.inference import loader
from hisac_lab.inference.items import load_items
from hisac_lab.inference.loader import Loader
from hisac_lab.inference.runtime import Runtime
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import ItemSpace
from hisac_lab.models.din import DINConfig
from hisac_lab.models.iat import IATConfig
from hisac_lab.ops.auc import weighted_auc
from hisac_lab.training.instances import write_instances
from hisac_lab.training.loop import train

REPORT = ROOT / "reports" / "transfer.md"
FIELDS: dict[str, str | None] = {"gcc-changelog-ablations": "component", "movielens": None, "instances-world": "topic"}
DOMAINS = ("A", "B")
BASE, SHUFFLED = "no instances", "instances, shuffled"
CONFIDENCE = 0.95
BOOTSTRAP = 500


@dataclass(frozen=True)
class Domain:
    """A data set of its own: the events and samples of some items.

    Attributes:
        store: Histories.
        samples: By split.
        exposures: By split, what instances are made of.
    """

    store: EventStore
    samples: dict[str, Array]
    exposures: dict[str, Exposures]


@dataclass(frozen=True)
class Plan:
    """What is run.

    Attributes:
        params: The leaderboard's settings.
        runtime: Device and number format.
        items: Frozen knowledge of all items.
        stored: Instances of A.
        seeds: Downstream runs per model.
    """

    params: Params
    runtime: Runtime
    items: ItemSpace
    stored: Path
    seeds: int

    def models(self) -> dict[str, ModelConfig]:
        """Downstream models by what they read."""
        made = self.params.instances
        reader = IATConfig(dim=made.dim, window=made.window, heads=made.heads)
        controls: dict[str, dict[str, Any]] = {
            "hand-made sequence of the same instances": {"tokens": "handmade"},
            SHUFFLED: {"instances": "shuffled"},
            "instances without labels": {"labels": False},
            "rows after the transformer": {"stored": "after"},
        }
        models: dict[str, ModelConfig] = {BASE: DINConfig(whole_history=False), "instances": reader}
        return models | {name: reader.model_copy(update=change) for name, change in controls.items()}


def split_items(store: EventStore, field: str | None) -> Array:
    """True at items of A: values of a field, or single items, dealt out so that both domains have half of the samples.

    The value with most training samples first, each to the domain that has fewer so far.
    """
    names = [one.name for one in store.manifest.fields]
    codes = np.arange(store.manifest.items) if field is None else store.item_fields[:, names.index(field)]
    counts = np.bincount(codes[store.samples("train")["item"]], minlength=int(codes.max()) + 1)
    of_value, filled = np.zeros(len(counts), bool), [0, 0]
    for value in np.argsort(-counts, kind="stable"):
        lesser = filled[1] < filled[0]
        of_value[value] = not lesser
        filled[int(lesser)] += int(counts[value])
    inside: Array = of_value[codes]
    return inside


def domain(store: EventStore, inside: Array) -> Domain:
    """The events and samples of some items."""
    kept = inside[np.asarray(store.items)]
    before = np.r_[0, np.cumsum(kept)]
    described = replace(
        store, items=np.asarray(store.items)[kept], times=np.asarray(store.times)[kept], offsets=before[store.offsets]
    )

    def of(samples: Array) -> Array:
        moved = np.array(samples[inside[samples["item"]]])
        moved["end"] = before[moved["end"]]
        return moved

    def of_all(whole: Exposures) -> Exposures:
        return Exposures(of(whole.samples), whole.logged[inside[whole.samples["item"]]])

    exposures = {split: of_all(Exposures.of(store, split)) for split in SPLITS}
    return Domain(described, {split: of(store.samples(split)) for split in SPLITS}, exposures)


def score(target: Domain, plan: Plan, config: ModelConfig, what: str) -> list[Array]:
    """Test logits of each seed, in the order of the test samples."""
    scores, settings = [], plan.params.train
    requests = {split: Requests.of(target.store, target.samples[split], settings.max_candidates) for split in SPLITS}
    for seed in range(plan.seeds):
        model = build(config, plan.params.backbone, plan.items, seed)
        loaders = {split: Loader.of(model, one, plan.runtime, plan.stored) for split, one in requests.items()}
        train(model, loaders["train"], loaders["valid"], settings, seed, f"{what}, seed {seed}")
        logits = np.zeros(len(target.samples["test"]))
        test = requests["test"]
        logits[test.sample[test.mask]] = loader.score(model, loaders["test"])[test.mask]
        scores.append(logits)
    return scores


def reached(part: Domain, plan: Plan) -> float:
    """Share of the test rows whose user has an instance before the request."""
    model = build(plan.models()["instances"], plan.params.backbone, plan.items, 0)
    test = Requests.of(part.store, part.samples["test"], plan.params.train.max_candidates)
    requests = Loader.of(model, test, plan.runtime, plan.stored)
    seen = 0
    for index in np.array_split(np.arange(len(requests)), len(requests) // 512 + 1):
        past = requests.batch(index).history.instances
        seen += 0 if past is None else int(past.mask.any(dim=1).sum())
    return seen / len(requests)


def compare(board: str, seeds: int) -> list[str]:
    """The tables of one data set."""
    folder = ROOT / ".work" / "transfer" / board
    chosen = settings(board)
    run_graph(folder, chosen, ["artifacts/codebook"])
    params = Params.model_validate_json(json.dumps(chosen))
    made, embedded, book = (folder / "artifacts" / stage for stage in ("prepare", "embed", "codebook"))
    runtime = Runtime.start(params.compute)
    plan = Plan(
        params, runtime, load_items(prepared=made, embedded=embedded, codebook=book), folder / "instances-of-a", seeds
    )
    store, field = EventStore.open(made), FIELDS[board]
    inside = split_items(store, field)
    parts = {name: domain(store, inside == (name == "A")) for name in DOMAINS}
    source = parts["A"]
    made_by = params.instances
    if made_by.order == BOTH:
        made_by = made_by.model_copy(update={"order": "user"})
    with stage_output(plan.stored) as out:
        write_instances(
            made_by, params.backbone, params.train, runtime, plan.items, source.store, source.exposures, out=out
        )
    facts = InstancesMade.open(plan.stored)
    lines = [
        f"## {board}",
        "",
        f"Items split by {'item' if field is None else f'value of `{field}`'}: {int(inside.sum()):,} in A,"
        f" {int((~inside).sum()):,} in B. The source model ({made_by.order} order, width"
        f" {params.instances.dim}) reaches AUC {facts.source_valid_auc:.4f} on A's validation period;"
        f" {sum(facts.instances.values()):,} instances, {facts.vector_bytes:,} bytes.",
        "",
    ]
    for name, part in parts.items():
        title = "in the domain" if name == "A" else "across domains"
        sizes = f"{len(part.samples['train']):,} training and {len(part.samples['test']):,} test samples"
        lines += [
            f"### Requests in {name}: {title}",
            "",
            f"{sizes}, {seeds} seeds; {reached(part, plan):.1%} of the test requests have an"
            f" instance of A to read. Differences with their {CONFIDENCE:.0%} intervals over users; p by Holm over all"
            " pairs of the table.",
            "",
            f"| the ranker reads | AUC | less {BASE} | p | less {SHUFFLED} | p | spread of seeds |",
            "|---|---:|---|---:|---|---:|---:|",
            *_rows(part, plan, f"transfer: {board}, {name}"),
            "",
        ]
    return lines


def _rows(part: Domain, plan: Plan, what: str) -> list[str]:
    test = part.samples["test"]
    labels, user = test["label"].astype(float), np.unique(test["user"], return_inverse=True)[1]
    weights = user_resamples(int(user.max()) + 1, BOOTSTRAP, 0)
    series: dict[str, Array] = {}
    spread = {}
    for name, config in plan.models().items():
        say(f"{what}: {name}")
        logits = score(part, plan, config, f"{what}, {name}")
        aucs = np.stack([weighted_auc(labels, one, weights, user) for one in logits])
        series[name], spread[name] = aucs.mean(axis=0), aucs[:, 0].std()
    return table(series, spread)


def table(series: dict[str, Array], spread: dict[str, float]) -> list[str]:
    """A line per model: its AUC, and what it has more than no instances and than shuffled ones.

    Args:
        series: Of each model, the AUC for every resample of the users; the first is the AUC itself; (B,).
        spread: Standard deviation over its seeds.
    """
    pairs = {(pair.one, pair.other): pair for pair in paired(series, CONFIDENCE)}

    def less(one: str, other: str) -> str:
        if one == other:
            return "– | –"
        pair, sign = (pairs[one, other], 1) if (one, other) in pairs else (pairs[other, one], -1)
        low, high = sorted(sign * end for end in pair.interval)
        return f"{sign * pair.difference:+.4f} [{low:+.4f}, {high:+.4f}] | {pair.p:.2g}"

    return [
        f"| {name} | {values[0]:.4f} | {less(name, BASE)} | {less(name, SHUFFLED)} | {spread[name]:.4f} |"
        for name, values in series.items()
    ]


def main() -> None:
    """Runs all boards."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boards", nargs="+", choices=FIELDS, default=list(FIELDS))
    parser.add_argument("--seeds", type=int, default=5, help="downstream runs per model")
    parser.add_argument("--write", action="store_true", help="write reports/transfer.md")
    options = parser.parse_args()
    lines = [
        "# Transfer of instances",
        "",
        f"`python benchmarks/transfer.py --boards {' '.join(options.boards)} --seeds {options.seeds} --write`",
        "",
    ]
    try:
        if options.seeds < 1:
            raise UserError("--seeds", f"{options.seeds} is too few", "give 1 or more")
        for board in options.boards:
            found = compare(board, options.seeds)
            print("\n".join(found), flush=True)
            lines += found
    except UserError as error:
        raise SystemExit(f"transfer: error: {error}") from error
    if options.write:
        write_file(REPORT, "\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
