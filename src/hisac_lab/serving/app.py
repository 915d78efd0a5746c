"""The server over HTTP: one route to score, one to add events, and what operators ask."""

from __future__ import annotations

import asyncio
import hmac
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from time import perf_counter
from typing import Annotated, Any

from fastapi import Body as body_of
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from hisac_lab.base.errors import UserError
from hisac_lab.base.progress import say
from hisac_lab.config.serve import ServeConfig
from hisac_lab.serving.meters import Meters
from hisac_lab.serving.questions import Added, added, form_of
from hisac_lab.serving.service import Reply, Service
from hisac_lab.serving.source import Source
from hisac_lab.serving.states import StoreError

OPEN = ("/healthz", "/readyz")
"""Routes that ask for no token: a supervisor has none."""
MEGABYTE = 1 << 20
ONE_OBJECT = "send one JSON object, with the header Content-Type: application/json"
Body = Annotated[dict[str, Any], body_of()]
Next = Callable[[Request], Awaitable[Response]]


class Queue:
    """Requests that wait, answered by one thread: all that wait, up to a number, in one pass.

    Args:
        service: What answers them.
        most: Requests of one pass at most.
    """

    def __init__(self, service: Service, most: int) -> None:
        self.service, self.most = service, most
        self.waiting: asyncio.Queue[tuple[dict[str, Any], asyncio.Future[Reply | UserError]]] = asyncio.Queue()
        self.thread = ThreadPoolExecutor(1, "model")

    async def ask(self, request: dict[str, Any]) -> Reply:
        """Waits for the answer to a request.

        Raises:
            UserError: It is wrong.
        """
        future: asyncio.Future[Reply | UserError] = asyncio.get_running_loop().create_future()
        self.waiting.put_nowait((request, future))
        reply = await future
        if isinstance(reply, UserError):
            raise reply
        return reply

    async def run(self, work: Callable[[], Any]) -> Any:
        """Waits for other work of the same thread, which owns the store."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, work)

    async def serve(self) -> None:
        """Answers until it is cancelled."""
        while True:
            batch = [await self.waiting.get()]
            while not self.waiting.empty() and len(batch) < self.most:
                batch.append(self.waiting.get_nowait())
            batch = [(request, future) for request, future in batch if not future.done()]  # nobody waits any more
            if not batch:
                continue
            try:
                replies = await self.run(partial(self.service.replies, [request for request, _ in batch]))
            except Exception as error:  # noqa: BLE001 - one bad pass must not end the server
                replies = [error] * len(batch)
            for (_, future), reply in zip(batch, replies, strict=True):
                if future.done():
                    continue
                if isinstance(reply, Exception) and not isinstance(reply, UserError):
                    future.set_exception(reply)
                else:
                    future.set_result(reply)


def make_app(config: ServeConfig, service: Service, source: Source | None = None) -> FastAPI:
    """The application.

    Args:
        config: The section `serve`.
        service: What answers.
        source: Where newer versions come from; None: there is no other.
    """
    token = os.environ.get(config.token_variable)
    queue, meters = Queue(service, config.batch), Meters()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(queue.serve())]
        if source is not None:
            tasks.append(asyncio.create_task(_follow(source, service, config.poll_seconds)))
        yield
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        queue.thread.shutdown()

    app = FastAPI(title="hisac-lab", lifespan=lifespan)
    _guard(app, config, token, meters)
    _answer_errors(app)
    _route_work(app, config, queue, meters)
    _route_signs(app, service, meters)
    return app


def _guard(app: FastAPI, config: ServeConfig, token: str | None, meters: Meters) -> None:
    """What every request passes."""

    @app.middleware("http")
    async def _at_the_door(request: Request, forward: Next) -> Response:
        begin = perf_counter()
        response = _refused(request, config, token) or await forward(request)
        meters.seen(request.url.path, response.status_code, perf_counter() - begin)
        return response


def _answer_errors(app: FastAPI) -> None:
    """One line for whatever goes wrong."""

    @app.exception_handler(UserError)
    async def _wrong(_: Request, error: UserError) -> JSONResponse:
        return _said(503 if isinstance(error, StoreError) else 400, str(error))

    @app.exception_handler(RequestValidationError)
    async def _unread(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        why = first.get("ctx", {}).get("error", first["msg"])
        return _said(400, f"body: {str(why).lower()}; {ONE_OBJECT}")

    @app.exception_handler(HTTPException)
    async def _other(_: Request, error: HTTPException) -> JSONResponse:
        what = f"body: is no JSON; {ONE_OBJECT}" if error.status_code == 400 else str(error.detail)
        return _said(error.status_code, what)

    @app.exception_handler(Exception)
    async def _broken(_: Request, error: Exception) -> JSONResponse:
        return _said(500, f"{type(error).__name__}: see the server's log")


def _route_work(app: FastAPI, config: ServeConfig, queue: Queue, meters: Meters) -> None:
    """What callers ask."""
    service = queue.service

    @app.post("/score")
    async def score(body: Body) -> JSONResponse:
        """Scores the candidates of one request."""
        question = form_of(service.engine).ask(body, config)
        try:
            async with asyncio.timeout(config.budget_ms / 1000):
                reply = await queue.ask(question)
        except TimeoutError:
            return _said(504, f"not answered within {config.budget_ms} ms; ask again, or raise serve.budget_ms")
        meters.answered(reply)
        return JSONResponse(reply.facts())

    @app.post("/events")
    async def events(body: Body) -> dict[str, int]:
        """Adds events to a user's history."""
        user, new = added(body, service.engine, config)
        return {"events": await queue.run(partial(service.append, user, new))}

    @app.get("/schema")
    async def schema() -> dict[str, Any]:
        """What a request to the version of the moment holds, as a JSON schema."""
        score = form_of(service.engine).schema()
        return {"version": service.engine.version, "score": score, "events": Added.model_json_schema()}


def _route_signs(app: FastAPI, service: Service, meters: Meters) -> None:
    """What operators ask."""

    @app.get("/healthz")
    async def health() -> dict[str, str]:
        """The process is there."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def ready() -> dict[str, str]:
        """It answers, and with which version."""
        return {"status": "ok", "version": service.engine.version, "digest": service.engine.digest}

    @app.get("/metrics")
    async def metrics() -> Response:
        """For Prometheus."""
        return meters.page()


def _said(status: int, what: str) -> JSONResponse:
    return JSONResponse({"error": what}, status)


def _refused(request: Request, config: ServeConfig, token: str | None) -> JSONResponse | None:
    """What is turned away before its body is read."""
    if token and request.url.path not in OPEN:
        told = request.headers.get("authorization", "")
        if not hmac.compare_digest(told.encode(), f"Bearer {token}".encode()):
            return _said(401, "the token is missing or wrong; send the header Authorization: Bearer TOKEN")
    if request.method == "POST":
        length = request.headers.get("content-length", "")
        if not length.isdigit():
            return _said(411, "the header Content-Length is missing; send it")
        if int(length) > config.max_body_mb * MEGABYTE:
            most = f"{config.max_body_mb:g} MB"
            return _said(
                413, f"body: {int(length):,} bytes are more than {most}; send less, or raise serve.max_body_mb"
            )
    return None


async def _follow(source: Source, service: Service, every: float) -> None:
    """Looks for a newer version and puts it in the place of the old one; requests under way end with the old one."""
    loop = asyncio.get_running_loop()
    trouble = ""
    with ThreadPoolExecutor(1, "version") as thread:
        while True:
            await asyncio.sleep(every)
            try:
                newer = await loop.run_in_executor(thread, source.newer, service.engine)
            except Exception as error:  # noqa: BLE001 - whatever a registry throws, the old version goes on
                if (said := f"{type(error).__name__}: {error}".splitlines()[0]) != trouble:
                    say(f"version {service.engine.version} goes on answering: {said}")
                trouble = said
                continue
            trouble = ""
            if newer is not None:
                say(f"version {newer.version} answers from now on, before it {service.engine.version}")
                service.engine = newer
