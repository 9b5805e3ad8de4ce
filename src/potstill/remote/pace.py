"""How fast requests follow one another, and how long is waited after a failure."""

import random
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import final


@final
class Pace:
    """Lets requests of all threads through one by one, and holds all of them when asked to.

    Args:
        rate: requests a second at most; `None` for no limit.
    """

    def __init__(self, rate: float | None) -> None:
        self._gap = 0.0 if rate is None else 1.0 / rate
        self._lock = threading.Lock()
        self._next = 0.0
        self._stopped = threading.Event()

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """Wake whoever waits: nothing more will be asked."""
        self._stopped.set()

    def go(self) -> None:
        """Forget an earlier `stop`."""
        self._stopped.clear()

    def wait(self) -> None:
        """Return when the next request may be sent (or when stopped)."""
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next)
            self._next = start + self._gap
        self.sleep(start - now)

    def hold(self, seconds: float) -> None:
        """Let no request of any thread start for so long."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)

    def sleep(self, seconds: float) -> None:
        """Wait; wakes at once when stopped."""
        if seconds > 0:
            self._stopped.wait(seconds)


def backoff(attempt: int, *, first: float, longest: float, chance: random.Random) -> float:
    """Seconds to wait before retry number `attempt` (from 0).

    Doubles each time up to `longest`; between half of that and the whole, at random.
    """
    whole = min(longest, first * 2.0 ** min(attempt, 30))
    return whole * (0.5 + 0.5 * chance.random())


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait (RFC 9110, 10.2.3: seconds or a date), if it does."""
    given = headers.get("retry-after")
    if given is None:
        return None
    try:
        return max(0.0, float(given))
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(given)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())
