"""Where a model server is and how it may be asked. Values only; `client` does the asking."""

import os
import re
from dataclasses import dataclass
from typing import final

from potstill.errors import RecipeError, RemoteError

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


@final
@dataclass(frozen=True, kw_only=True)
class Server:
    """An OpenAI-compatible server and how patiently it is asked.

    Args:
        url: its address, with or without the `/v1` at the end.
        model: the name under which it serves the model.
        key: the name of the environment variable that holds the key; never the key itself, which
            is read when it is sent and kept nowhere.
        timeout: seconds that one answer may take.
        retries: how often a request is sent again after a failure that may pass.
        backoff: seconds before the first retry; the wait doubles each time, and a random part of
            it is taken, so that many clients do not come back at once.
        longest_wait: seconds between two retries at most, where the server does not say.
        rate: requests a second at most; `None` for no limit.
        concurrency: requests that may be under way at once.

    Raises:
        RecipeError: an address that is none, a key in place of its variable, numbers out of range.
    """

    url: str
    model: str
    key: str | None = None
    timeout: float = 120.0
    retries: int = 8
    backoff: float = 0.5
    longest_wait: float = 60.0
    rate: float | None = None
    concurrency: int = 8

    def __post_init__(self) -> None:
        _check_url(self.url)
        if not self.model:
            raise RecipeError("A server needs the name of the model it serves: `name`.")
        if self.key is not None and not _VARIABLE.fullmatch(self.key):
            raise RecipeError(
                "`key` is the name of the environment variable that holds the key, for example "
                "OPENAI_API_KEY; what was given is not a name (and is not repeated here)."
            )
        least = {"timeout": 0.0, "backoff": 0.0, "longest_wait": 0.0, "rate": 0.0}
        for name in least:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise RecipeError(f"`{name}` is {value}; a number above 0 is expected.")
        if self.retries < 0 or self.concurrency < 1:
            raise RecipeError(
                f"`retries` is {self.retries} and `concurrency` {self.concurrency}; "
                "they are at least 0 and 1."
            )

    @property
    def root(self) -> str:
        """The address without `/v1`, under which other interfaces of the server lie."""
        return self.url.rstrip("/").removesuffix("/v1")

    def secret(self) -> str | None:
        """The key, from the environment.

        Raises:
            RemoteError: the variable is not set.
        """
        if self.key is None:
            return None
        found = os.environ.get(self.key, "").strip()
        if not found:
            raise RemoteError(
                f"The environment variable {self.key} is named as the server's key and is not set; "
                f"set it, for example with  export {self.key}=…"
            )
        return found


def _check_url(url: str) -> None:
    if not re.fullmatch(r"https?://[^\s/]+\S*", url):
        raise RecipeError(
            f"`url` is {url!r}; an address such as http://localhost:8000/v1 is expected."
        )
    if "@" in url or "?" in url:
        raise RecipeError(
            "`url` holds a user, a password or a query, which would be written into the run "
            "folder; give the address alone, and the key through `key`."
        )
