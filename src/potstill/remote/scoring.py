"""Log-probabilities of given texts, in the way that a server can give them.

Shapes: R places (a text of L tokens has L - 1: what may follow each token but the last), K kept.
"""

import math
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

from potstill.errors import RemoteError
from potstill.remote.answers import (
    Candidate,
    Position,
    choice_of,
    echoed_tokens,
    is_list,
    is_map,
    listed_candidates,
    logprob_candidates,
    prompt_candidates,
)
from potstill.remote.client import Client
from potstill.remote.refusals import Refused
from potstill.remote.vocabulary import Vocabulary

BIAS = 1000.0
"""Added to the logit of the token that llama.cpp shall write, which does not change what it says
about the others: it gives no log-probabilities with a token that is a part of a character."""

PREFIXES = 16
"""Prefixes of a text in one request, where each of its places is asked for by itself."""

EXCESS = 1e-3
"""How far above 1 the probabilities of one place may sum up, from rounding."""


class Way(StrEnum):
    """How a server is asked about the tokens of a given text."""

    PROMPT_LOGPROBS = "prompt_logprobs"  # vLLM: one request a text, candidates with ids
    GENERATE = "generate"  # SGLang's own interface: one request a text, candidates with ids
    ECHO = (
        "echo"  # the completions of OpenAI with `echo`: one request a text, candidates as strings
    )
    STEPS = "steps"  # llama.cpp and any other: what follows each prefix, one by one


@final
@dataclass(frozen=True, slots=True)
class Scores:
    """What a server says may follow each token of a text but the last.

    Args:
        ids_RK: int32, by falling probability; 0 in empty places.
        logprobs_RK: float32, at temperature 1; -inf in empty places.
    """

    ids_RK: NDArray[np.int32]
    logprobs_RK: NDArray[np.float32]

    def to_json(self) -> dict[str, object]:
        """As it stands in a journal."""
        return {
            "shape": list(self.ids_RK.shape),
            "ids": b64encode(self.ids_RK.astype("<i4").tobytes()).decode(),
            "logprobs": b64encode(self.logprobs_RK.astype("<f4").tobytes()).decode(),
        }

    @classmethod
    def from_json(cls, values: dict[str, object]) -> Self:
        """What `to_json` wrote."""
        shape = values["shape"]
        assert isinstance(shape, list), "journals hold what to_json wrote"
        ids = np.frombuffer(b64decode(str(values["ids"])), "<i4").reshape(shape)
        logprobs = np.frombuffer(b64decode(str(values["logprobs"])), "<f4").reshape(shape)
        return cls(ids.astype(np.int32), logprobs.astype(np.float32))


@final
class Scorer:
    """Asks for the `top` log-probabilities at every place of a text.

    Args:
        client: whom.
        vocabulary: the student's, whose ids texts are given in and answers are mapped to.
        top: K; OpenAI's chats give 20 at most, vLLM what `--max-logprobs` allows (20 by default).
        way: how; found out from the server if left out.

    Raises:
        RemoteError: the server serves another model, or gives no log-probabilities of texts.
    """

    def __init__(
        self, client: Client, vocabulary: Vocabulary, *, top: int = 20, way: Way | None = None
    ) -> None:
        self._client, self._vocabulary = client, vocabulary
        self.top = min(top, vocabulary.size)
        self.owner = _owner(client)
        self.way = way or _WAYS.get(self.owner) or Way.ECHO
        self._compared = 0
        if way is None and self.owner not in _WAYS:
            self.way = self._tried()

    def scores(self, ids: Sequence[int], *, start: int = 0) -> Scores:
        """What may follow each token of a text but the last, from token `start` on.

        Raises:
            RemoteError: fewer log-probabilities than `top`, another tokenizer, or no answer.
        """
        expected = len(ids) - 1 - start
        if expected < 1:
            nothing = (0, self.top)
            return Scores(np.zeros(nothing, np.int32), np.zeros(nothing, np.float32))
        places = self._asked(ids, start)
        if len(places) != expected:
            raise RemoteError(
                f"The server {self._client.server.root} says log-probabilities about {len(places)} "
                f"places of a text, {expected} were expected; it gives none about given texts, or "
                "reads them as other tokens. Both models must have the same tokenizer."
            )
        if self._compared < 2000:  # later texts are of the same server
            self._compared += sum(len(place) for place in places)
            self._vocabulary.refuse_another([c for place in places for c in place])
        return self._arrays(places)

    # The four ways

    def _asked(self, ids: Sequence[int], start: int) -> list[Position]:
        match self.way:
            case Way.PROMPT_LOGPROBS:
                body = self._body(prompt=list(ids), prompt_logprobs=self.top)
                choice = choice_of(self._client.post("/v1/completions", body))
                return prompt_candidates(choice.get("prompt_logprobs"))[start:]
            case Way.GENERATE:
                return self._generated(ids)[start:]
            case Way.ECHO:
                return self._echoed(ids)[start:]
            case Way.STEPS:
                firsts = range(start + 1, len(ids), PREFIXES)
                return [place for first in firsts for place in self._stepped(ids, first)]

    def _body(self, **fields: object) -> dict[str, object]:
        model = self._client.server.model
        by_id = {"return_tokens_as_token_ids": True} if self.owner == "vllm" else {}
        return {"model": model, "max_tokens": 1, "temperature": 0.0, **by_id, **fields}

    def _generated(self, ids: Sequence[int]) -> list[Position]:
        body = {
            "input_ids": list(ids),
            "sampling_params": {"max_new_tokens": 1, "temperature": 0.0},
            "return_logprob": True,
            "logprob_start_len": 0,
            "top_logprobs_num": self.top,
            "return_text_in_logprobs": True,
        }
        meta = self._client.post("/generate", body).get("meta_info")
        return listed_candidates(meta.get("input_top_logprobs")) if is_map(meta) else []

    def _echoed(self, ids: Sequence[int]) -> list[Position]:
        body = self._body(prompt=list(ids), echo=True, logprobs=self.top)
        given = choice_of(self._client.post("/v1/completions", body)).get("logprobs")
        places = logprob_candidates(given)[1 : len(ids)]
        tokens = echoed_tokens(given)[: len(ids)]
        pieces = self._vocabulary.pieces
        named = [
            Candidate(int(i), text, None, 0.0)
            for i, text in zip(ids, tokens, strict=False)
            if i < len(pieces) and not text.startswith("token_id:")
        ]
        self._vocabulary.refuse_another(named)
        return places

    def _stepped(self, ids: Sequence[int], first: int) -> list[Position]:
        ends = range(first, min(first + PREFIXES, len(ids)))
        body = self._body(prompt=[list(ids[:end]) for end in ends], logprobs=self.top)
        if self.owner == "llamacpp":
            body["logit_bias"] = {str(self._vocabulary.plain()): BIAS}
        answer = self._client.post("/v1/completions", body)
        found = []
        for number in range(len(ends)):
            places = logprob_candidates(choice_of(answer, number).get("logprobs"))
            if len(places) != 1:
                raise self._too_few(len(places))
            found.append(places[0])
        return found

    # What is found out

    def _tried(self) -> Way:
        """The way that works with a server of unknown make, from a text of three tokens."""
        probe = [self._vocabulary.plain()] * 3
        for way in (Way.PROMPT_LOGPROBS, Way.ECHO, Way.STEPS):
            self.way = way
            try:
                if len(self._asked(probe, 0)) == 2:
                    return way
            except Refused:
                continue
        raise RemoteError(
            f"The server {self._client.server.root} gives no log-probabilities of given texts: it "
            "knows neither prompt_logprobs nor echo nor logprobs. Use vLLM, SGLang or llama.cpp, "
            "or take the teacher's answers as texts (`potstill generate`)."
        )

    def _too_few(self, given: int) -> Refused:
        return Refused(
            f"The server {self._client.server.root} gives {given} log-probabilities at a place of "
            f"a text, and {self.top} are asked for (`top`); ask for fewer, or let the server give "
            "more (vLLM: --max-logprobs)."
        )

    def _arrays(self, places: Sequence[Position]) -> Scores:
        ids_RK = np.zeros((len(places), self.top), np.int32)
        logprobs_RK = np.full((len(places), self.top), -np.inf, np.float32)
        unknown = 0.0
        for row, place in enumerate(places):
            given = sorted(place, key=lambda c: -c.logprob)[: self.top]
            if len(given) < self._fewest(given):
                raise self._too_few(len(given))
            kept: dict[int, float] = {}
            for candidate in given:
                number = self._vocabulary.number(candidate)
                if number is None:
                    unknown += math.exp(candidate.logprob)
                elif candidate.logprob > -math.inf:
                    kept.setdefault(number, candidate.logprob)
            ids_RK[row, : len(kept)] = list(kept)
            logprobs_RK[row, : len(kept)] = list(kept.values())
        _refuse_no_probabilities(logprobs_RK)
        self._refuse_unknown(unknown / len(places))
        return Scores(ids_RK, logprobs_RK)

    def _fewest(self, given: Sequence[Candidate]) -> int:
        """How many candidates a place must have.

        Where servers name them by their text, those of one text (parts of characters, mostly) share
        a key; what is lost so goes to the tail.
        """
        return self.top if all(c.id is not None for c in given) else (self.top + 1) // 2

    def _refuse_unknown(self, share: float) -> None:
        if share > 0.5:
            raise RemoteError(
                f"{share:.0%} of what the server's model expects next are words that the student's "
                "vocabulary does not have as one token; the teacher has another tokenizer. Take "
                "its answers as texts (`potstill generate`)."
            )


_WAYS = {"vllm": Way.PROMPT_LOGPROBS, "sglang": Way.GENERATE, "llamacpp": Way.STEPS}


def _owner(client: Client) -> str:
    """Who made the server, as it says itself.

    Raises:
        RemoteError: it lists its models, and ours is not among them.
    """
    listed = (client.peek("/v1/models") or {}).get("data")
    models = [m for m in listed if is_map(m)] if is_list(listed) else []
    owner = next((str(m.get("owned_by")) for m in models), "")
    names = [str(m.get("id")) for m in models]
    if owner in _WAYS and client.server.model not in names:
        raise RemoteError(
            f"The server {client.server.root} does not know the model {client.server.model!r}; it "
            f"serves {', '.join(names)}. Give one of these as `name`."
        )
    return owner


def _refuse_no_probabilities(logprobs_RK: NDArray[np.float32]) -> None:
    sums_R = np.exp(logprobs_RK.astype(np.float64)).sum(1)
    if len(sums_R) and (not np.isfinite(sums_R).all() or sums_R.max() > 1 + EXCESS):
        raise RemoteError(
            f"The server's log-probabilities of one place sum up to {sums_R.max():.4f}, more than "
            "1; they are not those of the model. Look for a setting that returns processed or "
            "sampled scores (vLLM: --logprobs-mode raw_logprobs)."
        )
