"""Texts in the tokens that the training texts use: the option `vocabulary: used`."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from potstill.data.options import Options
from potstill.data.tokens import Tokens
from potstill.errors import DataError
from potstill.vocab import cut_to_use

CHOICES = ("all", "used")
"""Of the option `vocabulary`."""

TrainIds = Callable[[Tokens], NDArray[np.integer]]
"""From a tokenizer to all tokens of the training texts, one after another."""


def chosen_tokens(tokens: Tokens, options: Options, train_ids: TrainIds) -> Tokens:
    """The tokenizer, or with `vocabulary: used` one with the tokens of the training texts alone.

    Raises:
        RecipeError: another word than `all` and `used`.
        DataError: the tokenizer cannot be cut, or the texts came out in other tokens.
    """
    if options.text("vocabulary", choices=CHOICES) != "used":
        return tokens
    before = train_ids(tokens)
    made = cut_to_use(tokens.tokenizer, np.unique(before).tolist())
    smaller = tokens.cut(made.tokenizer, made.kept, before=made.before)
    if not np.array_equal(np.asarray(made.kept)[train_ids(smaller)], before):
        raise DataError(
            "Cut to the tokens in use, this tokenizer writes the training texts in other tokens; "
            "leave `vocabulary: used` out, and report the kind of tokenizer."
        )
    return smaller
