"""The commands `serve` and `states`: what they check before they begin."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import yaml
from bundles import bundle
from kit import says

from hisac_lab.cli import serve as command
from hisac_lab.cli.params import load_params


def _settings(folder: Path, **serve: object) -> None:
    store = {"tracking_uri": f"sqlite:///{folder / 'mlflow.db'}"}
    (folder / "params.yaml").write_text(yaml.safe_dump({"serve": serve, "mlflow": store}))


def test_a_server_that_others_reach_asks_for_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HISAC_LAB_TOKEN", raising=False)
    _settings(tmp_path, host="0.0.0.0")
    with says("params.yaml", "serve.host", "'0.0.0.0' is open to others", "HISAC_LAB_TOKEN"):
        command.serve(None, None)


def test_a_port_in_use_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _settings(tmp_path)
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        with says(f"127.0.0.1:{port}", "cannot be listened at", "--port"):
            command.serve(None, port)


def test_a_server_says_where_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hisac_lab.base.arithmetic.choose", lambda *_: None)
    monkeypatch.setenv(command.BUNDLE, str(bundle(tmp_path / "made", "hisac")))
    monkeypatch.setenv(command.PORT, "8123")
    _settings(tmp_path)
    command.app()
    assert "version made is loaded for http://127.0.0.1:8123: POST /score" in capsys.readouterr().out


def test_a_server_that_is_told_to_end_answers_and_leaves_nothing_behind(tmp_path: Path) -> None:
    _settings(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "hisac_lab.cli.main", "serve", "--port", str(port)]
    command += ["--bundle", str(bundle(tmp_path / "made", "hisac"))]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline().startswith(f"version made is loaded for http://127.0.0.1:{port}:")
        while True:
            try:
                with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                    assert answer.status == 200
                break
            except URLError:
                time.sleep(0.1)
        assert len(list((tmp_path / ".work").glob("metrics-*"))) == 1
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0
    assert list((tmp_path / ".work").glob("metrics-*")) == []


def test_without_a_bundle_the_registry_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(command.BUNDLE, raising=False)
    _settings(tmp_path)
    with says("ranker"):
        command.first_engine(load_params())


def test_a_link_may_be_pointed_at_another_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _settings(tmp_path)
    one, two = (bundle(tmp_path / name, "hisac", seed=seed) for seed, name in enumerate("ab"))
    link = tmp_path / "link"
    link.symlink_to(one)
    monkeypatch.setenv(command.BUNDLE, str(link))
    source = command._source(load_params())
    engine = source.newer(None)
    assert engine is not None
    assert (engine.version, source.newer(engine)) == ("a", None)
    spare = tmp_path / "spare"
    spare.symlink_to(two)
    spare.replace(link)
    newer = source.newer(engine)
    assert newer is not None
    assert newer.version == "b"
    assert newer.digest != engine.digest
