"""What every request passes (token, Host, Origin, headers), the pages, and answers, bodies and errors as JSON."""

import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from anyio.to_thread import run_sync
from jinja2 import Environment, FileSystemLoader
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request, cookie_parser
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from keyframe.types import KeyframeError

_HERE = Path(__file__).parent
STATIC = _HERE / "static"
_TEMPLATES = Environment(loader=FileSystemLoader(_HERE / "pages"), autoescape=True)
_IN_NAVIGATION = {"/": "Library", "/agreement": "Agreement", "/train": "Train", "/reports": "Reports"}
_MOST_BODY = 2**16  # bytes of JSON that a page sends
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_READING = ("GET", "HEAD")


class Guard:
    """Lets through what the page itself asks for, and nothing else.

    A request must be addressed to this machine (a foreign name that leads here is DNS rebinding), must not come from
    another site, and must bear the token: once in the address, then in a cookie that other sites' requests do not send
    and scripts do not see.

    Args:
        app: what answers.
        token: the secret in the address.
        port: where the server listens.
    """

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self.app, self.token = app, token
        self.hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
        self.cookie = f"keyframe-{port}"  # cookies do not tell ports apart

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        asked = QueryParams(scope["query_string"]).get("token", "")
        fresh = scope["method"] in _READING and self._is_token(asked)
        known = self._is_token(cookie_parser(headers.get("cookie", "")).get(self.cookie, ""))

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    answer.setdefault(name, value)  # a report has a policy of its own
                answer.setdefault("Cache-Control", "no-cache")
                if fresh:
                    answer.append("Set-Cookie", f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict")
            await send(message)

        answer: ASGIApp = self.app
        if headers.get("host") not in self.hosts:
            answer = _refusal(HTTPStatus.MISDIRECTED_REQUEST, "Open the address that keyframe-app has printed.")
        elif self._is_foreign(headers):
            answer = _refusal(HTTPStatus.FORBIDDEN, "This request came from another site: open the page directly.")
        elif not (fresh or known):
            answer = _refusal(HTTPStatus.FORBIDDEN, "Open the address with the token that keyframe-app has printed.")
        await answer(scope, receive, send_safely)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.token.encode())

    def _is_foreign(self, headers: Headers) -> bool:
        """Whether a browser says that another site has sent the request."""
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        return origin not in (None, *(f"http://{host}" for host in self.hosts)) or site not in ("none", "same-origin")


def _refusal(status: HTTPStatus, sentence: str) -> Response:
    return PlainTextResponse(f"{sentence}\n", status)


def page(path: str, name: str, heading: str) -> Route:
    """The route of a page: `pages/NAME.html` below a heading and the navigation, with the module `static/NAME.js`."""
    html = _TEMPLATES.get_template("page.html").render(name=name, heading=heading, path=path, pages=_IN_NAVIGATION)
    return Route(path, lambda request: HTMLResponse(html, headers={"Cache-Control": "no-store"}))


def get(path: str, answer: Callable[[Request], Any]) -> Route:
    """The route of a question, whose answer is JSON; it is found in a thread."""
    return Route(path, lambda request: JSONResponse(answer(request)))


def post(path: str, answer: Callable[[Request, dict[str, Any]], Any]) -> Route:
    """The route of a request with a JSON object of at most 64 KiB, whose answer is JSON; it is found in a thread."""

    async def answered(request: Request) -> Response:
        body = await _read_body(request)
        return JSONResponse(await run_sync(answer, request, body))

    return Route(path, answered, methods=["POST"])


async def _read_body(request: Request) -> dict[str, Any]:
    content = bytearray()
    try:
        async for piece in request.stream():
            content += piece
            if len(content) > _MOST_BODY:
                raise KeyframeError(f"the request is larger than {_MOST_BODY >> 10} KiB: send less at once.")
        value = json.loads(content)
    except (ValueError, RecursionError, ClientDisconnect) as error:
        raise KeyframeError("the request is not JSON: reload the page.") from error
    if not isinstance(value, dict):
        raise KeyframeError("the request is not a JSON object: reload the page.")
    return value


def checked(
    body: Mapping[str, Any], key: str, kind: type, choices: Sequence[Any] | None = None, default: Any = None
) -> Any:
    """A value of a request, if it is of a kind and among the choices."""
    value = body.get(key, default)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise KeyframeError(f"{key} is missing or of the wrong kind: reload the page.")
    if choices is not None and value not in choices:
        raise KeyframeError(f"{key}={value} is not known: reload the page.")
    return value


def not_found(what: str) -> HTTPException:
    """The error for an id that names nothing."""
    return HTTPException(HTTPStatus.NOT_FOUND, f"there is no such {what}: go back to the library.")


def _sentence(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, HTTPStatus.BAD_REQUEST)


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


def _bug(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "this failed because of a bug in keyframe: its log has more."}, 500)


ERRORS: dict[Any, Any] = {KeyframeError: _sentence, HTTPException: _http_error, Exception: _bug}
"""How errors of a page are answered: a KeyframeError by its sentence and status 400."""
