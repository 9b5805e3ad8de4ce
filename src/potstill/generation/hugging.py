"""The default engine: `generate` of Transformers, with a cache of keys and values, in batches.

Prompts of like length are written together, padded on the left.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor, nn

from potstill.data.draws import Draws
from potstill.errors import DataError, ModelError, need
from potstill.generation.choice import Choice
from potstill.generation.engine import Engine, Sampling, Written
from potstill.runtime.modes import evaluating

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel

ROWS = 64
"""Prompts that are written together, at most."""


@final
class HuggingFaceEngine(Engine):
    """Lets a causal language model of Transformers write.

    Args:
        ends: the tokens that end a continuation, any of them.
        pad: what fills up; of no consequence, since attention leaves it out.
        rows: prompts that are written together, at most.
        vocabulary: how many tokens there are; a head that was padded to more never writes those.
    """

    def __init__(
        self,
        *,
        ends: Sequence[int],
        pad: int,
        rows: int = ROWS,
        vocabulary: int | None = None,
    ) -> None:
        self._ends, self._pad, self._rows = tuple(ends), pad, rows
        self._vocabulary = vocabulary

    def write(
        self,
        model: nn.Module,
        prompts: Sequence[Tensor],
        sampling: Sampling,
        *,
        seed: int,
        keys: Sequence[int] | None = None,
    ) -> Written:
        """As in `Engine`. Continuations end early where the model's positions do."""
        inner = writer_in(model)
        device = next(inner.parameters()).device
        names = torch.tensor(range(len(prompts)) if keys is None else list(keys), device=device)
        draws = Draws.of(seed, names, torch.zeros_like(names))
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        parts: list[tuple[list[int], Written]] = []
        with evaluating(model), torch.no_grad():
            for start in range(0, len(order), self._rows):
                rows = order[start : start + self._rows]
                chosen = torch.tensor(rows, device=device)
                part = [prompts[i].to(device) for i in rows]
                parts.append((rows, self._bucket(inner, part, sampling, Draws(draws.keys[chosen]))))
        return _together(parts, pad=self._pad)

    def _bucket(
        self, model: "PreTrainedModel", prompts: list[Tensor], sampling: Sampling, draws: Draws
    ) -> Written:
        width = max(len(p) for p in prompts)
        ids, mask = _left_padded(prompts, width, pad=self._pad)
        choice = Choice(sampling, draws, prompt_width=width) if sampling.draws else None
        config = self._config(sampling, room=_room(model, width))
        with _governed(model, config):
            both = model.generate(
                inputs=ids,
                attention_mask=mask,
                generation_config=config,
                logits_processor=[self._known, *([] if choice is None else [choice])],
            )
        assert isinstance(both, Tensor), "no dictionary was asked for"
        new = both[:, width:]
        return self._cut(new, None if choice is None else choice.logprobs())

    def _known(self, _ids: Tensor, scores: Tensor) -> Tensor:
        """A logits processor: nothing beyond the vocabulary is possible."""
        if self._vocabulary is not None and scores.shape[1] > self._vocabulary:
            scores[:, self._vocabulary :] = -torch.inf
        return scores

    def _config(self, sampling: Sampling, *, room: int | None) -> "GenerationConfig":
        transformers = need("transformers", extra="text")
        most = sampling.max_new_tokens if room is None else min(room, sampling.max_new_tokens)
        return transformers.GenerationConfig(
            max_new_tokens=most,
            do_sample=False,  # `Choice` has drawn already
            num_beams=sampling.beams,
            use_cache=True,
            eos_token_id=list(self._ends) or None,
            pad_token_id=self._pad,
        )

    def _cut(self, new: Tensor, logprobs: Tensor | None) -> Written:
        """What comes after the first end is padding."""
        is_end = torch.isin(new, torch.tensor(self._ends, dtype=new.dtype, device=new.device))
        ended = is_end.any(-1)
        whole = torch.full_like(new[:, 0], new.shape[1])
        lengths = torch.where(ended, is_end.int().argmax(-1) + 1, whole)
        kept = torch.arange(new.shape[1], device=new.device) < lengths[:, None]
        return Written(
            ids=new.masked_fill(~kept, self._pad),
            lengths=lengths,
            logprobs=None if logprobs is None else logprobs.masked_fill(~kept, 0.0),
            ended=ended,
        )


def writer_in(model: nn.Module) -> "PreTrainedModel":
    """The part of a model that can write: itself, or the model of Transformers inside.

    Raises:
        ModelError: there is none.
    """
    for part in model.modules():
        if callable(getattr(part, "generate", None)) and hasattr(part, "generation_config"):
            return part
    raise ModelError(
        f"A {type(model).__name__} cannot write: generation needs a causal language model of "
        "Transformers (`source: hf`)."
    )


def _left_padded(prompts: list[Tensor], width: int, *, pad: int) -> tuple[Tensor, Tensor]:
    ids = torch.full((len(prompts), width), pad, dtype=torch.int64, device=prompts[0].device)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        if not len(prompt):
            raise DataError(
                f"Prompt {row} has no tokens; a model needs one at least to go on from."
            )
        ids[row, width - len(prompt) :] = prompt
        mask[row, width - len(prompt) :] = 1
    return ids, mask


def _room(model: "PreTrainedModel", width: int) -> int | None:
    """How many tokens fit behind the longest prompt; `None` where the model sets no end."""
    most = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(most, int) or most <= 0:
        return None
    if width >= most:
        raise DataError(
            f"A prompt has {width} tokens and the model has positions for {most}, so nothing can "
            "be written behind it: lower `data.max_length`."
        )
    return most - width


@contextmanager
def _governed(model: "PreTrainedModel", config: "GenerationConfig") -> Iterator[None]:
    """Only our settings count: those that came with the weights would fill in what we leave open.

    (A checkpoint may bring a repetition penalty or a top-k of its own.)
    """
    own = model.generation_config
    model.generation_config = config
    try:
        yield
    finally:
        model.generation_config = own


def _together(parts: list[tuple[list[int], Written]], *, pad: int) -> Written:
    """The buckets' rows in the order of the prompts."""
    widest = max(written.ids.shape[1] for _, written in parts)
    order = [row for rows, _ in parts for row in rows]
    back = torch.tensor(order).argsort().to(parts[0][1].ids.device)

    def joined(tensors: list[Tensor], fill: float) -> Tensor:
        wide = [nn.functional.pad(t, (0, widest - t.shape[1]), value=fill) for t in tensors]
        return torch.cat(wide)[back]

    made = [written for _, written in parts]
    drawn = [w.logprobs for w in made if w.logprobs is not None]
    return Written(
        ids=joined([w.ids for w in made], pad),
        lengths=torch.cat([w.lengths for w in made])[back],
        logprobs=joined(drawn, 0.0) if len(drawn) == len(made) else None,
        ended=torch.cat([w.ended for w in made])[back],
    )
