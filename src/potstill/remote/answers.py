"""The shapes in which servers say log-probabilities, read into one.

Servers differ: vLLM keys the candidates of a prompt's token by id, SGLang lists triples, llama.cpp
gives ids and bytes, the completions interface of OpenAI strings alone, its chat strings and bytes.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeGuard

from potstill.remote.refusals import Refused

NEVER = -9000.0
"""Servers write -inf as -9999 or the lowest float; what is below this is no probability at all."""

_NUMBERED = re.compile(r"token_id:(\d+)")


class Candidate(NamedTuple):
    """One token that might come next: what the server says it is, and its log-probability."""

    id: int | None
    text: str
    data: bytes | None
    logprob: float


Position = Sequence[Candidate]
"""The candidates for one place in a text."""


def choice_of(answer: Mapping[str, object], index: int = 0) -> Mapping[str, object]:
    """One of the answer's choices, by its index.

    Raises:
        Refused: there is none.
    """
    choices = answer.get("choices")
    if is_list(choices):
        for place, choice in enumerate(choices):
            if is_map(choice) and choice.get("index", place) == index:
                return choice
    raise Refused(
        f"The server's answer has no choice {index} (its keys: {', '.join(answer) or 'none'}); "
        "an OpenAI-compatible server is expected."
    )


def prompt_candidates(given: object) -> list[Position]:
    """The `prompt_logprobs` of vLLM: of each token after the first, `{id: {logprob, …}}`."""
    if not is_list(given):
        return []
    return [_keyed(place) if is_map(place) else [] for place in given[1:]]


def listed_candidates(given: object) -> list[Position]:
    """The `input_top_logprobs` of SGLang: of each token after the first, `[logprob, id, text]`."""
    if not is_list(given):
        return []
    return [_listed(place) for place in given[1:]]


def logprob_candidates(given: object) -> list[Position]:
    """`logprobs` of a choice: that of completions, or `content` as in chats and llama.cpp."""
    if not is_map(given):
        return []
    content = given.get("content")
    if is_list(content):
        return [_described(place.get("top_logprobs")) for place in content if is_map(place)]
    tops = given.get("top_logprobs")
    if not is_list(tops):
        return []
    return [
        [_plain(text, number) for text, number in place.items()] if is_map(place) else []
        for place in tops
    ]


def echoed_tokens(given: object) -> list[str]:
    """The tokens, as text, that the `logprobs` of a completion are about."""
    tokens = given.get("tokens") if is_map(given) else None
    return [str(token) for token in tokens] if is_list(tokens) else []


def _listed(place: object) -> list[Candidate]:
    found = []
    for entry in place if is_list(place) else ():
        if is_list(entry) and len(entry) >= 3 and isinstance(entry[1], int):
            found.append(Candidate(entry[1], str(entry[2] or ""), None, _number(entry[0])))
    return found


def _keyed(place: Mapping[str, object]) -> list[Candidate]:
    found = []
    for number, entry in place.items():
        if is_map(entry) and isinstance(entry.get("logprob"), int | float):
            text = str(entry.get("decoded_token") or "")
            found.append(Candidate(int(number), text, None, _number(entry["logprob"])))
    return found


def _described(entries: object) -> list[Candidate]:
    found = []
    for entry in entries if is_list(entries) else ():
        if not is_map(entry) or not isinstance(entry.get("logprob"), int | float):
            continue
        number, raw = entry.get("id"), entry.get("bytes")
        found.append(
            Candidate(
                number if isinstance(number, int) else _numbered(str(entry.get("token", ""))),
                str(entry.get("token", "")),
                bytes(int(str(byte)) for byte in raw) if is_list(raw) else None,
                _number(entry["logprob"]),
            )
        )
    return found


def _plain(text: object, number: object) -> Candidate:
    return Candidate(_numbered(str(text)), str(text), None, _number(number))


def _numbered(text: str) -> int | None:
    """The id in vLLM's `token_id:123` (`return_tokens_as_token_ids`)."""
    found = _NUMBERED.fullmatch(text)
    return int(found[1]) if found else None


def _number(value: object) -> float:
    number = float(value) if isinstance(value, int | float) else math.nan
    return -math.inf if number <= NEVER else number


def is_map(value: object) -> TypeGuard[Mapping[str, object]]:
    """Whether this is a JSON object."""
    return isinstance(value, Mapping)


def is_list(value: object) -> TypeGuard[list[object]]:
    """Whether this is a JSON array."""
    return isinstance(value, list)
