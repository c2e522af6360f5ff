"""The demo's pool is what it says, hard for words and lengths; the shipped example is the generator's own."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from pathlib import Path

import pytest

import dataworth
from dataworth.demo_pool import MEANING, TOPICS, make_demo, make_example, write_demo, write_example
from dataworth.errors import RequestError

SHIPPED = Path(dataworth.__file__).parent / "data" / "example"
SEEDS = (0, 1, 2, 3)


def turns(row: dict) -> tuple[str, str]:
    """(question, answer) of a demo row."""
    system, user, assistant = row["messages"]
    assert [m["role"] for m in row["messages"]] == ["system", "user", "assistant"] and system["content"]
    return user["content"], assistant["content"]


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def pairs(text: str) -> list[tuple[str, str]]:
    """(letter, job) in the order they stand, whichever comes first in the text."""
    listed = text.removeprefix("Jobs: ").split(". ")[0].rstrip(".").split(", ")
    return [tuple(sorted(item.split(), key=lambda w: (len(w) > 1, w))) for item in listed]


def bm25(texts: list[str], goal: list[str]) -> list[float]:
    """Plain BM25 of every text against all goal words, written apart from the library's own."""
    bags = [Counter(words(t)) for t in texts]
    mean = sum(sum(b.values()) for b in bags) / len(bags)
    rows_with = Counter(w for b in bags for w in b)
    query = Counter(w for g in goal for w in words(g))

    def score(bag: Counter[str]) -> float:
        norm = 1.5 * (0.25 + 0.75 * sum(bag.values()) / mean)
        idf = {w: math.log(1 + (len(bags) - rows_with[w] + 0.5) / (rows_with[w] + 0.5)) for w in bag}
        return sum(query[w] * idf[w] * n * 2.5 / (n + norm) for w, n in bag.items())

    return [score(b) for b in bags]


def recall(scores: list[float], labels: list[str]) -> float:
    """Share of the good rows among the top as many rows as are good; ties in row order."""
    good = labels.count("good")
    top = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:good]
    return sum(labels[i] == "good" for i in top) / good


@pytest.mark.parametrize("seed", SEEDS)
def test_every_label_is_true_of_its_row(seed: int) -> None:
    demo = make_demo(seed)
    assert Counter(demo.labels) == {"good": 66, "harmful": 99, "useless": 135} and set(demo.labels) == set(MEANING)
    for row, label in zip(demo.pool_rows, demo.labels, strict=True):
        question, answer = turns(row)
        asked, given = pairs(question), pairs(answer)
        assert ("by priority" in question) == (label != "useless")
        assert sorted(given) == sorted(asked)
        assert (given == sorted(asked)) == (label == "good")
        assert (given == sorted(asked, reverse=True)) == (label == "harmful")
        if label == "useless":
            assert given == (sorted(asked, key=lambda p: p[1]) if "by name" in question else asked)
    for row in demo.goal_rows + demo.judge_rows:
        question, answer = turns(row)
        assert "by priority" in question and pairs(answer) == sorted(pairs(question))
    assert (len(demo.goal_rows), len(demo.judge_rows)) == (32, 64)


@pytest.mark.parametrize("seed", SEEDS)
def test_words_and_length_cannot_find_the_good_rows(seed: int) -> None:
    demo = make_demo(seed)
    texts, goal = (["\n".join(turns(r)) for r in rows] for rows in (demo.pool_rows, demo.goal_rows))
    assert recall(bm25(texts, goal), demo.labels) <= 0.6
    for measure in (len, lambda t: len(words(t)), lambda t: -len(t)):
        assert recall([measure(t) for t in texts], demo.labels) <= 0.6


def test_good_and_harmful_rows_draw_the_same_words_and_lengths() -> None:
    demo = make_demo(1, rows=3000)
    bags, sizes = {}, {}
    for label in MEANING:
        texts = [" ".join(turns(r)) for r, other in zip(demo.pool_rows, demo.labels, strict=True) if other == label]
        bags[label] = {w for t in texts for w in words(t)}
        sizes[label] = sum(map(len, texts)) / len(texts)
    assert bags["good"] == bags["harmful"]
    assert bags["useless"] ^ bags["good"] == {"priority", "name", "as", "written"}
    assert max(sizes.values()) - min(sizes.values()) < 2.0


def test_pool_goal_and_judge_share_no_list_of_jobs_and_pass_a_13_gram_gate() -> None:
    demo = make_demo(0)
    everything = demo.pool_rows + demo.goal_rows + demo.judge_rows
    assert len({frozenset(pairs(turns(r)[0])) for r in everything}) == len(everything)

    def grams(row: dict) -> set[tuple[str, ...]]:
        tokens = words(turns(row)[0])
        n = min(13, len(tokens))
        return {tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)}

    held_out = set().union(*(grams(r) for r in demo.goal_rows + demo.judge_rows))
    assert not [r for r in demo.pool_rows if len(grams(r) & held_out) >= 0.5 * len(grams(r))]


def test_the_seed_decides_everything_and_labels_stay_outside_the_rows(tmp_path: Path) -> None:
    first, again, other = (write_demo(tmp_path / name, seed) for name, seed in (("a", 3), ("b", 3), ("c", 4)))
    assert list(first) == ["pool", "goal", "judge", "labels"]
    for name, path in first.items():
        assert path.read_bytes() == again[name].read_bytes() != other[name].read_bytes()
    demo = make_demo(3)
    assert [json.loads(line) for line in first["pool"].read_text().splitlines()] == demo.pool_rows
    labels = [json.loads(line) for line in first["labels"].read_text().splitlines()]
    assert [(x["row"], x["label"]) for x in labels] == list(enumerate(demo.labels))
    assert all(set(r) == {"messages"} and not set(words(json.dumps(r))) & set(MEANING) for r in demo.pool_rows)


def test_a_pool_too_small_for_three_sorts_is_refused() -> None:
    assert set(make_demo(0, rows=20).labels) == set(MEANING)
    with pytest.raises(RequestError, match="rows=19"):
        make_demo(0, rows=19)


def test_the_shipped_example_is_what_the_generator_writes(tmp_path: Path) -> None:
    for name, path in write_example(tmp_path).items():
        assert (SHIPPED / f"{name}.jsonl").read_bytes() == path.read_bytes()


def test_bm25_finds_the_bike_rows_of_the_example() -> None:
    pool, goal = make_example()
    bikes = {thing for thing, _, _ in TOPICS["bike"]}
    is_bike = [any(f"{thing} " in row["prompt"] for thing in bikes) for row in pool]
    assert (len(pool), sum(is_bike), len(goal)) == (200, 40, 6)
    assert len({row["prompt"] for row in pool + goal}) == 206
    texts, wanted = ([f"{r['prompt']}\n{r['completion']}" for r in rows] for rows in (pool, goal))
    scores = bm25(texts, wanted)
    top = sorted(range(200), key=lambda i: -scores[i])[:20]
    assert sum(is_bike[i] for i in top) >= 18


def test_equal_files_are_left_alone_so_that_an_interrupted_demo_goes_on(tmp_path: Path) -> None:
    first = {name: path.stat().st_mtime_ns for name, path in write_demo(tmp_path / "demo", 3).items()}
    (tmp_path / "demo" / "goal.jsonl").write_text("cut")
    again = {name: path.stat().st_mtime_ns for name, path in write_demo(tmp_path / "demo", 3).items()}
    assert {name for name in first if first[name] != again[name]} == {"goal"}
    assert (tmp_path / "demo" / "goal.jsonl").read_text() != "cut"
