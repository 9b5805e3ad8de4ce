"""Asking a server: one request that is sent until it is answered, and many at once."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Self, TypeVar, final

from potstill.errors import RemoteError, need
from potstill.remote.pace import Pace, backoff, retry_after
from potstill.remote.refusals import is_passing, refusal, said_by
from potstill.remote.server import Server

if TYPE_CHECKING:
    from types import TracebackType

    from httpx2 import Client as HttpClient
    from httpx2 import Response

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_TOO_LONG = 900.0  # seconds; a server that asks for more is left alone


@final
class Client:
    """Asks one server; may be used by several threads.

    What may pass (429, 5xx, a lost connection, no answer in time, an answer that is no JSON) is
    asked again after a growing, partly random wait; `Retry-After` is respected, by all threads.

    Args:
        server: whom, and how patiently.
        chance: where the random part of waits is from.

    Raises:
        MissingExtra: httpx2 is not installed.
        RemoteError: the key's environment variable is not set.
    """

    def __init__(self, server: Server, *, chance: random.Random | None = None) -> None:
        httpx = need("httpx2", extra="remote")
        self.server = server
        self.requests = 0  # sent so far, retries too
        self._httpx, self._passing = httpx, httpx.TransportError
        self._secret = server.secret()
        self._connections: HttpClient | None = None
        self._pace = Pace(server.rate)
        self._chance = chance or random.Random()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: "TracebackType | None",
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections; who asks again gets new ones."""
        with self._lock:
            connections, self._connections = self._connections, None
        if connections is not None:
            connections.close()

    @property
    def _http(self) -> "HttpClient":
        with self._lock:
            if self._connections is None:
                seconds, many = self.server.timeout, self.server.concurrency
                self._connections = self._httpx.Client(
                    headers={"Authorization": f"Bearer {self._secret}"} if self._secret else {},
                    timeout=self._httpx.Timeout(seconds, connect=min(10.0, seconds)),
                    limits=self._httpx.Limits(max_connections=many),
                )
            return self._connections

    def peek(self, path: str, body: Mapping[str, object] | None = None) -> dict[str, object] | None:
        """What a path answers if it answers well, and `None` if not. Asked once."""
        url = self.server.root + path
        try:
            response = self._http.get(url) if body is None else self._http.post(url, json=body)
        except self._passing:
            return None
        return _json(response.text) if response.is_success else None

    def post(self, path: str, body: Mapping[str, object]) -> dict[str, object]:
        """The JSON object that the server answers to another one.

        Raises:
            RemoteError: it refuses, or every retry failed.
        """
        return self._answered(path, lambda: self._http.post(self.server.root + path, json=body))

    def each(
        self, items: Iterable[Item], ask: Callable[[Item], Answer]
    ) -> Iterator[tuple[Item, Answer]]:
        """Every item with its answer, as they come, `concurrency` of them under way at once.

        Items are taken as there is room for them. After the first error nothing more is asked;
        answers that are under way are waited for and given out first.

        Raises:
            RemoteError: the first one that `ask` raised.
        """
        self._pace.go()
        source = iter(items)
        pending: dict[Future[Answer], Item] = {}
        failure: BaseException | None = None
        pool = ThreadPoolExecutor(self.server.concurrency, thread_name_prefix="ask")
        try:
            while True:
                while failure is None and len(pending) < 2 * self.server.concurrency:
                    try:
                        item = next(source)
                    except StopIteration:
                        break
                    pending[pool.submit(ask, item)] = item
                if not pending:
                    break
                for done in wait(pending, return_when=FIRST_COMPLETED).done:
                    item = pending.pop(done)
                    error = None if done.cancelled() else done.exception()
                    if error is not None and failure is None:
                        failure = error
                        self._pace.stop()
                        for other in pending:
                            other.cancel()
                    elif error is None and not done.cancelled():
                        yield item, done.result()
        except (KeyboardInterrupt, GeneratorExit):
            self._pace.stop()
            self.close()  # whoever waits for an answer stops waiting
            raise
        finally:
            self._pace.stop()
            pool.shutdown(wait=True, cancel_futures=True)
            self._pace.go()  # nobody waits any more; the next request may be sent
        if failure is not None:
            raise failure

    # One request

    def _answered(self, path: str, send: Callable[[], "Response"]) -> dict[str, object]:
        attempt, trouble = 0, ""
        while True:
            self._pace.wait()
            if self._pace.is_stopped:
                raise RemoteError("Stopped before the server was asked.")
            with self._lock:
                self.requests += 1
            asked: float | None = None
            begun = time.monotonic()
            try:
                response = send()
            except self._passing as error:
                trouble = _lost(error, time.monotonic() - begun)
            else:
                if response.is_success:
                    content = _json(response.text)
                    if content is not None:
                        return content
                    trouble = "its answer is not a JSON object"
                elif is_passing(response.status_code, response.text):
                    said = said_by(response.text, self._secret)
                    trouble = f"it answers {response.status_code}{said}"
                    asked = self._asked_to_wait(response)
                else:
                    body, status = response.text, response.status_code
                    raise refusal(self.server, path, status, body, self._secret)
            if attempt == self.server.retries:
                raise RemoteError(
                    f"The server {self.server.root} was asked {attempt + 1} times and did not "
                    f"answer: {trouble}. What was answered before is kept; run the same again when "
                    "the server is back."
                )
            self._pause(attempt, asked)
            attempt += 1

    def _asked_to_wait(self, response: "Response") -> float | None:
        asked = retry_after(response.headers)
        if asked is not None and asked > _TOO_LONG:
            raise RemoteError(
                f"The server {self.server.root} asks to be left alone for {asked:,.0f} s "
                f"({response.status_code}). What was answered before is kept; run the same again "
                "after that time."
            )
        return asked

    def _pause(self, attempt: int, asked: float | None) -> None:
        if asked is not None:
            self._pace.hold(asked)  # everybody waits: the server said so
        first, longest = self.server.backoff, self.server.longest_wait
        own = backoff(attempt, first=first, longest=longest, chance=self._chance)
        self._pace.sleep(own if asked is None else asked)


def _json(text: str) -> dict[str, object] | None:
    try:
        content = json.loads(text)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _lost(error: Exception, seconds: float) -> str:
    kind = type(error).__name__
    if "Timeout" in kind:
        return f"nothing came within {seconds:.0f} s ({kind}; `timeout` allows more)"
    return f"the connection failed ({kind}: {str(error) or 'closed'})"
