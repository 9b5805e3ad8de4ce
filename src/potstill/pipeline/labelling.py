"""The stage `label`: the teacher's answers written once, for every student to read."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from torch import Tensor

from potstill.data.feed import Feed
from potstill.errors import RecipeError, StoreError
from potstill.pipeline.asking import ask_ahead
from potstill.pipeline.calibrating import calibrated
from potstill.pipeline.experiment import Experiment, GrowingSource
from potstill.pipeline.imagining import with_images
from potstill.pipeline.layers import with_layers
from potstill.pipeline.ledger import Ledger
from potstill.pipeline.rewriting import with_texts
from potstill.pipeline.storing import (
    OWN,
    Decision,
    codecs_of,
    decide,
    key_of,
    labelling_feed,
    num_views,
    obstacle_to,
    taught_samples,
)
from potstill.pipeline.teaching import get_teacher
from potstill.pipeline.workshop import Workshop
from potstill.protocols import Teacher
from potstill.runtime.files import read_json, write_json
from potstill.runtime.progress import Progress, Silent, showing
from potstill.signals import Batch
from potstill.store import Store, StoreKey, StoreWriter, label
from potstill.store.codec import Codec
from potstill.store.contents import contents_of
from potstill.store.place import place
from potstill.store.reader import read_manifest
from potstill.teachers import ApiTeacher, StoredTeacher
from potstill.teachers.fast import exact_of
from potstill.teachers.fingerprints import digest
from potstill.train.handshake import shake_hands

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
    ask_ahead(shop, teacher)
    found = _decision(shop, teacher)
    shop.store = found.to_json()
    shop.progress.note(f"store: {'yes' if found.used else 'no'}, {found.reason}")
    if not found.used:
        feed, epochs = teaching_feed(shop, teacher), shop.experiment.learning.settings.epochs
        steps, runs = epochs * feed.num_batches, len(shop.experiment.seeds)
        live = shop.hastening.teacher(teacher, feed, steps=steps, runs=runs)
        return Source(teacher=live)
    where = found.where or str(shop.folder / OWN)
    live = labelling_teacher(shop, teacher)
    write_store(shop, live, where=where)
    stored = StoredTeacher(where, of=live)
    return Source(teacher=stored, views=shop.experiment.storing.views)


def labelling_teacher(
    shop: Workshop, teacher: Teacher, layers: Sequence[str] | None = None
) -> Teacher:
    """The teacher as fast as it goes, for labelling."""
    feed = labelling_feed(shop.experiment, teacher, device=shop.runtime.device)
    steps = num_views(shop.experiment) * feed.num_batches
    return shop.hastening.teacher(teacher, feed, steps=steps, layers=layers)


def teaching_feed(shop: Workshop, teacher: Teacher) -> Feed:
    """What the first distilled student learns on, for a live teacher."""
    e = shop.experiment
    device, raw = shop.runtime.device, teacher.reads_raw
    return e.learning.feed(taught_samples(e.data), e.data, seed=e.seeds[0], device=device, raw=raw)


def ask_experiment(
    experiment: Experiment, folder: Path, *, progress: Progress | None = None
) -> tuple[Path, int]:
    """Ask a teacher behind a server about all that is taught; a later run finds it done.

    Returns:
        The file of answers, and how many texts were asked about now.

    Raises:
        RecipeError: the teacher is not behind a server.
    """
    ledger = Ledger(folder)
    try:
        shop = Workshop(experiment, folder, ledger=ledger, progress=progress or Silent())
        teacher = get_teacher(shop).teacher
        if not isinstance(teacher, ApiTeacher) or teacher.path is None:
            raise RecipeError("This recipe's teacher is not behind a server; `label` stores it.")
        return teacher.path, ask_ahead(shop, teacher)
    finally:
        ledger.close()


def label_experiment(
    experiment: Experiment,
    folder: Path,
    *,
    where: str | None = None,
    layers: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Store:
    """Make the teacher ready in a run folder and label; a later run finds both done.

    Args:
        experiment: what the run is about.
        folder: the run folder.
        where: the store; `store` in the run folder if left out.
        layers: whose outputs are stored; those that the objective needs if left out.
        progress: told of what happens.

    Raises:
        RecipeError: mixing, or augmentation without a number of views.
    """
    if isinstance(experiment.teacher, GrowingSource):
        raise RecipeError(
            "This recipe's teacher grows with its student, so there is nothing to store before; "
            "`potstill run` trains both."
        )
    if experiment.chain is not None and experiment.chain.links and where is None:
        raise RecipeError(
            "With a `chain` students ask its last link, so a run does not read a store of the "
            "teacher; name a place of its own for it (`--out`), or leave `chain` out."
        )
    ledger = Ledger(folder)
    try:
        shop = Workshop(experiment, folder, ledger=ledger, progress=progress or Silent())
        ready = calibrated(shop, get_teacher(shop))
        teacher = ready.teacher.to(shop.runtime.device)
        if isinstance(teacher, ApiTeacher):
            raise RecipeError(
                "This recipe's teacher is behind a server, whose answers are no store; "
                "`potstill.api.ask_recipe` asks for them, as `potstill label` does."
            )
        shop.experiment = with_texts(shop, ready)
        shop.experiment = with_images(shop, ready)
        feed = labelling_feed(shop.experiment, teacher, device=shop.runtime.device)
        experiment = with_layers(shop, teacher, feed.batch(0, 0))
        obstacle = obstacle_to(experiment, teacher)
        if obstacle is not None:
            raise RecipeError(f"This recipe's teacher cannot be stored: {obstacle}")
        place = where or experiment.storing.path or str(folder / OWN)
        live = labelling_teacher(shop, teacher, layers)
        write_store(shop, live, where=place, layers=layers)
    finally:
        ledger.close()
    return Store(place)


def write_store(
    shop: Workshop, teacher: Teacher, *, where: str, layers: Sequence[str] | None = None
) -> dict[str, object]:
    """Run the stage: label what is not labelled yet.

    Args:
        shop: the run.
        teacher: asked live.
        where: the store. The run's own is deleted when it is of something else.
        layers: whose outputs are stored; those that the objective needs if left out.
    """
    experiment = shop.experiment
    feed = labelling_feed(experiment, teacher, device=shop.runtime.device)
    wanted = experiment.objective.needs().teacher_layers if layers is None else tuple(layers)
    said = exact_of(teacher).signals(feed.batch(0, 0), layers=wanted)
    codecs = {name: codec for name, (codec, _) in codecs_of(experiment, said).items()}
    key = key_of(teacher, feed, precision=experiment.precision)
    views = num_views(experiment)
    own = Path(where) == shop.folder / OWN

    def work() -> Mapping[str, object]:
        if own:
            _clear_other(Path(where), key, codecs, feed)
        with StoreWriter(where, key=key, codecs=codecs) as writer:
            if experiment.storing.codec is not None:  # the exact ones change nothing
                _rehearse(shop, writer, teacher, feed)
            with showing(shop.progress, "label", views * feed.num_batches) as advance:
                done = label(
                    teacher,
                    feed,
                    writer,
                    views=views,
                    samples_of=samples_of(shop),
                    context=shop.runtime.autocast,
                    advance=advance,
                )
            writer.flush()
            manifest = writer.manifest
        return {
            "seconds": round(done.seconds, 3),
            "asked": done.asked,
            "kept": done.kept,
            "records": manifest.records,
            "bytes": manifest.num_bytes,
        }

    of = (repr(codecs), views, len(feed.samples), OWN if own else where)
    made = [each for each in (experiment.sequences, experiment.data_free) if each is not None]
    parts = (*key.to_json().values(), *of, *made)
    return shop.run("label", depends_on=shop.key("label", *parts), files=_files(where), work=work)


def samples_of(shop: Workshop) -> Callable[[Batch], Tensor | None]:
    """Which sample of a batch each row of the teacher's logits is about."""
    return lambda batch: shop.experiment.task.target(batch).samples


@final
@dataclass(frozen=True)
class _First:
    """The first batch alone."""

    feed: Feed
    num_batches: int = 1

    def batch(self, epoch: int, index: int) -> Batch:
        return self.feed.batch(epoch, index)


def _rehearse(shop: Workshop, writer: StoreWriter, teacher: Teacher, feed: Feed) -> None:
    """Whether the objective can learn from the store, on one batch, before hours of labelling."""
    first = _First(feed)
    label(teacher, first, writer, samples_of=samples_of(shop), context=shop.runtime.autocast)
    writer.flush()
    e = shop.experiment
    shake_hands(
        e.student.make(0).to(shop.runtime.device),
        StoredTeacher(writer.name, check=False),
        objective=e.objective,
        task=e.task,
        batch=feed.batch(0, 0),
    )


def _files(where: str) -> list[Path]:
    """All that a store consists of; what is missing is written anew."""
    if "://" in where:
        return []
    manifest = Path(where) / "manifest.json"
    try:
        shards = read_manifest(place(where)).shards
    except StoreError:
        return [manifest]
    return [manifest, *(Path(where) / shard.name for shard in shards)]


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


def _clear_other(folder: Path, key: StoreKey, codecs: Mapping[str, Codec], feed: Feed) -> None:
    """Delete the run's own store when it is of another teacher, data or codec, or damaged."""
    origin = feed.batch(0, 0).origin
    assert origin is not None, "labelling does not mix"
    try:
        manifest = read_manifest(place(folder))
        held = {signal.name: signal.codec for signal in manifest.signals}
        same = manifest.key == key and held == dict(codecs)
        if same and manifest.shards:
            with StoreWriter(str(folder), key=key, codecs=codecs) as writer:
                writer.refuse_changed(origin.ids, contents_of(origin.inputs))
    except StoreError:
        same = False
    if not same:
        shutil.rmtree(folder, ignore_errors=True)
