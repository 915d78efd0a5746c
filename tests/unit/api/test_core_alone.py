"""The core runs in an environment that holds its own dependencies and no extra."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from tiny import write_movielens

from hisac_lab.cli.main import EXTRAS

SOURCE = Path(__file__).parents[3] / "src"
SCRIPT = """
import sys
import hisac_lab as hl

data = hl.load("movielens-100k", path="log").prepare()
data = data.tokenize(widths=[8, 8, 8], embed_by={"method": "cooccurrence", "cooccurrence_dim": 16})
brief = {"train": {"epochs": 1}, "backbone": {"dim": 8, "tower": [8]}}
models = {"DIN": data.fit("din", **brief), "HiSAC": data.fit("hisac", agents=8, **brief)}
print(hl.evaluate(models, bootstrap=20))
print(models["HiSAC"].rank(data.users[0], k=2))
"""


def needs(name: str, seen: set[str]) -> set[str]:
    """A distribution and all that it requires, without extras."""
    key = re.sub(r"[-_.]+", "-", name).lower()
    if key in seen:
        return seen
    seen.add(key)
    try:
        required = metadata.requires(key) or []
    except metadata.PackageNotFoundError:
        return seen
    for line in required:
        if "extra ==" not in line.replace("'", '"').replace('extra == "', 'extra == "'):
            needs(re.split(r"[\[<>=!~; (]", line, maxsplit=1)[0], seen)
    return seen


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Links to the core's dependencies and to nothing else."""
    folder = tmp_path_factory.mktemp("site")
    lines = (SOURCE.parent / "pyproject.toml").read_text().split("dependencies = [", 1)[1].split("]", 1)[0]
    wanted: set[str] = set()
    for name in re.findall(r'"([A-Za-z0-9_.-]+)', lines):
        needs(name, wanted)
    for name in sorted(wanted):
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        home = Path(str(distribution.locate_file("")))
        for top in {Path(str(file)).parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            link = folder / top
            if not link.exists() and (home / top).exists():
                link.symlink_to(home / top)
    return folder


def run(site: Path, place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.path[:0] = [{str(SOURCE)!r}, {str(site)!r}]\n"
    return subprocess.run([sys.executable, "-S", "-c", code + "\n".join(words)], cwd=place, capture_output=True,
                          text=True, check=False)  # fmt: skip


def test_a_comparison_runs_without_the_extras(site: Path, tmp_path: Path) -> None:
    missing = run(
        site,
        tmp_path,
        *(
            f"import importlib.util; assert not importlib.util.find_spec({name!r}), {name!r}"
            for name in set(EXTRAS) - {"jinja2"}
        ),  # torch needs jinja2 too
    )
    assert missing.returncode == 0, missing.stderr
    write_movielens(tmp_path / "log")
    done = run(site, tmp_path, SCRIPT)
    assert done.returncode == 0, done.stderr
    assert "test samples of" in done.stdout


@pytest.mark.parametrize(
    ("words", "extra"), [("['stage', 'sweep', '--model', 'hisac']", "sweep"), ("['models']", "mlflow")]
)
def test_a_missing_extra_is_named_in_one_line(site: Path, tmp_path: Path, words: str, extra: str) -> None:
    (tmp_path / "params.yaml").write_text(
        subprocess.run([sys.executable, "-m", "hisac_lab.cli.main", "params", "default"], capture_output=True,
                       text=True, check=True).stdout)  # fmt: skip
    (tmp_path / "workflow").mkdir()
    (tmp_path / "workflow" / "params.schema.json").write_text(
        (SOURCE.parent / "workflow" / "params.schema.json").read_text()
    )
    done = run(site, tmp_path, f"import sys; sys.argv[1:] = {words}", "from hisac_lab.cli.main import main; main()")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(f"pip install 'hisac-lab[{extra}]'"), done.stderr
