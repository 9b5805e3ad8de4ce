"""Heads that are wider than the tokenizer: columns that pad the width to a round number.

Such columns mean nothing, and two models of one family may have different numbers of them (151,936
and 152,064 columns for one tokenizer of 151,643 tokens). So vocabularies are compared by tokenizer,
and both sides are cut to the columns that the tokenizer knows.
"""

from dataclasses import replace

import torch

from potstill.errors import HandshakeError
from potstill.signals import AnyLogits, ForeignLogits, LazyLogits, Logits, SparseLogits


def usable_classes(tokens: int, *, student: int, teacher: int) -> int:
    """How many columns both heads have a meaning for: one for each token.

    Args:
        tokens: one more than the highest id of the tokenizer that both use.
        student: columns of the student's head.
        teacher: columns of the teacher's head.

    Raises:
        HandshakeError: a head has fewer columns than there are tokens.
    """
    for side, width in (("student", student), ("teacher", teacher)):
        if width < tokens:
            raise HandshakeError(
                f"The {side}'s head has {width} columns and the tokenizer {tokens} tokens; give "
                "the model its own tokenizer, or resize its embeddings."
            )
    return tokens


def first_classes(logits: AnyLogits, num_classes: int) -> AnyLogits:
    """The same logits with their first `num_classes` columns alone.

    A softmax over them leaves the others out: what a teacher gave them is divided among the rest
    in proportion, a student's get no gradient. Kept classes beyond are dropped from sparse logits;
    what lies in their tail is not known and stays.

    Raises:
        HandshakeError: there are fewer columns.
    """
    if logits.num_classes < num_classes:
        raise HandshakeError(
            f"There are logits of {logits.num_classes} classes and {num_classes} were expected; "
            "give models of one tokenizer, or a teacher that is brought to the student's tokens."
        )
    if logits.num_classes == num_classes:
        return logits
    match logits:
        case Logits():
            return Logits(logits.values_NC[..., :num_classes])
        case LazyLogits():
            return replace(logits, classes=num_classes)
        case SparseLogits():
            return _fewer_kept(logits, num_classes)
        case ForeignLogits():
            return logits


def _fewer_kept(logits: SparseLogits, num_classes: int) -> SparseLogits:
    beyond_NK = logits.ids_NK >= num_classes
    kept_NK = logits.logprobs_NK.masked_fill(beyond_NK, -torch.inf)
    mass_N = kept_NK.exp().sum(dim=-1) + logits.tail_N
    return replace(
        logits,
        ids_NK=logits.ids_NK.masked_fill(beyond_NK, 0),
        logprobs_NK=kept_NK - mass_N.log()[:, None],
        tail_N=logits.tail_N / mass_N,
        num_classes=num_classes,
    )
