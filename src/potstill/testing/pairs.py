"""Made-up instructions with one right answer each, saved as people have them: jsonl files."""

import json
import random
from pathlib import Path

NAMES = ("ada", "bo", "cy", "dan", "eve", "flo", "gus", "hal")


def pair(chance: random.Random) -> dict[str, str]:
    """A question and its answer: a list to turn around, to double or to sort, or a small sum."""
    names = chance.sample(NAMES, chance.randint(2, 4))
    listed = " ".join(names)
    match chance.randrange(4):
        case 0:
            return {"question": f"reverse {listed}", "answer": " ".join(reversed(names))}
        case 1:
            return {"question": f"twice {listed}", "answer": f"{listed} {listed}"}
        case 2:
            return {"question": f"sort {listed}", "answer": " ".join(sorted(names))}
        case _:
            a, b = chance.randint(0, 9), chance.randint(0, 9)
            return {"question": f"add {a} and {b}", "answer": f"{a} plus {b} is {a + b}"}


def save_pairs(folder: Path, *, train: int = 256, test: int = 40) -> dict[str, str]:
    """Write so many pairs (columns `question` and `answer`); the files by part."""
    files = {}
    for seed, (part, count) in enumerate({"train": train, "test": test}.items()):
        chance = random.Random(seed)
        path = folder / f"{part}.jsonl"
        path.write_text("\n".join(json.dumps(pair(chance)) for _ in range(count)))
        files[part] = str(path)
    return files
