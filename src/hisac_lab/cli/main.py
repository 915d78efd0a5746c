"""The command `hisac-lab`."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hisac_lab.base.errors import UserError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
params_app = typer.Typer(no_args_is_help=True, help="Look at, check and generate params.yaml.")
app.add_typer(params_app, name="params")

STAGES = "acquire prepare embed tokenize codebook sweep train evaluate abtest register report".split()


@app.command()
def stage(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(STAGES)}.")],
    model: Annotated[str | None, typer.Option(help="train only: name in the section models.")] = None,
    seed: Annotated[int | None, typer.Option(help="train only: seed of the run.")] = None,
) -> None:
    """Run one stage of dvc.yaml here and now (the graph does this; use `snakemake --cores` or `dvc repro`)."""
    from hisac_lab.config.params import load_params

    if name not in STAGES:
        raise UserError("hisac-lab stage", f"there is no stage {name!r}", f"name one of {', '.join(STAGES)}")
    params = load_params()
    # Before NumPy and torch are imported: one number of threads whatever the machine, or results would differ.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(params.compute.math_threads)
    options: dict[str, Any] = {"model": model, "seed": seed} if name == "train" else {}
    if None in options.values():
        raise UserError("hisac-lab stage train", "needs --model and --seed", "give both")
    importlib.import_module(f"hisac_lab.cli.stages.{name}").run(**options)


@params_app.command("check")
def params_check() -> None:
    """Check params.yaml; says nothing when it is right."""
    from hisac_lab.config.params import load_params

    load_params()


@params_app.command("default")
def params_default() -> None:
    """Print params.yaml with all defaults."""
    from hisac_lab.config.params import defaults

    print(defaults(), end="")


@params_app.command("schema")
def params_schema() -> None:
    """Print the JSON schema of params.yaml."""
    from hisac_lab.config.params import schema

    print(schema(), end="")


def main() -> None:
    """Runs the command; a `UserError` becomes one line and exit code 1."""
    # Bars and messages go to the terminal as they come.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        app()
    except UserError as error:
        print(f"hisac-lab: error: {error}", file=sys.stderr)
        sys.exit(1)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "out of memory" not in str(error).lower():
            raise
        mend = "lower train.batch_requests or prepare.history_limit, or give the machine more memory"
        print(f"hisac-lab: error: {Path.cwd()}: out of memory; {mend}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
