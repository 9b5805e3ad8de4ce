"""Teachers behind a server: all that a run will ask them, asked before the students wait for it."""

from pathlib import Path

from potstill.pipeline.storing import labelling_feed
from potstill.pipeline.workshop import Workshop
from potstill.protocols import Teacher
from potstill.runtime.progress import showing
from potstill.teachers.api import ApiTeacher

ANSWERS = "answers.jsonl"
"""In the run folder: what a server has answered, one line a text."""


def keep_answers(teacher: Teacher, folder: Path) -> None:
    """Let a teacher behind a server keep its answers with the run, unless it has a place."""
    if isinstance(teacher, ApiTeacher):
        teacher.keep(folder / ANSWERS)


def ask_ahead(shop: Workshop, teacher: Teacher) -> int:
    """Ask about every sample that is taught and not answered yet; how many those were."""
    if not isinstance(teacher, ApiTeacher):
        return 0
    feed = labelling_feed(shop.experiment, teacher, device="cpu")
    batches = (feed.batch(0, index) for index in range(feed.num_batches))
    missing = teacher.unanswered(batches)
    if not missing:
        return 0
    with showing(shop.progress, f"asking {teacher.server.model}, texts", len(missing)) as advance:
        for number, _ in enumerate(teacher.ask(missing), start=1):
            advance(number)
    return len(missing)
