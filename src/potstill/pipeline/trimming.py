"""What a tokenizer cut to the tokens in use spares, and what it leaves out of the teacher.

Shapes: N rows of a task, V tokens of the whole model.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import nn

from potstill.data import DataSet
from potstill.data.feed import Feed
from potstill.functional.tokens import asked
from potstill.measure.size import weight_bytes
from potstill.protocols import TokenModel
from potstill.runtime.modes import evaluating

SEEN = 32
"""Training rows at which is counted how much a teacher gives to tokens that were cut."""

_ROWS = 256  # of logits held at a time


def mass_outside(model: nn.Module, data: DataSet, kept: Sequence[int]) -> float:
    """The mean probability that a whole language model gives to tokens that were cut off.

    The teacher of a run is cut like its students, so that its softmax shares this out among the
    tokens that stay, in proportion.

    Args:
        model: with all its tokens.
        data: in the tokens that stay.
        kept: for each of these the number that the model has for it.
    """
    assert isinstance(model, TokenModel), "only models that choose tokens give any a probability"
    feed = Feed(
        samples=data.train.rows(slice(0, SEEN)),
        batch_size=min(4, len(data.train)),
        seed=0,
        normalise=data.normalise,
        shuffle=False,
    )
    index = torch.tensor(list(kept))
    total, count = 0.0, 0
    with evaluating(model), torch.no_grad():
        for batch in feed.epoch(0):
            assert batch.labels is not None, "data of tokens are labelled"
            inputs = batch.inputs.clone()
            inputs[:, 0] = index[inputs[:, 0].long()].to(inputs.dtype)
            states_BLD = model.states(replace(batch, inputs=inputs))
            rows_ND = states_BLD.flatten(0, 1)[asked(batch.labels).index_N]
            for part_ND in torch.split(rows_ND, _ROWS):
                p_NV = model.head(part_ND).float().softmax(-1)
                total += float((1 - p_NV[:, index].sum(-1)).clamp(min=0).sum())
                count += len(part_ND)
    return total / max(count, 1)


def read_at(model: nn.Module, data: DataSet, kept: Sequence[int]) -> str:
    """In words, at how many of its tokens a whole teacher is read, and what lies outside."""
    if not isinstance(model, TokenModel):
        return f"read at the {len(kept):,} tokens in use"
    return (
        f"read at the {len(kept):,} tokens in use ({mass_outside(model, data, kept):.2%} of its "
        "probability lies on others)"
    )


def vocabulary_notes(data: DataSet, student: nn.Module) -> tuple[str, ...]:
    """How many rows the embeddings have, and had; none where nothing was cut.

    Args:
        data: whose tokenizer says what was cut.
        student: a new one.
    """
    if data.tokens is None or data.tokens.kept is None:
        return ()
    before, after = data.tokens.before or 0, data.tokens.size
    said = f"The tokens in use are {after:,} of {before:,}"
    tables = _tables(student)
    if not tables:
        return (f"{said}.",)
    mine = sum(weight_bytes(table) for table in tables)
    saved = round(mine * (before - after) / after)
    return (f"{said}: the student's embeddings are {mine / 1e6:,.1f} MB, {saved / 1e6:,.1f} less.",)


def _tables(student: nn.Module) -> list[nn.Module]:
    """The layers with a row for each token, each once where two share their weight."""
    inner = cast("Any", getattr(student, "model", student))
    if not hasattr(inner, "get_input_embeddings"):
        table = getattr(student, "embedding", None)
        return [table] if isinstance(table, nn.Embedding) else []
    table, head = inner.get_input_embeddings(), inner.get_output_embeddings()
    return [table] if head is None or head.weight is table.weight else [table, head]
