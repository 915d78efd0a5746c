"""The command `hisac-lab`."""

from __future__ import annotations

import errno
import importlib
import pkgutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hisac_lab import __version__
from hisac_lab.base import arithmetic
from hisac_lab.base.errors import UserError, explain_os_error
from hisac_lab.cli import ab, bulk, data, items, job, models, stages, states, understand
from hisac_lab.cli.user import name_the_user

BEGIN, RUN, LOOK, SHIP = "Begin", "Run", "Look", "Ship"
"""Panels of the help."""
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
params_app = typer.Typer(no_args_is_help=True, help="Look at, check and generate params.yaml.")
app.add_typer(params_app, name="params", rich_help_panel=BEGIN)
app.add_typer(data.app, name="data", rich_help_panel=BEGIN)
app.add_typer(ab.app, name="ab", rich_help_panel=LOOK)
app.add_typer(understand.sid, name="sid", rich_help_panel=LOOK)
app.add_typer(understand.agents, name="agents", rich_help_panel=LOOK)
app.add_typer(job.app, name="job", rich_help_panel=RUN)
app.add_typer(states.app, name="states", rich_help_panel=SHIP)
app.add_typer(items.app, name="items", rich_help_panel=SHIP)
app.add_typer(models.app, name="models", rich_help_panel=SHIP)
app.add_typer(bulk.export, name="export", rich_help_panel=SHIP)

EXTRAS = {
    "dvc": "graph",
    "snakemake": "graph",
    "lightgbm": "trees",
    "optuna": "sweep",
    "psycopg2": "postgres",
    "boto3": "s3",
    "dvc_s3": "s3",
    "mlflow": "mlflow",
    "fastapi": "serve",
    "uvicorn": "serve",
    "prometheus_client": "serve",
    "redis": "serve",
    "jinja2": "report",
    "matplotlib": "report",
    "tokenizers": "text",
    "wordllama": "text",
}
"""Packages that only a part of the product needs, and the extra that brings each."""
STAGES = sorted(module.name for module in pkgutil.iter_modules(stages.__path__))
MIRRORED = ("register", "report")  # after these, MLflow is brought up to date; it is never needed to run a stage


def _say_version(asked: bool) -> None:
    if asked:
        print(f"hisac-lab {__version__}")
        raise typer.Exit


@app.callback(no_args_is_help=True)
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_say_version)
    ] = False,
) -> None:
    """From a raw log of user histories to a promoted model.

    Begin with `hisac-lab doctor` and `hisac-lab data check LOG`, run the graph with `snakemake --cores all`, then
    `hisac-lab summary`.
    """


@app.command(rich_help_panel=BEGIN)
def init(
    like: Annotated[str | None, typer.Option(help="A typical log: short, long (histories) or votes.")] = None,
    log: Annotated[
        Path | None, typer.Option(help="Your own log, a file or a folder; by default the one in params.yaml.")
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Put the settings into params.yaml.")] = False,
) -> None:
    """Propose settings for a log like yours, a reason per line."""
    from hisac_lab.cli import advice

    print(advice.propose(like, log, write=write), end="")


@app.command(rich_help_panel=BEGIN)
def explain(key: Annotated[str, typer.Argument(help="A key of params.yaml, dotted, or a section.")]) -> None:
    """Say what a setting does, what it takes, its value and default, and which stages it reaches."""
    from hisac_lab.cli import settings

    print(settings.explain(key), end="")


@app.command(rich_help_panel=RUN)
def stage(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(STAGES)}.")],
    model: Annotated[str | None, typer.Option(help="train and sweep only: name in the section models.")] = None,
    seed: Annotated[int | None, typer.Option(help="train only: seed of the run.")] = None,
    index: Annotated[int | None, typer.Option(help="shard only: which one.")] = None,
) -> None:
    """Run one stage of dvc.yaml here and now (the graph does this; use `snakemake --cores` or `dvc repro`)."""
    from hisac_lab.cli import door
    from hisac_lab.config.base import load_section
    from hisac_lab.config.compute import ComputeConfig
    from hisac_lab.config.mlflow import MLflowConfig

    if name not in STAGES:
        raise UserError("hisac-lab stage", f"there is no stage {name!r}", f"name one of {', '.join(STAGES)}")
    compute = load_section("compute", ComputeConfig)
    arithmetic.choose(compute.arithmetic, compute.math_threads)  # before NumPy and torch are loaded
    door.check()
    if compute.arithmetic == "portable" and (reason := arithmetic.unsupported()):
        print(f"hisac-lab: {reason}: arithmetic is native, bytes may differ from other machines'", file=sys.stderr)
    arguments: dict[str, dict[str, Any]] = {
        "train": {"model": model, "seed": seed},
        "sweep": {"model": model},
        "shard": {"index": index},
    }
    options = arguments.get(name, {})
    if None in options.values():
        needed = " and ".join(f"--{option}" for option in options)
        raise UserError(f"hisac-lab stage {name}", f"needs {needed}", "give it")
    from hisac_lab.cli import machine

    with machine.recorded(machine.address(name, *options.values())):
        importlib.import_module(f"hisac_lab.cli.stages.{name}").run(**options)
    if name in MIRRORED and load_section("mlflow", MLflowConfig).mirror:
        from hisac_lab.cli import registry
        from hisac_lab.cli.params import load_params

        registry.mirror_or_say(load_params())


@params_app.command("check")
def params_check() -> None:
    """Check params.yaml; says nothing when it is right."""
    from hisac_lab.cli import door

    door.check()


@params_app.command("default")
def params_default() -> None:
    """Print params.yaml with all defaults."""
    from hisac_lab.cli.params import defaults

    print(defaults(), end="")


@params_app.command("show")
def params_show() -> None:
    """Print params.yaml in full; what differs from its default is marked and says it."""
    from hisac_lab.cli import settings

    print(settings.show(), end="")


@params_app.command("diff")
def params_diff() -> None:
    """Print only what differs from the defaults; nothing when all is as it comes."""
    from hisac_lab.cli import settings

    print(settings.diff(), end="")


@params_app.command("set", context_settings={"ignore_unknown_options": True})
def params_set(
    key: Annotated[str, typer.Argument(help="Dotted, as in `train.epochs`.")],
    value: Annotated[str, typer.Argument(help="As in YAML: 5, null, '[0, 1]'.")],
    more: Annotated[list[str] | None, typer.Argument(metavar="KEY VALUE", help="More keys and values.")] = None,
) -> None:
    """Change values in params.yaml if the whole is right with them; all else in the file stays."""
    from hisac_lab.cli import settings

    print(settings.change(key, value, *(more or ())))


@params_app.command("schema")
def params_schema() -> None:
    """Print the JSON schema of params.yaml."""
    from hisac_lab.cli.params import schema

    print(schema(), end="")


@app.command(rich_help_panel=RUN)
def sync() -> None:
    """Mirror the present outputs into MLflow and let aliases follow the ledger; does nothing twice."""
    from hisac_lab.cli import registry

    registry.sync()


@app.command("sweep", rich_help_panel=RUN)
def help_sweep(model: Annotated[str, typer.Argument(help="Name in the section models.")]) -> None:
    """Run trials of the study that machines share (sweep.storage) until none is left; writes no output."""
    from hisac_lab.cli import door
    from hisac_lab.config.base import load_section
    from hisac_lab.config.compute import ComputeConfig

    compute = load_section("compute", ComputeConfig)
    arithmetic.choose(compute.arithmetic, compute.math_threads)
    door.check()
    from hisac_lab.cli.stages import sweep

    print(f"all {sweep.help_out(model)} trials are told")


@app.command(rich_help_panel=SHIP)
def promote(
    model: Annotated[
        str | None, typer.Argument(help="A model of the board: its newest version. By default the challenger.")
    ] = None,
    version: Annotated[str | None, typer.Option(help="Number of a version.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Promote whatever the gates say; needs --reason.")] = False,
    reason: Annotated[str | None, typer.Option(help="Why it is forced: kept in the ledger and on the version.")] = None,
) -> None:
    """Make a version champion if the gates in params.yaml hold; else say which failed and exit with 1."""
    from hisac_lab.cli import registry

    registry.promote(model, version, force=force, reason=reason)


@app.command(rich_help_panel=SHIP)
def rollback() -> None:
    """Restore the champion before the present one."""
    from hisac_lab.cli import registry

    registry.rollback()


@app.command(rich_help_panel=LOOK)
def ui(port: Annotated[int, typer.Option(help="Port on this machine.")] = 5000) -> None:
    """Bring MLflow up to date and open its UI on this machine."""
    from hisac_lab.cli import registry

    registry.ui(port)


@app.command(rich_help_panel=SHIP)
def serve(
    bundle: Annotated[
        Path | None, typer.Option(help="A folder with a bundle, in place of the version that serve.alias names.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="In place of serve.port.")] = None,
) -> None:
    """Answer requests over HTTP with the champion; users' histories and states are kept beside it."""
    from hisac_lab.cli import serve as command

    command.serve(bundle, port)


@app.command(rich_help_panel=RUN)
def day(
    cores: Annotated[int | None, typer.Option(min=1, help="For Snakemake; by default all of this machine.")] = None,
) -> None:
    """Take files that were appended to the log, run what must run, and say who challenges the champion."""
    from hisac_lab.cli import day as command

    command.run(cores)


@app.command(rich_help_panel=LOOK)
def summary() -> None:
    """Say in a few lines what the last run made and what to do with it."""
    from hisac_lab.cli import summary as lines

    lines.show()


@app.command(rich_help_panel=LOOK)
def report(
    against: Annotated[
        Path | None, typer.Option(help="Another run beside this one: a project's folder, or its artifacts.")
    ] = None,
) -> None:
    """Write this run's report with times, commit and machine, or two runs side by side; says where it is."""
    from hisac_lab.cli import report as command

    print(command.here() if against is None else command.against(against))


@app.command(rich_help_panel=BEGIN)
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Look at what this machine and folder have and say how to mend it; exit with 1 where a run would stop."""
    from hisac_lab.cli import doctor as command

    if not command.examine(as_json):
        raise typer.Exit(1)


@app.command("graph", rich_help_panel=RUN)
def write_graph() -> None:
    """Write into dvc.yaml which code each stage runs; to be called after imports have changed."""
    from hisac_lab.cli import graph

    print("dvc.yaml is written anew" if graph.write() else "dvc.yaml is right as it is")


@app.command(rich_help_panel=RUN)
def verify(
    stage: Annotated[str | None, typer.Argument(help="As DVC names it, train@hisac-0; by default all.")] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Remove what is damaged; the next run computes it.")] = False,
) -> None:
    """Compare outputs with dvc.lock byte for byte, as after a restore from a doubtful disk; exit with 1 at damage."""
    from hisac_lab.cli import verify as command

    lines = command.verify(stage, repair=repair)
    for line in lines:
        print(f"hisac-lab: {line}", file=sys.stderr)
    if lines:
        raise typer.Exit(1)


@app.command(rich_help_panel=RUN)
def reproduce(
    this: Annotated[str, typer.Argument(help="A dvc.lock, or a git revision that has one.")] = "dvc.lock",
    that: Annotated[str, typer.Argument(help="Another one.")] = "HEAD",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say where two runs part and why, by their dvc.lock's; exit with 0 when all outputs are equal, else with 1."""
    from hisac_lab.cli import reproduce as command

    if not command.reproduce(this, that, as_json):
        raise typer.Exit(1)


app.command(rich_help_panel=SHIP)(bulk.score)


def _at_a_prompt(error: UserError) -> UserError:
    """The same, where a file is missing, with the mend of whoever has typed a command in some folder."""
    from hisac_lab.config.base import PARAMS_FILE

    if error.what != "does not exist" or sys.argv[1:2] == ["stage"]:
        return error
    if error.where == str(PARAMS_FILE):
        return UserError(Path.cwd(), f"has no {PARAMS_FILE}, so it is no project", "go to a project's folder")
    if Path(error.where).parts[:1] == ("artifacts",):
        from hisac_lab.cli import running

        process = running.other()
        hint = "run the graph: snakemake --cores all" if process is None else f"wait for the run (process {process})"
        return UserError(error.where, "is not made yet", hint, error.field)
    return error


def main() -> None:
    """Runs the command; a `UserError` becomes one line and exit code 1."""
    # Bars and messages go to the terminal as they come.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    name_the_user()
    try:
        app()
    except UserError as error:
        from hisac_lab.config.base import PARAMS_FILE

        print(f"hisac-lab: error: {_at_a_prompt(error).told(PARAMS_FILE)}", file=sys.stderr)
        sys.exit(1)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        hint = f"pip install 'hisac-lab[{extra}]'"
        print(f"hisac-lab: error: environment: package {error.name} is missing; {hint}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"hisac-lab: error: {explain_os_error(error, Path.cwd())}", file=sys.stderr)
        sys.exit(1)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "out of memory" not in str(error).lower():
            raise
        hint = "lower train.batch_requests or prepare.history_limit, or give the machine more memory"
        print(f"hisac-lab: error: {Path.cwd()}: out of memory; {hint}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
