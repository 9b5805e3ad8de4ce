"""The stage `label`: the teacher's answers written once, for every student to read."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

from potstill.errors import StoreError
from potstill.pipeline.storing import (
    Decision,
    codecs_of,
    decide,
    key_of,
    labelling_feed,
)
from potstill.pipeline.workshop import Workshop
from potstill.protocols import Teacher
from potstill.runtime.files import read_json, write_json
from potstill.store import Labelled, Store, StoreKey, StoreWriter, label
from potstill.store.codec import Codec
from potstill.store.place import place
from potstill.store.reader import read_manifest
from potstill.teachers import StoredTeacher
from potstill.teachers.fingerprints import digest

RECORD = "store.json"


@final
@dataclass(frozen=True, kw_only=True)
class Source:
    """Whom the distilled students ask.

    Args:
        teacher: the live one, or its store.
        views: how many views the epochs rotate through; `None` for fresh ones.
    """

    teacher: Teacher
    views: int | None = None

    @property
    def key(self) -> str:
        """Changes whenever the answers do."""
        return f"{self.teacher.fingerprint()} {self.views}"


def source_of_answers(shop: Workshop, teacher: Teacher) -> Source:
    """The teacher itself, or a store of its answers where the decision says so.

    The decision is taken once for a run and kept in `store.json`, with its reason.
    """
    found = _decision(shop, teacher)
    shop.store = found.to_json()
    shop.progress.note(f"store: {'yes' if found.used else 'no'}, {found.reason}")
    if not found.used:
        return Source(teacher=teacher)
    write_store(shop, teacher, where=found.where, own=shop.experiment.storing.path is None)
    stored = StoredTeacher(found.where, of=teacher)
    return Source(teacher=stored, views=shop.experiment.storing.views)


def write_store(
    shop: Workshop, teacher: Teacher, *, where: str, own: bool = False
) -> dict[str, object]:
    """Run the stage: label what is not labelled yet.

    Args:
        shop: the run.
        teacher: asked live.
        where: the store.
        own: whether it belongs to this run alone and may be deleted when it is of something else.
    """
    experiment = shop.experiment
    feed = labelling_feed(experiment, teacher, device=shop.runtime.device)
    layers = experiment.objective.needs().teacher_layers
    said = teacher.signals(feed.batch(0, 0), layers=layers)
    codecs = {name: codec for name, (codec, _) in codecs_of(experiment, said).items()}
    key = key_of(experiment, teacher, feed)
    views = experiment.storing.views or 1 if experiment.learning.augment is not None else 1
    files = [] if "://" in where else [Path(where) / "manifest.json"]

    def work() -> Mapping[str, object]:
        if own:
            _clear_other(Path(where), key, codecs)
        with StoreWriter(where, key=key, codecs=codecs) as writer:
            total = views * feed.num_batches
            shop.progress.begin("label", total, 0)
            try:
                done = label(
                    teacher,
                    feed,
                    writer,
                    views=views,
                    context=shop.runtime.autocast,
                    advance=shop.progress.advance,
                )
            finally:
                shop.progress.end()
        return _outcome(done, where)

    parts = (*key.to_json().values(), repr(codecs), views, len(feed.samples), where)
    return shop.run("label", depends_on=shop.key("label", *parts), files=files, work=work)


def _outcome(done: Labelled, where: str) -> dict[str, object]:
    manifest = Store(where).manifest
    return {
        "seconds": round(done.seconds, 3),
        "asked": done.asked,
        "kept": done.kept,
        "records": manifest.records,
        "bytes": manifest.num_bytes,
    }


def _decision(shop: Workshop, teacher: Teacher) -> Decision:
    """As it was taken before under the same conditions, or taken now and kept."""
    experiment = shop.experiment
    path = shop.folder / RECORD
    asked = digest(
        shop.key(
            teacher.fingerprint(),
            experiment.storing,
            experiment.learning,
            experiment.objective,
            experiment.seeds,
        )
    )
    if path.exists():
        kept = read_json(path)
        if kept.get("asked") == asked:
            return Decision.from_json(kept)
    feed = labelling_feed(experiment, teacher, device=shop.runtime.device)
    found = decide(experiment, teacher, folder=shop.folder, feed=feed)
    write_json(path, {"asked": asked, **found.to_json()})
    return found


def _clear_other(folder: Path, key: StoreKey, codecs: Mapping[str, Codec]) -> None:
    """Delete the run's own store when it is of another teacher, data or codec, or damaged."""
    try:
        manifest = read_manifest(place(folder))
    except StoreError:
        same = False
    else:
        held = {signal.name: signal.codec for signal in manifest.signals}
        same = manifest.key == key and held == dict(codecs)
    if not same:
        shutil.rmtree(folder, ignore_errors=True)
