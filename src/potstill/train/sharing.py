"""A frozen encoder that teacher and student have in common runs once for each batch.

distil-whisper (Gandhi et al. 2023, arXiv:2311.00430, section 3.1): the student keeps the teacher's
encoder as it is, so what it says of a sound is the same for both.
"""

from dataclasses import replace

import torch
from torch import nn

from potstill.protocols import EncoderDecoder, Teacher
from potstill.signals import Batch
from potstill.teachers import ModuleTeacher


def shared_encoder(student: nn.Module, teacher: Teacher | None) -> EncoderDecoder | None:
    """The student if its encoder is frozen, so that it is the teacher's too or no teacher asks."""
    if not isinstance(student, EncoderDecoder) or not student.frozen_encoder:
        return None
    if teacher is None:
        return student
    theirs: object = teacher.model if isinstance(teacher, ModuleTeacher) else None
    if not isinstance(theirs, EncoderDecoder):
        return None
    mine, other = student.encoder_state(), theirs.encoder_state()
    alike = mine.keys() == other.keys() and all(
        torch.equal(value, other[name].to(value)) for name, value in mine.items()
    )
    return student if alike else None


def encoded(batch: Batch, encoder: EncoderDecoder | None) -> Batch:
    """The batch with what the encoder says of it, without gradient."""
    if encoder is None or batch.encoded is not None:
        return batch
    with torch.no_grad():
        return replace(batch, encoded=encoder.encode(batch))
