"""Is the A/B test's instrument right? In worlds where every lift is known.

    make bench-ab          or  python benchmarks/ab.py [--tests 1000] [--aa 2000] [--users 300] [--write]

Table policies of known skill stand for models in thousands of tests (ab_tables.py): false alarms, coverage, signs,
daily looks, speed. Nine trained models show whether the test and offline metrics order them as the truth does
(ab_models.py). The last line printed is JSON; with --write the page goes to reports/bench-ab.md. With --stability it
repeats the tests of finished projects instead (ab_stability.py), with --known it draws tests of the trained models of a
finished project whose world is known (ab_known.py).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from ab_known import known
from ab_models import CONTROL, Judged, judge, ranks
from ab_stability import stability
from ab_tables import (
    CROWD,
    DAYS,
    ERRORS,
    HEAT,
    LEVELS,
    LOGS,
    OTHER,
    POOLS,
    SEEDS,
    SHORT,
    SLATE,
    USERS,
    VERDICT,
    VISITS,
    Uniform,
    coverage_rows,
    measure,
)
from pages import table

from hisac_lab.base.artifacts import write_file
from hisac_lab.base.errors import UserError

REPORT = Path(__file__).parents[1] / "reports" / "bench-ab.md"
STABILITY = REPORT.with_name("bench-ab-stability.md")
KNOWN = REPORT.with_name("bench-ab-known.md")
BEST = "hisac_counts"
"""A model that is truly better than the control, to be found."""


def main() -> None:
    """Measures, writes the page where it is asked for, prints the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tests", type=int, default=1000, help="worlds drawn for coverage, and tests looked at daily")
    parser.add_argument("--aa", type=int, default=2000, help="tests of the control against itself, for each metric")
    parser.add_argument("--table-users", type=int, default=200, help="real users of the table policies' world")
    parser.add_argument("--users", type=int, default=300, help="users of the trained models' world")
    parser.add_argument("--keep", type=float, default=0.2, help="share of their requests that models are trained on")
    parser.add_argument("--stability", type=Path, nargs="+", metavar="FOLDER", help="projects whose tests are repeated")
    parser.add_argument(
        "--known", type=Path, metavar="FOLDER", help="project of the simulated world, tested by its truth"
    )
    parser.add_argument("--write", action="store_true", help="write the page")
    options = parser.parse_args()
    if options.stability or options.known:
        try:
            _of_projects(options)
        except UserError as error:
            raise SystemExit(f"bench-ab: error: {error}") from error
        return
    numbers, aa = measure(options.table_users, options.tests, options.aa)
    judged = judge(options.users, options.keep)
    found = {
        "aa_rates": aa[VERDICT].rates,
        "ks_p": aa[VERDICT].ks_p,
        **{name: round(value, 4) for name, value in (numbers | ranks(judged)).items()},
        "found": judged[BEST].lift.low > 0,
    }
    if options.write:
        write_file(REPORT, page(numbers, aa, judged, sys.argv[1:]))
    print(json.dumps(found))


def _of_projects(options: argparse.Namespace) -> None:
    """Measures in finished projects instead."""
    if options.stability:
        lines, share = stability(options.stability)
        found, where = {"verdicts_same": share}, STABILITY
    else:
        lines, found = known(options.known, options.tests)
        where = KNOWN
    if options.write:
        write_file(where, "\n".join(lines) + "\n")
    print(json.dumps({name: round(value, 4) for name, value in found.items()}))


def page(
    numbers: Mapping[str, float], aa: Mapping[str, Uniform], judged: Mapping[str, Judged], arguments: list[str]
) -> str:
    """The page in Markdown."""
    lines = [
        "# The A/B test's instrument",
        "",
        f"`python benchmarks/ab.py {' '.join(arguments)}` on {os.cpu_count()} cores ({platform.machine()}), Python "
        f"{platform.python_version()}, torch {version('torch')}.",
        "",
        "All of it in the simulated world `small`, whose click probabilities are known, so that every true lift is.",
        "",
        *_aa(aa),
        *_coverage(numbers),
        *_daily(numbers),
        *_order(numbers, judged),
        *_speed(numbers),
    ]
    return "\n".join(lines) + "\n"


def _aa(aa: Mapping[str, Uniform]) -> list[str]:
    rows = [
        [name, *(f"{one.rates[f'{level:g}']:.2%}" for level in LEVELS), f"{one.ks_p:.3f}"] for name, one in aa.items()
    ]
    return [
        "## A policy against itself",
        "",
        "Share of tests with a p-value below each level, and the p-value that all of them are uniform",
        "(Kolmogorov-Smirnov). The verdict's lift is that of three runs of the control against three others, users,",
        f"pools and runs drawn anew. The other rows are tests of {CROWD:,} users in two arms, by metric.",
        "",
        *table(("metric", *(f"below {level:.0%}" for level in LEVELS), "uniform, p"), rows),
        "",
    ]


def _coverage(numbers: Mapping[str, float]) -> list[str]:
    return [
        "## Known lifts",
        "",
        f"Eight table policies against a control, {SEEDS} runs each, {USERS} users, {VISITS} pools a user, all",
        f"drawn anew in every test. They show the best {SLATE} by the truth and an error of {ERRORS[-1]} to",
        f"{ERRORS[0]} logits: true lifts run from {numbers['least_lift']:.2%} to {numbers['largest_lift']:.1%}.",
        "",
        *table(("", "found", "wanted"), coverage_rows(numbers)),
        "",
    ]


def _daily(numbers: Mapping[str, float]) -> list[str]:
    rows = [
        ["the interval of one look", f"{numbers['peeking_once']:.1%}"],
        [f"a group-sequential bound for {DAYS} looks (Sidak)", f"{numbers['peeking_bound']:.1%}"],
        ["a confidence sequence, for any number of looks", f"{numbers['peeking_sequence']:.1%}"],
    ]
    return [
        "## Looking every day",
        "",
        f"Tests of a policy against itself over {DAYS} days that are called better or worse on some day, where one",
        "looks at:",
        "",
        *table(("", "called"), rows),
        "",
        "The bound and the sequence may be looked at daily; the interval of one look may not.",
        "",
    ]


def _order(numbers: Mapping[str, float], judged: Mapping[str, Judged]) -> list[str]:
    rows = [
        [
            name,
            f"{one.gauc:.4f}",
            f"{one.lift.value:+.1%} [{one.lift.low:+.1%}, {one.lift.high:+.1%}]",
            f"{one.true:+.1%}",
        ]
        for name, one in sorted(judged.items(), key=lambda pair: -pair[1].true)
    ]
    by = ranks(judged)
    return [
        "## Trained models",
        "",
        f"One seed each against `{CONTROL}`. The true lift is that on 15 other pools of each user.",
        "",
        *table(("model", "user-wise AUC", "the test's lift", "true lift"), rows),
        "",
        f"Rank correlation with the true lift: of the test's lift {by['rank_correlation']:.3f} (wanted: 0.9), of the",
        f"user-wise AUC {by['gauc_rank_correlation']:.3f}. Of the lifts of the table policies in a world that is",
        "fitted on the log with hindsight, which takes the truth's place on real logs:",
        f"{numbers['fitted_rank_correlation']:.3f}. Of their lifts as softmax policies (slates of {SHORT}, temperature",
        f"{HEAT:g}), read off logged slates of the control alone, doubly robust, the mean over {LOGS} logs:",
        f"{numbers['off_policy_rank_correlation']:.3f}.",
        "",
    ]


def _speed(numbers: Mapping[str, float]) -> list[str]:
    paired, days = numbers["paired_reduction"], numbers["user_days_per_minute"] / 1e6
    cuped, clicks = numbers["cuped_reduction"], numbers["cuped_reduction_by_clicks"]
    return [
        "## Variance and speed",
        "",
        f"- CUPED takes {cuped:.1%} off the variance of the click rate of {POOLS * SLATE} things, by the clicks on as",
        f"  many from other pools before the test, and by what the policy `{OTHER}` expects of the control's slates,",
        f"  whichever arm a user is in; {clicks:.1%} by the clicks alone. Wanted: 30 %.",
        f"- The same users and pools for both arms, in expected clicks, have {paired:.0f} times less variance than two",
        "  arms of other users with drawn clicks. Wanted: 10 times.",
        f"- {days:.0f} million user-days a CPU minute: a slate of a table policy a day, clicks drawn and read.",
        "  Wanted: 1 million.",
    ]


if __name__ == "__main__":
    main()
