"""All that is known of one version, for people and as JSON."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator
from typing import Any

import yaml

from hisac_lab.config.promotion import PromotionConfig
from hisac_lab.evaluation.records import SLATE
from hisac_lab.inference.records import CARD, Claim
from hisac_lab.registry.gates import check_gates
from hisac_lab.registry.origin import Change, Origin
from hisac_lab.registry.promotion import Promoter
from hisac_lab.registry.records import ABEvidence, Evidence
from hisac_lab.registry.versions import BUNDLE, CHAMPION, MODEL, Version

WIDTH, HEAD = 80, 13
NOWHERE = "nobody recorded it; `hisac-lab sync` does, of the outputs that are here"
LEFT_OUT = "left out"


def facts(promoter: Promoter, version: Version, config: PromotionConfig) -> dict[str, Any]:
    """All of it, as JSON has it.

    Args:
        promoter: The registry.
        version: One of its versions.
        config: The section `promotion`.

    Raises:
        UserError: The bundle or the code is not what was registered.
    """
    versions = promoter.versions
    bundle, origin = versions.bundle(version), promoter.origin(version)
    evidence = Evidence.open(bundle)
    champion = versions.alias(CHAMPION)
    rival = None if champion is None or champion.version == version.version else versions.evidence(champion)
    lines = promoter.ledger.about(version.tags[BUNDLE])
    asked = next((line for line in reversed(lines) if "gates" in line), None)
    return {
        "name": versions.product,
        "version": str(version.version),
        "model": version.tags[MODEL],
        "aliases": sorted(_aliases(promoter, version)),
        "bundle": version.tags[BUNDLE],
        "origin": None if origin is None else origin.facts(),
        "evidence": evidence.facts(),
        "gates": asked["gates"] if asked else [gate._asdict() for gate in check_gates(evidence, rival, config)],
        "gates_asked": asked["time"] if asked else None,
        "card": [claim.facts() for claim in Claim.read_list(bundle / CARD)],
        "ledger": [{key: line.get(key) for key in ("number", "time", "action", "forced", "hash")} for line in lines],
    }


def told(known: dict[str, Any]) -> str:
    """The same for people, in lines of 80 columns."""
    aliases = "".join(f", {alias}" for alias in known["aliases"])
    lines = [f"{known['name']} version {known['version']}: {known['model']}{aliases}", ""]
    origin = None if known["origin"] is None else Origin.of(known["origin"], "registry")
    evidence = Evidence.of(known["evidence"], "registry")
    parts = [*([("commit", NOWHERE)] if origin is None else _came(origin, known["model"])), *_stands(evidence)]
    asked = f"as asked {known['gates_asked'][:10]}" if known["gates_asked"] else "as they would be asked now"
    parts += [("gates", asked)]
    parts += [("", f"{'ok  ' if gate['holds'] else 'FAIL'} {gate['name']}: {gate['says']}") for gate in known["gates"]]
    parts += _card(known["card"])
    if origin is not None:
        parts += _computed(origin)
    actions = [f"line {line['number']}, {line['time'][:10]}: {line['action']}" for line in known["ledger"]]
    forced = [f", forced: {line['forced']}" if line["forced"] else "" for line in known["ledger"]]
    parts += _listed("ledger", [one + two for one, two in zip(actions, forced, strict=True)] or ["no line about it"])
    parts.append(("bundle", f"SHA-256 {known['bundle']}"))
    for head, text in parts:
        lines += _wrapped(head, text)
    return "\n".join(lines) + "\n"


def _aliases(promoter: Promoter, version: Version) -> Iterator[str]:
    for one in promoter.list():
        if one.version == str(version.version):
            yield from one.aliases


def _came(origin: Origin, model: str) -> Iterator[tuple[str, str]]:
    """Code, data, settings, codebook and sweep."""
    commit = origin.commit.removesuffix("+")
    beyond = "" if origin.whole else ", but the code that ran is not all in it: it cannot be rebuilt"
    yield "commit", f"{commit}{beyond}" if commit else "there was no git"
    log, source = origin.log, origin.source
    cuts = ", ".join(f"{name} from {day}" for name, day in sorted(log.cuts.items(), key=lambda cut: cut[1]))
    yield "data", f"{source.dataset}: {log.events:,} events of {log.users:,} users on {log.items:,} items"
    yield "", f"{log.first} to {log.last}; {cuts}; protocol {log.protocol}"
    for name, digest in source.files.items():
        yield "", f"{name}, SHA-256 {digest[:16]}"
    changed = [
        f"{key}: {_side(change, 'value')} (default {_side(change, 'default')})"
        for key, change in origin.settings.items()
    ]
    yield from _listed("settings", changed or ["all as they come"])
    book = origin.codebook
    yield "codebook", f"{book.digest}, {book.method}, nodes by level {', '.join(map(str, book.nodes))}"
    yield "semantic IDs", f"SHA-256 {book.semantic_ids[:16]}"
    swept = origin.sweeps.get(model)
    if swept is None:
        yield "sweep", "none: its settings are as they stand"
    else:
        yield "sweep", f"trial {swept.chosen} of {swept.trials}, {swept.rule}"
        yield "", f"validation AUC {swept.auc:.4f}, that of the best {swept.best_auc:.4f}"


def _side(change: Change, side: str) -> str:
    if side not in change.model_fields_set:
        return "absent"
    text: str = yaml.safe_dump(getattr(change, side), default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _stands(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Weights, evidence, verdict and cost."""
    seeds = ", ".join(map(str, evidence.seeds))
    yield "weights", f"{evidence.weights}, seed {evidence.seed} of {seeds}; {evidence.parameters:,} parameters"
    for head, (name, metric) in zip(_heads("evidence"), evidence.metrics.items(), strict=False):
        yield head, f"{name} {metric.value:.4f} {_interval(metric.interval)}"
    if evidence.popularity is not None:
        gap = evidence.popularity
        yield "", f"AUC less that of popularity {gap.difference:+.4f} {_interval(gap.interval)}"
    for other, gap in evidence.comparisons.items():
        yield "", f"AUC less that of {other} {gap.difference:+.4f} {_interval(gap.interval)}, p {gap.p:.4f}"
    yield "", f"validation AUC {evidence.valid_auc:.4f}; negatives: {evidence.negatives}"
    yield "", f"calibration error {evidence.calibration_error:.4f}; fingerprint {evidence.fingerprint}"
    yield "A/B test", "it was the control" if evidence.abtest is None else _verdict(evidence.abtest)
    cost = evidence.cost
    yield (
        "cost",
        f"{cost.state_bytes:,.0f} bytes of state, {cost.request_macs:,.0f} multiply-adds of {SLATE} candidates",
    )


def _verdict(test: ABEvidence) -> str:
    why = f" ({test.reason})" if test.reason else ""
    lift = "" if test.lift is None else f", lift {test.lift.value:+.2%} [{test.lift.low:+.2%}, {test.lift.high:+.2%}]"
    return f"{test.verdict}{why} by {test.kind} evidence, against {test.control}{lift}"


def _interval(ends: tuple[float, float]) -> str:
    return f"[{ends[0]:.4f}, {ends[1]:.4f}]"


def _card(card: list[dict[str, str]]) -> Iterator[tuple[str, str]]:
    counts = Counter(claim["status"] for claim in card)
    yield "card", ", ".join(f"{count} {status}" for status, count in counts.items()) or "empty"
    for claim in card:
        if claim["status"] == LEFT_OUT:
            yield "", f"{LEFT_OUT}: {claim['claim']}"


def _computed(origin: Origin) -> Iterator[tuple[str, str]]:
    made = origin.environment
    on = [*made.processors, *made.gpus]
    yield "environment", f"{', '.join(on) or 'unknown'}; arithmetic: {', '.join(made.arithmetic) or 'unknown'}"
    if made.versions:
        yield "", ", ".join(f"{name} {version}" for name, version in made.versions.items())


def _heads(first: str) -> Iterator[str]:
    yield first
    while True:
        yield ""


def _listed(head: str, texts: list[str]) -> Iterator[tuple[str, str]]:
    yield from zip(_heads(head), texts, strict=False)


def _wrapped(head: str, text: str) -> list[str]:
    indent = " " * HEAD
    return textwrap.wrap(text, WIDTH, initial_indent=f"{head:<{HEAD}}", subsequent_indent=f"{indent}  ")
