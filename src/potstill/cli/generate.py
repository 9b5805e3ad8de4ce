"""`potstill generate`: a served model's answers to prompts, as a data set for a student."""

import json
from pathlib import Path
from typing import Annotated

import typer

from potstill.cli.options import AsJson
from potstill.cli.screen import Screen, say


def generate(
    prompts: Annotated[
        Path, typer.Argument(help="A .jsonl, .csv or .txt file (a prompt a line), also as .gz.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The data set to write, .jsonl.")],
    url: Annotated[
        str, typer.Option("--url", help="The server, for example http://localhost:8000/v1.")
    ],
    name: Annotated[str, typer.Option("--name", help="The model, as the server calls it.")],
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="VARIABLE", help="The environment variable with the key."),
    ] = None,
    prompt: Annotated[
        str, typer.Option("--prompt", help="The column of the prompts (texts, or chats).")
    ] = "prompt",
    answer: Annotated[
        str, typer.Option("--answer", help="The column that the answers are written to.")
    ] = "answer",
    plain: Annotated[
        bool, typer.Option("--plain", help="Continue the prompts as they stand, without a chat.")
    ] = False,
    system: Annotated[str | None, typer.Option("--system", help="The system message.")] = None,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", min=1, help="Tokens of an answer at most.")
    ] = 512,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0, help="0 takes the likeliest token each time.")
    ] = 0.0,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Answers to each prompt.")] = 1,
    seed: Annotated[int, typer.Option("--seed", help="Of the sampling.")] = 0,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Answer so many prompts alone.")
    ] = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", min=1, help="Requests under way at once.")
    ] = 8,
    rate: Annotated[float | None, typer.Option("--rate", help="Requests a second at most.")] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", help="Seconds that one answer may take.")
    ] = 120.0,
    retries: Annotated[
        int, typer.Option("--retries", min=0, help="Of a request, after failures that may pass.")
    ] = 8,
    as_json: AsJson = False,
) -> None:
    """Let a model behind an OpenAI-compatible server answer prompts, once each.

    Run the same command again to go on after a stop: what was answered is kept.
    """
    from potstill.remote import Client, Server
    from potstill.remote.writing import Writing, read_prompts, write_answers

    writing = Writing(
        chat=not plain,
        system=system,
        max_tokens=max_tokens,
        temperature=temperature,
        samples=samples,
        seed=seed,
    )
    server = Server(
        url=url,
        model=name,
        key=key,
        timeout=timeout,
        retries=retries,
        rate=rate,
        concurrency=concurrency,
    )
    rows = read_prompts(prompts, prompt)[:limit]
    with Client(server) as client:
        found = write_answers(
            client,
            rows,
            out,
            writing=writing,
            prompt=prompt,
            answer=answer,
            progress=Screen(quiet=as_json),
        )
    if as_json:
        typer.echo(json.dumps(found.to_json()))
        return
    say(f"{found.path}: {found.rows:,} answers, {found.asked:,} of them asked for now")
    if found.unfinished or found.empty:
        say(
            f"warning: {found.unfinished:,} were cut off at {max_tokens} tokens, "
            f"{found.empty:,} are empty"
        )
