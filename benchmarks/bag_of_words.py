"""A linear baseline of sentence classification: logistic regression on words and word pairs.

    python benchmarks/bag_of_words.py task=sst2 [data.dir=data] [--out bag_of_words.json]

Trained on the sentences that task=sst2 trains on. Counts or TF-IDF, and the strength of the
regularization, are chosen on the validation sentences; the test sentences are read once, by the
winner. The interval is over test sentences (Wilson). A net that scores less is beaten by word
counts.
"""

import argparse
import itertools
import json
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from micro_transformer.build.training import build_task
from micro_transformer.config.resolve import resolve
from micro_transformer.disk import write_file
from micro_transformer.runs.planning import make_plan
from micro_transformer.stats import classification
from micro_transformer.stats.proportion import wilson

WEIGHTS = {"counts": CountVectorizer, "tf-idf": TfidfVectorizer}
WORDS = {"words": (1, 1), "words and pairs": (1, 2)}
STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # C, inverse regularization


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="also written there, as JSON")
    asked, words = parser.parse_known_args()
    (job,) = make_plan(["option=C", *words]).jobs
    task = build_task(resolve(job.config))
    splits = {name: read(task, name) for name in ("train", "val", "test")}
    tries = {}
    for weights, words, strength in itertools.product(WEIGHTS, WORDS, STRENGTHS):
        model = make_pipeline(
            WEIGHTS[weights](ngram_range=WORDS[words]),
            LogisticRegression(C=strength, max_iter=5000),
        )
        model.fit(*splits["train"])
        accuracy = scored(model, *splits["val"])["accuracy"]
        tries[f"{weights}, {words}, C = {strength:g}"] = (accuracy, model)
    name = max(tries, key=lambda each: tries[each][0])
    model = tries[name][1]
    found = {"chosen on val": name, "tries": len(tries), "features": len(model[0].vocabulary_)}
    found |= {f"val/{key}": value for key, value in scored(model, *splits["val"]).items()}
    test = scored(model, *splits["test"])
    found |= {f"test/{key}": value for key, value in test.items()}
    num = len(splits["test"][1])
    found["test/accuracy interval"] = wilson(round(test["accuracy"] * num), num)
    page = json.dumps(found, indent=2)
    print(page)
    if asked.out:
        write_file(asked.out, f"{page}\n".encode())


def read(task, split):
    """(sentences, labels)."""
    labels = task.labels(split)
    return task.sentences(split, range(len(labels))), labels


def scored(model, texts, labels):
    return classification.scores(np.asarray(labels), model.predict_proba(texts))


if __name__ == "__main__":
    main()
