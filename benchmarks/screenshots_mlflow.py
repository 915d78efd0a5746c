"""`make screenshots`: pictures of MLflow's pages as they show the finished run, into docs/pictures/mlflow.

Needs Debian's chromium; `hisac-lab ui` is started on a port of its own and ended. What MLflow shows at first, an
assistant and an advertisement, is put away beforehand, as a person does once.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import browser
import requests
from mlflow import MlflowClient

from hisac_lab.base.errors import UserError
from hisac_lab.cli.registry import RUNS
from hisac_lab.config.base import load_section
from hisac_lab.config.mlflow import MLflowConfig
from hisac_lab.config.promotion import PromotionConfig

OUT = Path(__file__).parents[1] / "docs" / "pictures" / "mlflow"
WIDTH, HEIGHT = 1440, 900
HEIGHTS = {"pipeline": 1400, "training": 1400, "curves": 1700, "version": 1000}
"""Of pages that are long."""
SEEN = {
    "_mlflow_model_registry_promo_modal_dismissed_v1": "true",
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
    "mlflow.assistant.panelOpen_v1": "false",
    "mlflow.workflowType_v1": '"machine_learning"',
}
"""What a browser remembers of an earlier visit."""
PATIENCE = 240
"""Seconds that a page may take."""


def show(page: browser.Browser, address: str, wanted: str, height: int = HEIGHT) -> None:
    """Opens a page and waits until a text stands on it and nothing loads any more.

    Raises:
        RuntimeError: It does not come.
    """
    page.send("Page.navigate", url="about:blank")  # a page that differs by its fragment alone would stay
    page.open(address, WIDTH, height)
    wait(page, wanted)


def wait(page: browser.Browser, wanted: str) -> None:
    """Waits until a text stands on the page and the page has come to rest.

    Raises:
        RuntimeError: It does not come.
    """
    end, before = time.monotonic() + PATIENCE, ""
    while time.monotonic() < end:
        time.sleep(1.5)
        text = str(page.run("document.body ? document.body.innerText : ''"))
        if wanted in text and text == before:
            return
        before = text
    raise RuntimeError(f"the page does not show {wanted!r} within {PATIENCE} seconds")


def wait_for(page: browser.Browser, selector: str) -> None:
    """Waits until a CSS selector finds something.

    Raises:
        RuntimeError: It does not come.
    """
    end = time.monotonic() + PATIENCE
    while not page.run(f"!!document.querySelector({json.dumps(selector)})"):
        if time.monotonic() > end:
            raise RuntimeError(f"no {selector} within {PATIENCE} seconds: see what MLflow calls it now")
        time.sleep(1.5)


def picture(page: browser.Browser, name: str) -> None:
    """Writes what is seen."""
    OUT.mkdir(parents=True, exist_ok=True)
    time.sleep(2)
    page.picture(OUT / f"{name}.png", (0, 0, WIDTH, HEIGHTS.get(name, HEIGHT)))
    print(OUT / f"{name}.png")


def take(page: browser.Browser, home: str, client: MlflowClient, experiment: str, product: str) -> None:
    """Takes all pictures.

    Args:
        page: The browser.
        home: Address of the server.
        client: A client of its store.
        experiment: Identifier of the experiment.
        product: The registered model.
    """
    top = client.search_runs([experiment], "tags.hisac_lab.complete = 'true'", max_results=1)[0]
    below = f"tags.`mlflow.parentRunId` = '{top.info.run_id}' AND tags.hisac_lab.kind = 'train'"
    trained = client.search_runs([experiment], below, order_by=["metrics.`test/auc` DESC"])
    (best, *_), compared = trained, json.dumps([run.info.run_id for run in trained])
    version = max(client.search_model_versions(f"name = '{product}'"), key=lambda one: int(one.version))
    show(page, home, "MLflow")
    for key, value in SEEN.items():
        page.run(f"localStorage.setItem({json.dumps(key)}, {json.dumps(value)})")
    show(page, f"{home}/{RUNS.format(experiment)}", str(top.info.run_name))
    picture(page, "experiment")
    page.run("document.querySelector('button[data-component-id*=runnamecellrenderer]').click()")
    wait(page, "01 acquire")
    picture(page, "runs")
    for name, address, wanted in (
        ("pipeline", f"#/experiments/{experiment}/runs/{top.info.run_id}", "may it ship?"),
        ("training", f"#/experiments/{experiment}/runs/{best.info.run_id}", str(best.info.run_name)),
        ("curves", f"#/experiments/{experiment}/runs/{best.info.run_id}/model-metrics", "valid_auc"),
        ("compare", f"#/compare-runs?runs={compared}&experiments=[%22{experiment}%22]", "train.learning_rate"),
        ("model", f"#/models/{product}", "any model of the board"),
        ("version", f"#/models/{product}/versions/{version.version}", "May it ship?"),
    ):
        show(page, f"{home}/{address}", wanted, HEIGHTS.get(name, HEIGHT))
        if name in ("curves", "compare"):
            wait_for(page, ".js-plotly-plot .main-svg")
        picture(page, name)


@contextmanager
def server() -> Iterator[str]:
    """`hisac-lab ui` on a free port; its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("hisac-lab")), "ui", "--port", str(port)]
    home = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + PATIENCE
        while True:
            with suppress(requests.RequestException):
                if requests.get(home, timeout=5).ok:
                    break
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("`hisac-lab ui` does not answer: start it by hand to see why")
            time.sleep(1)
        yield home
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def main() -> None:
    """Takes the pictures of this folder's project."""
    config, product = load_section("mlflow", MLflowConfig), load_section("promotion", PromotionConfig).product
    client = MlflowClient(config.tracking_uri)
    experiment = client.get_experiment_by_name(config.experiment)
    if experiment is None:
        sys.exit(f"screenshots: {config.tracking_uri} has no experiment {config.experiment!r}: `make demo` makes it")
    try:
        with server() as home, browser.started() as page:
            take(page, home, client, str(experiment.experiment_id), product)
    except (RuntimeError, UserError) as error:
        sys.exit(f"screenshots: {error}")


if __name__ == "__main__":
    main()
