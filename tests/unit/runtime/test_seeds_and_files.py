"""Random streams that can be put back, JSON files with a format, and what a run ran on."""

import json
import math
import random

import pytest
import torch

from potstill.errors import StorageError
from potstill.runtime.environment import describe_environment
from potstill.runtime.fabric import Precision, Runtime
from potstill.runtime.files import FORMAT, read_json, storing, write_json
from potstill.runtime.seeds import random_state, restore_random_state, seed_everything, seeded


def test_a_seed_fixes_torch_and_python() -> None:
    seed_everything(3)
    first = (torch.rand(2).tolist(), random.random())
    seed_everything(3)

    assert (torch.rand(2).tolist(), random.random()) == first


def test_a_random_stream_goes_on_where_it_was_taken() -> None:
    seed_everything(3)
    state = random_state()
    expected = torch.rand(4)
    torch.rand(9)

    restore_random_state(state)

    assert torch.equal(torch.rand(4), expected)


def test_a_seeded_block_leaves_the_stream_alone() -> None:
    seed_everything(3)
    expected = torch.rand(4)
    seed_everything(3)

    with seeded(7):
        one = torch.rand(2)
    with seeded(7):
        assert torch.equal(torch.rand(2), one)

    assert torch.equal(torch.rand(4), expected)


def test_json_files_carry_their_format(tmp_path) -> None:
    path = tmp_path / "deep" / "a.json"

    write_json(path, {"x": 1})

    assert next(iter(json.loads(path.read_text()))) == "format"
    assert read_json(path) == {"format": FORMAT, "x": 1}
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"x": math.nan})
    assert read_json(path)["x"] == 1, "the old file stands"
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "not valid JSON"), ('{"format": 99}', "format 99.*reads 1"), ("[]", "format None")],
)
def test_json_files_of_another_kind_are_refused(tmp_path, text, words) -> None:
    (tmp_path / "a.json").write_text(text)

    with pytest.raises(StorageError, match=words):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("number", "words"),
    [(28, "disk is full"), (13, "No permission"), (30, "No permission"), (20, "a file is where")],
)
def test_failures_of_the_file_system_say_what_to_do(tmp_path, number, words) -> None:
    with pytest.raises(StorageError, match=words), storing(tmp_path / "a"):
        raise OSError(number, "as the system says it")


def test_a_file_where_a_folder_should_be(tmp_path) -> None:
    (tmp_path / "runs").write_text("")

    with pytest.raises(StorageError, match=r"a file is where a folder should be.*--out"):
        write_json(tmp_path / "runs" / "a.json", {})


def test_the_environment_names_what_matters_and_fits_json() -> None:
    about = describe_environment()

    json.dumps(about, allow_nan=False)
    assert {"potstill", "python", "threads", "processor", "git_revision", "packages"} <= set(about)
    assert "torch" in about["packages"]


def test_one_process_on_the_cpu() -> None:
    runtime = Runtime(device="cpu")

    assert runtime.device == torch.device("cpu")
    assert (runtime.rank, runtime.world_size) == (0, 1)
    assert runtime.precision is Precision.FP32
    assert runtime.sum_across_ranks((3, torch.tensor(2))) == (3, torch.tensor(2))


def test_mixed_precision_reaches_the_student_and_not_the_terms() -> None:
    from potstill.losses import KD
    from potstill.signals import Batch
    from potstill.tasks import Classification
    from potstill.teachers import ModuleTeacher
    from potstill.testing import tiny_mlp
    from potstill.train import Distiller

    seen = []
    student = tiny_mlp(6, 8, 3)
    student[2].register_forward_hook(lambda _m, _i, output: seen.append(output.dtype))
    teacher = ModuleTeacher(tiny_mlp(6, 9, 3, seed=1), Classification())
    runtime = Runtime(device="cpu", precision="bf16-mixed")
    distiller = Distiller(student, teacher, objective=KD(temperature=4), runtime=runtime)

    loss = distiller.step(Batch(torch.randn(4, 6), torch.arange(4) % 3))["loss"]

    assert seen[-1] is torch.bfloat16
    assert loss.dtype is torch.float32
    assert all(p.dtype is torch.float32 for p in student.parameters())
