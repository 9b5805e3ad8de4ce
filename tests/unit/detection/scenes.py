"""Pictures of coloured rectangles, in COCO's and Pascal VOC's formats."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from potstill.models import ModelConfig, create_model
from potstill.signals import Batch

NAMES = ("red", "blue")
COLOURS = ((220, 40, 40), (40, 40, 220))


def write_coco(folder: Path, *, size: tuple[int, int] = (64, 64), **counts: int) -> Path:
    """`counts` pictures a part, each with one or two rectangles; ids of categories are 3 and 7."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    for part, count in (counts or {"train": 12, "val": 6, "test": 6}).items():
        images, annotations = [], []
        for number in range(count):
            pixels = np.full((*size, 3), 30, np.uint8)
            for _ in range(rng.integers(1, 3)):
                kind, (width, height) = int(rng.integers(2)), rng.integers(12, 30, 2)
                x, y = rng.integers(0, size[1] - width), rng.integers(0, size[0] - height)
                pixels[y : y + height, x : x + width] = COLOURS[kind]
                box = [int(x), int(y), int(width), int(height)]
                annotations.append(
                    {"id": len(annotations), "image_id": number, "bbox": box, "iscrowd": 0,
                     "category_id": (3, 7)[kind]}
                )  # fmt: skip
            name = f"{part}{number}.png"
            Image.fromarray(pixels).save(folder / "images" / name)
            images.append({"id": number, "file_name": name})
        categories = [{"id": i, "name": n} for i, n in zip((7, 3), reversed(NAMES), strict=True)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"{part}.json").write_text(json.dumps(content))
    return folder


def write_voc(folder: Path, objects: dict[str, list[tuple[str, list[int], int]]]) -> Path:
    """Pictures of 40 × 30 by name; of each object its class, its corners and whether it is hard."""
    for part in ("Annotations", "JPEGImages"):
        (folder / part).mkdir(parents=True)
    for name, found in objects.items():
        Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(folder / "JPEGImages" / f"{name}.jpg")
        rows = "".join(
            f"<object><name>{kind}</name><difficult>{hard}</difficult><bndbox>"
            + "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box,
                                                       strict=True))
            + "</bndbox></object>"
            for kind, box, hard in found
        )  # fmt: skip
        xml = f"<annotation><filename>{name}.jpg</filename>{rows}</annotation>"
        (folder / "Annotations" / f"{name}.xml").write_text(xml)
    return folder


def labels(*pictures: list[list[float]], rows: int = 4) -> Tensor:
    """`[B, rows, 6]` of lists of class, corners and perhaps 1 for boxes to be ignored."""
    made = torch.zeros(len(pictures), rows, 6)
    made[..., 0] = -1
    for number, boxes in enumerate(pictures):
        for row, box in enumerate(boxes):
            made[number, row, : len(box)] = torch.tensor(box)
    return made


def some_batch(*, size: tuple[int, int] = (64, 96)) -> Batch:
    """Three pictures of noise with two, one and no box."""
    generator = torch.Generator().manual_seed(0)
    boxes = labels([[0, 5, 5, 30, 40], [1, 20, 10, 60, 50]], [[1, 40, 4, 80, 44]], [])
    return Batch(torch.randn(3, 3, *size, generator=generator), boxes)


def detector(
    name: str = "gfl", source: str = "builtin", *, seed: int = 0, size=(64, 96), **options
):
    """A detector of two classes."""
    config = ModelConfig(
        source=source,
        name=name,
        options=options,
        input_shape=(3, *size),
        num_outputs=2,
        purpose="detection",
    )
    return create_model(config, seed=seed)
