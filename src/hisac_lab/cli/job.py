"""The commands `job`: the whole graph as one job of a cloud, printed to be looked at and sent.

One container clones the project, restores what is known from DVC's remote, runs the graph and pushes what it made, with
the run cache: `dvc pull --run-cache && dvc repro` brings the results home. What it asks for is what dvc.yaml declares.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from typing import Annotated, Any

import typer
import yaml

from hisac_lab.base.errors import UserError
from hisac_lab.cli.paths import GRAPH

app = typer.Typer(no_args_is_help=True, help="The graph as one job of a cloud: prints it, sends nothing.")

SCRIPT = """\
test -d project/.git || git clone --quiet "$REPOSITORY" project
cd project
git checkout --quiet "$REVISION"
dvc fetch --run-cache || echo "nothing in the remote yet"
snakemake --cores "$CORES"
dvc push --run-cache"""
"""Started again it goes on in the same folder, where that has survived."""
TRIES = 4
NAME = "hisac-lab"
IMAGE = re.compile(r"[\w.-]+(:\d+)?(/[\w.-]+)*(:[\w.-]+)?(@sha256:[0-9a-f]{64})?")

Image = Annotated[str, typer.Argument(help="A container image with git and hisac-lab[all,s3] in it.")]
Repository = Annotated[str, typer.Argument(help="Where git clones the project from.")]
Revision = Annotated[str | None, typer.Option(help="What is checked out; by default the present commit.")]
Gpus = Annotated[int, typer.Option(min=0, help="GPUs of the job.")]


@dataclass(frozen=True)
class Needs:
    """What the largest stage asks for; jobs that do not fit beside each other take turns.

    Attributes:
        cores: Processor cores.
        memory_mb: Memory, in megabytes.
    """

    cores: int
    memory_mb: int

    @classmethod
    def of_graph(cls) -> Needs:
        """From the stages' `meta` in dvc.yaml.

        Raises:
            UserError: There is no graph here.
        """
        try:
            stages = yaml.safe_load(GRAPH.read_text())["stages"].values()
        except (OSError, TypeError, KeyError, yaml.YAMLError) as error:
            raise UserError(GRAPH, "holds no stages", "run this in a project's folder") from error
        meta = [stage.get("meta", {}) for stage in stages]
        memory = max(one.get("resources", {}).get("mem_mb", 1000) for one in meta)
        return cls(max(one.get("threads", 1) for one in meta), memory)


@app.command()
def kubernetes(
    image: Image,
    repository: Repository,
    revision: Revision = None,
    gpus: Gpus = 0,
    claim: Annotated[
        str | None, typer.Option(help="A persistent volume claim for the folder; by default it dies with the pod.")
    ] = None,
) -> None:
    """Print a Kubernetes Job, for `kubectl create -f -`; the secret hisac-lab holds credentials as variables."""
    needs = Needs.of_graph()
    environment = _environment(image, repository, revision, needs)
    resources: dict[str, Any] = {"cpu": str(needs.cores), "memory": f"{needs.memory_mb}M"}
    if gpus:
        resources["nvidia.com/gpu"] = str(gpus)
    container = {
        "name": NAME,
        "image": image,
        "command": ["bash", "-ec", SCRIPT],
        "workingDir": "/work",
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "envFrom": [{"secretRef": {"name": NAME, "optional": True}}],
        "resources": {"requests": resources, "limits": resources},
        "volumeMounts": [{"name": "work", "mountPath": "/work"}],
    }
    volume: dict[str, Any] = {"persistentVolumeClaim": {"claimName": claim}} if claim else {"emptyDir": {}}
    pod = {"restartPolicy": "OnFailure", "containers": [container], "volumes": [{"name": "work"} | volume]}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"generateName": f"{NAME}-", "labels": {"app": NAME}},
        "spec": {"backoffLimit": TRIES - 1, "template": {"metadata": {"labels": {"app": NAME}}, "spec": pod}},
    }
    print(yaml.safe_dump(job, sort_keys=False), end="")


@app.command("aws-batch")
def aws_batch(image: Image, repository: Repository, revision: Revision = None, gpus: Gpus = 0) -> None:
    """Print a job definition, for `aws batch register-job-definition --cli-input-json`; each try begins anew."""
    needs = Needs.of_graph()
    environment = _environment(image, repository, revision, needs)
    amounts = {"VCPU": needs.cores, "MEMORY": -(-needs.memory_mb * 10**6 // 2**20)} | ({"GPU": gpus} if gpus else {})
    definition = {
        "jobDefinitionName": NAME,
        "type": "container",
        "platformCapabilities": ["EC2"],
        "containerProperties": {
            "image": image,
            "command": ["bash", "-ec", f"mkdir -p /tmp/work && cd /tmp/work\n{SCRIPT}"],
            "environment": [{"name": name, "value": value} for name, value in environment.items()],
            "resourceRequirements": [{"type": kind, "value": str(amount)} for kind, amount in amounts.items()],
        },
        "retryStrategy": {"attempts": TRIES},
    }
    print(json.dumps(definition, indent=2))


def _environment(image: str, repository: str, revision: str | None, needs: Needs) -> dict[str, str]:
    if not IMAGE.fullmatch(image):
        raise UserError("image", f"{image!r} is no name of an image", "write HOST/NAME:TAG")
    if not repository.strip() or repository.startswith("-"):
        raise UserError("repository", f"{repository!r} is no address", "write what `git clone` takes")
    if revision is None:
        asked = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        if asked.returncode:
            raise UserError("revision", "this folder has no commit", "commit, or name one with --revision")
        revision = asked.stdout.strip()
    return {"REPOSITORY": repository, "REVISION": revision, "CORES": str(needs.cores)}
