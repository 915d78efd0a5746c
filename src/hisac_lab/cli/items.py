"""The commands `items`: new items for a trained model, and whose semantic IDs a refit has changed."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hisac_lab.base import arithmetic
from hisac_lab.base.errors import UserError
from hisac_lab.config.base import load_section
from hisac_lab.config.compute import ComputeConfig

if TYPE_CHECKING:
    import pandas as pd

    from hisac_lab.base.artifacts import Array

app = typer.Typer(no_args_is_help=True, help="New items for a trained model; whose semantic IDs have changed.")
LISTED = 20


@app.command()
def add(
    table: Annotated[Path, typer.Argument(help="Table of the new items, with the columns of the log's item table.")],
    vectors: Annotated[Path | None, typer.Option(help="Their vectors, .npy, where the log came with vectors.")] = None,
    alias: Annotated[str, typer.Option(help="Version that they are appended to.")] = "champion",
    bundle: Annotated[Path | None, typer.Option(help="A bundle's folder in its place; needs --out.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the new bundle, which is then not registered.")] = None,
    promote: Annotated[bool, typer.Option("--promote", help="Make the new version champion, if it may be.")] = False,
) -> None:
    """Append items to a model as a new version: semantic IDs by the frozen quantizer, nothing is trained."""
    if (bundle is None) != (out is None) or (promote and bundle is not None):
        raise UserError("items add", "--bundle and --out belong together, without --promote", "give both or neither")
    compute = load_section("compute", ComputeConfig)
    arithmetic.choose(compute.arithmetic, compute.math_threads)  # before NumPy and torch are loaded
    if bundle is not None and out is not None:
        count, told = _append(bundle, table, vectors, out)
        print(f"{out}: {bundle} with {count:,} items appended, {told:,} of them with a semantic ID")
        return
    from hisac_lab.cli import registry

    with tempfile.TemporaryDirectory() as home:
        there = Path(home) / "bundle"

        def made(earlier: Path) -> Path:
            nonlocal count, told
            count, told = _append(earlier, table, vectors, there)
            return there

        count = told = 0
        product, before, version = registry.register_from(alias, made)
    print(f"{product} version {version}: version {before} with {count:,} items appended, {told:,} with a semantic ID")
    if promote:
        registry.promote(None, version)
    else:
        print(f"`hisac-lab promote --version {version}` makes it champion")


@app.command()
def changes(
    then: Annotated[Path, typer.Argument(help="An earlier output of the stage tokenize, or a bundle.")],
    now: Annotated[Path | None, typer.Argument(help="A later one; by default artifacts/tokenize.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every item.")] = False,
) -> None:
    """Say whose semantic IDs are not what they were: how many, and which."""
    from hisac_lab.cli.paths import ARTIFACTS
    from hisac_lab.tokens.changes import changed_ids

    found = changed_ids(ids_of(then), ids_of(ARTIFACTS.tokenize if now is None else now))
    rows = [
        {"item": item, "then": before, "now": after}
        for item, before, after in zip(found["item"], found["then"], found["now"], strict=True)
    ]
    if as_json:
        print(json.dumps({**found.attrs, "changed": rows}, indent=2, ensure_ascii=False))
        return
    facts = found.attrs
    print(
        f"{len(rows):,} of {facts['both']:,} items in both have another semantic ID; {facts['new']:,} are new, "
        f"{facts['gone']:,} are gone"
    )
    for row in rows[:LISTED]:
        print(f"  {row['item']}: {row['then'] or 'none'} -> {row['now'] or 'none'}")
    if len(rows) > LISTED:
        print(f"  and {len(rows) - LISTED:,} more, all in --json")


def ids_of(folder: Path) -> Path:
    """The table of semantic IDs in a bundle, or in an output of `tokenize`.

    Raises:
        UserError: There is none.
    """
    from hisac_lab.inference.records import ModelFile
    from hisac_lab.tokens.tokenize import IDS

    home = folder / "tokens" if (folder / ModelFile.FILE).exists() else folder
    if not (home / IDS).is_file():
        hint = "name a bundle, or an output of the stage tokenize"
        raise UserError(folder, f"holds no semantic IDs ({IDS})", hint)
    return home / IDS


def _append(bundle: Path, file: Path, vectors: Path | None, out: Path) -> tuple[int, int]:
    """Writes the new bundle; how many items it has more, and how many of them have a semantic ID."""
    from hisac_lab.base.artifacts import stage_output
    from hisac_lab.config.tokens import EmbedConfig
    from hisac_lab.registry.appended import append_bundle

    if out.exists():
        raise UserError(out, "is there already", "name a folder that is not")
    table = _table(bundle, file)
    rows, path = _vectors(vectors, table), load_section("embed", EmbedConfig).model_path
    with stage_output(out) as draft:
        told = append_bundle(bundle, table, draft, where=file, vectors=rows, model_path=path)
    return len(table), told


def _table(bundle: Path, file: Path) -> pd.DataFrame:
    """The new items: of an own log by its `prepare.columns`, of others by the columns item and text."""
    from hisac_lab.config.acquire import AcquireConfig
    from hisac_lab.config.events import ColumnsConfig, PrepareConfig
    from hisac_lab.inference.records import CatalogFile
    from hisac_lab.tables.files import ITEM_SUFFIXES, kind_of
    from hisac_lab.tables.layouts.own import item_table
    from hisac_lab.tables.read import header, layout_of

    if not file.is_file() or kind_of(file) not in ITEM_SUFFIXES:
        raise UserError(
            file, "is no table" if file.exists() else "does not exist", "name a .csv, .tsv, .jsonl or .parquet file"
        )
    catalog = CatalogFile.open(bundle)
    fields = tuple(field.name for field in catalog.fields)
    numbers = tuple(one.name for one in catalog.numbers)
    if load_section("acquire", AcquireConfig).dataset == "own":
        columns = load_section("prepare", PrepareConfig).columns
    else:
        columns = ColumnsConfig(item="item", text=("text",), fields=fields, numbers=numbers)
        there = header(file, layout_of(file, columns.separator))
        if missing := [name for name in ("item", "text", *fields, *numbers) if name not in there]:
            what = f"columns are missing: {', '.join(missing)} (there are: {', '.join(there)})"
            raise UserError(file, what, f"add them; {bundle / CatalogFile.FILE} has the values of fields", missing[0])
    if (columns.fields, columns.numbers) != (fields, numbers):
        what = f"are {[*columns.fields, *columns.numbers]}, those of the bundle {[*fields, *numbers]}"
        raise UserError("params.yaml", what, "name the columns as when it was trained", "prepare.columns")
    return item_table(file, columns)


def _vectors(path: Path | None, table: pd.DataFrame) -> Array | None:
    if path is None:
        return None
    import numpy as np

    from hisac_lab.tables.layouts.own import read_vectors

    return np.concatenate([block for _, block in read_vectors(path, table["item"])])
