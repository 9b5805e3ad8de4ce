"""For tests of your own terms, teachers, tasks and codecs: tiny models, tiny data, contract tests.

Subclass a contract in a test file and say how the thing is made; pytest runs what it must hold.
"""

from potstill.testing.codec_contract import CodecContract
from potstill.testing.contracts import TaskContract, TeacherContract, TermContract
from potstill.testing.tiny import TinyClasses, tiny_mlp, tiny_signals

__all__ = [
    "CodecContract",
    "TaskContract",
    "TeacherContract",
    "TermContract",
    "TinyClasses",
    "tiny_mlp",
    "tiny_signals",
]
