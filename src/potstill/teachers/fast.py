"""A teacher whose model runs as fast as this machine can, and the choice of how."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Self, final

import torch
from torch import Tensor, nn

from potstill.protocols import Offers, SeenLayer, Task, Teacher
from potstill.runtime.fast import (
    EXACT,
    Bounds,
    Choice,
    Difference,
    Machine,
    Memory,
    Prior,
    Ready,
    Work,
    choose,
    compare,
)
from potstill.runtime.fast.bounds import relative_error
from potstill.runtime.fast.engines import Engine, Subject, torch_engines
from potstill.runtime.fast.graphs import Graph, Runner, as_array, graph_engines, ways
from potstill.runtime.fast.quiet import quietly
from potstill.runtime.fast.trials import State, Trial
from potstill.signals import Batch, Logits, Signals
from potstill.teachers.calibrated import Calibrated
from potstill.teachers.ensemble import Ensemble
from potstill.teachers.fingerprints import bytes_of, digest
from potstill.teachers.module import ModuleTeacher
from potstill.teachers.onnx import OnnxTeacher
from potstill.teachers.relabelled import Relabelled
from potstill.teachers.routed import Routed
from potstill.teachers.union import ClassUnion
from potstill.teachers.views import ViewAverage

Answer = Callable[[Batch, Sequence[str]], Signals]


@final
class FastTeacher(Teacher):
    """A teacher in another way of running it. Its answers are close to the exact ones, not equal.

    Args:
        exact: the teacher as it is.
        answer: gives the signals of a batch and some layers.
        way: the name of the way, with versions; part of the fingerprint.
        shows_layers: whether `answer` gives features.
    """

    def __init__(self, exact: Teacher, answer: Answer, *, way: str, shows_layers: bool) -> None:
        self.exact, self.way = exact, way
        self._answer, self._shows_layers = answer, shows_layers

    def offers(self) -> Offers:
        """As the exact teacher; layers only where this way shows them."""
        offered = self.exact.offers()
        return offered if self._shows_layers else replace(offered, layers=None)

    def fingerprint(self) -> str:
        """The exact teacher's and the way."""
        return digest([self.exact.fingerprint(), self.way])

    def trace(self, batch: Batch) -> tuple[SeenLayer, ...]:
        """As the exact teacher."""
        return self.exact.trace(batch)

    @property
    def reads_raw(self) -> bool:
        """As the exact teacher."""
        return self.exact.reads_raw

    def signals(self, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """The fast answer, in float32."""
        device = batch.inputs.device.type
        with torch.no_grad(), torch.autocast(device, enabled=False):
            return self._answer(batch, layers)

    def to(self, device: torch.device) -> Self:
        """The exact teacher moves; the fast form stays on the device that it was made for."""
        self.exact.to(device)
        return self


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a teacher is wanted for.

    Args:
        task: how it is called.
        batches: the first real batches, on the device; at least one.
        steps: how many batches it will be asked about.
        layers: whose outputs are wanted.
        raw: whether some term reads logits as they are.
        bounds: what counts as the same answers.
        memory: of earlier runs.
        name: for the table.
    """

    task: Task
    batches: Sequence[Batch]
    steps: int
    layers: Sequence[str] = ()
    raw: bool = False
    bounds: Bounds = field(default_factory=Bounds)
    memory: Memory = field(default_factory=Memory)
    name: str = "teacher"


def hasten(teacher: Teacher, request: Request) -> tuple[Teacher, tuple[Choice, ...]]:
    """The teacher as fast as this machine can run it for what is planned, and how that was chosen.

    Modules and ONNX files are looked at, also inside ensembles and label maps; any other teacher
    comes back as it is, with no choice.
    """
    match teacher:
        case ModuleTeacher() | OnnxTeacher():
            return _single(teacher, request)
        case Calibrated() | Relabelled() | ViewAverage():
            inner, choices = hasten(teacher.inner, request)
            return (teacher.around(inner) if inner is not teacher.inner else teacher), choices
        case Ensemble() | ClassUnion() | Routed():
            return _members(teacher, request)
        case _:
            return teacher, ()


def rebuild(teacher: Teacher, request: Request, choices: Sequence[Choice]) -> Teacher:
    """The teacher in the ways that were chosen before; each is prepared when it is first asked.

    Raises:
        KeyError: a way that this version does not know.
    """
    left = {choice.role: choice.chosen.name for choice in choices}
    return _rebuilt(teacher, request, left)


def _rebuilt(teacher: Teacher, request: Request, left: Mapping[str, str]) -> Teacher:
    match teacher:
        case ModuleTeacher() | OnnxTeacher():
            name = left.get(request.name, EXACT)
            return teacher if name == EXACT else _later(_Exact(teacher, request), name)
        case Calibrated() | Relabelled() | ViewAverage():
            inner = _rebuilt(teacher.inner, request, left)
            return teacher if inner is teacher.inner else teacher.around(inner)
        case Ensemble() | ClassUnion() | Routed():
            return teacher.of([_rebuilt(t, r, left) for t, r in _named(teacher, request)])
        case _:
            return teacher


def _later(exact: "_Exact", name: str) -> FastTeacher:
    """A way that is prepared at its first question: a run that is over asks none."""
    candidate = {each.name: each for each in _candidates(exact)[0]}[name]

    @cache
    def prepared() -> Teacher:
        with quietly():
            return candidate.prepare().value

    def answer(batch: Batch, layers: Sequence[str]) -> Signals:
        return prepared().signals(batch, layers=layers)

    way = _way(name, exact)
    return FastTeacher(exact.teacher, answer, way=way, shows_layers=candidate.shows_layers)


def exact_of(teacher: Teacher) -> Teacher:
    """The exact teacher behind a fast one; any other as it is."""
    match teacher:
        case FastTeacher():
            return teacher.exact
        case Calibrated() | Relabelled() | ViewAverage():
            return teacher.around(exact_of(teacher.inner))
        case Ensemble() | ClassUnion() | Routed():
            return teacher.of([exact_of(member) for member in teacher.members])
        case _:
            return teacher


def _named(
    teacher: Ensemble | ClassUnion | Routed, request: Request
) -> list[tuple[Teacher, Request]]:
    return [
        (member, replace(request, layers=(), name=f"{request.name}, member {number}"))
        for number, member in enumerate(teacher.members, start=1)
    ]


def _members(
    teacher: Ensemble | ClassUnion | Routed, request: Request
) -> tuple[Teacher, tuple[Choice, ...]]:
    done = [hasten(member, each) for member, each in _named(teacher, request)]
    choices = tuple(choice for _, made in done for choice in made)
    return teacher.of([member for member, _ in done]), choices


def _single(
    teacher: ModuleTeacher | OnnxTeacher, request: Request
) -> tuple[Teacher, tuple[Choice, ...]]:
    exact = _Exact(teacher, request)
    fit, unfit = _candidates(exact)
    choice, ready = choose(
        Work(role=request.name, key=exact.key, answers=exact.answers_key, steps=request.steps),
        Ready(value=teacher, run=exact.run_with(teacher), difference=Difference),
        fit,
        bounds=request.bounds,
        memory=request.memory,
        unfit=unfit,
    )
    return ready.value, (choice,)


@final
class _Exact:
    """A teacher with the batches that its fast forms are measured on, and its answers on them."""

    def __init__(self, teacher: ModuleTeacher | OnnxTeacher, request: Request) -> None:
        self.teacher, self.request = teacher, request
        self.machine = Machine.here(request.batches[0].inputs.device)

    @cached_property
    def answers(self) -> list[Signals]:
        """Computed when the first candidate is checked."""
        return [self.teacher.signals(b, layers=self.request.layers) for b in self.request.batches]

    @cached_property
    def key(self) -> str:
        """Of model, shapes and machine."""
        source = self._inputs[0]
        parts = [f"{tuple(source.shape)} {source.dtype}", self.machine.key]
        return digest(["teacher", _architecture(self.teacher), str(self.request.layers), *parts])

    @cached_property
    def answers_key(self) -> str:
        """Of weights and bounds."""
        return digest([self.teacher.fingerprint(), repr(self.request.bounds)])

    @property
    def _inputs(self) -> list[Tensor]:
        if isinstance(self.teacher, OnnxTeacher):
            return [self.teacher.fed(batch) for batch in self.request.batches]
        return [batch.inputs for batch in self.request.batches]

    @cached_property
    def inputs(self) -> tuple[Tensor, ...]:
        """What the model itself is given."""
        return tuple(self._inputs)

    def run_with(self, teacher: Teacher) -> Callable[[int], object]:
        """One step of a teacher, waited for."""
        batches, layers = self.request.batches, self.request.layers

        def run(number: int) -> None:
            teacher.signals(batches[number % len(batches)], layers=layers)
            if batches[0].inputs.is_cuda:
                torch.cuda.synchronize()

        return run

    def difference_of(self, teacher: Teacher) -> Difference:
        """How far a fast form's answers are from these, over all batches."""
        request = self.request
        fast = [teacher.signals(b, layers=request.layers) for b in request.batches]
        logits = compare(_logits(self.answers), _logits(fast), kind=request.task.kind,
                         raw=request.raw)  # fmt: skip
        errors = [
            relative_error(exact.features[name], other.features[name])
            for exact, other in zip(self.answers, fast, strict=True)
            for name in request.layers
        ]
        if not errors:
            return logits
        return replace(logits, error=max([*errors, logits.error or 0.0]))


def _candidates(exact: _Exact) -> tuple[list["_ModuleWay | _OnnxWay"], list[Trial]]:
    """What may be tried, and what cannot since it hides layers that are wanted."""
    if isinstance(exact.teacher, OnnxTeacher):
        return [*_onnx_ways(exact.teacher, exact)], []
    subject = Subject(module=exact.teacher.model, samples=exact.inputs, machine=exact.machine)
    engines = [*torch_engines(subject), *graph_engines(subject)]
    wanted = bool(exact.request.layers)
    fit: list[_ModuleWay | _OnnxWay] = [
        _ModuleWay(engine, exact.teacher, exact)
        for engine in engines
        if engine.shows_layers or not wanted
    ]
    reason = "it cannot show the layers that the objective reads"
    unfit = [
        Trial(name=engine.name, state=State.NOT_TRIED, reason=reason)
        for engine in engines
        if wanted and not engine.shows_layers
    ]
    return fit, unfit


@final
class _ModuleWay:
    """An engine as a candidate."""

    def __init__(self, engine: Engine, teacher: ModuleTeacher, exact: _Exact) -> None:
        self._engine, self._teacher, self._exact = engine, teacher, exact
        self.name, self.prior = engine.name, engine.prior
        self.shows_layers = engine.shows_layers

    def prepare(self) -> Ready[Teacher]:
        module: nn.Module = self._engine.make()
        task = self._exact.request.task

        def answer(batch: Batch, layers: Sequence[str]) -> Signals:
            return _in_float32(task.forward(module, batch, layers=layers))

        fast = FastTeacher(
            self._teacher,
            answer,
            way=_way(self.name, self._exact),
            shows_layers=self._engine.shows_layers,
        )
        return _ready(fast, self._exact)


@final
class _OnnxWay:
    """Another way to run an ONNX file, as a candidate."""

    shows_layers = False

    def __init__(
        self, name: str, prior: Prior, make: Callable[[], Runner], teacher: OnnxTeacher,
        exact: _Exact,
    ) -> None:  # fmt: skip
        self.name, self.prior = name, prior
        self._make, self._teacher, self._exact = make, teacher, exact

    def prepare(self) -> Ready[Teacher]:
        faster = self._teacher.run_by(self._make())

        def answer(batch: Batch, layers: Sequence[str]) -> Signals:
            return faster.signals(batch, layers=layers)

        way = _way(self.name, self._exact)
        return _ready(FastTeacher(self._teacher, answer, way=way, shows_layers=False), self._exact)


def _onnx_ways(teacher: OnnxTeacher, exact: _Exact) -> list[_OnnxWay]:
    if exact.machine.device != "cpu":
        return []
    samples = [torch.from_numpy(teacher.as_fed(as_array(x))) for x in exact.inputs]
    graph = Graph(teacher.path.read_bytes, samples, full_range=exact.machine.int8)
    made = []
    for way in ways(exact.machine, convolutions=True):
        if way.name != "onnxruntime":  # it is the exact one

            def make(way: object = way) -> Runner:
                return way.runner(graph, exact.machine)  # type: ignore[attr-defined,no-any-return]

            speedup = way.speedup / 1.6  # over ONNX Runtime in 32 bits
            made.append(_OnnxWay(way.name, Prior(way.seconds, speedup), make, teacher, exact))
    return made


def _ready(fast: FastTeacher, exact: _Exact) -> Ready[Teacher]:
    return Ready(value=fast, run=exact.run_with(fast), difference=lambda: exact.difference_of(fast))


def _way(name: str, exact: "_Exact") -> str:
    """A way by its name, the version of what runs it and, if it was calibrated, on what."""
    runs = next((r for r in ("onnxruntime", "openvino") if name.startswith(r)), "torch")
    versions = [p for p in exact.machine.packages if p.partition(" ")[0] == runs]
    way = f"{name} with {', '.join(versions)}"
    if not name.endswith("int8"):
        return way
    return f"{way}, calibrated on {digest(bytes_of(x) for x in exact.inputs)}"


def _in_float32(said: Signals) -> Signals:
    assert isinstance(said.logits, Logits), "tasks of one row a sample give dense logits"
    return Signals(
        logits=Logits(said.logits.values_NC.float()),
        features={name: value.float() for name, value in said.features.items()},
        embedding=None if said.embedding is None else said.embedding.float(),
    )


def _logits(said: Sequence[Signals]) -> Tensor:
    rows = []
    for each in said:
        assert isinstance(each.logits, Logits), "modules and ONNX files give dense logits"
        rows.append(each.logits.values_NC.float())
    return torch.cat(rows)


def _architecture(teacher: ModuleTeacher | OnnxTeacher) -> str:
    """Everything that its speed depends on, but for inputs and machine."""
    if isinstance(teacher, OnnxTeacher):
        return teacher.fingerprint()
    return architecture(teacher.model)


def architecture(module: nn.Module) -> str:
    """Digest of a module's classes and of the shapes of its weights."""
    parts = [f"{name} {type(each).__qualname__}" for name, each in module.named_modules()]
    parts += [f"{name} {tuple(t.shape)} {t.dtype}" for name, t in module.state_dict().items()]
    return digest(parts)
