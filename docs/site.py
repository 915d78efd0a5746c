"""The part of the documentation site that the repository holds elsewhere or that code says: a hook of MkDocs.

Pages keep the links that work in the repository. README is the start page; CONTRIBUTING, CHANGELOG and the pages below
`reports/` are pages too; a link to any other file leads to the repository. Settings and commands are written from the
code that reads them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import Any

import typer.main
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from hisac_lab.cli.main import app
from hisac_lab.cli.params import Params

ROOT = Path(__file__).parents[1]
ELSEWHERE = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Pages outside `docs/`, and where they stand in the site; those below `reports/` stand where they are."""
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")
SCHEMES = ("http:", "https:", "mailto:")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are elsewhere, and those that are written here."""
    reports = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "reports").rglob("*.md"))]
    for source, target in {**ELSEWHERE, **{name: name for name in reports}}.items():
        files.append(File.generated(config, target, abs_src_path=str(ROOT / source)))
    for name, text in {"settings": settings(), "commands": commands()}.items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links between files of the repository into links between pages, or to the repository."""
    here = page.file.src_uri
    home = PurePosixPath(in_repository(here)).parent

    def turned(match: re.Match[str]) -> str:
        target, anchor = match[2], match[3] or ""
        if target.startswith(SCHEMES):
            return match[0]
        path = normpath(str(home / target))
        place = in_site(path)
        if files.get_file_from_path(place) is None:
            return f"{match[1]}{config.repo_url}/blob/main/{path}{anchor}{match[4]}"
        return f"{match[1]}{relpath(place, str(PurePosixPath(here).parent))}{anchor}{match[4]}"

    return LINK.sub(turned, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """A table's empty corner is no head."""
    return re.sub(r"<th([^>]*)></th>", r"<td\1></td>", html)


def in_repository(page: str) -> str:
    """Where the file of a page stands."""
    back = {target: source for source, target in ELSEWHERE.items()}
    return back.get(page, page if page.startswith("reports/") else f"docs/{page}")


def in_site(path: str) -> str:
    """Where a file of the repository stands in the site, if it does."""
    return ELSEWHERE.get(path, path.removeprefix("docs/"))


def settings() -> str:
    """Every setting: a table for each class of them."""
    schema = Params.model_json_schema()
    lines = [
        "# Settings",
        "",
        "All keys of `params.yaml`. `hisac-lab explain KEY` says the same of one, and which stages depend on it.",
    ]
    for name, entry in schema["properties"].items():
        lines += ["", f"## {name}", "", *_table(entry, schema)]
    kinds = [part for part in schema["$defs"].values() if "const" in part.get("properties", {}).get("kind", {})]
    lines += ["", "## Kinds of models", "", "An entry of `models` names its `kind`; the other keys are that kind's."]
    for part in sorted(kinds, key=lambda part: str(part["properties"]["kind"]["const"])):
        lines += ["", f"### {part['properties']['kind']['const']}", "", *_rows(part, schema)]
    return "\n".join(lines) + "\n"


def _table(entry: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    """The table of a section."""
    part = _resolved(entry, schema)
    text = str(part.get("description", "")).split("\n\n")[0].replace("\n", " ")
    return [text, "", *_rows(part, schema)] if "properties" in part else [text or str(entry.get("description", ""))]


def _rows(part: dict[str, Any], schema: dict[str, Any], prefix: str = "") -> list[str]:
    head = ["| key | meaning | default |", "|---|---|---|"]
    return head + _keys(part, schema, prefix)


def _keys(part: dict[str, Any], schema: dict[str, Any], prefix: str) -> list[str]:
    rows = []
    for key, entry in part.get("properties", {}).items():
        inner = _resolved(entry, schema)
        if "properties" in inner:
            rows += _keys(inner, schema, f"{prefix}{key}.")
            continue
        meaning = str(entry.get("description", "")).replace("|", "\\|").replace("\n", " ")
        default = "" if "default" not in entry else f"`{_short(json.dumps(entry['default'], ensure_ascii=False))}`"
        rows.append(f"| `{prefix}{key}` | {meaning} | {default} |")
    return rows


def _short(text: str) -> str:
    text = text.replace("|", "\\|")
    return text if len(text) <= 60 else f"{text[:57]}..."


def _resolved(entry: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    reference = entry.get("$ref") or next((part["$ref"] for part in entry.get("allOf", []) if "$ref" in part), None)
    found: dict[str, Any] = entry if reference is None else schema["$defs"][reference.rsplit("/", 1)[-1]]
    return found


def commands() -> str:
    """Every command with its arguments and options."""
    lines = [
        "# Commands",
        "",
        "`hisac-lab COMMAND --help` says the same; `hisac-lab --install-completion` completes commands and options in "
        "your shell. `--json`, where there is one, is for scripts.",
        "",
        "| exit code | meaning |",
        "|---|---|",
        "| 0 | done |",
        "| 1 | an error, in one line on standard error; or the answer is no: `data check`, `doctor`, `promote`, "
        "`reproduce`, `verify` |",
        "| 2 | the command is written wrong |",
    ]
    for name, command in _commands(typer.main.get_command(app)):
        context = typer.Context(command, info_name=f"hisac-lab {name}")
        usage = " ".join(["$ hisac-lab", name, *command.collect_usage_pieces(context)])
        lines += ["", f"## hisac-lab {name}", "", command.help or "", "", "```console", usage, "```", ""]
        rows = [
            f"| `{' / '.join(parameter.opts)}` | {getattr(parameter, 'help', None) or ''} |"
            for parameter in command.params
            if parameter.name != "help"
        ]
        lines += ["| argument or option | |", "|---|---|", *rows] if rows else []
    return "\n".join(lines) + "\n"


def _commands(command: Any, prefix: str = "") -> list[tuple[str, Any]]:
    inner: dict[str, Any] | None = getattr(command, "commands", None)
    if inner is None:
        return [(prefix.strip(), command)]
    own = [(prefix.strip(), command)] if command.invoke_without_command else []
    return own + [pair for name, sub in inner.items() for pair in _commands(sub, f"{prefix} {name}")]
