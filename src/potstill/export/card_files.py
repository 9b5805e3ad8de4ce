"""The part of a model card that is about its files: which there are, how they are used."""

from collections.abc import Mapping, Sequence

_BESIDE = (
    "The difference is the largest one of two logits on test samples, relative to the largest "
    "logit. "
    "`preprocessing.json` says what the input is and what the output means, `labels.json` (if "
    "there is one) names the classes, `parity.json` holds the whole comparison, `manifest.json` a "
    "digest of every file: `potstill export --check FILE` refuses one that was altered."
)


def shipped_files(files: Sequence[Mapping[str, object]], example: str) -> str:
    """A table of the files, and the example.

    Args:
        files: the manifest's entries.
        example: a program; left out if empty.
    """
    lines = [
        "## Files",
        "",
        "| File | Form | Precision | Bytes | Same decision as the student | Difference |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_row(file) for file in files),
        "",
        _BESIDE,
    ]
    if example:
        lines += ["", "## Use", "", "This is `example.py`:", "", "```python", example + "```"]
    return "\n".join(lines)


def _row(file: Mapping[str, object]) -> str:
    parity = file["parity"]
    assert isinstance(parity, Mapping), "as the manifest holds it"
    agreed = parity["agreement"]
    said = "–" if agreed is None else f"{100 * agreed:.2f} % of {parity['rows']}"
    return (
        f"| `{file['file']}` | {file['format']} | {file['precision']} | {file['bytes']:,} | "
        f"{said} | {parity['relative']:.2g} |"
    )
