"""The commands `states`: users' histories and states, for the server."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from hisac_lab.base.errors import UserError
from hisac_lab.cli.paths import ARTIFACTS

app = typer.Typer(no_args_is_help=True, help="Users' histories and states, for the server.")


@app.callback()
def _states() -> None:
    """Keeps `fill` a command of its own."""


@app.command()
def fill(
    at: Annotated[
        int | None, typer.Option(min=0, help="Moment the states are made for, seconds since 1970; by default now.")
    ] = None,
) -> None:
    """Put the histories of the prepared log into the store, and make the states of all its users."""
    from hisac_lab.base.progress import track
    from hisac_lab.cli.params import load_params
    from hisac_lab.cli.serve import first_engine
    from hisac_lab.events.store import EventStore
    from hisac_lab.serving.fill import encode_all, histories
    from hisac_lab.serving.states import open_states

    params = load_params()
    engine, log, states = first_engine(params), EventStore.open(ARTIFACTS.prepare), open_states(params.serve.states)
    if not engine.stores:
        what = f"version {engine.version} reads stored instances, which no state holds"
        raise UserError("states", what, "serve it with the history in each request")
    users = len(log.user_ids)
    states.fill(track(histories(log), users, "histories", "users"))
    done, moment = 0, int(time.time()) if at is None else at
    names = [str(user) for user in log.user_ids]
    for count in track(encode_all(engine, states, names, moment), users, "states", "users"):
        done += count
    states.forget(engine.digest)
    print(f"{done:,} users of the log are known to the server, their states are of version {engine.version}")
