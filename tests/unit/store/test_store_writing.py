"""One writer at a time, killed at any moment; more samples later; disks that are full."""

import errno
import json
import multiprocessing
import os
import random
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from potstill.errors import StorageError, StoreError
from potstill.runtime import files
from potstill.store import Store, StoreWriter, verify
from potstill.store.codecs import DenseLogits, FloatTensor
from potstill.store.labelling import label
from potstill.teachers import StoredTeacher

from . import stores
from .stores import ALL, JITTER, Embedding, feed, hold, key, label_slowly, logits, samples, write

_SPAWN = multiprocessing.get_context("forkserver")
_SPAWN.set_forkserver_preload([stores.__name__])


@pytest.mark.slow
def test_twenty_kills_at_random_moments_lose_and_double_nothing(tmp_path) -> None:
    chance = random.Random(11)
    pause, sizes = 0.01, []

    for kill in range(20):
        process = _SPAWN.Process(target=label_slowly, args=(tmp_path / "store", pause))
        manifest = tmp_path / "store" / "manifest.json"
        stamp = manifest.stat().st_mtime_ns if manifest.exists() else 0
        process.start()
        begun = time.monotonic()
        while process.is_alive() and (
            not manifest.exists() or manifest.stat().st_mtime_ns == stamp
        ):
            time.sleep(0.005)  # until it has opened the store
        process.join(chance.uniform(0.02, 0.25))
        assert process.is_alive(), f"it must not be over after {kill} kills; make it longer"
        process.kill()
        process.join()
        assert time.monotonic() - begun < 60
        sizes.append(len(json.loads(manifest.read_bytes())["shards"]))
    process = _SPAWN.Process(target=label_slowly, args=(tmp_path / "store", 0.0))
    process.start()
    process.join()

    assert process.exitcode == 0
    assert len(set(sizes)) > 5, f"it went on from where it was: {sizes}"
    store = Store(tmp_path / "store")
    pairs = set(zip(store.ids_N.tolist(), store.views_N.tolist(), strict=True))
    assert len(store) == len(pairs) == 2 * stores.KILLED_ROWS
    assert verify(tmp_path / "store") == []
    assert not [p.name for p in (tmp_path / "store").iterdir() if p.name.endswith(".part")]
    stored, live = StoredTeacher(store), Embedding()
    shown = feed(samples(stores.KILLED_ROWS), augment=JITTER, views=2)
    for epoch in range(2):
        for batch in shown.epoch(epoch):
            assert torch.equal(logits(stored.signals(batch)), logits(live.signals(batch)))


def test_a_second_writer_is_refused_until_the_first_is_gone(tmp_path) -> None:
    taken, release = _SPAWN.Event(), _SPAWN.Event()
    process = _SPAWN.Process(target=hold, args=(tmp_path / "store", taken, release))
    process.start()
    assert taken.wait(60)

    with pytest.raises(StorageError, match=r"Another process is writing the store .*--out"):
        write(tmp_path / "store")
    process.kill()  # the lock ends with the process, however that ends
    process.join()
    write(tmp_path / "store")

    assert len(Store(tmp_path / "store")) == 160


def test_of_two_that_start_at_once_one_is_refused(tmp_path) -> None:
    start, answers = _SPAWN.Event(), _SPAWN.Queue()
    both = [
        _SPAWN.Process(target=stores.race, args=(tmp_path / "store", start, answers))
        for _ in range(2)
    ]
    for process in both:
        process.start()
    start.set()
    said = sorted(answers.get(timeout=100) for _ in both)
    for process in both:
        process.join()

    assert said[1] == "done"
    assert said[0].startswith("StorageError: Another process is writing the store")
    assert len(Store(tmp_path / "store")) == 160


def test_a_finished_store_asks_the_teacher_nothing(tmp_path) -> None:
    write(tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.shard")}
    teacher = Embedding()

    done = write(tmp_path, teacher=teacher)

    assert (done.asked, done.kept, teacher.asked) == (0, 160, 0)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.shard")} == before


def test_new_samples_are_appended(tmp_path) -> None:
    old, new = samples(), samples(50, seed=9, first_id=5000)
    write(tmp_path, shown=feed(old))
    teacher = Embedding()

    done = write(tmp_path, shown=feed(old.concat(new)), teacher=teacher)

    assert (done.asked, done.kept) == (50, 160)
    stored = StoredTeacher(tmp_path)
    for given in (old, new, old.concat(new)):
        for batch in feed(given, shuffle=True).epoch(0):
            torch.testing.assert_close(
                logits(stored.signals(batch)), logits(teacher.signals(batch))
            )


def test_more_views_are_appended(tmp_path) -> None:
    write(tmp_path, shown=feed(augment=JITTER, views=2), views=2)

    done = write(tmp_path, shown=feed(augment=JITTER, views=4), views=4)

    assert (done.asked, done.kept) == (320, 320)
    assert Store(tmp_path).table.views == (1, 2, 3, 4)


def test_a_changed_sample_is_refused(tmp_path) -> None:
    given = samples()
    write(tmp_path, shown=feed(given))
    given.inputs[17] += 1

    with pytest.raises(StoreError, match=rf"Sample {int(given.ids[17])} is not the one that"):
        write(tmp_path, shown=feed(given.concat(samples(16, seed=9, first_id=5000))))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        # other weights
        ({"teacher": Embedding(seed=1)}, "its teacher has other weights or preprocessing"),
        # the same samples augmented
        ({"shown": feed(augment=JITTER, views=2)}, "its samples were augmented otherwise"),
        # another codec, and fewer signals
        ({"codecs": {**ALL, "logits": DenseLogits("fp16")}}, r"holds logits as DenseLogits.*fp32"),
        ({"codecs": {"logits": DenseLogits("fp32")}}, r"holds logits .* features/2 .* embedding"),
    ],
)
def test_appending_something_else_is_refused(tmp_path, changes, sentence) -> None:
    write(tmp_path)

    with pytest.raises(StoreError, match=sentence):
        write(tmp_path, **changes)

    assert len(Store(tmp_path)) == 160


def test_each_thing_that_differs_is_named_at_once(tmp_path) -> None:
    write(tmp_path)
    other = feed(augment=JITTER, views=2)

    with pytest.raises(StoreError) as refusal:
        write(tmp_path, teacher=Embedding(seed=1), shown=other)

    said = str(refusal.value)
    assert "other weights" in said
    assert "augmented otherwise (none, asked for Augment(" in said
    assert said.endswith("Label again into another folder, or delete this one.")


def test_mixed_batches_are_not_labelled(tmp_path) -> None:
    from potstill.data import Mixup

    teacher = Embedding()
    with (
        pytest.raises(StoreError, match="mixed samples are no one's"),
        StoreWriter(tmp_path, key=key(teacher, feed()), codecs=ALL) as writer,
    ):
        label(teacher, feed(mix=Mixup()), writer)


def test_answers_that_are_not_finite_are_refused_and_the_rest_is_kept(tmp_path) -> None:
    given = samples()
    given.inputs[100] = torch.inf

    with pytest.raises(StoreError, match="cannot store row"):
        write(tmp_path, shown=feed(given), codecs={"logits": DenseLogits()})

    assert len(Store(tmp_path)) == 96


def test_a_full_disk_is_one_sentence_and_the_store_stays_whole(tmp_path, monkeypatch) -> None:
    written = files.write_with
    shards = 0

    def fill(path, put) -> None:
        nonlocal shards
        shards += path.suffix == ".shard"
        if shards == 3:
            raise StorageError(files._sentence(path, OSError(errno.ENOSPC, "full")))
        written(path, put)

    monkeypatch.setattr("potstill.store.place.write_with", fill)
    with pytest.raises(StorageError, match="The disk is full"):
        write(tmp_path)
    monkeypatch.undo()
    teacher = Embedding()

    assert verify(tmp_path) == []
    assert 0 < len(Store(tmp_path)) < 160
    assert write(tmp_path, teacher=teacher).asked < 160
    assert len(Store(tmp_path)) == 160


@pytest.mark.skipif(os.geteuid() == 0, reason="everything is permitted to root")
def test_no_permission_is_one_sentence(tmp_path) -> None:
    tmp_path.chmod(0o500)

    with pytest.raises(StorageError, match="No permission to write"):
        write(tmp_path / "store")


def test_a_file_in_the_way_is_one_sentence(tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(StorageError, match="a file is where a folder should be"):
        write(tmp_path / "file" / "store")


def test_an_interrupted_labelling_keeps_what_was_said(tmp_path) -> None:
    teacher, shown = Embedding(), feed()

    def stop(done: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        StoreWriter(tmp_path, key=key(teacher, shown), codecs=ALL) as writer,
    ):
        label(teacher, shown, writer, advance=stop)

    assert len(Store(tmp_path)) == 64


def test_an_empty_store_is_a_store(tmp_path) -> None:
    teacher, shown = Embedding(), feed()
    StoreWriter(tmp_path, key=key(teacher, shown), codecs=ALL).close()

    store = Store(tmp_path)

    assert (len(store), store.table.views, verify(tmp_path)) == (0, (), [])
    with pytest.raises(StoreError, match="is empty"):
        store.decode("logits", np.arange(0))
    assert write(tmp_path).asked == 160


def test_records_may_have_any_number_of_rows(tmp_path) -> None:
    from potstill.store import Answered, StoreKey

    rows = torch.randn(30, 4)
    counts = np.array([3, 0, 7, 1, 9, 10])
    ids = torch.tensor([5, 3, 9, 2, 8, 1])
    codecs = {"logits": DenseLogits(), "embedding": FloatTensor("fp32")}
    embedding = torch.randn(6, 2)
    contents = np.arange(6)
    firsts = np.cumsum(counts) - counts

    for part in (slice(0, 4), slice(4, 6)):
        with StoreWriter(tmp_path, key=StoreKey(teacher="t"), codecs=codecs) as writer:
            first, last = firsts[part][0], (firsts + counts)[part][-1]
            said = {"logits": rows[first:last], "embedding": embedding[part]}
            given = Answered(
                ids_B=ids[part],
                view_B=torch.zeros_like(ids[part]),
                contents_B=contents[part],
                signals=said,
                counts={"logits": counts[part]},
            )
            writer.add(given)
            writer.add(given)  # once is enough

    store = Store(tmp_path)
    wanted = torch.tensor([9, 1, 3, 5, 8])
    order = [2, 5, 1, 0, 4]
    records = store.find(wanted, torch.zeros_like(wanted)).numpy()
    expected = torch.cat([rows[firsts[i] : firsts[i] + counts[i]] for i in order])
    assert torch.equal(store.decode("logits", records), expected)
    assert torch.equal(store.decode("embedding", records), embedding[order])
    from potstill.signals import Batch

    for memory in (0, 1 << 20):
        teacher = StoredTeacher(store, check=False, memory=memory)
        said = teacher.signals(Batch(torch.zeros(5, 1), ids=wanted))
        assert torch.equal(logits(said), expected)


def test_the_manifest_says_what_made_it(tmp_path) -> None:
    write(Path(tmp_path))

    manifest = json.loads((tmp_path / "manifest.json").read_text())

    assert next(iter(manifest)) == "format"
    assert manifest["format"] == 1
    assert {"torch", "numpy"} <= set(manifest["made_with"]["packages"])
    assert [s["name"] for s in manifest["signals"]] == ["logits", "features/2", "embedding"]
    assert manifest["signals"][0]["row_shape"] == [3]
