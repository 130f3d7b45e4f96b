"""The server: the routes of all pages together, an open port, and an end by Ctrl-C."""

import logging
import secrets
import socket
import webbrowser
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from keyframe.app import label, train, video
from keyframe.app import library as videos
from keyframe.app.library import Library
from keyframe.app.web import ERRORS, STATIC, Guard
from keyframe.types import KeyframeError

log = logging.getLogger(__name__)

_HOST = "127.0.0.1"
_MOST_REQUESTS = 500  # at once


def build(library: Library, token: str, port: int) -> Guard:
    """The web app of a library, behind its guard; at its end it closes the library."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        library.close()

    routes = [route for page in (videos, video, label, train) for route in page.routes(library)]
    static = Mount("/static", StaticFiles(directory=STATIC))
    return Guard(Starlette(routes=[*routes, static], exception_handlers=ERRORS, lifespan=lifespan), token, port)


def serve(library: Library, port: int = 0, show: bool = True) -> None:
    """Serve until Ctrl-C, for this machine alone.

    Args:
        library: what to serve.
        port: where; 0 takes a free one.
        show: whether to open a browser.

    Raises:
        KeyframeError: the port is taken, or the folder of the page.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((_HOST, port))
            listener.listen()  # a browser that comes before the server waits
        except (OSError, OverflowError) as error:
            raise KeyframeError(f"port={port} cannot be used ({error}): choose another, or leave it out.") from error
        library.start()
        port, token = listener.getsockname()[1], secrets.token_urlsafe(24)
        address = f"http://{_HOST}:{port}/?token={token}"
        log.info("Open %s (end with Ctrl-C)", address)
        config = uvicorn.Config(
            build(library, token, port),
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=_MOST_REQUESTS,
            timeout_graceful_shutdown=2,
        )
        if show:
            webbrowser.open(address)
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run([listener])
        log.info("Ended")
