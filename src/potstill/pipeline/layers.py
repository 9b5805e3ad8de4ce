"""Layers that a recipe left to the handshake, where a stage needs their names before it."""

from potstill.pipeline.experiment import Experiment
from potstill.pipeline.workshop import Workshop
from potstill.protocols import Teacher
from potstill.signals import Batch
from potstill.train.handshake import Agreement
from potstill.train.layers import has_open_layers, objective_with_layers


def with_layers(shop: Workshop, teacher: Teacher, batch: Batch) -> Experiment:
    """The experiment with names where its objective's layers were `auto`."""
    e = shop.experiment
    if not has_open_layers(e.objective):
        return e
    student = e.student.make(0).to(shop.runtime.device)
    named = objective_with_layers(e.objective, student, teacher, task=e.task, batch=batch)
    return shop.settle(Agreement(objective=named, pairing=(), named=named))
