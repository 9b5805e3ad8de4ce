"""A proxy before a real server that breaks the way a network and a busy server do."""

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Faults:
    """Passes requests on; the next POST requests meet these faults, in order, one each.

    A fault is `status`, `status:retry-after`, `drop` (the connection closes), `cut` (after half of
    the answer), `garbage` (no JSON) or `slow:seconds`. `replies` stands in for the server.
    """

    def __init__(self, target: str, faults: Iterable[str] = ()) -> None:  # noqa: C901
        self.faults, self.seen = list(faults), []
        self.busy = self.busiest = 0
        self.delay = 0.0
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._pass_on(None)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with proxy._lock:
                    fault = proxy.faults.pop(0) if proxy.faults else ""
                    proxy.seen.append((time.monotonic(), self.path, dict(self.headers)))
                    proxy.busy += 1
                    proxy.busiest = max(proxy.busiest, proxy.busy)
                time.sleep(proxy.delay)
                try:
                    self._meet(fault, body)
                finally:
                    with proxy._lock:
                        proxy.busy -= 1

            def _meet(self, fault: str, body: bytes) -> None:
                kind, _, detail = fault.partition(":")
                if kind == "drop":
                    self.close_connection = True
                elif kind == "garbage":
                    self._say(200, b"<html>this is no JSON")
                elif kind == "slow":
                    time.sleep(float(detail))
                    self._pass_on(body)
                elif kind == "cut":
                    self._pass_on(body, whole=False)
                elif kind:
                    self._say(int(kind), b'{"error": {"message": "busy"}}', retry_after=detail)
                else:
                    self._pass_on(body)

            def _pass_on(self, body: bytes | None, *, whole: bool = True) -> None:
                kept = ("Content-Type", "Authorization")
                headers = {name: self.headers[name] for name in kept if self.headers[name]}
                request = urllib.request.Request(target + self.path, body, headers)
                try:
                    with urllib.request.urlopen(request, timeout=60) as answer:
                        status, said = answer.status, answer.read()
                except urllib.error.HTTPError as error:
                    status, said = error.code, error.read()
                except (urllib.error.URLError, OSError):
                    status, said = 502, b"{}"
                self._say(status, said, whole=whole)

            def _say(
                self, status: int, body: bytes, *, retry_after: str = "", whole: bool = True
            ) -> None:
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(body)))
                    if retry_after:
                        self.send_header("Retry-After", retry_after)
                    self.end_headers()
                    self.wfile.write(body if whole else body[: len(body) // 2])
                except OSError:  # the client has gone
                    whole = False
                self.close_connection = self.close_connection or not whole

            def log_message(self, *args: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request: object, address: object) -> None:
                pass

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> "Faults":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
