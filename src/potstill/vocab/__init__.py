"""Vocabularies: which bytes each token stands for, and what two of them have in common.

Nothing here knows models. Tokens are compared by the bytes they stand for, never by their names in
the files of a tokenizer, which differ between families (`Ġthe`, `▁the`, `the`).
"""

from potstill.vocab.align import Span, align
from potstill.vocab.chats import ChatInterpreter, turn_ends
from potstill.vocab.common import common_tokens
from potstill.vocab.heads import first_classes, usable_classes
from potstill.vocab.in_use import InUse, cut_to_use
from potstill.vocab.report import VocabularyReport, compare
from potstill.vocab.retell import Interpreter, Retold
from potstill.vocab.vocabulary import Vocabulary

__all__ = [
    "ChatInterpreter",
    "InUse",
    "Interpreter",
    "Retold",
    "Span",
    "Vocabulary",
    "VocabularyReport",
    "align",
    "common_tokens",
    "compare",
    "cut_to_use",
    "first_classes",
    "turn_ends",
    "usable_classes",
]
