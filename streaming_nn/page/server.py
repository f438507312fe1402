"""The page's server: static files, the resources of each model as JSON, and server-sent events."""

import asyncio
import ipaddress
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from streaming_nn.errors import DamagedVersionError
from streaming_nn.explain import explain
from streaming_nn.page.models import Followed, importance_json, series_json, shown_models
from streaming_nn.page.moment import moment
from streaming_nn.page.samples import samples

try:
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import Request
    from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
    from starlette.routing import Mount, Route
    from starlette.staticfiles import StaticFiles
    from starlette.types import ASGIApp, Receive, Scope, Send
except ImportError as error:  # pragma: no cover
    raise ModuleNotFoundError(f"the page needs {error.name}: pip install 'streaming_nn[page]'") from None

STATIC = Path(__file__).parent / "static"
T = TypeVar("T")

SAVE = 60.0  # seconds between two saves of what was read
LOOK = 0.2  # seconds between two looks at the logs
BEAT = 15.0  # seconds after which a silent stream sends a comment: proxies close idle connections
FIRST_ROWS = 2_000  # that are read between two looks: the newest are shown while the oldest are read

# No host but ours, and no code but our files'; charts set styles of elements, which is not inline style
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:"
HEADERS = {
    "Content-Security-Policy": f"{POLICY}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Page:
    """The models that are shown, and the task that follows their logs for all readers."""

    def __init__(self, directories: Sequence[Path]) -> None:
        self.models = shown_models(directories)
        self.changes = 0
        self.ended = False
        self.changed = asyncio.Condition()

    async def follow(self) -> None:
        """Read what the logs get, for ever."""
        for model in self.models:
            await run_in_threadpool(model.load)
        before, saved = None, time.monotonic()
        while True:
            found = [await run_in_threadpool(model.follow, FIRST_ROWS) for model in self.models]
            seen = [(model.timeline.newest(), model.problem) for model in self.models]
            if seen != before:
                before = seen
                async with self.changed:
                    self.changes += 1
                    self.changed.notify_all()
            if max(found) < FIRST_ROWS:
                await asyncio.sleep(LOOK)
            if time.monotonic() - saved > SAVE:
                await run_in_threadpool(self.save)
                saved = time.monotonic()

    def save(self) -> None:
        """Keep what was read, for a later page."""
        for model in self.models:
            model.save()

    async def end(self) -> None:
        """End the streams of events: a server that stops waits for them."""
        async with self.changed:
            self.ended = True
            self.changed.notify_all()

    async def events(self) -> AsyncIterator[str]:
        """Yield one server-sent event at once, and one for each change: the newest version of each model.

        The last one states that the server ends.
        """
        seen = -1
        while True:
            async with self.changed:
                with suppress(TimeoutError):
                    await asyncio.wait_for(
                        self.changed.wait_for(lambda: self.ended or self.changes != seen),  # noqa: B023
                        BEAT,
                    )
            if self.ended:
                yield "event: ended\ndata: {}\n\n"
                return
            if self.changes == seen:
                yield ": still here\n\n"
                continue
            seen = self.changes
            heads = [model.timeline.newest() for model in self.models]
            problems = [model.problem for model in self.models]
            yield f"event: versions\ndata: {json.dumps({'heads': heads, 'problems': problems})}\n\n"


async def _index(request: Request) -> Response:
    return FileResponse(STATIC / "page.html")


def _resources(page: Page) -> list[Route]:
    """Return the routes of what is in the models."""

    async def models(request: Request) -> Response:
        heads = [(each.name, str(each.directory), each.timeline.newest()) for each in page.models]
        return _json(
            [{"name": name, "directory": directory, "head": head} for name, directory, head in heads]
        )

    async def timeline(request: Request) -> Response:
        query = request.query_params
        names = query.getlist("column")  # a member's name has commas
        start, end = _number(query.get("from"), float), _number(query.get("to"), float)
        intervals = min(max(int(_number(query.get("intervals"), float) or 500), 10), 5_000)
        followed = _model(page, request).timeline
        series = await run_in_threadpool(followed.select, names, start, end, intervals)
        return _json(series_json(followed, series))

    async def version(request: Request) -> Response:
        followed = _model(page, request).timeline
        return _json(await _found(moment, followed, _version(request)))

    async def newest(request: Request) -> Response:
        followed = _model(page, request).timeline
        return _json(await _found(samples, followed.log, _version(request)))

    async def explanation(request: Request) -> Response:
        number, earlier = request.path_params["number"], request.query_params.get("from")
        log = _model(page, request).timeline.log
        found = await _found(explain, log, _number(number, int), _number(earlier, int))
        return _json(found.to_json())

    async def fields(request: Request) -> Response:
        first = _number(request.query_params.get("from"), int) or 0
        found = await _found(_model(page, request).importance, _version(request), first)
        return _json(importance_json(found))

    async def events(request: Request) -> Response:
        return StreamingResponse(page.events(), media_type="text/event-stream")

    return [
        Route("/models", models),
        Route("/models/{model:int}/timeline", timeline),
        Route("/models/{model:int}/versions/{number}", version),
        Route("/models/{model:int}/samples/{number}", newest),
        Route("/models/{model:int}/explain/{number}", explanation),
        Route("/models/{model:int}/importance/{number}", fields),
        Route("/events", events),
    ]


async def _found(read: Callable[..., T], *arguments: Any) -> T:
    """Return what is read in a thread; 404: it is not in the log."""
    try:
        return await run_in_threadpool(read, *arguments)
    except (LookupError, ValueError, DamagedVersionError) as error:
        raise HTTPException(404, str(error)) from None


def _version(request: Request) -> int | None:
    """Return the version that a request is about; None: the newest one."""
    number = request.path_params["number"]
    return None if number == "head" else int(_number(number, int))


def application(directories: Sequence[Path], prefix: str = "", token: str = "") -> Starlette:
    """Return the page of some model directories, as an ASGI application under a path prefix.

    With a `token`, all that is in the models is refused to requests without `?token=` or a bearer token.
    """
    page = Page(directories)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(page.follow())
        yield
        task.cancel()
        await run_in_threadpool(page.save)

    routes = [
        Route("/", _index),
        Mount("/api", routes=_resources(page)),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    if prefix:
        routes = [Mount(prefix, routes=routes)]
    # without a token only requests to this machine's own names: another site's name may resolve to it
    hosts = ["*"] if token else ["127.0.0.1", "localhost", "[::1]"]
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[
            Middleware(_Headers),
            Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False),
            Middleware(_Token, token=token),
        ],
        exception_handlers={HTTPException: _as_json},
    )
    app.state.end = page.end  # for the server that runs it, when it stops
    return app


def _as_json(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)


def _json(values: Any) -> Response:
    return Response(json.dumps(values, allow_nan=False, default=str), media_type="application/json")


def _model(page: Page, request: Request) -> Followed:
    number = int(request.path_params["model"])
    if number >= len(page.models):
        raise HTTPException(404, f"model must be 0 to {len(page.models) - 1}; got {number}")
    return page.models[number]


def _number(text: str | None, kind: Callable[[str], Any]) -> Any:
    if text is None:
        return None
    try:
        return kind(text)
    except ValueError:
        raise HTTPException(400, f"expected a number; got {text!r}") from None


def is_loopback(host: str) -> bool:
    """Return whether an address is reached from this machine only."""
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


class _Headers:
    """Adds the security headers to each response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [
                    (name.lower().encode(), value.encode()) for name, value in HEADERS.items()
                ]
            await send(message)

        await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)


class _Token:
    """Refuses requests for what is in the models that lack the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self.token and "/api/" in scope["path"]:
            request = Request(scope)
            given = request.query_params.get("token") or request.headers.get("authorization", "")
            if not secrets.compare_digest(given.removeprefix("Bearer ").encode(), self.token.encode()):
                refused = JSONResponse({"error": "the token is missing or wrong"}, 401)
                await refused(scope, receive, send)
                return
        await self.app(scope, receive, send)
