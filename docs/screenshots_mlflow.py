"""Pictures of MLflow's pages as they show the demo: `python docs/screenshots_mlflow.py`, after a run of the graph.

Needs Chromium, and `hisac-lab ui` on the port that `--port` names. What MLflow shows on a first visit, an assistant and
an advertisement, is put away beforehand, as a person does once.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from hisac_lab.base.errors import UserError
from hisac_lab.cli.registry import RUNS
from hisac_lab.config.base import load_section
from hisac_lab.config.mlflow import MLflowConfig
from hisac_lab.config.promotion import PromotionConfig

OUT = Path(__file__).parent / "pictures" / "mlflow"
SIZE = (1440, 900)
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


class Browser:
    """Headless Chromium, spoken to over two pipes.

    Args:
        send: Writes one message.
        receive: Reads the next one.
    """

    def __init__(self, send: Callable[[bytes], Any], receive: Callable[[], bytes]) -> None:
        self.send, self.receive, self.number, self.session = send, receive, 0, ""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def ask(self, method: str, **params: Any) -> Any:
        """Sends a command of the DevTools protocol and waits for its answer."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        self.send(json.dumps(message | ({"sessionId": self.session} if self.session else {})).encode() + b"\0")
        while True:
            answer = json.loads(self.receive())
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise UserError("chromium", answer["error"]["message"], "see its version")
                return answer["result"]

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        return self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)["result"].get(
            "value"
        )

    def open(self, address: str, wanted: str) -> None:
        """Opens a page and waits until a text stands on it and nothing loads any more.

        Raises:
            UserError: It does not come.
        """
        self.ask("Page.navigate", url="about:blank")
        self.ask("Page.navigate", url=address)
        self.wait(wanted, address)

    def wait(self, wanted: str, address: str) -> None:
        """Waits until a text stands on the page and the page has come to rest."""
        end, before = time.monotonic() + PATIENCE, ""
        while time.monotonic() < end:
            time.sleep(1.5)
            text = str(self.run("document.body ? document.body.innerText : ''"))
            if wanted in text and text == before:
                return
            before = text
        raise UserError(address, f"does not show {wanted!r} within {PATIENCE} seconds", "see that `hisac-lab ui` runs")

    def wait_for(self, selector: str) -> None:
        """Waits until a CSS selector finds something.

        Raises:
            UserError: It does not come.
        """
        end = time.monotonic() + PATIENCE
        while not self.run(f"!!document.querySelector({json.dumps(selector)})"):
            if time.monotonic() > end:
                raise UserError("page", f"has no {selector} within {PATIENCE} seconds", "see what MLflow calls it now")
            time.sleep(1.5)

    def click(self, selector: str) -> None:
        """Clicks the first element that a CSS selector finds.

        Raises:
            UserError: There is none.
        """
        found = f"document.querySelector({json.dumps(selector)})"
        if not self.run(f"(() => {{ const found = {found}; if (found) found.click(); return !!found; }})()"):
            raise UserError("page", f"has no {selector}", "see what MLflow calls it now")

    def picture(self, path: Path, size: tuple[int, int]) -> None:
        """Writes what is seen as PNG."""
        width, height = size
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        time.sleep(2)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def browser() -> Iterator[Browser]:
    """Starts Chromium with a fresh profile, and ends it.

    Raises:
        UserError: There is none.
    """
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        raise UserError("chromium", "is not here", "apt-get install chromium")
    ours, theirs = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe"]
        options += [f"--user-data-dir={profile}", f"--window-size={SIZE[0]},{SIZE[1]}"]
        command = f'exec "$@" 3<&{ours[0]} 4>&{theirs[1]}'
        with (
            subprocess.Popen(
                ["bash", "-c", command, "bash", program, *options],
                pass_fds=(ours[0], theirs[1]),
                stderr=subprocess.DEVNULL,
            ) as process,
            os.fdopen(ours[1], "wb", buffering=0) as to,
            os.fdopen(theirs[0], "rb") as back,
        ):
            os.close(ours[0])
            os.close(theirs[1])

            def receive() -> bytes:
                message = bytearray()
                while (byte := back.read(1)) != b"\0":
                    if not byte:
                        raise UserError("chromium", "has ended", "see that it starts: chromium --headless=new")
                    message += byte
                return bytes(message)

            try:
                yield Browser(to.write, receive)
            finally:
                process.terminate()


def take(page: Browser, home: str, client: MlflowClient, experiment: str, product: str) -> None:
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
    page.open(home, "MLflow")
    for key, value in SEEN.items():
        page.run(f"localStorage.setItem({json.dumps(key)}, {json.dumps(value)})")
    name = str(top.info.run_name)
    page.open(f"{home}/{RUNS.format(experiment)}", name)
    page.picture(OUT / "experiment.png", SIZE)
    page.click("button[data-component-id*=runnamecellrenderer]")
    page.wait("01 acquire", "the table of runs")
    page.picture(OUT / "runs.png", SIZE)
    for file, address, wanted in (
        ("pipeline", f"#/experiments/{experiment}/runs/{top.info.run_id}", "may it ship?"),
        ("training", f"#/experiments/{experiment}/runs/{best.info.run_id}", str(best.info.run_name)),
        ("curves", f"#/experiments/{experiment}/runs/{best.info.run_id}/model-metrics", "valid_auc"),
        ("compare", f"#/compare-runs?runs={compared}&experiments=[%22{experiment}%22]", "train.learning_rate"),
        ("model", f"#/models/{product}", "any model of the board"),
        ("version", f"#/models/{product}/versions/{version.version}", "May it ship?"),
    ):
        page.open(f"{home}/{address}", wanted)
        if file in ("curves", "compare"):
            page.wait_for(".js-plotly-plot .main-svg")
        page.picture(OUT / f"{file}.png", (SIZE[0], HEIGHTS.get(file, SIZE[1])))


def main() -> None:
    """Takes the pictures from the server of this folder's project."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=5000, help="of `hisac-lab ui`")
    home = f"http://127.0.0.1:{parser.parse_args().port}"
    config, product = load_section("mlflow", MLflowConfig), load_section("promotion", PromotionConfig).product
    client = MlflowClient(config.tracking_uri)
    experiment = client.get_experiment_by_name(config.experiment)
    try:
        if experiment is None:
            raise UserError(config.tracking_uri, f"has no experiment {config.experiment!r}", "run the graph")
        with browser() as page:
            take(page, home, client, str(experiment.experiment_id), product)
    except UserError as error:
        print(f"screenshots_mlflow: error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
