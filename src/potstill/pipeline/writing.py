"""Language models that write in a run: samples to learn from, and answers to be scored by."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from potstill.data.samples import DataSet, Samples
from potstill.data.tokens import Tokens
from potstill.errors import ModelError
from potstill.functional.tokens import IGNORED
from potstill.generation import Engine, EngineName, Sampling, make_engine
from potstill.generation.hugging import writer_in
from potstill.measure.texts import exact_match, rouge_l
from potstill.runtime.texts import PLACES
from potstill.train import OnPolicy, Rollout

_OFTEN = 0.5  # of the rows, so that a token counts as what ends them


def rollout_of(on_policy: OnPolicy | None, data: DataSet, *, seed: int) -> Rollout | None:
    """What lets a student write its own samples, afresh for a training."""
    if on_policy is None:
        return None
    engine = engine_of(data, name=on_policy.engine)
    return Rollout(on_policy, engine, pad=_pad(data.tokens), seed=seed)


def engine_of(data: DataSet, *, name: EngineName = EngineName.TRANSFORMERS) -> Engine:
    """An engine for models of a data set's tokens."""
    ends = ends_of(data.train, data.tokens)
    return make_engine(name, ends=ends, pad=_pad(data.tokens), vocabulary=data.num_outputs)


def ends_of(samples: Samples, tokens: Tokens | None) -> tuple[int, ...]:
    """What ends an answer: the tokenizer's mark, and the token that most answers end with.

    (A chat template may end its turns with another mark than the tokenizer's.)
    """
    own = None if tokens is None else tokens.tokenizer.eos_token_id
    ends = set() if own is None else {int(own)}
    labels = samples.labels
    if labels is not None and labels.ndim == 2:
        asked_NL = labels != IGNORED
        places = torch.arange(labels.shape[1])
        last_N = torch.where(asked_NL, places, -1).max(dim=1).values
        final_N = labels[torch.arange(len(labels)), last_N.clamp(min=0)]
        ((token, often),) = Counter(final_N[last_N >= 0].tolist()).most_common(1) or [(0, 0)]
        starts_late = bool((asked_NL.int().argmax(1) > 0).float().mean() >= _OFTEN)
        if often >= _OFTEN * len(labels) and starts_late:
            ends.add(int(token))
    return tuple(sorted(ends))


def _pad(tokens: Tokens | None) -> int:
    return 0 if tokens is None else tokens.pad


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Exam:
    """Prompts of the test data with the answers that stand behind them.

    Args:
        prompts: int64 tokens of each.
        references: the (last) answer of each, as text.
        tokens: makes texts of tokens.
        engine: lets models write.
        most: tokens of the longest answer; nobody writes more.
    """

    prompts: Sequence[Tensor]
    references: Sequence[str]
    tokens: Tokens
    engine: Engine
    most: int

    def answers(self, model: nn.Module) -> list[str]:
        """What a model writes behind each prompt, always the most probable token."""
        sampling = Sampling(max_new_tokens=self.most, temperature=0)
        said = self.engine.write(model, self.prompts, sampling, seed=0)
        return [_text(self.tokens, ids) for ids in said.texts()]

    def questions(self) -> list[str]:
        """The prompts as text."""
        return [_text(self.tokens, prompt.tolist()) for prompt in self.prompts]

    def scores(self, answers: Sequence[str]) -> dict[str, float]:
        """ROUGE-L and exact match of answers."""
        return {
            "rouge_l": rouge_l(answers, self.references),
            "exact_match": exact_match(answers, self.references),
        }


def exam_of(data: DataSet, *, count: int) -> Exam | None:
    """The first `count` test samples that have a prompt; `None` where none has.

    Plain texts have none, and rows that are packed with several texts are not taken apart.
    """
    test, tokens = data.test, data.tokens
    labels = test.labels
    if tokens is None or labels is None or labels.ndim != 2 or count < 1:
        return None
    if test.inputs.ndim != 3 or test.inputs.shape[1] > PLACES:
        return None
    prompts: list[Tensor] = []
    references: list[list[int]] = []
    for planes, asked in zip(test.inputs, labels, strict=True):
        places = (asked != IGNORED).nonzero()[:, 0].tolist()
        if not places or places[0] == 0:
            continue
        start = next(p for p in reversed(places) if p - 1 not in places)  # of the last answer
        prompts.append(planes[0, : start + 1].long())
        references.append(asked[start : places[-1] + 1].tolist())
        if len(prompts) == count:
            break
    if not prompts:
        return None
    return Exam(
        prompts=prompts,
        references=[_text(tokens, ids) for ids in references],
        tokens=tokens,
        engine=engine_of(data),
        most=max(map(len, references)),
    )


def can_write(model: nn.Module) -> bool:
    """Whether a model is a language model of Transformers, or holds one."""
    try:
        writer_in(model)
    except ModelError:
        return False
    return True


def transcript(exam: Exam, answers: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Prompt, reference and everyone's answer, one record a prompt."""
    rows = zip(exam.questions(), exam.references, strict=True)
    return [
        {
            "prompt": prompt,
            "reference": reference,
            **{name: said[number] for name, said in answers.items()},
        }
        for number, (prompt, reference) in enumerate(rows)
    ]


def _text(tokens: Tokens, ids: Sequence[int]) -> str:
    text = tokens.tokenizer.decode(list(ids), skip_special_tokens=True)
    assert isinstance(text, str), "one row of tokens is one text"
    return text.strip()
