"""`Run`: a run folder, read."""

import html
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast, final

from potstill.errors import StorageError
from potstill.runtime.files import read_json

if TYPE_CHECKING:
    from torch import nn

Tree = Mapping[str, object]


@final
class Run:
    """What a finished run left in its folder. In a notebook it shows its verdict and its table.

    Args:
        folder: the run folder.

    Raises:
        StorageError: there are no results in it.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        path = self.folder / "results.json"
        if not path.is_file():
            raise StorageError(
                f"{self.folder} holds no results.json: it is not the folder of a finished run. "
                "Finish it with `potstill run`, or give another folder."
            )
        self.results: Tree = read_json(path)

    @property
    def verdict(self) -> Tree:
        """The keys `helped`, `gain`, `gain_ci95`, `p_value`, `gap_recovered`, and so on."""
        return cast("Tree", self.results["verdict"])

    @property
    def models(self) -> Mapping[str, Tree]:
        """The figures of `teacher`, `scratch` and `distilled`."""
        return cast("Mapping[str, Tree]", self.results["models"])

    @property
    def report(self) -> Path:
        """The page for people."""
        return self.folder / "report.html"

    def student(self, *, seed: int | None = None, trust: bool = False) -> "nn.Module":
        """A distilled student with its weights, in eval mode; the shipped one if no seed is given.

        Raises:
            ModelError: the student came from the user's own code, which a folder cannot rebuild.
        """
        from potstill.models import load_model

        chosen = self.models["distilled"]["shipped_seed"] if seed is None else seed
        module, _ = load_model(self.folder / "models" / "distilled" / f"seed-{chosen}", trust=trust)
        return module.eval()

    def table(self) -> list[list[str]]:
        """Rows of text: a heading, then one row a model."""
        primary = str(self.results["primary"])
        rows = [["", primary, "parameters", "latency p50"]]
        for role, model in self.models.items():
            summary = cast("Mapping[str, Mapping[str, float]]", model["test"])[primary]
            spread = "" if summary["std"] is None else f" ± {summary['std']:.4f}"
            latency = cast("Mapping[str, float] | None", model.get("latency_ms"))
            parameters = model.get("parameters")
            rows.append(
                [
                    role,
                    f"{summary['mean']:.4f}{spread}",
                    "–" if parameters is None else f"{cast('int', parameters):,}",
                    "–" if latency is None else f"{latency['p50']:.3f} ms",
                ]
            )
        return rows

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}): {self.verdict['sentence']}"

    def _repr_html_(self) -> str:
        head, *rows = self.table()
        cells = "".join(f"<th>{html.escape(c)}</th>" for c in head)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in rows
        )
        sentence = html.escape(str(self.verdict["sentence"]))
        return (
            f"<p><strong>{sentence}</strong></p><table><thead><tr>{cells}</tr></thead>"
            f"<tbody>{body}</tbody></table>"
            f"<p>Report: <code>{html.escape(str(self.report))}</code></p>"
        )

    def _repr_markdown_(self) -> str:
        head, *rows = self.table()
        lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
        return f"**{self.verdict['sentence']}**\n\n" + "\n".join(lines) + "\n"
