"""A training that is stopped at any moment goes on and ends as if it had not been stopped."""

import json
import multiprocessing
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from potstill.errors import Interrupted, StorageError
from potstill.runtime import files
from potstill.train.checkpoint import Checkpoint

from .killed import train, train_in

_SPAWN = multiprocessing.get_context("forkserver")
_SPAWN.set_forkserver_preload([train_in.__module__, "potstill.train", "potstill.tasks"])


def _figures(folder: Path) -> list[dict]:
    """The log without the clock."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def _assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder and outcome of a training that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(folder, checkpoint_seconds=1000)


@pytest.mark.slow
def test_ten_kills_at_random_moments_change_nothing(whole, tmp_path) -> None:
    reference, fit = whole
    chance = random.Random(7)
    checkpoint = tmp_path / "checkpoints" / "distilled-4.pt"
    kills = 0

    while kills < 10:
        process = _SPAWN.Process(target=train_in, args=(tmp_path, 0.02))
        stamp = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        process.start()
        while process.is_alive() and (
            not checkpoint.exists() or checkpoint.stat().st_mtime_ns == stamp
        ):
            time.sleep(0.005)  # it has come further than the last time
        process.join(chance.uniform(0.0, 0.1))
        assert process.is_alive(), f"it must not be over after {kills} kills; make it longer"
        process.kill()
        process.join()
        kills += 1
    process = _SPAWN.Process(target=train_in, args=(tmp_path, 0.0))
    process.start()
    process.join()

    saved = torch.load(tmp_path / "weights.pt", weights_only=True)
    assert process.exitcode == 0
    _assert_same(saved["student"], fit.student.state_dict())
    _assert_same(saved["last"], fit.last)
    assert _figures(tmp_path) == _figures(reference)
    assert not list(checkpoint.parent.glob(".*.part")), "remains of a save that was killed"


def test_ctrl_c_saves_and_goes_on_to_the_same_weights(whole, tmp_path) -> None:
    reference, fit = whole
    before = signal.getsignal(signal.SIGINT)
    alarm = threading.Timer(0.4, os.kill, (os.getpid(), signal.SIGINT))

    alarm.start()
    with pytest.raises(Interrupted, match=r"Stopped at step \d+ of 80 .*saved in .*to go on"):
        train(tmp_path, pause=0.02, checkpoint_seconds=1000)
    resumed = train(tmp_path)

    _assert_same(resumed.student.state_dict(), fit.student.state_dict())
    _assert_same(resumed.last, fit.last)
    assert _figures(tmp_path) == _figures(reference)
    assert resumed.best_epoch == fit.best_epoch
    assert resumed.steps == fit.steps == 80
    assert signal.getsignal(signal.SIGINT) is before


def test_a_finished_training_has_every_line_once(whole) -> None:
    folder, _ = whole

    lines = [(line["epoch"], line["split"]) for line in _figures(folder)]

    assert lines == [(e, split) for e in range(1, 9) for split in ("train", "validation")]


def test_lines_of_another_role_and_seed_stay(tmp_path) -> None:
    log = tmp_path / "metrics.jsonl"
    other = json.dumps({"role": "scratch", "seed": 4, "epoch": 1})
    stale = json.dumps({"role": "distilled", "seed": 4, "epoch": 99})
    log.write_text(f'{other}\n{stale}\n{{"role": "distil')  # the last one was cut by a kill

    train(tmp_path)

    lines = _figures(tmp_path)
    assert lines[0] == json.loads(other)
    assert len(lines) == 1 + 16
    assert all(line["epoch"] <= 8 for line in lines)


def test_a_save_that_fails_leaves_the_old_checkpoint(tmp_path, monkeypatch) -> None:
    checkpoint = Checkpoint(tmp_path / "a.pt", seconds=0)
    checkpoint.save({"step": 1})

    def cut_short(_state, path) -> None:
        Path(path).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", cut_short)
    with pytest.raises(StorageError, match="disk is full"):
        checkpoint.save({"step": 2})

    assert checkpoint.load() == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def _die_in_the_middle_of_a_save(path: Path) -> None:
    def cut_short(_state, temporary) -> None:
        Path(temporary).write_bytes(b"half of it")
        os.kill(os.getpid(), signal.SIGKILL)

    torch.save = cut_short
    Checkpoint(path, seconds=0).save({"step": 2})


def test_a_kill_during_a_save_leaves_the_old_checkpoint(tmp_path) -> None:
    path = tmp_path / "a.pt"
    Checkpoint(path, seconds=0).save({"step": 1})

    process = _SPAWN.Process(target=_die_in_the_middle_of_a_save, args=(path,))
    process.start()
    process.join()

    assert process.exitcode == -signal.SIGKILL
    assert len(list(tmp_path.glob(".a.pt.*.part"))) == 1
    assert Checkpoint(path, seconds=0).load() == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_a_damaged_checkpoint_is_named(tmp_path) -> None:
    (tmp_path / "a.pt").write_bytes(b"not a checkpoint")

    with pytest.raises(StorageError, match=r"a\.pt is damaged.*Delete it"):
        Checkpoint(tmp_path / "a.pt", seconds=0).load()


def test_a_file_is_whole_or_absent(tmp_path) -> None:
    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(13, "Permission denied")

    with pytest.raises(StorageError, match="No permission to write"):
        files.write_with(tmp_path / "new" / "a.txt", fail)

    assert list((tmp_path / "new").iterdir()) == []
