"""The commands `models`: versions of the product, and all that is known of one."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hisac_lab.base.errors import UserError
from hisac_lab.base.progress import say
from hisac_lab.cli.paths import ARTIFACTS, CHAMPION, LEDGER, LOCK
from hisac_lab.config.base import load_section
from hisac_lab.config.mlflow import MLflowConfig
from hisac_lab.config.promotion import PromotionConfig

if TYPE_CHECKING:
    from hisac_lab.registry.promotion import Promoter

app = typer.Typer(invoke_without_command=True)
COLUMNS = {
    "AUC": "auc",
    "from": "auc_low",
    "to": "auc_high",
    "A/B test": "verdict",
    "lift from": "lift_low",
    "lift to": "lift_high",
    "calibration": "calibration_error",
    "request MACs": "request_macs",
    "state bytes": "state_bytes",
    "protocol": "fingerprint",
}
"""Columns of `hisac-lab models` and the tags they show."""
FIRST = ("AUC", "from", "to", "A/B test")
"""Those that a narrow terminal has room for."""
NARROW = 120
Named = Annotated[str, typer.Argument(help="An alias or a number: champion, ranker@champion, 3, ranker/3.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
WORDS = {True: "ok", False: "FAIL", None: "-"}


@app.callback()
def models(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with all tags.")] = False
) -> None:
    """List registered versions with aliases and evidence; or look at one."""
    if context.invoked_subcommand is None:
        list_versions(as_json)


@app.command()
def show(version: Named, as_json: Json = False) -> None:
    """Say all that is known of a version: commit, data, settings, sweep, evidence, verdict, cost, card, ledger."""
    from hisac_lab.cli import version as one

    with _look() as (promoter, config):
        known = one.facts(promoter, promoter.versions.named(version), config)
    print(json.dumps(known, indent=2) if as_json else one.told(known), end="\n" if as_json else "")


@app.command("verify")
def verify_version(version: Named, as_json: Json = False) -> None:
    """Compute every digest of a version anew, in the registry and on disk; exit with 1 at damage."""
    from hisac_lab.cli.verify import verify
    from hisac_lab.registry.checks import Check, check_version, is_here

    with _look() as (promoter, _):
        named = promoter.versions.named(version)
        champion = promoter.versions.alias("champion")
        kept = CHAMPION if champion is not None and champion.version == named.version else None
        checks = list(check_version(promoter, named, ARTIFACTS, kept))
        if LOCK.exists() and is_here(named, ARTIFACTS):
            damaged = verify(None, repair=False)
            checks.append(Check(str(LOCK), not damaged, damaged[0] if damaged else "outputs are what it says"))
    if as_json:
        print(json.dumps([check._asdict() for check in checks], indent=2))
    else:
        for check in checks:
            print(f"{WORDS[check.holds]:<4} {check.part}: {check.says}")
    if failed := [check.part for check in checks if check.holds is False]:
        what = f"{len(failed)} of {len(checks)} parts are damaged ({', '.join(failed)})"
        raise UserError(f"version {named.version}", what, "the lines above say what mends each")


@app.command("rebuild")
def rebuild_version(
    version: Named,
    into: Annotated[
        Path | None, typer.Option(help="A new folder for it, which stays; else it goes when equal.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="The raw files, in place of what acquire.path was.")] = None,
) -> None:
    """Run the graph of a version's commit in a clean folder and compare its bundle; exit with 1 when a byte differs."""
    from hisac_lab.cli.rebuild import rebuild

    with _look() as (promoter, _):
        rebuild(promoter, promoter.versions.named(version), into, data)


def list_versions(as_json: bool = False) -> None:
    """Prints the product's versions, with what the terminal has room for, or as JSON with all tags; writes nothing."""
    from rich.console import Console
    from rich.table import Table

    with _look() as (promoter, config):
        listed, moved = promoter.list(), promoter.moved()
    if not listed:
        what = f"{config.product} has no version of this project yet"
        raise UserError("registry", what, "run the graph, or `hisac-lab sync`")
    if moved:
        say(f"{moved}: `hisac-lab sync` puts it back")
    if as_json:
        facts = [{"version": one.version, "model": one.model, "aliases": [*one.aliases], **one.tags} for one in listed]
        print(json.dumps(facts, indent=2))
        return
    console = Console(width=None if sys.stdout.isatty() else 160)
    columns = {name: COLUMNS[name] for name in (FIRST if console.width < NARROW else COLUMNS)}
    table = Table("version", "model", "alias", *columns)
    for version in listed:
        told = [version.tags.get(key, "") for key in columns.values()]
        table.add_row(version.version, version.model, ", ".join(version.aliases), *told)
    console.print(table)


@contextmanager
def _look() -> Iterator[tuple[Promoter, PromotionConfig]]:
    """The registry, to be read."""
    from hisac_lab.registry.store import Registry

    config = load_section("promotion", PromotionConfig)
    with Registry.look(load_section("mlflow", MLflowConfig), config.product, LEDGER) as promoter:
        yield promoter, config
