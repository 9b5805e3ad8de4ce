"""What a server's refusal means, in one sentence with the next step. Keys never appear in one."""

import json
import re

from potstill.errors import RemoteError
from potstill.remote.server import Server

PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
"""Status codes after which the same request may succeed."""

_LONGEST = 300  # characters of a server's own words that are repeated


class Refused(RemoteError):
    """The server answers and does not do what was asked; another request may still be answered."""


def is_passing(status: int, body: str) -> bool:
    """Whether asking again may help. An empty account answers 429 and never does."""
    return status in PASSING and "insufficient_quota" not in body


def refusal(server: Server, path: str, status: int, body: str, secret: str | None) -> RemoteError:
    """The error for an answer that will not become better by asking again."""
    said = said_by(body, secret)
    where = f"The server {server.root}"
    if status in {401, 403}:
        key = (
            f"check the key in the environment variable {server.key}"
            if server.key
            else "name the environment variable that holds the key with `key`"
        )
        return RemoteError(f"{where} refuses the key ({status}{said}); {key}.")
    if status == 404 and "model" in body.lower():
        return RemoteError(
            f"{where} does not know the model {server.model!r} (404{said}); give the name under "
            f"which it is served ({server.root}/v1/models lists them)."
        )
    if status in {404, 405}:
        return Refused(
            f"{where} has no {path} ({status}); check `url`, and that the server offers the "
            "OpenAI interface."
        )
    if status == 429:
        return RemoteError(f"{where} has no quota left for this key (429{said}); add to it.")
    if 300 <= status < 400:
        return RemoteError(f"{where} moved ({status}); give the new address as `url`.")
    if "logprob" in body:
        return Refused(
            f"{where} does not give the log-probabilities that were asked for ({status}{said}); "
            "ask for fewer with `top`, or allow more on the server (vLLM: --max-logprobs)."
        )
    return Refused(f"{where} refused a request to {path} ({status}{said}).")


def said_by(body: str, secret: str | None) -> str:
    """`: what the server says`, shortened, without the key and anything that looks like one."""
    try:
        content = json.loads(body)
    except ValueError:
        content = body
    text = " ".join(str(_message(content)).split())
    if secret:
        text = text.replace(secret, "…")
    text = re.sub(r"(?i)\b(bearer\s+|sk-|hf_|key-)\S{6,}", "…", text)
    if not text or text.startswith("<"):
        return ""
    return f": {text[:_LONGEST]}"


def _message(content: object) -> object:
    """The words inside the shapes that servers wrap an error in."""
    while isinstance(content, dict):
        inner = next((content[k] for k in ("error", "message", "detail") if k in content), "")
        content = inner
    if isinstance(content, list):
        return "; ".join(str(_message(part)) for part in content)
    return content
