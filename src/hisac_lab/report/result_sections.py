"""Sections on what came out: headline, A/B test, fidelity cards, lineage."""

from __future__ import annotations

from hisac_lab.base.stages import SHOWN
from hisac_lab.report import result_charts as charts
from hisac_lab.report.document import (
    Block,
    Cell,
    Counts,
    Figure,
    Figures,
    Note,
    Points,
    Row,
    Section,
    table,
)
from hisac_lab.report.drawing import MUTED, colours, lineage
from hisac_lab.report.facts import Facts
from hisac_lab.report.leaderboard import excludes_zero, metric_names
from hisac_lab.report.result_charts import Reading
from hisac_lab.report.words import between, confidence, fixed, percent, signed, signed_percent, whole

VERDICTS = {"won": "good", "lost": "bad", "undecided": "plain"}
MOST_TESTS = 4
NOTES = "docs/papers/"
STATUSES = {"stated": "good", "inferred": "mid", "left out": "plain"}


def headline(facts: Facts) -> Section:
    """One sentence each: data, leader, A/B, protocol."""
    prepared, evaluated = facts.prepared, facts.evaluated
    return Section(
        "headline",
        "Headline",
        (
            Points(
                (
                    (
                        "Data",
                        f"{facts.acquired.dataset}: {whole(prepared.events)} events of {whole(prepared.users)} users "
                        f"on {whole(prepared.items)} items; labels: {evaluated.negatives}.",
                    ),
                    ("Offline", _leader(facts)),
                    ("A/B test", _verdicts(facts)),
                    (
                        "Protocol",
                        f"Fingerprint `{evaluated.fingerprint}`: split, candidates, negatives, history limit and "
                        "metrics. Numbers with another fingerprint do not belong beside these.",
                    ),
                )
            ),
        ),
    )


def _leader(facts: Facts) -> str:
    reference = facts.evaluated.reference
    best = facts.ranking[0]
    auc = facts.scores.models[best].metrics["auc"]
    text = (
        f"`{best}` has the highest AUC, {fixed(auc.value)} ({confidence(facts.evaluated.confidence)} interval "
        f"{between(auc.interval)})"
    )
    if best == reference:
        return text + "; it is the reference that the others are compared with."
    verb = "excludes" if excludes_zero(auc.difference_interval) else "includes"
    return (
        f"{text}; paired difference to the reference `{reference}`: {signed(auc.difference)} "
        f"{between(auc.difference_interval, signed)}, the interval {verb} zero."
    )


def _verdicts(facts: Facts) -> str:
    control = facts.tests.control
    if not facts.tests.tests:
        return f"There is no model beside the control `{control}`."
    tests = sorted(facts.tests.tests.items())
    if len(tests) <= MOST_TESTS:
        found = [
            f"`{name}` {test.verdict}, {signed_percent(test.lift_cuped.value)} CTR "
            f"{between(test.lift_cuped.interval, signed_percent)}"
            for name, test in tests
        ]
    else:
        named = {
            verdict: [
                f"`{name}`" + (f" {signed_percent(test.lift_cuped.value)} CTR" if verdict != "undecided" else "")
                for name, test in tests
                if test.verdict == verdict
            ]
            for verdict in VERDICTS
        }
        found = [f"{len(names)} {verdict}: {', '.join(names)}" for verdict, names in named.items() if names]
        found.append(f"{len(tests)} tests, none corrected for their number")
    return f"Simulated, against the control `{control}`: {'; '.join(found)}."


def abtest(facts: Facts) -> Section:
    """Lifts, tests, world, caveat."""
    tests, world = facts.tests, facts.abtested.world
    colour = colours(facts)
    shown = [(name, test, colour.get(name, MUTED)) for name, test in sorted(tests.tests.items())]
    shown.append((f"A/A: {tests.control}", tests.aa, MUTED))
    readings = [
        Reading(
            name,
            test.lift_cuped.value,
            test.lift_cuped.interval,
            tint,
            wide=test.lift.interval,
            truth=test.true_lift,
        )
        for name, test, tint in shown
    ]
    level = confidence(facts.abtested.confidence)
    lifts: list[Row] = []
    checks: list[Row] = []
    for name, test, tint in shown:
        treatment = Cell(name, colour=tint)
        lifts.append(
            (
                treatment,
                Cell(test.verdict, badge=VERDICTS.get(test.verdict, "plain")),
                Cell(signed_percent(test.lift_cuped.value), between(test.lift_cuped.interval, signed_percent)),
                fixed(test.lift_cuped.p_value, 3),
                Cell(signed_percent(test.lift.value), between(test.lift.interval, signed_percent)),
                fixed(test.lift.p_value, 3),
                signed_percent(test.true_lift),
            )
        )
        checks.append(
            (
                treatment,
                whole(test.users.control),
                whole(test.users.treatment),
                fixed(test.sample_ratio_p, 3),
                percent(test.ctr.control, 2),
                percent(test.ctr.treatment, 2),
                percent(test.cuped_variance_removed),
            )
        )
    return Section(
        "abtest",
        "A/B test",
        (
            Note(tests.caveat, "callout"),
            Note(
                f"Each model, with its best seed, against the control `{tests.control}` on simulated users, split by a "
                f"hash. Lifts in click-through rate (CTR) are relative, with {level} intervals; the verdict is won or "
                "lost where the CUPED interval excludes zero, undecided otherwise. The A/A row shows the control "
                "against itself: its true lift is zero."
            ),
            Figures(
                (
                    Figure(
                        charts.forest("lifts", "Lift of each test with its interval", readings, signed_percent, 0.0),
                        f"Lift in CTR over {tests.control}",
                        "Right of the line is better than the control; the diamond is the lift that is true in the "
                        "world.",
                    ),
                    Figure(
                        charts.agreement(facts, min(max(240, 60 + 52 * len(readings)), 480)),
                        "Offline and A/B",
                        "Where the two agree, marks rise from left to right; the control lies on the line.",
                    ),
                )
            ),
            table(
                "Lifts.",
                ("treatment", "verdict", "CUPED lift", "p", "lift without CUPED", "p without CUPED", "true lift"),
                lifts,
                ("treatment", "verdict"),
            ),
            table(
                "Checks. A small sample-ratio p would mean a broken split.",
                (
                    "treatment",
                    "users, control",
                    "users, treatment",
                    "sample-ratio p",
                    "CTR, control",
                    "CTR, treatment",
                    "variance removed by CUPED",
                ),
                checks,
                ("treatment",),
            ),
            Note("The world is fitted on the test period's exposures; its hold-out AUC says how well it knows them."),
            Counts(
                (
                    ("real users behind the simulated ones", whole(world.real_users)),
                    ("exposures", whole(world.exposures)),
                    ("hold-out AUC", fixed(world.holdout_auc)),
                    ("factors", whole(world.dim)),
                )
            ),
        ),
    )


def fidelity(facts: Facts) -> Section:
    """Each model's card."""
    if not facts.cards:
        return Section("fidelity", "Fidelity", (Note("No fidelity cards yet: the stage `register` has not run."),))
    settings = {run.name: run.settings for run in facts.runs}
    blocks: list[Block] = [
        Note(
            "How each model relates to its paper, line by line: stated by the paper, inferred by us, or left out; "
            f"beside it the test that pins it. Sources are headings of the notes in `{NOTES}`."
        )
    ]
    for name, lines in sorted(facts.cards.items()):
        chosen = ", ".join(f"{key} {value}" for key, value in sorted(settings[name].items()) if value is not None)
        rows = [
            (
                line.claim,
                Cell(line.status, badge=STATUSES.get(line.status, "plain")),
                f"`{line.source.removeprefix(NOTES)}`",
                f"`{line.test}`" if line.test else "–",
            )
            for line in lines
        ]
        columns = ("claim", "status", "source", "test")
        blocks.append(table(f"`{name}`. Settings: {chosen}.", columns, rows, columns))
    return Section("fidelity", "Fidelity", tuple(blocks))


def provenance(facts: Facts) -> Section:
    """What was made from which bytes."""
    digests = facts.digests
    runs = sum(name.startswith("train ") for name in digests)
    below = {name: _short(digests.get(name), 7) for name in SHOWN} | {"train": f"{runs} runs"}
    artefacts: list[Row] = [
        (name, f"`{_short(digest, 12)}`", facts.arithmetic.get(name, "–")) for name, digest in digests.items()
    ]
    return Section(
        "lineage",
        "Lineage",
        (
            Figures(
                (
                    Figure(
                        lineage([*((name, below[name]) for name in SHOWN), ("report", "this page")]),
                        "The graph",
                        "Stages in the order they run, with the first digits of their outputs' SHA-256.",
                    ),
                )
            ),
            table(
                "Artefacts: SHA-256 over names and contents of each directory, first 12 digits, and the "
                "arithmetic that made it.",
                ("artefact", "SHA-256", "arithmetic"),
                artefacts,
                ("artefact", "SHA-256", "arithmetic"),
            ),
            Note(
                "In portable arithmetic these bytes do not depend on the machine, so this page names none. Which "
                "machine made each output, when and how fast: see `hisac-lab summary`, `logs/stages/` or MLflow."
            ),
            table(
                "Raw files.",
                ("file", "SHA-256"),
                [(name, f"`{digest}`") for name, digest in sorted(facts.acquired.files.items())],
                ("file", "SHA-256"),
            ),
            table(
                "Fingerprints and settings.",
                ("what", "value"),
                (
                    ("data protocol", f"`{facts.prepared.protocol}`"),
                    ("evaluation protocol", f"`{facts.evaluated.fingerprint}`"),
                    ("A/B test", f"`{facts.abtested.test_fingerprint}`"),
                    ("labels", facts.evaluated.negatives),
                    ("reference model", facts.evaluated.reference),
                    ("level of intervals", confidence(facts.evaluated.confidence)),
                    ("metrics", ", ".join(metric_names(facts).values())),
                    ("test samples", whole(facts.evaluated.test_samples)),
                    ("test users", whole(facts.evaluated.test_users)),
                ),
                ("what", "value"),
            ),
        ),
    )


def _short(digest: str | None, digits: int) -> str:
    return digest[:digits] if digest else "not run"
