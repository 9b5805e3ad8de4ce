"""Texts in the tokens that the learnt texts use: the option `vocabulary: used`."""

from collections.abc import Callable, Collection

import numpy as np
from numpy.typing import NDArray

from potstill.data.options import Options
from potstill.data.tokens import Tokens
from potstill.errors import DataError
from potstill.vocab import cut_to_use

CHOICES = ("all", "used")
"""Of the option `vocabulary`."""

LEARNT = ("train", "transfer")
"""The parts whose tokens count as used; what validation and test data use besides is unknown."""

IdsOf = Callable[[Tokens, str], NDArray[np.integer]]
"""From a tokenizer and the name of a part to all tokens of its texts, one after another."""


def chosen_tokens(
    tokens: Tokens, options: Options, ids_of: IdsOf, parts: Collection[str]
) -> Tokens:
    """The tokenizer, or with `vocabulary: used` one with the tokens of the learnt texts alone.

    Args:
        tokens: the whole tokenizer.
        options: of the data.
        ids_of: the tokens of a part.
        parts: those that the data have.

    Raises:
        RecipeError: another word than `all` and `used`.
        DataError: the tokenizer cannot be cut, or the texts came out in other tokens.
    """
    if options.text("vocabulary", choices=CHOICES) != "used":
        return tokens

    def learnt(tokens: Tokens) -> NDArray[np.integer]:
        return np.concatenate([ids_of(tokens, part) for part in LEARNT if part in parts])

    before = learnt(tokens)
    made = cut_to_use(tokens.tokenizer, np.unique(before).tolist())
    smaller = tokens.cut(made.tokenizer, made.kept, before=made.before)
    if not np.array_equal(np.asarray(made.kept)[learnt(smaller)], before):
        raise DataError(
            "Cut to the tokens in use, this tokenizer writes the training texts in other tokens; "
            "leave `vocabulary: used` out, and report the kind of tokenizer."
        )
    return smaller
