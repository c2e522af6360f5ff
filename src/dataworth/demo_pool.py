"""Pools written by ourselves, whose worth is known: the `demo` pool and the shipped 200-row example.

The demo pool is a repair desk's queue. Every row lists jobs with a priority letter and asks for them in some order;
the goal is "most urgent first". Good, useless and harmful rows draw their words, lengths and layout from the same
place, so a score that counts words or length can't tell a right answer from a wrong one; the learner's gradients can.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dataworth.errors import RequestError
from dataworth.store.atomic import settle

Label = Literal["good", "useless", "harmful"]
Row = dict[str, Any]
Job = tuple[str, str]

MEANING: dict[Label, str] = {
    "good": "asked for priority order, answers most urgent first: the goal's own skill",
    "useless": "asked for another order (by name, or as written), answers that: not the goal's skill",
    "harmful": "asked for priority order, answers least urgent first: the wrong way round",
}

SYSTEM = "You keep the repair queue; A is most urgent."
JOBS = tuple(
    "pump gate roof lamp fence boiler door lift drain window heater cable filter pipe fan lock meter ramp tank valve "
    "alarm oven floor stair screen motor belt paint shelf desk wall hose sink tap clock engine switch battery camera "
    "radio".split()
)
GOOD_SHARE, HARMFUL_SHARE = 0.22, 0.33
FEWEST_JOBS, MOST_JOBS = 4, 5
GOAL_ROWS, JUDGE_ROWS = 32, 64
FEWEST_ROWS = 20


@dataclass(frozen=True, slots=True)
class Demo:
    """A pool whose good rows are known.

    `labels[i]` belongs to `pool_rows[i]` and stands nowhere in the row. `goal_rows` steer the selection, `judge_rows`
    measure a trained learner; the three sets share no list of jobs.
    """

    pool_rows: list[Row]
    labels: list[Label]
    goal_rows: list[Row]
    judge_rows: list[Row]


def make_demo(seed: int, rows: int = 300) -> Demo:
    """The demo's pool of `rows` rows (22 % good, 33 % harmful, the rest useless), with 32 goal and 64 judge rows.

    Raises:
        RequestError: Fewer than 20 rows: too few to hold all three sorts.
    """
    if rows < FEWEST_ROWS:
        raise RequestError(
            f"rows={rows}: expected at least {FEWEST_ROWS} so that every sort of row is there; ask for more"
        )
    rng = np.random.default_rng(seed)
    good, harmful = round(GOOD_SHARE * rows), round(HARMFUL_SHARE * rows)
    sizes: dict[Label, int] = {"good": good, "harmful": harmful, "useless": rows - good - harmful}
    in_turn = [label for label, n in sizes.items() for _ in range(n)]
    labels = [in_turn[i] for i in rng.permutation(rows)]
    seen: set[frozenset[Job]] = set()
    pool = [_row(rng, label, seen) for label in labels]
    goal, judge = ([_row(rng, "good", seen) for _ in range(n)] for n in (GOAL_ROWS, JUDGE_ROWS))
    return Demo(pool, labels, goal, judge)


def write_demo(folder: Path, seed: int, rows: int = 300) -> dict[str, Path]:
    """Write `pool.jsonl`, `goal.jsonl`, `judge.jsonl` and `labels.jsonl` (line i labels line i of the pool).

    Returns:
        Path by name: pool, goal, judge, labels.
    """
    demo = make_demo(seed, rows)
    content = {
        "pool": demo.pool_rows,
        "goal": demo.goal_rows,
        "judge": demo.judge_rows,
        "labels": [{"row": i, "label": label, "why": MEANING[label]} for i, label in enumerate(demo.labels)],
    }
    return _write(folder, content)


def _row(rng: np.random.Generator, label: Label, seen: set[frozenset[Job]]) -> Row:
    """One conversation whose list of jobs isn't in `seen` yet."""
    jobs = _draw(rng)
    while frozenset(jobs) in seen:
        jobs = _draw(rng)
    seen.add(frozenset(jobs))
    if label == "useless":
        by_name = rng.random() < 0.5
        ask = "List them by name." if by_name else "List them as written."
        answer = [f"{job} {letter}" for job, letter in (sorted(jobs) if by_name else jobs)]
    else:
        ask = "List them by priority."
        ranked = sorted(jobs, key=lambda job: job[1], reverse=label == "harmful")
        answer = [f"{letter} {job}" for job, letter in ranked]
    listed = ", ".join(f"{job} {letter}" for job, letter in jobs)
    return {
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": f"Jobs: {listed}. {ask}"},
            {"role": "assistant", "content": f"{', '.join(answer)}."},
        ]
    }


def _draw(rng: np.random.Generator) -> list[Job]:
    """Four or five jobs with letters from A, neither written nor named in the order of their letters."""
    n = int(rng.integers(FEWEST_JOBS, MOST_JOBS + 1))
    while True:
        names = [JOBS[i] for i in rng.choice(len(JOBS), n, replace=False)]
        jobs = [(name, "ABCDE"[k]) for name, k in zip(names, rng.permutation(n), strict=True)]
        if not _in_rank_order(jobs) and not _in_rank_order(sorted(jobs)):
            return jobs


def _in_rank_order(jobs: Sequence[Job]) -> bool:
    """Whether the letters rise or fall all along."""
    letters = [letter for _, letter in jobs]
    return letters in (sorted(letters), sorted(letters, reverse=True))


# The example: five topics, ten things to know in each, four ways to ask. Fields: thing, trouble, remedy.
TOPICS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "bike": (
        ("bike chain", "skips under load", "measure it for wear and replace it together with the cassette"),
        ("bike brake", "squeals in the rain", "clean the rim and sand the pads lightly"),
        ("inner tube", "goes flat overnight", "find the hole under water and patch it"),
        ("rear derailleur", "shifts slowly", "turn the barrel adjuster half a turn and check the cable"),
        ("bike wheel", "wobbles from side to side", "true it by tightening the spokes opposite the bend"),
        ("bottom bracket", "creaks when I pedal", "take it out, grease the threads and tighten it again"),
        ("bike headset", "knocks when I brake", "loosen the stem, preload the top cap and tighten the stem"),
        ("bike saddle", "slips down while riding", "clean the seat post and tighten the clamp to its torque"),
        ("disc rotor", "rubs on one pad", "loosen the caliper, squeeze the lever and tighten the bolts"),
        ("bike pedal", "clicks at every turn", "grease its thread and tighten it to the crank"),
    ),
    "cooking": (
        ("rice", "comes out sticky", "rinse it until the water is clear and use less water"),
        ("bread dough", "does not rise", "check the yeast in warm water and give it more time"),
        ("tomato sauce", "tastes sour", "simmer it longer and add a pinch of sugar"),
        ("pancake", "sticks to the pan", "heat the pan first and wipe it with butter"),
        ("mayonnaise", "splits", "whisk a fresh yolk and beat the split sauce into it slowly"),
        ("steak", "turns out grey", "dry it well and sear it in a very hot pan"),
        ("custard", "goes lumpy", "pass it through a sieve and cook it on a lower heat"),
        ("soup", "is too salty", "add water and a few potatoes, then taste again"),
        ("pie crust", "gets soggy", "bake it blind for ten minutes before filling it"),
        ("roast chicken", "dries out", "brine it overnight and let it rest before carving"),
    ),
    "gardening": (
        ("tomato plant", "has yellow leaves", "feed it with nitrogen and water it at the root"),
        ("lawn", "has bare patches", "rake the soil, sow seed and keep it moist"),
        ("rose", "has black spots", "cut off the sick leaves and let air through the bush"),
        ("lettuce", "bolts in summer", "sow it in the shade and cut it young"),
        ("hedge", "is thin at the bottom", "trim it narrower at the top so that light gets down"),
        ("compost heap", "smells bad", "turn it and mix in dry leaves"),
        ("apple tree", "bears no fruit", "prune it in winter and plant a pollinator near it"),
        ("seedling", "grows long and weak", "move it closer to the light and keep it cooler"),
        ("basil", "wilts indoors", "water it from below and give it a sunny window"),
        ("strawberry bed", "is eaten by slugs", "lay straw under the fruit and set beer traps"),
    ),
    "python": (
        ("KeyError", "stops my script", "look the key up with get or test that it is there first"),
        ("IndentationError", "appears after an edit", "use four spaces everywhere and no tabs"),
        (
            "ModuleNotFoundError",
            "comes up at import",
            "install the package into the environment that runs the script",
        ),
        ("for loop", "skips items", "loop over a copy of the list and change the original"),
        ("default argument", "keeps old values", "use None as the default and make the list inside"),
        ("UnicodeDecodeError", "breaks reading a file", "open the file with its real encoding, often utf-8"),
        ("float sum", "is slightly off", "compare with math.isclose or use Decimal"),
        ("recursive function", "hits the recursion limit", "add a base case or rewrite it as a loop"),
        ("circular import", "breaks the start", "move the shared names into a third module"),
        ("dictionary", "changes in two places", "copy it before you hand it to the function"),
    ),
    "billing": (
        ("invoice", "shows the wrong address", "change the address in the account and issue it again"),
        ("card payment", "was declined", "check the expiry date and try again or use another card"),
        ("refund", "has not arrived", "allow five working days and then ask the bank"),
        ("subscription", "was charged twice", "ask us to return the second charge, which takes three days"),
        ("discount code", "is not accepted", "check that it has not expired and that the plan is covered"),
        ("receipt", "never reached me", "look in the spam folder or download it from the account"),
        ("yearly plan", "renewed by surprise", "cancel it within two weeks and ask for the money back"),
        ("tax number", "is missing on the bill", "enter it in the settings before the next bill"),
        ("bank transfer", "is still open", "send us the reference so that we can match it"),
        ("team seat", "is billed but empty", "remove the seat so that the next bill is lower"),
    ),
}
WORDINGS: tuple[tuple[str, str], ...] = (
    ("My {thing} {trouble}. What should I do?", "{Remedy}."),
    ("What can I do when the {thing} {trouble}?", "First of all, {remedy}."),
    ("Help, the {thing} {trouble}!", "Do not worry: {remedy}."),
    ("How do I deal with this: the {thing} {trouble}?", "It is best to {remedy}."),
)
EXAMPLE_GOAL: tuple[tuple[str, str], ...] = (
    ("Which oil should I put on a bike chain that squeaks?", "A thin film of chain oil; wipe off the rest."),
    (
        "The brake lever on my bike pulls to the bar.",
        "Tighten the brake cable, or bleed the brake if it is hydraulic.",
    ),
    (
        "How tight should the spokes of a bike wheel be?",
        "Pluck them: all spokes on one side should sound alike.",
    ),
    (
        "The gears of my bike jump when I pedal uphill.",
        "Adjust the cable of the derailleur and check the cassette for wear.",
    ),
    (
        "How do I patch an inner tube of my bike on the road?",
        "Find the hole, roughen the rubber, glue and press the patch on.",
    ),
    (
        "The crank of my bike is loose and the pedal clicks.",
        "Tighten the crank bolt and grease the pedal thread.",
    ),
)


def make_example() -> tuple[list[Row], list[Row]]:
    """The shipped example: 200 questions on five topics (40 on bikes), and six goal questions about bike repair."""
    pool = []
    for things in TOPICS.values():
        for thing, trouble, remedy in things:
            for ask, answer in WORDINGS:
                words = {
                    "thing": thing,
                    "trouble": trouble,
                    "remedy": remedy,
                    "Remedy": remedy[0].upper() + remedy[1:],
                }
                pool.append({"prompt": ask.format(**words), "completion": answer.format(**words)})
    mixed = [pool[i] for i in np.random.default_rng(0).permutation(len(pool))]
    return mixed, [{"prompt": prompt, "completion": completion} for prompt, completion in EXAMPLE_GOAL]


def write_example(folder: Path) -> dict[str, Path]:
    """Write the example's `pool.jsonl` and `goal.jsonl`.

    Returns:
        Path by name: pool, goal.
    """
    pool, goal = make_example()
    return _write(folder, {"pool": pool, "goal": goal})


def _write(folder: Path, content: dict[str, list[Row]]) -> dict[str, Path]:
    return {
        name: settle(folder / f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
        for name, rows in content.items()
    }
