"""Whole runs on tones: the recipes that ship, what they leave behind, and going on."""

import json
from pathlib import Path

import pytest
import torch

from potstill.build import build
from potstill.errors import HandshakeError, RecipeError
from potstill.measure.transcription import transcription_scores
from potstill.pipeline import Pipeline
from potstill.pipeline.rewriting import alike
from potstill.recipe import load
from potstill.tasks.transcript_metrics import Errors

from .tiny import archive

NAMES = "[low, middle, high]"
QUICK = [
    "seeds=1",
    "device=cpu",
    "store=off",
    "speed=exact",
    "measure={energy: false, seconds: 0.05}",
    f"data.classes={NAMES}",
    "teacher.train.epochs=1",
    "teacher.train.batch_size=16",
    "distill.epochs=1",
    "distill.batch_size=16",
]
FEW = "data.join={words: [1, 2], pause: [0.01, 0.02], train: 24, validation: 8, test: 6}"
CONFORMER = (
    "teacher.model={source: builtin, name: ctc_conformer, width: 16, depth: 1, heads: 2, mels: 12}"
)
WHISPER = (
    "teacher.model.config={d_model: 16, encoder_layers: 1, decoder_layers: 2, encoder_ffn_dim: 16,"
    " decoder_ffn_dim: 16, encoder_attention_heads: 2, decoder_attention_heads: 2,"
    " num_mel_bins: 12, max_target_positions: 24}"
)
SHIPPED = {
    "spoken-digits": [
        "data.seconds=0.35",
        "teacher.model={source: builtin, name: tc_resnet, widths: [8, 8], mels: 12}",
        "student.model={source: builtin, name: tc_resnet, widths: [4, 4], mels: 12}",
    ],
    "spoken-sequences": [
        FEW,
        "export=[]",  # of files there are tests of their own
        CONFORMER,
        "student.model={source: builtin, name: ctc_conv, width: 8, depth: 1, mels: 12}",
    ],
    "spoken-whisper": [
        FEW,
        WHISPER,
        "data.tokenizer={vocabulary: 270}",
        "distill.sequences.max_wer=100",
    ],
}


def _recipe(name: str, path: Path, *more: str):
    changed = [f"data.path={path}", "data.label_pattern=null", "data.test_pattern=null"]
    return load(name, [*changed, *QUICK, *SHIPPED[name], *more])


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return archive(tmp_path_factory.mktemp("sounds") / "tones.npz", each=12, test=4)


@pytest.fixture(scope="module", params=SHIPPED)
def done(request, tones: Path, tmp_path_factory: pytest.TempPathFactory):
    """A shipped recipe on tones, run."""
    folder = tmp_path_factory.mktemp(request.param)
    experiment = build(_recipe(request.param, tones))
    Pipeline(experiment, folder).run()
    return request.param, folder, experiment


def test_every_shipped_recipe_of_sounds_runs(done) -> None:
    name, folder, _ = done
    results = json.loads((folder / "results.json").read_text())
    student = results["models"]["distilled"]

    assert (folder / "report.html").is_file()
    if name == "spoken-digits":
        assert results["task"] == "keyword"
        streaming = student["streaming"]
        assert (streaming["hop_ms"], streaming["look_ahead_ms"]) == (20, 0)
        assert streaming["real_time_factor"] == pytest.approx(streaming["p50"] / 20)
        assert (folder / streaming["file"]).is_file()
        assert "<audio controls" in (folder / "report.html").read_text()
        return
    assert results["task"] == "asr"
    assert results["primary"] == "wer"
    assert not results["higher_is_better"]
    assert student["test"]["wer"]["mean"] >= 0
    if name == "spoken-whisper":
        assert (folder / "export" / "distilled" / "preprocessor_config.json").is_file() or (
            folder / "export" / "distilled" / "config.json"
        ).is_file()


def test_a_run_that_is_done_does_nothing_again(done) -> None:
    _, folder, _ = done
    before = (folder / "metrics.jsonl").read_bytes()
    weights = next((folder / "models" / "distilled").rglob("last.safetensors")).stat().st_mtime_ns

    experiment = build(load(str(folder / "recipe.yaml")))
    Pipeline(experiment, folder).run()

    assert (folder / "metrics.jsonl").read_bytes() == before
    after = next((folder / "models" / "distilled").rglob("last.safetensors")).stat().st_mtime_ns
    assert after == weights


def test_the_frozen_encoder_runs_once_a_batch_and_stays_as_it_is(tones: Path) -> None:
    from potstill.teachers import ModuleTeacher
    from potstill.train import Distiller

    experiment = build(_recipe("spoken-whisper", tones))
    teacher = experiment.teacher.model.make(0)
    student = experiment.student.cut(experiment.teacher.model.make(0))
    feed = experiment.learning.feed(experiment.data.train, experiment.data, seed=0, device="cpu")
    runs = []
    for model in (teacher, student):
        model._encoder.register_forward_hook(lambda *_, m=model: runs.append(m))
    before = {name: value.clone() for name, value in student.encoder_state().items()}
    distiller = Distiller(
        student,
        ModuleTeacher(teacher, experiment.task),
        objective=experiment.objective,
        task=experiment.task,
    )
    distiller.prepare(feed.batch(0, 0))
    runs.clear()

    distiller.step(feed.batch(0, 0))

    assert runs == [student]
    assert all(torch.equal(value, before[n]) for n, value in student.encoder_state().items())
    assert not student._encoder.training
    alone = experiment.task.forward(student.eval(), feed.batch(0, 0)).logits.dense()
    shared = experiment.task.forward(
        student, distiller_batch(feed.batch(0, 0), student)
    ).logits.dense()
    assert torch.equal(alone, shared)


def distiller_batch(batch, encoder):
    from potstill.train.sharing import encoded

    return encoded(batch, encoder)


def test_encoders_that_differ_are_not_shared(tones: Path) -> None:
    from potstill.teachers import ModuleTeacher
    from potstill.train.sharing import shared_encoder

    experiment = build(_recipe("spoken-whisper", tones))
    student = experiment.student.cut(experiment.teacher.model.make(0))

    same = ModuleTeacher(experiment.teacher.model.make(0), experiment.task)
    other = ModuleTeacher(experiment.teacher.model.make(1), experiment.task)

    assert shared_encoder(student, same) is student
    assert shared_encoder(student, other) is None


def test_whisper_features_equal_those_of_its_extractor() -> None:
    from transformers import WhisperFeatureExtractor

    from potstill.models.whisper import WhisperFront

    wave = torch.randn(1, 30_000, generator=torch.Generator().manual_seed(0)) * 0.1
    front = WhisperFront(16_000, mels=80, frames=300)

    got = front(wave)[0].numpy()

    extractor = WhisperFeatureExtractor(chunk_length=3)
    expected = extractor(wave[0].numpy(), sampling_rate=16_000, return_tensors="np")
    assert abs(got - expected["input_features"][0]).max() < 1e-4


def test_texts_with_too_many_wrong_words_are_dropped() -> None:
    said = {1: "one two three", 2: "one two", 3: "Four, five!"}
    references = {1: "one two three", 2: "one nine", 3: "four five"}

    kept, dropped = alike(said, references, most=0.4)

    assert (set(kept), dropped) == ({1, 3}, {2})


def test_word_errors_are_counted_over_all_texts() -> None:
    letters = ("", " ", "a", "b")
    metric = Errors(letters, words=True)
    kept = torch.tensor([[0.0, 2, 1, 3, -1], [0.0, 3, 3, -1, -1]])  # "a b", "bb"
    labels = torch.tensor([[2, 1, 2], [3, 3, -100]])  # "a a", "bb"

    metric.update(kept, labels)

    assert float(metric.compute()) == pytest.approx(1 / 3)
    found = transcription_scores(["a b", "bb"], ["a a", "bb"])
    assert found["wer"] == pytest.approx(1 / 3)
    assert found["cer"] == pytest.approx(1 / 5)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("spoken-digits", "student.model.sampling_rate=16000", "is to hear 16000 samples a second"),
        ("spoken-digits", "student.model={source: builtin, name: ctc_conv}", "unequal length"),
        ("spoken-sequences", "distill.sequences={beams: 1}", "writes tokens"),
        ("spoken-sequences", "student.model={source: hf, name: x}", "either both answer frame"),
        ("spoken-whisper", "data.tokenizer=null", "need `data.tokenizer`"),
        ("spoken-whisper", "export=[onnx]", "exported as `hf`"),
        ("spoken-sequences", "distill.objective=[{term: cross_entropy}]", "transcript"),
    ],
)
def test_what_does_not_go_together_is_said_at_once(name, change, message, tones, tmp_path) -> None:
    with pytest.raises((RecipeError, HandshakeError, ValueError), match=message):
        Pipeline(build(_recipe(name, tones, change)), tmp_path).run()
