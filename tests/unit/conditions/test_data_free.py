"""Images are made from the teacher alone, chunk by chunk, and students learn on nothing else."""

import numpy as np
import pytest
import torch
from torch import nn

from potstill.errors import ModelError, RecipeError
from potstill.pipeline import imagining
from potstill.synthesis import DataFree, Method, NormStatistics, make_images
from potstill.synthesis.generator import Generator

from .tiny import recipe, run, save_images

SMALL = {"images": 96, "chunks": 2, "steps": 12, "batch_size": 16}


def _teacher() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
    )
    with torch.no_grad():
        for _ in range(60):  # until the statistics are those of such images
            model(torch.rand(64, 1, 8, 8))
    return model.eval().requires_grad_(False)


def _made(wanted: DataFree, chunk: int = 0) -> torch.Tensor:
    return make_images(
        _teacher(), wanted, chunk=chunk, shape=(1, 8, 8), classes=3, standard=lambda unit: unit
    )


def test_the_distance_of_statistics_is_its_formula() -> None:
    model, x = _teacher(), torch.rand(10, 1, 8, 8)
    seen = model[0](x)
    norm = model[1]
    mean = seen.mean((0, 2, 3)) - norm.running_mean
    variance = seen.var((0, 2, 3), correction=0) - norm.running_var

    with NormStatistics(model) as met:
        model(x)
        first = met.loss()
        model(x)
        assert torch.equal(met.loss(), first)
    assert torch.allclose(first, mean.norm() + variance.norm())
    with pytest.raises(ModelError, match="no batch norm"):
        NormStatistics(nn.Linear(2, 2))


@pytest.mark.parametrize("method", Method)
def test_images_are_a_pure_function_of_seed_and_chunk(method: Method) -> None:
    wanted = DataFree(method=method, images=30, chunks=2, steps=6, batch_size=8, lr=0.05)
    first = _made(wanted)

    assert first.shape == (15, 1, 8, 8)
    assert first.dtype == torch.uint8
    assert torch.equal(_made(wanted), first)
    assert not torch.equal(_made(wanted, chunk=1), first)


@pytest.mark.parametrize("method", Method)
def test_what_is_made_comes_nearer_to_what_the_teacher_has_seen(method: Method) -> None:
    model = _teacher()

    def distance(images: torch.Tensor) -> float:
        with NormStatistics(model) as met:
            model(images.float() / 255)
            return float(met.loss())

    usual = {"images": 24, "chunks": 1, "batch_size": 24, "lr": 0.05, "statistics": 20.0}
    short, long = (_made(DataFree(method=method, steps=s, **usual)) for s in (1, 80))
    assert distance(long) < 0.5 * distance(short)


def test_the_generator_makes_any_size() -> None:
    for shape in ((1, 8, 8), (3, 11, 7)):
        made = Generator(shape, 5, width=4)(torch.randn(2, 64), torch.tensor([0, 4]))
        assert made.shape == (2, *shape)
        assert (made >= 0).all()
        assert (made <= 1).all()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("free")
    content = recipe(
        save_images(folder), distill__data_free=SMALL, distill__correct_bias="off",
        distill__objective=[{"term": "kd"}],
    )  # fmt: skip
    return content, folder / "run", run(content, folder / "run")


def test_students_learn_on_made_images_alone(place) -> None:
    _, folder, done = place
    files = sorted((folder / "images").glob("*.npz"))

    assert len(files) == 2
    assert sum(len(np.load(file)["images"]) for file in files) == 96
    assert done.results["models"]["distilled"]["test"]["accuracy"]["mean"] > 0.25
    assert done.results["store"]["records"] == 96


def test_a_stopped_run_goes_on_after_the_last_whole_chunk(place, monkeypatch) -> None:
    content, folder, _ = place
    files = sorted((folder / "images").glob("*.npz"))
    before = [file.read_bytes() for file in files]
    asked: list[int] = []
    made = imagining.make_images

    def noted(*args: object, chunk: int, **rest: object) -> torch.Tensor:
        asked.append(chunk)
        return made(*args, chunk=chunk, **rest)

    monkeypatch.setattr(imagining, "make_images", noted)
    files[1].unlink()
    run(content, folder)

    assert asked == [1]
    assert [np.load(f)["images"].tobytes() for f in files] == [
        _images(content) for content in before
    ]


def _images(content: bytes) -> bytes:
    import io

    return np.load(io.BytesIO(content))["images"].tobytes()


def test_what_cannot_be_is_said_before_time_is_lost(tmp_path) -> None:
    path = save_images(tmp_path)
    with pytest.raises(RecipeError, match=r"leave `data\.transfer` out"):
        run(recipe(path, data__transfer={"weight": 2}, distill__data_free=SMALL), tmp_path / "a")
    with pytest.raises(ModelError, match="no batch norm"):
        run(
            recipe(
                path, distill__data_free=SMALL, distill__objective=[{"term": "kd"}],
                teacher__model={"name": "mlp", "hidden": [4]},
            ),
            tmp_path / "b",
        )  # fmt: skip
    with pytest.raises(RecipeError, match=r"`data_free\.chunks` is 9"):
        DataFree(images=3, chunks=9)
