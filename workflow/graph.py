"""The joint of the two engines: dvc.yaml declares the graph, dvc.lock judges what is stale, Snakemake schedules.

Each DVC stage becomes one rule, each instance of a matrix one job of it, told apart by the wildcard `instance`; the job
(job.py) is `dvc repro --single-item STAGE`. A fresh instance's inputs are `ancient`, so times say nothing; a stale one,
and all below it, gets an input that is always newer. DVC then skips the stage, restores it from its run cache, or runs
it, and writes dvc.lock under its own lock.

The stages in FIRST take seconds and decide which models are stale. Where all above one is fresh, it runs before the
others are judged, also by `snakemake -n`, which therefore lists no model that an edit leaves alone.

`dvc.repo.Repo` is no promised interface: DVC is pinned, and tests/flow guard this file.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import networkx as nx
from dvc.exceptions import DvcException
from dvc.repo import Repo, lock_repo
from dvc.stage import Stage
from job import run
from repair import repair_lockfile, repair_rwlock

from hisac_lab.base.errors import UserError, explain_os_error
from hisac_lab.base.progress import counted
from hisac_lab.cli import code, door, origin, running
from hisac_lab.cli.user import name_the_user

TRIGGER = Path(".snakemake/stale")  # newer than any output, never the same content
FIRST = ("code", "plan")
CAUSE = "hisac-lab: error:"
STARTED = time.time()
BUSY, TORN, NO_GIT = "is busy, it is being blocked by", "Unable to read RWLock-file", "not a git repository"


@dataclass(frozen=True)
class Step:
    """A DVC stage as Snakemake sees it.

    Attributes:
        name: DVC's address: "prepare", "train@hisac-0".
        inputs: Outputs of other stages that it depends on.
        outputs: Path to kind: "file", "dir", and for Snakemake's report "result" (a metric, the page) or "figures".
        above: Names of the stages that it depends on, directly.
        stale: Whether it, or anything above it, differs from dvc.lock.
        threads: From the stage's `meta`, as are retries and resources.
        retries: How often a failed job is tried again; None is for the profile to say.
        resources: Memory, GPUs and whatever else the scheduler is to count.
    """

    name: str
    inputs: list[str]
    outputs: dict[str, str]
    above: frozenset[str]
    stale: bool
    threads: int
    retries: int | None
    resources: dict[str, Any]


@dataclass(frozen=True)
class Rule:
    """A stage with all its instances, as one rule.

    Attributes:
        steps: By instance; a stage without a matrix has one, named "".
    """

    steps: dict[str, Step]

    @property
    def any(self) -> Step:
        """One instance: threads, retries and resources are those of the stage."""
        return next(iter(self.steps.values()))

    @property
    def stage(self) -> str:
        """Name of the stage."""
        return self.any.name.partition("@")[0]

    @property
    def name(self) -> str:
        """A legal name of a rule."""
        return re.sub(r"\W", "_", self.stage)

    @property
    def log(self) -> str:
        """Where a job says what it does."""
        return f"logs/{self.stage}@{{instance}}.log" if "" not in self.steps else f"logs/{self.stage}.log"

    @property
    def instances(self) -> str:
        """What the wildcard may be, as a regular expression."""
        return "|".join(map(re.escape, self.steps))

    @property
    def outputs(self) -> dict[str, str]:
        """Path or pattern to kind."""
        instance, step = next(iter(self.steps.items()))
        if not instance:
            return step.outputs
        return {f"{path.removesuffix(instance)}{{instance}}": kind for path, kind in step.outputs.items()}

    def step(self, wildcards: Any) -> Step:
        """The instance of a job."""
        return self.steps[wildcards.get("instance", "")]


def rules(steps: list[Step]) -> list[Rule]:
    """The rules of all steps; ends the program with one line where an instance cannot be told from its outputs."""
    found: dict[str, Rule] = {}
    for step in steps:
        stage, _, instance = step.name.partition("@")
        odd = [path for path in step.outputs if not path.endswith(f"/{instance}")] if instance else []
        if odd:
            what = f"the output {odd[0]} does not end in /{instance}"
            _refuse(str(UserError("dvc.yaml", what, "Snakemake tells instances by it: name it so", stage)))
        found.setdefault(stage, Rule({})).steps[instance] = step
    return list(found.values())


def find_tools() -> None:
    """Lets jobs find dvc and hisac-lab beside this Python, also when the environment is not activated."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def load(judge: bool) -> list[Step]:
    """All stages of dvc.yaml; ends the program with one line when settings or graph are wrong.

    Args:
        judge: False in the jobs that Snakemake starts itself: there the main process has judged already.
    """
    name_the_user()  # DVC asks for it, here and in the jobs
    done: set[str] = set()
    while True:
        try:
            door.check()
            steps = _steps(judge)
            stale = {step.name for step in steps if step.stale}
            todo = [step.name for step in steps if step.name in FIRST and step.name in stale and not step.above & stale]
            if not judge or not set(todo) - done:
                for said in (origin.changed(), door.idle()) if judge else ():
                    if said:
                        print(f"hisac-lab: {said}", file=sys.stderr, flush=True)
                return steps
            for name in todo:
                _run_first(name)
                done.add(name)
        except (UserError, DvcException, OSError) as error:
            told = explain_os_error(error, Path.cwd()) if isinstance(error, OSError) else error
            line = " ".join(str(told).split())
            if BUSY in line:  # a `dvc repro` beside this run: its result is about to be there
                time.sleep(1)
            elif TORN in line:
                repair_rwlock()
            elif NO_GIT in line:
                _refuse(f"{line}; clone the project, or begin one here: git init")
            else:
                _refuse(line)


def hold_lock() -> IO[str]:
    """Takes the lock of this folder until the process ends; ends the program with one line where another has it."""
    try:
        return running.hold("", "wait for it or stop it")
    except UserError as error:
        _refuse(str(error))
        raise


def tell_causes() -> None:
    """Says in a line each what has stopped the jobs of this run that failed: Snakemake's own words on them are many."""
    logs = [path for path in sorted(Path("logs").glob("*.log")) if path.stat().st_mtime >= STARTED]
    lines = [(path.stem, line) for path in logs for line in path.read_text(errors="replace").splitlines()]
    told = [f"{stage}: {line.removeprefix(CAUSE).strip()}" for stage, line in lines if line.startswith(CAUSE)]
    if told:
        print("\n  ".join([f"hisac-lab: {counted(len(told), 'job')} failed:", *told]), file=sys.stderr, flush=True)


def memory_mb() -> int:
    """Memory of this machine, in megabytes: jobs whose declared needs exceed it together take turns."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1_000_000


def _refuse(line: str) -> Any:
    print(f"hisac-lab: error: {line}", file=sys.stderr, flush=True)
    os._exit(1)  # Snakemake would wrap any exception in a page of its own words


def _run_first(name: str) -> None:
    log = Path(f"logs/{name}.log")
    # `code` looks at other distributions too, of which DVC knows nothing
    if run(name, str(log), *(["--force"] if name == "code" and not code.is_current() else [])):
        raise DvcException(log.read_text())


def _steps(judge: bool) -> list[Step]:
    with Repo(_wait_for_lock=True) as repo, lock_repo(repo):  # DVC holds this lock whenever it writes dvc.lock
        repair_lockfile()
        graph: nx.DiGraph[Stage] = repo.index.graph  # edges run from a stage to what it depends on
        changed = set(repo.status()) if judge else set()
        if judge and not code.is_current():
            changed.add("code")
        stale: set[Stage] = set()
        for stage in graph:
            if stage.addressing in changed:
                stale |= {stage} | nx.ancestors(graph, stage)
        root = Path(repo.root_dir)
        steps = [_step(stage, graph, root, stage in stale) for stage in repo.index.stages]
    if stale:
        TRIGGER.parent.mkdir(exist_ok=True)
        TRIGGER.write_text(str(time.time_ns()))
    return steps


def _step(stage: Stage, graph: nx.DiGraph[Stage], root: Path, stale: bool) -> Step:
    # Code and parameters are DVC's to judge; Snakemake needs to know only which outputs must be there first.
    outputs = {_path(out, root) for above in graph.successors(stage) for out in above.outs}
    meta = stage.meta or {}
    return Step(
        name=stage.addressing,
        inputs=sorted(outputs),
        outputs={_path(out, root): _kind(out) for out in stage.outs},
        above=frozenset(each.addressing for each in graph.successors(stage)),
        stale=stale,
        threads=meta.get("threads", 1),
        retries=meta.get("retries"),
        resources=meta.get("resources", {}),
    )


def _path(end: Any, root: Path) -> str:
    return Path(end.fs_path).relative_to(root).as_posix()


def _kind(out: Any) -> str:
    path = Path(out.fs_path)
    if not path.suffix:  # convention: an output without a suffix is a directory
        return "figures" if path.name == "figures" else "dir"
    return "result" if out.metric or out.plot or path.suffix == ".html" else "file"


def command(project: Path, stage: str) -> str:
    """What Python runs for a stage, quoted for a shell."""
    return shlex.join([str(project / "workflow" / "job.py"), stage])


def caption(path: str) -> dict[str, str]:
    """Category and caption of an output in Snakemake's report."""
    name = Path(path).stem
    category = "Figures" if name == "figures" else "Report" if name == "report" else "Numbers"
    return {"category": category, "caption": f"workflow/captions/{name}.rst"}
