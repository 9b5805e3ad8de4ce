"""How far a small tree agrees with the boosted teacher that it was distilled from.

For each data set and each split into training and test rows: a gradient-boosted teacher is fitted
on the training rows, and then the same tree (and the same list of rules) on the labels, on the
teacher's probabilities of the training rows, and on those of made-up rows as well. The table
gives the share of test rows on which each decides as the teacher does, and its mean gain over the
labels with two 95% intervals over splits: Student's t, and the wider one of Nadeau and Bengio 2003
(doi:10.1023/A:1024068626366), which allows for training sets that overlap.

`python bench/tree_agreement.py [splits=20] [heart=heart.csv] [pima=pima.csv]
[mammography=mammography.csv] [adult=adult.csv]`; breast cancer is inside scikit-learn.
"""

import math
import os
import statistics
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import sklearn
from scipy import stats
from torch import Tensor

from potstill.build import build
from potstill.models import DecisionTree, RuleList
from potstill.models.rule_students import config_of_fitter, fit_rules
from potstill.models.rules import NO_LABEL, FitRows
from potstill.pipeline import Experiment
from potstill.protocols import Teacher
from potstill.recipe import parse
from potstill.runtime.environment import processor_name
from potstill.signals import Batch

TEST = 0.33
STUDENTS = {"tree of 12 leaves": DecisionTree(max_leaf_nodes=12), "8 rules": RuleList(max_rules=8)}
TEACHER = {"learning_rate": 0.05, "max_features": 0.3, "min_samples_leaf": 10}
SETS = {
    "breast cancer": {"source": "builtin", "name": "breast_cancer"},
    "heart": {"label": "target", "categorical": ["cp", "restecg", "slope", "thal"]},
    "pima": {
        "label": "label",
        "missing_values": {
            column: [0]
            for column in ("glucose", "blood_pressure", "skin_thickness", "insulin", "bmi")
        },
    },
    "mammography": {"headerless": True, "label": "6"},
    "adult": {"label": "income", "leave_out": ["fnlwgt"], "missing_values": ["?"], "limit": 6000},
}
WAYS = ("labels", "teacher", "teacher, smear", "teacher, munge")


def experiment_of(spec: dict, split: int, way: str) -> Experiment:
    """A boosted teacher on one split, with made-up rows if a way is named."""
    synthetic = {"synthetic": {"rows": 10000, "way": way, "seed": split}} if way else {}
    return build(
        parse(
            {
                "name": "bench",
                "data": {**spec, "test": TEST, "validation": 2, "seed": split, **synthetic},
                "teacher": {"model": {"source": "sklearn", "name": "gradient_boosting", **TEACHER}},
                "student": {"model": {"name": "mlp"}},
            }
        )
    )


def asked(teacher: Teacher, inputs: Tensor) -> np.ndarray:
    """`[N, C]` probabilities of raw rows."""
    logits = teacher.signals(Batch(inputs=inputs, raw=inputs.float())).logits
    return logits.values_NC.double().softmax(-1).numpy()


def one_split(spec: dict, split: int) -> dict[str, dict[str, tuple[float, float]]]:
    """Student → way → (agreement with the teacher, accuracy) on the test rows."""
    smeared, munged = (experiment_of(spec, split, way).data for way in ("smear", "munge"))
    plain = experiment_of(spec, split, "")
    data, teacher = plain.data, plain.teacher.fit(plain.data)
    train, labels = data.train.inputs, data.train.labels.numpy()
    one_hot, taught = np.eye(data.num_outputs)[labels], asked(teacher, train)
    rows = {
        "labels": FitRows(train.numpy(), one_hot, labels),
        "teacher": FitRows(train.numpy(), taught, labels),
    }
    for way, made in (("smear", smeared.transfer.inputs), ("munge", munged.transfer.inputs)):
        rows[f"teacher, {way}"] = FitRows(
            np.concatenate([train.numpy(), made.numpy()]),
            np.concatenate([taught, asked(teacher, made)]),
            np.concatenate([labels, np.full(len(made), NO_LABEL)]),
        )
    said = asked(teacher, data.test.inputs).argmax(1)
    found = {"teacher itself": {"": (1.0, float((said == data.test.labels.numpy()).mean()))}}
    for name, student in STUDENTS.items():
        config = config_of_fitter(student, input_shape=data.input_shape, num_outputs=2)
        found[name] = {}
        for way, each in rows.items():
            module, _ = fit_rules(
                config, each, kind="single_label", normalise=data.normalise, seed=split
            )
            mine = module(data.normalise(data.test.inputs)).argmax(1).numpy()
            right = float((mine == data.test.labels.numpy()).mean())
            found[name][way] = float((mine == said).mean()), right
    return found


def interval(gains: list[float], *, overlap: float = 0.0) -> float:
    """Half the width of the 95% interval of a mean; `overlap` is test rows over training rows."""
    n = len(gains)
    spread = statistics.stdev(gains) * math.sqrt(1 / n + overlap)
    return float(stats.t.ppf(0.975, n - 1)) * spread


def main() -> None:
    """Print the table."""
    given = dict(word.split("=", 1) for word in sys.argv[1:])
    splits = int(given.pop("splits", 20))
    sets = {"breast cancer": SETS["breast cancer"]}
    sets |= {name: {"source": "hf", "path": path, **SETS[name]} for name, path in given.items()}
    print(f"{processor_name()}, scikit-learn {sklearn.__version__}, {splits} splits, test {TEST}")
    print("| data | student | fitted on | agreement | gain | t | overlap | accuracy |")
    print("|:--|:--|:--|--:|--:|--:|--:|--:|")
    for name, spec in sets.items():
        found = [one_split(spec, split) for split in range(splits)]
        own = statistics.mean(each["teacher itself"][""][1] for each in found)
        print(f"| {name} | teacher itself | labels | | | | | {100 * own:.1f} |")
        for student in STUDENTS:
            base = [each[student]["labels"][0] for each in found]
            for way in WAYS:
                agreed = [each[student][way][0] for each in found]
                right = statistics.mean(each[student][way][1] for each in found)
                gains = [100 * (a - b) for a, b in zip(agreed, base, strict=True)]
                cells = f"{100 * statistics.mean(agreed):.1f} | "
                if way == "labels":
                    cells += " | | "
                else:
                    wide = interval(gains, overlap=TEST / (1 - TEST))
                    cells += f"{statistics.mean(gains):+.1f} | ±{interval(gains):.1f} | ±{wide:.1f}"
                print(f"| {name} | {student} | {way} | {cells} | {100 * right:.1f} |", flush=True)


if __name__ == "__main__":
    main()
