"""What stored instances of one domain are worth to a ranker of the same domain, and to a ranker of another.

    python benchmarks/transfer.py [--datasets movielens-100k gcc-changelog] [--home FOLDER] [--write]

The items of a data set are split into two domains, A and B. IAT's source model sees the events and samples of A alone
and stores an instance of each sample. A downstream ranker is trained and tested on requests for items of A (in the
domain) or of B (across), its own history being of that domain alone; it reads the user's instances of A from before
the request, or nothing, or a control. With --write the tables go to reports/transfer.md.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from quantizers import DATASETS, OPEN, prepared

from hisac_lab.base.artifacts import Array, read_manifest, stage_output, write_file
from hisac_lab.base.errors import UserError
from hisac_lab.base.progress import say
from hisac_lab.codebook.build import build_codebook
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.model import AnyModel, DINConfig, FrameConfig, IATConfig, InstancesConfig
from hisac_lab.config.run import TrainConfig
from hisac_lab.config.tokens import TokenizeConfig
from hisac_lab.evaluation.metrics import interval, user_resamples
from hisac_lab.events.batches import group
from hisac_lab.events.store import SPLITS, EventStore
from hisac_lab.models.catalog import build, load_items
from hisac_lab.models.contract import ItemSpace
from hisac_lab.models.runtime import Runtime, fed, histories, score_rows
from hisac_lab.ops.auc import weighted_auc
from hisac_lab.tokens.run import tokenize
from hisac_lab.training.instances import write_instances
from hisac_lab.training.loop import train

REPORT = Path(__file__).parents[1] / "reports" / "transfer.md"
FIELDS: dict[str, str | None] = {"movielens-100k": None, "gcc-changelog": "component"}
DOMAINS = ("A", "B")
BASE = "no instances"
CONFIDENCE = 0.95
BOOTSTRAP = 500


@dataclass(frozen=True)
class Domain:
    """A data set of its own: the events and samples of some items.

    Attributes:
        store: Histories.
        samples: By split.
    """

    store: EventStore
    samples: dict[str, Array]


@dataclass(frozen=True)
class Plan:
    """What is run.

    Attributes:
        instances: The source model and its store.
        train: One training run, source and downstream.
        seeds: Downstream runs per model.
        share: Share of the training samples, the latest.
        runtime: Device and number format.
    """

    instances: InstancesConfig
    train: TrainConfig
    seeds: int
    share: float
    runtime: Runtime

    def models(self) -> dict[str, AnyModel]:
        """Downstream models by what they read."""
        reader = IATConfig(dim=self.instances.dim, window=self.instances.window, heads=self.instances.heads)
        models: dict[str, AnyModel] = {BASE: DINConfig(whole_history=False), "instances": reader}
        controls = {
            "hand-made sequence of the same instances": {"tokens": "handmade"},
            "instances, shuffled": {"instances": "shuffled"},
            "instances without labels": {"labels": False},
            "rows after the transformer": {"stored": "after"},
        }
        if self.instances.order == "temporal":
            del controls["rows after the transformer"]
        return models | {name: reader.model_copy(update=change) for name, change in controls.items()}


def split_items(store: EventStore, field: str | None) -> Array:
    """True at items of A: values of a field, or single items, dealt out so that both domains have half of the samples.

    The value with most training samples first, each to the domain that has fewer so far.
    """
    names = [one["name"] for one in store.manifest["fields"]]
    codes = np.arange(store.manifest["items"]) if field is None else store.item_fields[:, names.index(field)]
    counts = np.bincount(codes[store.samples("train")["item"]], minlength=int(codes.max()) + 1)
    of_value, filled = np.zeros(len(counts), bool), [0, 0]
    for value in np.argsort(-counts, kind="stable"):
        lesser = filled[1] < filled[0]
        of_value[value] = not lesser
        filled[int(lesser)] += int(counts[value])
    inside: Array = of_value[codes]
    return inside


def domain(store: EventStore, inside: Array, share: float) -> Domain:
    """The events and samples of some items; of the training samples the latest share."""
    kept = inside[np.asarray(store.items)]
    before = np.r_[0, np.cumsum(kept)]
    own = replace(
        store, items=np.asarray(store.items)[kept], times=np.asarray(store.times)[kept], offsets=before[store.offsets]
    )
    samples = {}
    for split in SPLITS:
        part = np.array(store.samples(split))
        part = part[inside[part["item"]]]
        if split == "train" and share < 1:
            part = part[part["time"] >= np.sort(part["time"])[int(len(part) * (1 - share))]]
        part["end"] = before[part["end"]]
        samples[split] = part
    return Domain(own, samples)


def item_space(dataset: str, made: Path, embedded: Path, home: Path) -> ItemSpace:
    """Embeddings, fields and codebook of all items; the gate of the semantic IDs stands open."""
    tokens, book = home / dataset / "tokenize", home / dataset / "codebook"
    with stage_output(tokens) as out:
        tokenize(TokenizeConfig(widths=DATASETS[dataset][1], limits=OPEN), made, embedded, out)
    with stage_output(book) as out:
        build_codebook(tokens, out)
    return load_items(made, embedded, book)


def score(part: Domain, plan: Plan, config: AnyModel, items: ItemSpace, stored: Path, what: str) -> list[Array]:
    """Test logits of each seed, in the order of the test samples."""
    found = []
    plain = {split: group(part.store, part.samples[split], plan.train.max_candidates) for split in SPLITS}
    for seed in range(plan.seeds):
        model = build(config, FrameConfig(), items, seed)
        rows = {split: fed(model, one, stored) for split, one in plain.items()}
        train(model, rows["train"], rows["valid"], plan.train, plan.runtime, seed, f"{what}, seed {seed}")
        logits = np.zeros(len(part.samples["test"]))
        test = rows["test"]
        logits[test.sample[test.mask]] = score_rows(model, test, plan.runtime)[test.mask]
        found.append(logits)
    return found


def reached(part: Domain, plan: Plan, items: ItemSpace, stored: Path) -> float:
    """Share of the test rows whose user has an instance before the request."""
    model = build(plan.models()["instances"], FrameConfig(), items, 0)
    rows = fed(model, group(part.store, part.samples["test"], plan.train.max_candidates), stored)
    some = [
        histories(rows, index, plan.runtime).instances.mask.any(dim=1).float().mean(dim=0).item() * len(index)
        for index in np.array_split(np.arange(len(rows)), len(rows) // 512 + 1)
    ]
    return sum(some) / len(rows)


def compare(dataset: str, plan: Plan, home: Path) -> list[str]:
    """The tables of one data set."""
    made, embedded = prepared(dataset, home)
    items, store = item_space(dataset, made, embedded, home), EventStore.open(made)
    inside = split_items(store, FIELDS[dataset])
    parts = {name: domain(store, inside == (name == "A"), plan.share) for name in DOMAINS}
    stored = home / dataset / "instances"
    with stage_output(stored) as out:
        source = parts["A"]
        write_instances(
            plan.instances, FrameConfig(), plan.train, plan.runtime, items, source.store, source.samples, out
        )
    facts = read_manifest(stored)
    by = "item" if FIELDS[dataset] is None else f"value of `{FIELDS[dataset]}`"
    lines = [
        f"## {dataset}",
        "",
        f"Items split by {by}: {int(inside.sum()):,} in A, {int((~inside).sum()):,} in B. The source model "
        f"({plan.instances.order} order, width {plan.instances.dim}) reaches AUC {facts['source_valid_auc']:.4f} on "
        f"A's validation period; {sum(facts['instances'].values()):,} instances, {facts['vector_bytes']:,} bytes.",
        "",
    ]
    for name, part in parts.items():
        title = "in the domain" if name == "A" else "across domains"
        share = reached(part, plan, items, stored)
        sizes = f"{len(part.samples['train']):,} training and {len(part.samples['test']):,} test samples"
        lines += [
            f"### Requests in {name}: {title}",
            "",
            f"{sizes}; {share:.1%} of the test requests have an instance of A to read. Intervals are over users.",
            "",
            f"| the ranker reads | AUC | difference to {BASE} | {CONFIDENCE:.0%} interval | spread of seeds |",
            "|---|---:|---:|---|---:|",
            *_rows(part, plan, items, stored, f"transfer: {dataset}, {name}"),
            "",
        ]
    return lines


def _rows(part: Domain, plan: Plan, items: ItemSpace, stored: Path, what: str) -> list[str]:
    test = part.samples["test"]
    labels, user = test["label"].astype(float), np.unique(test["user"], return_inverse=True)[1]
    weights = user_resamples(int(user.max()) + 1, BOOTSTRAP, 0)
    series: dict[str, Array] = {}
    rows = []
    for name, config in plan.models().items():
        say(f"{what}: {name}")
        logits = score(part, plan, config, items, stored, f"{what}, {name}")
        aucs = np.stack([_resampled(labels, one, weights, user) for one in logits])
        series[name] = aucs.mean(axis=0)
        gap = series[name] - series[BASE]
        low, high = interval(gap[1:], CONFIDENCE)
        seen = ("–", "–") if name == BASE else (f"{gap[0]:+.4f}", f"{low:+.4f} to {high:+.4f}")
        rows.append(f"| {name} | {series[name][0]:.4f} | {seen[0]} | {seen[1]} | {aucs[:, 0].std():.4f} |")
    return rows


def _resampled(labels: Array, logits: Array, weights: Array, user: Array) -> Array:
    chunks = np.array_split(weights, max(1, len(weights) // 50))
    return np.concatenate([weighted_auc(labels, logits, chunk[:, user]) for chunk in chunks])


def main() -> None:
    """Runs all data sets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", nargs="+", choices=FIELDS, default=list(FIELDS))
    parser.add_argument("--order", choices=("temporal", "user"), default="user")
    parser.add_argument("--dim", type=int, default=64, help="width of an instance")
    parser.add_argument("--window", type=int, default=256, help="instances read, by the source and downstream")
    parser.add_argument("--stretches", type=int, default=16, help="parts of the training period for the source")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3, help="downstream runs per model")
    parser.add_argument("--share", type=float, default=1.0, help="share of the training samples, the latest")
    parser.add_argument("--home", type=Path, help="keep the stages' outputs here, and take them from here")
    parser.add_argument("--write", action="store_true", help="write reports/transfer.md")
    options = parser.parse_args()
    settings = {name: getattr(options, name) for name in ("order", "dim", "window", "stretches")}
    plan = Plan(
        InstancesConfig.model_validate(settings),
        TrainConfig(epochs=options.epochs),
        options.seeds,
        options.share,
        Runtime.start(ComputeConfig()),
    )
    chosen = [f"--datasets {' '.join(options.datasets)}"]
    chosen += [
        f"--{name} {getattr(options, name)}"
        for name in ("order", "dim", "window", "stretches", "epochs", "seeds", "share")
        if getattr(options, name) != parser.get_default(name)
    ]
    lines = ["# Transfer of instances", "", f"`python benchmarks/transfer.py {' '.join(chosen)} --write`", ""]
    try:
        with tempfile.TemporaryDirectory(prefix="hisac-lab-transfer-") as scratch:
            for dataset in options.datasets:
                found = compare(dataset, plan, options.home or Path(scratch))
                print("\n".join(found), flush=True)
                lines += found
    except UserError as error:
        raise SystemExit(f"transfer: error: {error}") from error
    if options.write:
        write_file(REPORT, "\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
