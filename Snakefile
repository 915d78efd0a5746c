# Scheduling only: the graph is in dvc.yaml, and workflow/graph.py turns it into rules.
import sys

sys.path.insert(0, str(Path(workflow.basedir) / "workflow"))
import graph

graph.find_tools()
if workflow.is_main_process and not workflow.dryrun:
    LOCK = graph.hold_lock()
if workflow.local_exec and "mem_mb" not in workflow.global_resources:
    # on one machine, jobs share its memory; on a cluster each asks for its own
    workflow.register_resource("mem_mb", graph.memory_mb())
STEPS = graph.load(judge=workflow.is_main_process)
MARK = {
    "file": str,
    "dir": directory,
    "result": lambda path: report(path, **graph.caption(path)),
    "figures": lambda path: report(
        directory(path), patterns=["{name}.svg"], **graph.caption(path)
    ),
}


rule all:
    default_target: True
    input:
        [path for step in STEPS for path in step.outputs],


for step in STEPS:

    rule:
        name:
            step.rule
        input:
            # a fresh step ignores times; a stale one sees an input that is always newer
            [*step.inputs, str(graph.TRIGGER)]
            if step.stale
            else [ancient(path) for path in step.inputs],
        output:
            [MARK[kind](path) for path, kind in step.outputs.items()],
        log:
            f"logs/{step.rule}.log",
        retries: step.retries
        threads: step.threads
        resources:
            **step.resources,
        params:
            job=graph.command(Path(workflow.basedir), step.name),
        shell:
            "HISAC_LAB_THREADS={threads} python {params.job} {log:q}"
