"""Boxes move with their pictures, as a pure function of seed, sample and view."""

import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as V

from potstill.data import Augment, Feed, Mixup, Normalise, Samples
from potstill.data.draws import Draws
from potstill.data.ops import Affine, Crop, Flip, Jitter, Rotate
from potstill.errors import RecipeError

from .scenes import labels

SIZE = (48, 64)


def painted(boxes: torch.Tensor) -> torch.Tensor:
    """White rectangles on black."""
    images = torch.zeros(len(boxes), 3, *SIZE)
    for image, row in zip(images, boxes, strict=True):
        x1, y1, x2, y2 = row[0, 1:5].int().tolist()
        image[:, y1:y2, x1:x2] = 1
    return images


def moved(*ops, count: int = 12, box=(20, 14, 40, 34)):
    boxes = labels(*[[[1, *box]]] * count, rows=2)
    ids, view = torch.arange(count), torch.ones(count, dtype=torch.int64)
    images = painted(boxes)
    return Augment(tuple(ops), seed=3).with_boxes(images, boxes, ids=ids, view=view)


@pytest.mark.parametrize(
    "op",
    [Flip(), Jitter(pixels=6), Crop(padding=5), Affine(scale=0.2, translate=6)],
    ids=lambda op: type(op).__name__,
)
def test_the_box_holds_what_was_painted_in_it(op) -> None:
    images, boxes = moved(op)

    for image, box in zip(images, boxes[:, 0], strict=True):
        rows, columns = (image[0] > 0.5).nonzero(as_tuple=True)
        seen = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert (seen - box[1:5]).abs().max() <= 1.0  # a pixel is white or not
    assert len({tuple(box.tolist()) for box in boxes[:, 0]}) > 1


def test_flipping_is_that_of_torchvision() -> None:
    boxes = torch.tensor([[[3.0, 4, 30, 20], [10, 0, 64, 48]]])

    mine = Flip(probability=1).moved(
        boxes, SIZE, Draws.of(0, torch.zeros(1).long(), torch.ones(1).long())
    )

    theirs = V.horizontal_flip(tv_tensors.BoundingBoxes(boxes[0], format="XYXY", canvas_size=SIZE))
    torch.testing.assert_close(mine[0], torch.as_tensor(theirs).as_subclass(torch.Tensor))


@pytest.mark.parametrize("op", [Affine(degrees=20, scale=0.3, translate=5), Rotate(degrees=30)])
def test_turning_and_scaling_are_those_of_torchvision(op) -> None:
    draws = Draws.of(1, torch.arange(5), torch.ones(5, dtype=torch.int64))
    boxes = torch.tensor([[20.0, 14, 40, 34], [5, 5, 12, 30]]).repeat(5, 1, 1)
    affine = op if isinstance(op, Affine) else Affine(degrees=op.degrees)
    angle, _, size, down, right = draws.symmetric(5).unbind(1)

    mine = op.moved(boxes, SIZE, draws)

    for number in range(5):
        theirs = V.affine(
            tv_tensors.BoundingBoxes(boxes[number], format="XYXY", canvas_size=SIZE),
            angle=float(angle[number] * affine.degrees),
            translate=[float(side[number]) * affine.translate for side in (right, down)],
            scale=float(1 + size[number] * affine.scale),
            shear=[0.0, 0.0],
        )  # fmt: skip
        expected = torch.as_tensor(theirs).as_subclass(torch.Tensor)
        inside = mine[number].clamp(min=0)  # torchvision cuts at the edge
        inside = torch.minimum(inside, torch.tensor([SIZE[1], SIZE[0]] * 2, dtype=torch.float32))
        torch.testing.assert_close(inside, expected, atol=0.02, rtol=1e-3)


def test_boxes_that_leave_are_gone_and_others_are_cut() -> None:
    boxes = labels([[0, 0, 0, 4, 48], [1, 0, 0, 60, 48]], rows=3)
    images = torch.zeros(1, 3, *SIZE)
    seen = set()
    for view in range(1, 40):
        _, found = Augment((Jitter(pixels=8),), seed=0).with_boxes(
            images, boxes, ids=torch.zeros(1).long(), view=torch.tensor([view])
        )
        seen.add(float(found[0, 0, 0]))
        assert found[..., 1:5].min() >= 0
        assert found[..., 3].max() <= SIZE[1]
        assert found[0, 2, 0] == -1

    assert seen == {0.0, -1.0}


def feed(*ops, batch_size: int = 4, **options) -> Feed:
    boxes = labels(*[[[1, 20, 14, 40, 34]]] * 10, rows=2)
    inputs = (painted(boxes) * 255).to(torch.uint8)
    samples = Samples(inputs, torch.arange(10), boxes)
    augment = Augment(tuple(ops), seed=5) if ops else None
    return Feed(
        samples=samples, batch_size=batch_size, seed=0, normalise=Normalise(scale=255.0),
        augment=augment, **options,
    )  # fmt: skip


def test_a_batch_is_a_pure_function_of_epoch_and_index() -> None:
    first, again = feed(Flip(), Affine(scale=0.2)), feed(Flip(), Affine(scale=0.2))
    first.batch(2, 1)

    a, b = first.batch(3, 1), again.batch(3, 1)

    torch.testing.assert_close(a.inputs, b.inputs, rtol=0, atol=0)
    torch.testing.assert_close(a.labels, b.labels, rtol=0, atol=0)
    assert (first.batch(4, 1).labels != a.labels).any()


def test_what_else_is_in_the_batch_does_not_matter() -> None:
    small, large = (
        feed(Affine(scale=0.2, translate=4)),
        feed(Affine(scale=0.2, translate=4), batch_size=10),
    )

    by_id = {
        int(i): box
        for index in range(small.num_batches)
        for i, box in zip(small.batch(1, index).ids, small.batch(1, index).labels, strict=True)
    }

    whole = large.batch(1, 0)
    for sample, box in zip(whole.ids, whole.labels, strict=True):
        torch.testing.assert_close(by_id[int(sample)], box, rtol=0, atol=0)


def test_without_augmentation_boxes_are_as_in_the_data() -> None:
    assert feed().batch(0, 0).labels[0, 0].tolist() == [1, 20, 14, 40, 34, 0]


def test_what_does_not_say_where_boxes_go_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"`elastic` does not say where boxes go; .*`affine`"):
        Augment.parse(["elastic"]).check_boxes()
    with pytest.raises(RecipeError, match="Pictures with boxes are not mixed"):
        feed(mix=Mixup(), num_classes=2)
