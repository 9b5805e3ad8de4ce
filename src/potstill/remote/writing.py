"""Answers of a served model as texts: prompts in, a data set of prompts and answers out."""

import csv
import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import final

from potstill.errors import DataError, RecipeError
from potstill.remote.answers import choice_of, is_list, is_map
from potstill.remote.client import Client
from potstill.remote.journal import Journal
from potstill.remote.refusals import Refused
from potstill.runtime.files import storing, write_text
from potstill.runtime.progress import Progress, Silent, showing

Row = dict[str, object]


@final
@dataclass(frozen=True, kw_only=True)
class Writing:
    """How a model is let answer.

    Args:
        chat: ask through `/v1/chat/completions`, where the server applies the model's chat
            template; else the prompt is continued as it stands, through `/v1/completions`.
        system: the system message of chats.
        max_tokens: of an answer.
        temperature: 0 takes the likeliest token each time.
        top_p: share of the likeliest tokens that are sampled from; the server's own if left out.
        samples: answers to each prompt; several need a temperature above 0.
        seed: of the sampling; sample i is asked with `seed + i`.
        stop: texts that end an answer.
    """

    chat: bool = True
    system: str | None = None
    max_tokens: int = 512
    temperature: float = 0.0
    top_p: float | None = None
    samples: int = 1
    seed: int = 0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.samples > 1 and self.temperature == 0:
            raise RecipeError(
                f"{self.samples} samples at temperature 0 are all the same; give a temperature."
            )
        if self.samples < 1 or self.max_tokens < 1 or self.temperature < 0:
            raise RecipeError(
                f"`samples` {self.samples} and `max_tokens` {self.max_tokens} are at least 1, "
                f"`temperature` {self.temperature} at least 0."
            )
        if self.system is not None and not self.chat:
            raise RecipeError("A system message is for chats; put it into the prompts instead.")

    def request(self, model: str, prompt: object, sample: int) -> tuple[str, dict[str, object]]:
        """Path and body that ask for one answer."""
        body: dict[str, object] = {
            "model": model,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "seed": self.seed + sample,
        }
        if self.top_p is not None:
            body["top_p"] = self.top_p
        if self.stop:
            body["stop"] = list(self.stop)
        if not self.chat:
            return "/v1/completions", {**body, "prompt": prompt}
        said = prompt if is_list(prompt) else [{"role": "user", "content": prompt}]
        first = [] if self.system is None else [{"role": "system", "content": self.system}]
        return "/v1/chat/completions", {**body, "messages": [*first, *said]}


@final
@dataclass(frozen=True, kw_only=True)
class Written:
    """What came out.

    Args:
        path: the data set.
        rows: its rows.
        asked: answers that were asked for now; the others were there already.
        unfinished: answers that `max_tokens` cut off.
        empty: answers without a text.
    """

    path: Path
    rows: int
    asked: int
    unfinished: int
    empty: int

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {**asdict(self), "path": str(self.path)}


def write_answers(
    client: Client,
    rows: Sequence[Mapping[str, object]],
    out: Path,
    *,
    writing: Writing,
    prompt: str = "prompt",
    answer: str = "answer",
    progress: Progress | None = None,
) -> Written:
    """Let the model answer every prompt, and write prompts with answers, one JSON object a line.

    Answers are kept beside `out` (`<out>.journal`) as they come: called again after a stop, or with
    more prompts, it asks for what is missing. `out` itself is written when all are there.

    Args:
        client: whom.
        rows: columns by name; all of them stand in `out` again.
        out: the data set, `.jsonl`; each row has two more columns, the answer and `finished`.
        writing: how the model answers.
        prompt: the column with a text, or with a chat as a list of messages.
        answer: the column that is added.
        progress: told of every answer.

    Raises:
        DataError: a row has no prompt, or a column would be written over.
        RemoteError: the server does not answer.
    """
    _check_rows(rows, prompt, answer)
    jobs = [(row, sample) for row in range(len(rows)) for sample in range(writing.samples)]
    keys = {job: _key(client, writing, rows[job[0]][prompt], job[1]) for job in jobs}
    journal = Journal(out.with_name(out.name + ".journal"))
    try:
        missing = list({keys[job]: job for job in jobs if keys[job] not in journal}.values())

        def ask(job: tuple[int, int]) -> None:
            number, sample = job
            path, body = writing.request(client.server.model, rows[number][prompt], sample)
            journal.put(keys[job], _said(client.post(path, body), chat=writing.chat))

        title = f"asking {client.server.model}"
        with showing(progress or Silent(), title, len(missing)) as advance:
            for done, _ in enumerate(client.each(missing, ask), start=1):
                advance(done)
        made = [{**rows[job[0]], **_columns(journal, keys[job], answer)} for job in jobs]
    finally:
        journal.close()
    write_text(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made))
    return Written(
        path=out,
        rows=len(made),
        asked=len(missing),
        unfinished=sum(not row["finished"] for row in made),
        empty=sum(not str(row[answer]).strip() for row in made),
    )


def read_prompts(path: Path, column: str) -> list[Row]:
    """Rows of a `.jsonl`, `.csv` or `.txt` file (a prompt a line), packed with gzip or not.

    Raises:
        DataError: it is none of these, or cannot be read.
        StorageError: there is no such file.
    """
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if kind not in {".jsonl", ".csv", ".txt"}:
        raise DataError(f"{path} is no file of prompts; a .jsonl, .csv or .txt file is expected.")
    if not path.is_file():
        raise DataError(f"There is no file {path}; give one with prompts.")
    with storing(path):
        raw = path.read_bytes()
    try:
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
        return list(_rows(text, kind, column))
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read as {kind[1:]} ({error}).") from error


def _rows(text: str, kind: str, column: str) -> Iterator[Row]:
    if kind == ".csv":
        yield from ({str(k): v for k, v in row.items()} for row in csv.DictReader(StringIO(text)))
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        if kind == ".txt":
            yield {column: line.rstrip("\r")}
            continue
        row = json.loads(line)
        if not isinstance(row, dict):
            raise DataError(f"Line {number} of the prompts is no JSON object.")
        yield row


def _check_rows(rows: Sequence[Mapping[str, object]], prompt: str, answer: str) -> None:
    if not rows:
        raise DataError("There are no prompts to answer.")
    for number, row in enumerate(rows, start=1):
        found = row.get(prompt)
        if not isinstance(found, str | list) or not found:
            raise DataError(
                f"Row {number} has no text in its column `{prompt}` (its columns: "
                f"{', '.join(row)}); name the column of the prompts with --prompt."
            )
        taken = {answer, "finished"} & set(row)
        if taken:
            raise DataError(
                f"Row {number} has a column `{taken.pop()}` already; rename it, or choose another "
                "name for the answers with --answer."
            )


def _key(client: Client, writing: Writing, prompt: object, sample: int) -> str:
    path, body = writing.request(client.server.model, prompt, sample)
    return hashlib.sha256(json.dumps([path, body], sort_keys=True).encode()).hexdigest()[:32]


def _said(answer: Mapping[str, object], *, chat: bool) -> dict[str, object]:
    choice = choice_of(answer)
    message = choice.get("message")
    text = choice.get("text") if not chat else message.get("content") if is_map(message) else None
    if text is not None and not isinstance(text, str):
        raise Refused(f"The server's answer holds {type(text).__name__} where a text is expected.")
    return {"text": text or "", "end": choice.get("finish_reason")}


def _columns(journal: Journal, key: str, answer: str) -> Row:
    found = journal.get(key)
    assert found is not None, "every job was answered"
    return {answer: found["text"], "finished": found["end"] != "length"}
