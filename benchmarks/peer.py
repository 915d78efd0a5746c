"""The environment of a peer: its own packages on top of this project's, so both sides have one torch and one NumPy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from hisac_lab.base.errors import UserError

HERE = Path(__file__).parent
PEERS = HERE / "peers"
HOME = HERE.parent / ".work" / "bench"


def python_of(peer: str) -> Path:
    """The interpreter of a peer's environment, made on the first call from `peers/PEER.txt`.

    Raises:
        UserError: The packages cannot be installed.
    """
    folder, wanted = HOME / peer, PEERS / f"{peer}.txt"
    python, done = folder / "bin" / "python", folder / "installed.txt"
    packages = sysconfig.get_path("purelib")
    stamp = f"{sys.version}\n{packages}\n{wanted.read_text()}"
    if done.is_file() and done.read_text() == stamp:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", wanted]
    for command in ([sys.executable, "-m", "venv", folder], pip):
        answer = subprocess.run(
            [str(word) for word in command], env=environment, capture_output=True, text=True, check=False
        )
        if answer.returncode:
            errors = [line for line in answer.stderr.splitlines() if line.startswith("ERROR")]
            last = (errors or answer.stderr.strip().splitlines() or ["no reason given"])[-1]
            hint = "connect to PyPI, or name a folder with these wheels in PIP_FIND_LINKS"
            raise UserError(wanted, f"cannot be installed ({last})", hint)
        (folder / "lib" / version / "site-packages" / "shared.pth").write_text(f"{packages}\n")
    done.write_text(stamp)
    return python
