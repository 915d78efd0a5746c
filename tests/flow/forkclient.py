"""A command that runs in a fork of forkserver.py, whose socket lies beside it. Whatever has no script is fresh."""

import json
import os
import socket
import sys

here = os.path.dirname(os.path.abspath(sys.argv[0]))  # noqa: PTH100, PTH120 - pathlib would double the time to start
name = os.path.basename(sys.argv[0])  # noqa: PTH119
rest = sys.argv[1:]
if name == "python" and rest[:2] == ["-m", "snakemake"]:  # what Snakemake submits to a cluster
    name, rest = rest[1], rest[2:]
if name == "python" and (not rest or rest[0].startswith("-")):
    os.execv(sys.executable, [sys.executable, *rest])
words = [os.path.join(here, name), *rest]  # noqa: PTH118
mask = os.umask(0)
os.umask(mask)
request = {"words": words, "folder": os.getcwd(), "environment": dict(os.environ), "umask": mask}  # noqa: PTH109
server = socket.socket(socket.AF_UNIX)
server.connect(os.path.join(here, "socket"))  # noqa: PTH118
data = json.dumps(request).encode() + b"\n"
sent = socket.send_fds(server, [data], [0, 1, 2])
server.sendall(data[sent:])
answer = server.recv(16)
code = int(answer or 1)
os._exit(code if code >= 0 else 128 - code)
