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


report: "workflow/captions/workflow.rst"


rule all:
    default_target: True
    input:
        [path for step in STEPS for path in step.outputs],


def inputs(rule):
    """Inputs of a job: a fresh one ignores times, a stale one sees an input that is always newer."""

    def of(wildcards):
        step = rule.step(wildcards)
        if step.stale:
            return [*step.inputs, str(graph.TRIGGER)]
        return [ancient(path) for path in step.inputs]

    return of


def job(rule):
    """What a job runs."""

    def of(wildcards):
        return graph.command(Path(workflow.basedir), rule.step(wildcards).name)

    return of


onerror:
    if workflow.is_main_process:
        graph.tell_causes()


for one in graph.rules(STEPS):

    rule:
        name:
            one.name
        input:
            inputs(one),
        output:
            [MARK[kind](path) for path, kind in one.outputs.items()],
        log:
            one.log,
        wildcard_constraints:
            instance=one.instances,
        retries: one.any.retries
        threads: one.any.threads
        resources:
            **one.any.resources,
        params:
            job=job(one),
        shell:
            "HISAC_LAB_THREADS={threads} python {params.job} {log:q}"
