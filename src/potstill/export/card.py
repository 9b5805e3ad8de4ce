"""The model card: README.md beside a model, written from results.json and nothing else."""

from collections.abc import Mapping, Sequence

from potstill.errors import ExportError
from potstill.export.card_files import shipped_files

ROLES = {
    "teacher": "the teacher",
    "scratch": "the student trained without a teacher",
    "distilled": "the student trained with a teacher",
}
ABSENT = "not measured"

Tree = Mapping[str, object]


def model_card(results: Tree, role: str, *, files: Sequence[Tree] = (), example: str = "") -> str:
    """Markdown for `models/<role>/README.md`.

    Says what the model is, what it was trained on and by whom, its figures with their spread, and
    what they do not show. Figures that were not measured are said to be so.

    Args:
        results: the content of results.json.
        role: `teacher`, `scratch` or `distilled`.
        files: the manifest's entries of what lies beside the card, if it lies beside artefacts.
        example: the program that asks one of them.

    Raises:
        ExportError: the results have no such model.
    """
    models = _tree(results, "models")
    if not models.get(role):
        known = ", ".join(name for name in models if models[name]) or "none"
        raise ExportError(
            f"There are no results for the role '{role}' (there are: {known}); run that stage "
            "before writing its card."
        )
    model = _tree(models, role)
    sections = [
        _heading(results, model, role),
        shipped_files(files, example) if files else _usual_use(results, model),
        _rules(model),
        _origin(results, models, role),
        _figures(results, model),
        _verdict(results, role),
        _limits(results, model),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _heading(results: Tree, model: Tree, role: str) -> str:
    name, run = _word(model, "name", "model"), _word(results, "name", "run")
    about = ROLES.get(role, role)
    description = _word(model, "description", "").strip()
    lines = [
        "---",
        "library_name: potstill",
        f"tags: [{'knowledge-distillation, ' if role == 'distilled' else ''}potstill]",
        "---",
        "",
        f"# {name} ({run}, {role})",
        "",
        f"In the run `{run}` this is {about}. {description}".strip(),
    ]
    return "\n".join(lines)


def _rules(model: Tree) -> str:
    """A tree or a list of rules in its own words."""
    lines = _tree(model, "rules").get("lines")
    if not isinstance(lines, Sequence) or not lines:
        return ""
    said = "\n".join(str(line) for line in lines)
    return f"## What it says\n\n```text\n{said}\n```"


def _usual_use(results: Tree, model: Tree) -> str:
    writes = results.get("task") == "seq2seq"
    return _use(
        model,
        texts=_tree(results, "data").get("kind") == "text",
        auto="AutoModelForSeq2SeqLM" if writes else "AutoModelForCausalLM",
    )


def _use(model: Tree, *, texts: bool, auto: str) -> str:
    file = model.get("file")
    if not isinstance(file, str):
        return ""
    if not file.endswith(".onnx"):
        return (
            "## Use\n\n"
            f"`{file}` (in the run folder) is a model of Transformers with its tokenizer.\n\n"
            "```python\n"
            f"from transformers import {auto}, AutoTokenizer\n\n"
            f'model = {auto}.from_pretrained("{file}")\n'
            f'tokenizer = AutoTokenizer.from_pretrained("{file}")\n'
            'told = tokenizer("Once upon a time", return_tensors="pt")\n'
            "print(tokenizer.decode(model.generate(**told, max_new_tokens=40)[0]))\n"
            "```"
        )
    if texts:
        return (
            "## Use\n\n"
            f"`{file}` (from the run folder) takes the int64 inputs that the tokenizer beside it "
            "gives, with any number of rows and tokens, and returns `logits`. Its metadata name "
            "the labels.\n\n"
            "```python\n"
            "import onnxruntime\n"
            "from transformers import AutoTokenizer\n\n"
            f'session = onnxruntime.InferenceSession("{file}")\n'
            'tokenizer = AutoTokenizer.from_pretrained("export/tokenizer")\n'
            'told = tokenizer(texts, padding=True, truncation=True, return_tensors="np")\n'
            "names = [given.name for given in session.get_inputs()]\n"
            '(logits,) = session.run(["logits"], {name: told[name] for name in names})\n'
            "```"
        )
    return (
        "## Use\n\n"
        f"`{file}` (from the run folder) takes one float32 input, `input`, with any number of rows "
        "and returns `logits`. Its metadata name the labels and the scale of the input.\n\n"
        "```python\n"
        "import onnxruntime\n\n"
        f'session = onnxruntime.InferenceSession("{file}")\n'
        '(logits,) = session.run(["logits"], {"input": rows})\n'
        "```"
    )


def _origin(results: Tree, models: Tree, role: str) -> str:
    data = _tree(results, "data")
    lines = ["## How it was made", ""]
    if data:
        counts = ", ".join(
            f"{_count(data.get(part))} {part}" for part in ("train", "validation", "test")
        )
        lines.append(
            f"- Data: {_word(data, 'name', 'unnamed')} ({_word(data, 'kind', 'data')}; {counts} "
            "samples)."
        )
        classes = data.get("classes")
        if isinstance(classes, Sequence) and not isinstance(classes, str):
            lines.append(f"- Classes: {len(classes)}.")
    if role == "distilled":
        teacher = _tree(models, "teacher")
        lines.append(
            f"- Teacher: {_word(teacher, 'name', 'unnamed')}, "
            f"{_count(teacher.get('parameters'))} parameters."
        )
        lines.append(f"- Objective: `{_word(results, 'objective', 'not recorded')}`.")
    seeds = results.get("seeds")
    if isinstance(seeds, Sequence) and seeds:
        lines.append(f"- Seeds: {', '.join(map(str, seeds))}.")
    command = results.get("command")
    if isinstance(command, str):
        lines.append(f"- Run again with `{command}`; every setting is in `recipe.yaml`.")
    created = results.get("created")
    if isinstance(created, str):
        lines.append(f"- Made: {created}.")
    return "\n".join(lines)


def _figures(results: Tree, model: Tree) -> str:
    primary = results.get("primary")
    rows = [("Figure", "Value"), ("---", "---")]
    for metric, summary in _tree(model, "test").items():
        note = " (decides)" if metric == primary else ""
        rows.append((f"test {metric}{note}", _summary(summary)))
    last = _tree(model, "test_last").get(str(primary))
    if last is not None:
        rows.append((f"test {primary}, last epoch", _summary(last)))
    calibration = _tree(model, "calibration").get("ece")
    if calibration is not None:
        rows.append(("calibration error (ECE)", _summary(calibration)))
    rows += [
        ("parameters", _count(model.get("parameters"))),
        ("bytes", _count(model.get("bytes"))),
        ("FLOPs a sample (multiply-add = 2)", _count(model.get("flops"))),
        ("latency", _latency(_tree(model, "latency_ms"))),
        ("training time", _unit(model.get("train_seconds"), "s")),
        ("training energy (estimate)", _unit(model.get("energy_wh"), "Wh")),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return f"## Figures\n\n{table}"


def _verdict(results: Tree, role: str) -> str:
    verdict = _tree(results, "verdict")
    if role != "distilled" or not verdict:
        return ""
    said = [_word(verdict, "sentence", ""), _word(verdict, "reason", "")]
    lines = [" ".join(part for part in said if part), ""]
    for key, label in (
        ("retention", "of the teacher's quality kept"),
        ("agreement", "of test answers equal to the teacher's"),
    ):
        value = verdict.get(key)
        if isinstance(value, int | float):
            lines.append(f"- {value:.1%} {label}.")
    for key, label in (("speedup", "faster than"), ("compression", "smaller than")):
        value = verdict.get(key)
        if isinstance(value, int | float):
            lines.append(f"- {value:.3g} times {label} the teacher.")
    return "## Did the teacher help?\n\n" + "\n".join(lines).strip()


def _limits(results: Tree, model: Tree) -> str:
    test = _count(_tree(results, "data").get("test"))
    spread = "Intervals show the spread over seeds, not over other test sets."
    lines = [
        f"- The figures come from one reading of one test set ({test} samples). {spread}",
        "- Not examined: other sources of data, damaged inputs, fairness between groups.",
        "- A student learns its teacher's mistakes too.",
    ]
    if model.get("latency_ms"):
        lines.append("- Latency holds for the machine in `environment.json`; measure on your own.")
    warnings = results.get("warnings")
    if isinstance(warnings, Sequence) and not isinstance(warnings, str):
        lines += [f"- Noted during the run: {warning}" for warning in warnings]
    return "## Limits\n\n" + "\n".join(lines)


def _tree(parent: Tree, key: str) -> Tree:
    child = parent.get(key)
    return child if isinstance(child, Mapping) else {}


def _word(parent: Tree, key: str, absent: str) -> str:
    value = parent.get(key)
    return value if isinstance(value, str) else absent


def _summary(summary: object) -> str:
    if not isinstance(summary, Mapping) or not isinstance(summary.get("mean"), int | float):
        return ABSENT
    text = f"{summary['mean']:.4g}"
    values, std, ci95 = summary.get("values"), summary.get("std"), summary.get("ci95")
    if isinstance(std, int | float) and isinstance(ci95, Sequence) and isinstance(values, Sequence):
        text += (
            f" ± {std:.2g} (std of {len(values)} seeds; 95% interval {ci95[0]:.4g} to "
            f"{ci95[1]:.4g})"
        )
    else:
        text += " (one seed)"
    return text


def _latency(latency: Tree) -> str:
    p50, p95 = latency.get("p50"), latency.get("p95")
    if not isinstance(p50, int | float) or not isinstance(p95, int | float):
        return ABSENT
    return (
        f"p50 {p50:.3g} ms, p95 {p95:.3g} ms (batch {latency.get('batch')}, "
        f"{latency.get('threads')} threads, {latency.get('engine')}, CPU)"
    )


def _count(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else ABSENT


def _unit(value: object, unit: str) -> str:
    return f"{value:.3g} {unit}" if isinstance(value, int | float) else ABSENT
