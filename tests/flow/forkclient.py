"""A command that runs in a fork of forkserver.py, whose socket lies beside it. Whatever has no script is fresh."""

import json
import os
import socket
import sys

here = os.path.dirname(os.path.abspath(sys.argv[0]))  # noqa: PTH100, PTH120 - pathlib would double the time to start
name = os.path.basename(sys.argv[0])  # noqa: PTH119
if name == "python" and (len(sys.argv) < 2 or sys.argv[1].startswith("-")):
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
words = [os.path.join(here, name), *sys.argv[1:]]  # noqa: PTH118
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
