"""The page over HTTP: on the loopback alone, for the browser that was given its address.

A question needs the page's own key, and the name that the browser asks for must be the loopback's:
so neither another machine nor a page from elsewhere can ask.
"""

import json
import secrets
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import final

from potstill.errors import DataError, PotstillError, StorageError
from potstill.tryout.page import render_try
from potstill.tryout.room import Room

LOOPBACK = "127.0.0.1"
NAMES = (LOOPBACK, "localhost")
KEY = "X-Potstill-Key"
MOST_BYTES = 48 * 2**20  # of a question
POLICY = (
    "default-src 'none'; img-src data: blob:; media-src data: blob:; connect-src 'self'; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)


@final
class TryServer:
    """Serves a room until it is stopped.

    Args:
        room: whom questions are put to.
        port: 0 takes any that is free.

    Raises:
        StorageError: the port is taken.
    """

    def __init__(self, room: Room, *, port: int = 0) -> None:
        self.key = secrets.token_urlsafe(24)
        page = render_try(room, key=self.key).encode("utf-8")
        try:
            self._server = _Server(port, room=room, page=page, key=self.key)
        except OSError as error:
            raise StorageError(
                f"Port {port} cannot be taken ({error.strerror}); choose another with --port, or "
                "leave it out."
            ) from error

    @property
    def address(self) -> str:
        """What a browser on this machine opens."""
        return f"http://{LOOPBACK}:{self._server.server_port}/"

    def serve(self) -> None:
        """Answer until `stop` is called from another thread, or the user interrupts."""
        self._server.serve_forever(poll_interval=0.2)

    def stop(self) -> None:
        """Let `serve` return, and give the port back."""
        self._server.shutdown()
        self.close()

    def close(self) -> None:
        """Give the port back."""
        self._server.server_close()


@final
class _Server(ThreadingHTTPServer):
    """What the requests of a page share."""

    daemon_threads = True

    def __init__(self, port: int, *, room: Room, page: bytes, key: str) -> None:
        super().__init__((LOOPBACK, port), _Handler)
        self.room, self.page, self.key = room, page, key


@final
class _Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "Potstill", ""
    disable_nagle_algorithm = True  # a small answer would wait for 40 ms

    @property
    def _asked(self) -> "_Server":
        assert isinstance(self.server, _Server), "nobody else makes these"
        return self.server

    def do_GET(self) -> None:
        """The page."""
        if not self._is_meant():
            return
        if self.path.partition("?")[0] != "/":
            self._say(HTTPStatus.NOT_FOUND, {"error": "There is one page here, /."})
            return
        self._send(HTTPStatus.OK, self._asked.page, "text/html; charset=utf-8")

    def do_POST(self) -> None:
        """A question."""
        if not self._is_meant():
            return
        given = self.headers.get(KEY, "").encode("utf-8", "replace")
        if self.path != "/ask" or not secrets.compare_digest(given, self._asked.key.encode()):
            self.close_connection = True
            self._say(HTTPStatus.FORBIDDEN, {"error": "Open the page again and ask there."})
            return
        self._answer(self._body)

    def _answer(self, body: Callable[[], dict[str, object]]) -> None:
        try:
            self._say(HTTPStatus.OK, self._asked.room.ask(body()))
        except PotstillError as error:
            self._say(HTTPStatus.UNPROCESSABLE_ENTITY, {"error": str(error)})
        except Exception as error:  # noqa: BLE001 - the page says it and goes on
            first = (str(error).strip().splitlines() or [""])[0]
            said = f"The models could not answer: {type(error).__name__} {first}"
            self._say(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": said})

    def _body(self) -> dict[str, object]:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > MOST_BYTES:
            self.close_connection = True
            raise DataError(f"That is too large; at most {MOST_BYTES // 2**20} MB are taken.")
        try:
            found = json.loads(self.rfile.read(int(length)))
        except ValueError as error:
            raise DataError("The question is no JSON; open the page again.") from error
        if not isinstance(found, dict):
            raise DataError("The question is no JSON object; open the page again.")
        return found

    def _is_meant(self) -> bool:
        """Whether the browser asks for this machine by its own name."""
        name = self.headers.get("Host", "").rpartition(":")[0]
        if name in NAMES:
            return True
        self.close_connection = True
        self._say(HTTPStatus.FORBIDDEN, {"error": f"Open http://{LOOPBACK} instead."})
        return False

    def _say(self, status: HTTPStatus, content: dict[str, object]) -> None:
        self._send(status, json.dumps(content).encode("utf-8"), "application/json")

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: the page says what goes wrong."""
