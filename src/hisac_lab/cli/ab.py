"""The command `ab power`: how large an A/B test has to be, before it begins."""

from __future__ import annotations

import json
import math
from typing import Annotated

import typer

from hisac_lab.base.errors import UserError
from hisac_lab.cli.paths import ARTIFACTS

app = typer.Typer(no_args_is_help=True, help="Plan A/B tests.")
HERE = "hisac-lab ab power"


@app.callback()
def _group() -> None:
    """Keeps `power` a command of its own, though there is no other."""


@app.command("power")
def power(
    lift: Annotated[float | None, typer.Option(help="Lift to be found; by default abtest.margin.")] = None,
    users: Annotated[int | None, typer.Option(help="Users, both arms; by default abtest.users.", min=4)] = None,
    spread: Annotated[
        float | None,
        typer.Option(help="Standard deviation of a user's clicks over their mean; by default the last test's."),
    ] = None,
    confidence: Annotated[float, typer.Option(help="One less the chance of a false alarm.")] = 0.95,
    chance: Annotated[float, typer.Option("--power", help="Chance to find the lift.")] = 0.8,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say how many users a test needs to find a lift, and which lift so many users find."""
    from hisac_lab.abtest.power import least_lift, users_needed
    from hisac_lab.cli.params import load_params

    config = load_params().abtest
    lift, users = config.margin if lift is None else lift, config.users if users is None else users
    _check(lift, spread, confidence, chance)
    spreads = _of_last_test() if spread is None else {"": spread}
    found = {
        name: {
            "spread": one,
            "users": 2 * math.ceil(users_needed(lift, one, confidence, chance)),
            "lift": least_lift(users / 2, one, confidence, chance),
        }
        for name, one in spreads.items()
    }
    if as_json:
        print(json.dumps({"lift": lift, "users": users, "confidence": confidence, "power": chance, "found": found}))
        return
    print(f"two arms of equal size, power {chance:.0%}, false alarms {1 - confidence:.1%}")
    for name, one in found.items():
        print(f"{name + ': ' if name else ''}spread {one['spread']:.3f} of the mean")
        print(f"  a lift of {lift:.2%} needs {one['users']:,} users")
        print(f"  {users:,} users find lifts from {one['lift']:.2%}")


def _check(lift: float, spread: float | None, confidence: float, chance: float) -> None:
    """Raises a UserError where a number is out of its range."""
    rules = (
        ("--lift", lift, lift > 0, "give a share above 0, like 0.01"),
        ("--spread", spread, spread is None or 0 < spread < math.inf, "give a number above 0"),
        ("--confidence", confidence, 0 < confidence < 1, "give a share between 0 and 1"),
        ("--power", chance, 1 - confidence < chance < 1, "give a share between the chance of a false alarm and 1"),
    )
    for name, value, holds, hint in rules:
        if not holds:
            raise UserError(HERE, f"{value:g} is out of range", hint, name)


def _of_last_test() -> dict[str, float]:
    """Spreads of the drawn test of the first treatment, as it is, after CUPED and post-stratified.

    Raises:
        UserError: There is none.
    """
    from hisac_lab.abtest.power import relative_spread
    from hisac_lab.abtest.records import ABTested, ABTests

    if not (ARTIFACTS.abtest / ABTests.FILE).exists():
        raise UserError(
            HERE, "there is no A/B test yet to take the spread from", "run the graph, or give it", "--spread"
        )
    tests, manifest = ABTests.open(ARTIFACTS.abtest), ABTested.open(ARTIFACTS.abtest)
    if not tests.tests:
        raise UserError(HERE, "the last A/B test had no treatment", "give it", "--spread")
    name, test = next(iter(tests.tests.items()))
    if test.draw is None:
        raise UserError(HERE, "the last A/B test drew no clicks: it stands on logged exposures", "give it", "--spread")
    read = {
        f"{name} over {tests.control}": test.draw.lift,
        "the same with CUPED": test.draw.lift_cuped,
        "the same post-stratified": test.draw.lift_stratified,
    }
    return {one: relative_spread(lift, test.draw.users, manifest.confidence) for one, lift in read.items()}
