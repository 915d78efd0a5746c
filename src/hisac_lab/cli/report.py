"""The command `report`: this run's page with what this machine knows of it, or two runs side by side."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path
from typing import Any

import yaml

from hisac_lab import __version__
from hisac_lab.base.artifacts import MANIFEST, write_file
from hisac_lab.base.errors import UserError, explain_os_error
from hisac_lab.base.stages import Artifacts
from hisac_lab.cli import machine
from hisac_lab.cli.paths import ARTIFACTS, REPORTS, TIMINGS
from hisac_lab.config.base import PARAMS_FILE, load_section
from hisac_lab.config.promotion import PromotionConfig
from hisac_lab.evaluation.records import Timings
from hisac_lab.report.against import Side, sections
from hisac_lab.report.build import compose, head
from hisac_lab.report.collect import collect
from hisac_lab.report.facts import Facts, Local
from hisac_lab.report.render import to_html, to_markdown


def here() -> Path:
    """Writes this run's page with measured times, commit and machine: no output of the graph, so it may hold them.

    Returns:
        Where it is.
    """
    facts = collect(ARTIFACTS, load_section("promotion", PromotionConfig))
    facts = dataclasses.replace(facts, local=_local(facts))
    return _write("here", compose(facts), head(facts))


def against(run: Path) -> Path:
    """Writes settings, data and results of this run beside those of another.

    Args:
        run: A project's folder, or its folder of artifacts.

    Returns:
        Where it is.

    Raises:
        UserError: That holds no finished run.
    """
    promotion = load_section("promotion", PromotionConfig)
    that = _artifacts(run)
    if that.root.resolve() == ARTIFACTS.root.resolve():
        raise UserError(run, "is this run itself", "name the folder of another", "--against")
    ours = Side("this run", collect(ARTIFACTS, promotion), _settings(PARAMS_FILE))
    theirs = Side(str(run), collect(that, promotion), _settings(that.root.parent / PARAMS_FILE.name))
    top = head(ours.facts) | {"title": "hisac-lab: two runs", "question": f"How does this run differ from `{run}`?"}
    return _write("against", sections(ours, theirs), top)


def _artifacts(run: Path) -> Artifacts:
    for root in (run / ARTIFACTS.root, run):
        if (root / "evaluate" / MANIFEST).exists():
            return Artifacts(root)
    what = "holds no finished run" if run.is_dir() else "is no folder"
    raise UserError(run, what, "name a project in which the graph has run, or its folder artifacts", "--against")


def _settings(path: Path) -> dict[str, str]:
    """All settings by dotted keys, as the file has them."""
    if not path.exists():
        return {}
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise explain_os_error(error, path) from error
    except yaml.YAMLError as error:
        raise UserError(path, f"is not YAML ({' '.join(str(error).split())})", "mend it") from error
    return _flat(tree) if isinstance(tree, dict) else {}


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in tree.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": str(value)}
    return found


def _local(facts: Facts) -> Local:
    """Times that were measured under the same protocol, and which commit, version and machine stand behind them."""
    timings = Timings.read(TIMINGS) if TIMINGS.exists() else None
    same = timings is not None and timings.fingerprint == facts.evaluated.fingerprint
    said = [("Commit", commit), ("Version", __version__)] if (commit := _commit()) else [("Version", __version__)]
    if record := machine.record_of("evaluate"):
        said.append(("Evaluated", f"{record.started[:16].replace('T', ' ')} UTC on {record.processor.model}"))
    return Local(timings.models if timings is not None and same else {}, tuple(said))


def _commit() -> str:
    """The commit that is checked out, empty where there is none."""
    try:
        done = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def _write(name: str, parts: Any, top: dict[str, str]) -> Path:
    page = REPORTS / f"{name}.html"
    for path, text in ((page, to_html(parts, **top)), (REPORTS / f"{name}.md", to_markdown(parts, **top))):
        write_file(path, text)
    return page
