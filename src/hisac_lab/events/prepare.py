"""The stage `prepare`: joins the shards into the event store and writes its page of facts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from hisac_lab.base.artifacts import (
    MANIFEST,
    Array,
    array_blocks,
    digest_of,
    load_array,
    save_arrays,
    save_blocks,
)
from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.base.progress import track
from hisac_lab.config.events import ColumnsConfig, PrepareConfig
from hisac_lab.events.profile import ShardCounts, add_up, describe, profile
from hisac_lab.events.records import ContextFacts, Ingested, Leaks, Prepared, Sharded
from hisac_lab.events.series import join_events
from hisac_lab.events.store import HISTORY_FEEDBACK, LOGGED, RANDOM, REST, SPLITS
from hisac_lab.tables.columns import UNIT_SECONDS

LATER = {
    PrepareConfig: (
        "bad_rows",
        "unknown_items",
        "items_without_text",
        "negatives_window",
        "new_items",
        "label_delay",
        "half_lives",
        "exposures",
        "tasks",
        "weight",
    ),
    ColumnsConfig: (
        *("decimal", "label_values", "numbers"),
        *("user_fields", "user_numbers", "request_fields", "request_numbers"),
    ),
}
"""Settings that came later: at their defaults no protocol names them."""
TABLE_FILES = (
    *("items.parquet", "item_fields.npy", "item_numbers.npy", "vectors.npy"),
    *("users.parquet", "user_columns.npy"),
)


def prepare(config: PrepareConfig, *, ingested: Path, shards: list[Path], out: Path) -> None:
    """Builds the event store and the samples.

    Args:
        config: The section `prepare`.
        ingested: Output of the stage `ingest`.
        shards: Outputs of the stage `shard`, in order.
        out: An empty directory.

    Raises:
        UserError: Nothing is left of a split, or a history reaches into its request.
    """
    facts = Ingested.open(ingested)
    sharded = [Sharded.open(path) for path in shards]
    _tidy(shards)
    new_users = _join(shards, sharded, facts, out)
    counted = [
        ShardCounts(_counted(path), record.months, record.splits) for path, record in zip(shards, sharded, strict=True)
    ]
    counts = add_up(counted)
    leaks = {key: sum(getattr(record.leaks, key) for record in sharded) for key in Leaks.model_fields}
    broken = {key: number for key, number in leaks.items() if key != "samples_checked" and number}
    if broken:
        raise UserError(out, f"histories reach beyond their requests: {broken}", "report this as a bug", "leak checks")
    splits = {name: describe(counts, name) for name in (*SPLITS, RANDOM) if counts.splits[name]["samples"]}
    require_both_labels(splits)
    for name in TABLE_FILES:
        if (ingested / name).exists():
            shutil.copyfile(ingested / name, out / name)
    offsets = load_array(out, "offsets")
    cuts = {"valid": facts.cuts[0], "test": facts.cuts[1]}
    Prepared(
        dataset=facts.source.dataset,
        users=facts.users,
        items=facts.items,
        items_described=facts.items_described,
        events=sum(record.events for record in sharded),
        events_outside=facts.events_outside,
        **({"left_out": facts.left_out} if facts.left_out else {}),
        events_out_of_order=sum(record.events_out_of_order for record in sharded),
        events_repeated=sum(record.events_repeated for record in sharded),
        history_events=int(offsets[-1]),
        samples_without_history=sum(record.samples_without_history for record in sharded),
        samples_not_kept=sum(record.samples_not_kept for record in sharded),
        positive_from=facts.positive_from,
        feedback=facts.feedback,
        label_delay=config.label_delay,
        negatives="real exposures" if facts.labeled else _sampled(config, counts),
        time_unit=config.time_unit,
        history_limit=config.history_limit,
        fields=facts.fields,
        **({"numbers": facts.numbers} if facts.numbers else {}),
        extras=facts.extras,
        **({"logged": facts.logged} if facts.logged else {}),
        **({"exposures": _exposures(out)} if config.exposures == "all" else {}),
        cuts=cuts,
        splits=splits,
        leaks=leaks,
        protocol=digest_of({"config": _settings(config, facts.labeled), "raw": facts.source.files, "cuts": facts.cuts}),
        profile=profile(counts, facts.labeled, np.diff(offsets), new_users),
        context=_context(config, facts, shards, splits, out),
        **(
            {}
            if facts.labeled
            else {"positives_on_new_items": sum(record.positives_on_new_items or 0 for record in sharded)}
        ),
    ).save(out)


def _exposures(out: Path) -> dict[str, int]:
    """How many exposures of each period are no samples."""
    return {name: len(load_array(out, f"{REST}_{name}")) for name in SPLITS}


def _settings(config: PrepareConfig, labeled: bool) -> dict[str, Any]:
    """What the protocol names of the section `prepare`."""
    settings = config.model_dump(mode="json", exclude={"shards"}) | {"history": config.history_of(labeled)}
    for section, values in ((PrepareConfig, settings), (ColumnsConfig, settings["columns"])):
        usual = section().model_dump(mode="json")
        for name in LATER[section]:
            if values[name] == usual[name]:
                del values[name]
    return settings


def _context(
    config: PrepareConfig, facts: Ingested, shards: list[Path], splits: dict[str, dict[str, float]], out: Path
) -> ContextFacts:
    """Writes the item series and says what the log gives for the context of a request."""
    for name in facts.series:
        join_events(shards, name, config.half_lives, out)
    return ContextFacts(
        half_lives=config.half_lives if facts.series else (),
        series=facts.series,
        share=splits.get("train", {}).get("positive_share", 0.5),
        unit=UNIT_SECONDS[config.time_unit],
        **{name: side for name, side in (("user", facts.user), ("request", facts.request)) if side.width},
    )


def _sampled(config: PrepareConfig, counts: ShardCounts) -> str:
    """Where sampled negatives come from, and how many there are: of equal candidates of a request only one stays."""
    positives = sum(counts.splits[name]["positives"] for name in SPLITS)
    negatives = sum(counts.splits[name]["samples"] for name in SPLITS) - positives
    said = f"{negatives / max(1, positives):.3g}"
    touched = {
        "recent": f"of the items touched in the {config.negatives_window} days before",
        "matched": "matched in days since the last touch",
    }
    by = touched.get(config.negatives_by, config.negatives_by)
    short = "drawn, those that repeat left out" if by == config.negatives_by else "wanted, not everywhere so many left"
    asked = "" if said == str(config.negatives) else f" ({config.negatives} {short})"
    drawn = f"sampled negatives, {said} per positive{asked}, {by}, seed {config.seed}"
    if config.new_items == "drop":
        drawn += f", no positives on items new in their {config.time_unit}"
    if config.positives_per_request is not None:
        drawn += f", at most {config.positives_per_request} positives of a request"
    return drawn


def require_both_labels(splits: dict[str, dict[str, float]]) -> None:
    """A period without samples of both labels can be neither learned from nor judged by.

    Raises:
        UserError: Names the period.
    """
    for name in SPLITS:
        facts = splits.get(name, {"samples": 0, "positive_share": 0})
        if not 0 < facts["positive_share"] < 1:
            raise UserError(
                SETTINGS,
                f"the {name} period has {facts['samples']} samples with a history and not both labels",
                "give more data or other prepare.train_share, valid_share, cuts, keep, min_history",
                "prepare",
            )


def _tidy(shards: list[Path]) -> None:
    """Removes outputs of earlier settings beside the shards: with them the folder would have another hash."""
    for folder in shards[0].parent.iterdir():
        if folder not in shards and folder.name.isdigit() and (folder / MANIFEST).exists():
            shutil.rmtree(folder)


def _counted(path: Path) -> dict[str, Array]:
    names = [f"{kind}_{split}" for kind in ("lengths", "shown") for split in (*SPLITS, RANDOM)]
    return {name: load_array(path, name) for name in (*names, "item_ages")}


def _join(shards: list[Path], sharded: list[Sharded], facts: Ingested, out: Path) -> int:
    """Puts the shards one after the other, block by block; counts test samples of users without a training sample."""
    splits = (*SPLITS, RANDOM)
    rests = [f"{REST}_{name}" for name in SPLITS if (shards[0] / f"{REST}_{name}.npy").exists()]
    ends = np.array([load_array(path, "offsets")[-1] for path in shards])
    first = {
        "user": _begins(np.array([part.users for part in sharded])),
        "end": _begins(ends),
        "request": _begins(np.array([part.requests for part in sharded])),
    }

    def samples(name: str) -> Iterator[Array]:
        for shard, path in enumerate(shards):
            for block in array_blocks(path, name):
                for field, begins in first.items():
                    block[field] += begins[shard]
                yield block

    for name in [*(f"samples_{split}" for split in splits), *rests]:
        _save(out, name, shards, samples(name))
    histories = ["history_items", "history_times", *([] if facts.feedback is None else [HISTORY_FEEDBACK])]
    beside = [f"{extra}_{split}" for extra in facts.extras for split in splits]
    beside += [f"{LOGGED}_{part}" for part in (*splits, *rests) if facts.logged]
    for name in [*histories, *beside]:
        _save(out, name, shards, (block for path in shards for block in array_blocks(path, name)))
    offsets = [load_array(path, "offsets")[1:] + begin for path, begin in zip(shards, first["end"], strict=True)]
    save_arrays(out, {"offsets": np.concatenate([np.zeros(1, np.int64), *offsets])})
    new_users = 0
    for path in track(shards, len(shards), "prepare", "shards"):
        seen = np.unique(load_array(path, "samples_train")["user"])
        new_users += int((~np.isin(load_array(path, "samples_test")["user"], seen)).sum())
    return new_users


def _begins(sizes: Array) -> Array:
    begins: Array = np.cumsum(sizes) - sizes
    return begins


def _save(out: Path, name: str, shards: list[Path], blocks: Iterator[Array]) -> None:
    first = load_array(shards[0], name)
    rows = sum(len(load_array(path, name)) for path in shards)
    save_blocks(out, name, rows, chain([first[:0]], blocks))
