"""Models behind OpenAI-compatible servers: how they are asked and what they answer.

Knows servers, tokens and files, no data sets and no tensors; `teachers.ApiTeacher` makes a teacher
of it. Needs the extra `remote` once a `Client` is made.
"""

from potstill.remote.client import Client
from potstill.remote.journal import Journal
from potstill.remote.scoring import Scorer, Scores, Way
from potstill.remote.server import Server
from potstill.remote.vocabulary import Vocabulary
from potstill.remote.writing import Writing, Written, read_prompts, write_answers

__all__ = [
    "Client",
    "Journal",
    "Scorer",
    "Scores",
    "Server",
    "Vocabulary",
    "Way",
    "Writing",
    "Written",
    "read_prompts",
    "write_answers",
]
