"""What people read beside a run, an experiment or a model in MLflow: Markdown, written from the records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hisac_lab.abtest.records import ABTests, Lift
from hisac_lab.base.artifacts import MANIFEST
from hisac_lab.evaluation.records import Evaluated, Metric, ModelScores, Scores
from hisac_lab.events.records import InstancesMade, Prepared
from hisac_lab.registry.gates import Gate
from hisac_lab.registry.records import Evidence
from hisac_lab.sources.records import Acquired
from hisac_lab.sweep.records import Swept, Trial

EXPERIMENT = """\
**One tree of runs for each execution of the graph.** The plus before its name opens it: stages are numbered in the
order of the graph, a run for each training, trials below their sweep. The top run has verdict, report and settings.

- A run has the settings that its stage reads as parameters; a dotted key stands in backticks:
  ``params.`train.learning_rate` = '0.002'``.
- `auc/MODEL` and `lift/MODEL` are of the test period and the A/B test; `test/auc` is that of one training, `valid_auc`
  has its steps.
- `hisac-lab promote` changes the champion: it asks the gates and writes the ledger. An alias that is moved here by hand
  is put back by the next command, which says so.
"""


def purpose(name: str) -> str:
    """What the output of a stage is; empty for one that is not known here."""
    match name:
        case "acquire":
            return "The raw log, its files known by their SHA-256."
        case "prepare":
            return "Histories, requests and samples, split in time; a history ends before its request."
        case "embed":
            return "The frozen vectors of the items."
        case "tokenize":
            return "Semantic IDs of the items, and how good they are: `levels.json` has a row per level."
        case "codebook":
            return "The prefix tree of the semantic IDs, which votes and interest-agents stand on."
        case "instances":
            return "Stored instances, for the models that read them."
        case "register":
            return "A bundle for each model: weights, vocabulary, settings, fidelity card, evidence."
        case "report":
            return "The page; it stands among the artifacts of the run above."
        case _:
            return ""


def stage(name: str, output: Path) -> str:
    """What a stage without runs below it makes, and what is in it."""
    lines = [purpose(name), _found(name, output), f"`{MANIFEST}` is what the stage itself says of it."]
    return "\n\n".join(filter(None, lines))


def _found(name: str, output: Path) -> str:
    if name == "acquire":
        source = Acquired.open(output)
        return f"**{source.dataset}**: " + ", ".join(f"`{file}`" for file in source.files)
    if name == "prepare":
        facts = Prepared.open(output)
        sizes = ", ".join(f"{part} {split.samples:,}" for part, split in facts.splits.items())
        return (
            f"**{facts.dataset}**: {facts.users:,} users, {facts.items:,} items, {facts.events:,} events; samples: "
            f"{sizes}; negatives: {facts.negatives}; time unit: {facts.time_unit}."
        )
    if name == "instances" and InstancesMade.open(output).order == "none":
        return "No model of this board reads any."
    return ""


def sweep(swept: Swept) -> str:
    """What a study has found."""
    states = ", ".join(f"{number} {state}" for state, number in swept.states.items())
    return (
        f"Search over the settings of **{swept.model}**: {swept.trials} trials ({states}).\n\n"
        f"Best on the validation period: trial {swept.best}, AUC {swept.best_auc:.4f}. "
        f"Taken: **trial {swept.chosen}**, AUC {swept.auc:.4f}, {swept.request_macs:,} multiply-adds a request, "
        f"{swept.state_bytes:,.0f} bytes of state, by the rule: {swept.rule}."
    )


def trial(row: Trial, swept: Swept) -> str:
    """What became of a trial."""
    words = [f"Trial {row.number} of {swept.trials} for **{swept.model}**: {row.state}."]
    if row.auc is not None:
        words.append(f"Validation AUC {row.auc:.4f}.")
    words += [f"{text}." for text in (row.reason, row.cut and f"The codebook made {row.cut}") if text]
    if row.number == swept.chosen:
        words.append("**Taken by the rule.**")
    elif row.number in swept.near:
        words.append("Users and seeds cannot tell it from the best.")
    return " ".join(words)


def training(name: str, seed: int, found: ModelScores) -> str:
    """What a training is worth, and whether its weights are in the model's bundle."""
    scores = found.seeds[seed]
    whole = f"{name} over {len(found.seeds)} seeds: {_interval(found.auc)}" if len(found.seeds) > 1 else ""
    served = "Best on the validation period: **these weights are in the bundle.**"
    if seed != found.best_seed:
        served = f"Seed {found.best_seed} is better on the validation period and stands in the bundle."
    lines = [f"**{name}**, seed {seed}: AUC {scores.auc:.4f} on the test period, {scores.valid_auc:.4f} on validation."]
    return "\n\n".join(filter(None, [*lines, whole, served]))


def evaluation(scores: Scores, evaluated: Evaluated) -> str:
    """The board in short."""
    lines = [f"- **{name}**: {_interval(entry.auc)}" for name, entry in scores.models.items()]
    head = (
        f"Every model on {evaluated.test_samples:,} samples of {evaluated.test_users:,} users of the test period "
        f"(negatives: {evaluated.negatives}; protocol `{evaluated.fingerprint}`). AUC with its interval over users:"
    )
    return "\n".join([head, "", *lines, "", "`scores.json` has every metric, `costs.json` what serving costs."])


def abtest(tests: ABTests) -> str:
    """Verdicts, and what this evidence cannot show."""
    lines = [f"- **{name}**: {test.verdict}{_lift(test.corrected)}" for name, test in tests.tests.items()]
    why = [f"No verdict: {tests.reason}.", ""] if tests.reason else []
    return "\n".join(
        [f"Against **{tests.control}**, by {tests.evidence} evidence:", "", *lines, "", *why, tests.caveat]
    )


def ships(gates: list[Gate], standing: str) -> str:
    """May it ship, in a few words: it is champion, every gate holds, or which do not."""
    failed = [gate.name for gate in gates if not gate.holds]
    if standing:
        return standing
    return "yes: every gate holds" if not failed else f"no: {', '.join(failed)}"


def verdict(answers: Mapping[str, tuple[str, Evidence]], product: str, run: str) -> str:
    """The first thing that is read of a pipeline: a row per model with what decides, and where the report is.

    Args:
        answers: May it ship, and its evidence, by version of the product.
        product: The registered model.
        run: Address of the pipeline's run in the UI.
    """
    rows = [
        f"| [{evidence.model}](#/models/{product}/versions/{version}) | {_interval(evidence.metrics['auc'])} "
        f"| {_test(evidence)} | {evidence.cost.state_bytes:,.0f} | {evidence.cost.request_macs:,.0f} | {ships} |"
        for version, (ships, evidence) in answers.items()
    ]
    may = ", ".join(evidence.model for ships, evidence in answers.values() if ships.startswith("yes")) or "none"
    now = next((f"{one.model} is champion" for ships, one in answers.values() if ships.startswith("it is")), "")
    first = f"**May ship: {may}.** {now or 'The champion is none of these'}; `hisac-lab promote MODEL` changes it."
    head = "| model | AUC on the test period | A/B test | bytes of state | multiply-adds of a request | may it ship? |"
    links = f"[The report]({run}/artifacts/report.html), [all versions of {product}](#/models/{product})."
    return "\n".join([first, "", head, "|---|---|---|---:|---:|---|", *rows, "", links])


def version(evidence: Evidence, gates: list[Gate], ships: str, card: str, run: str) -> str:
    """What a version is, what was found, may it ship, where the report is, what it took over from the paper.

    Args:
        evidence: Of the version.
        gates: What each says today.
        ships: May it ship.
        card: Its fidelity card.
        run: Address of the pipeline's run in the UI.
    """
    rows = [f"| {gate.name} | {'holds' if gate.holds else '**fails**'} | {gate.says} |" for gate in gates]
    return "\n".join(
        [
            f"May it ship? {ships}. It is {evidence.model}, seed {evidence.seed}, of {len(evidence.seeds)} trained.",
            "",
            f"- AUC on the test period: {_interval(evidence.metrics['auc'])}",
            f"- A/B test: {_test(evidence)}",
            f"- Cost: {evidence.cost.state_bytes:,.0f} bytes of state, {evidence.cost.request_macs:,.0f} multiply-adds "
            "of a request of 500 candidates",
            f"- Protocol `{evidence.fingerprint}`, negatives: {evidence.negatives}",
            f"- [The report]({run}/artifacts/report.html)",
            "",
            "| gate | today | what it says |",
            "|---|---|---|",
            *rows,
            "",
            card,
        ]
    )


def _interval(metric: Metric) -> str:
    low, high = metric.interval
    return f"{metric.value:.4f} [{low:.4f}, {high:.4f}]"


def _test(evidence: Evidence) -> str:
    test = evidence.abtest
    if test is None:
        return "control"
    lift = "" if test.lift is None else _lift(test.lift)
    return f"{test.verdict}{lift}" + (f" ({test.reason})" if test.reason else "")


def _lift(lift: Lift) -> str:
    """A lift as the verdict reads it."""
    return f", lift {lift.value:+.2%} [{lift.low:+.2%}, {lift.high:+.2%}] after Holm's correction"
