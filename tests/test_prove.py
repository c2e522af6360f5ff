"""A proof on a tiny model: registered, resumed, cached by content, judged by the goal's sealed rows, told in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dataworth as dw
from dataworth.errors import RequestError
from dataworth.proof.budget import TrialRates

pytestmark = pytest.mark.lm
WORDS = "red blue green stone river cloud".split()


def rows(count: int, good: bool, seed: int) -> list[dict[str, str]]:
    """Good rows answer with the word of the question's number thrice, others with three words at random."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        k = int(rng.integers(0, len(WORDS)))
        answer = [WORDS[k]] * 3 if good else rng.choice(WORDS, 3)
        found.append({"prompt": f"say {k}, number {rng.integers(10**6)}", "completion": " ".join(answer)})
    return found


def write(path: Path, listed: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in listed))
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("peft")
    from tests.learners.tinymodel import tiny_folder

    folder = tmp_path_factory.mktemp("prove")
    tiny_folder(folder / "model", layers=1)
    pool = [*rows(24, True, 1), *rows(56, False, 2)]
    write(folder / "pool.jsonl", pool)
    write(folder / "mine.jsonl", pool[:16])
    write(folder / "goal.jsonl", rows(70, True, 3))
    (folder / "recipe.yaml").write_text("lr: 2.0e-2\nbatch_size: 8\nepochs: 1\nlora_r: 2\n")
    return folder


def fields(place: Path, **more: Any) -> dict[str, Any]:
    return {
        "pool": str(place / "pool.jsonl"),
        "goal": str(place / "goal.jsonl"),
        "model": str(place / "model"),
        "recipe": str(place / "recipe.yaml"),
        "device": "cpu",
        "workers": 0,
        "seeds": 3,
        "curve": False,
        "lr_search": False,
        "against": "random,full",
        **more,
    }


@pytest.fixture
def cache(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One cache for the module, so that each trial is trained once."""
    monkeypatch.setenv("DATAWORTH_CACHE", str(place / "cache"))
    return place / "cache"


class Heard:
    """Progress that keeps what it heard."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.stages: list[str] = []
        self.at: list[int] = []

    def __call__(self, stage: str, done: int, total: int) -> None:
        self.stages.append(stage)

    def say(self, text: str) -> None:
        self.said.append(text)
        self.at.append(len(self.stages))


def trainings(cache: Path) -> set[str]:
    return {p.parent.name for p in (cache / "trainings").glob("*/trained.json")}


def test_a_proof_says_what_it_compared_and_what_it_could_have_seen(place: Path, cache: Path) -> None:
    found = dw.prove(str(place / "mine.jsonl"), run=str(place / "run"), margin=0.5, **fields(place))
    assert [(v.comparator, v.claim, v.gain.n) for v in found.verdicts] == [
        ("random", "prediction", 3),
        ("full", "means", 3),
    ]
    assert all(
        v.word in ("better", "as good as", "worse", "no difference shown", "cannot tell") for v in found.verdicts
    )
    assert all(v.detectable > 0 for v in found.verdicts)
    arms = {a.name: a for a in found.arms}
    assert (arms["mine"].rows, arms["random"].rows) == (16, 16)
    assert arms["full"].rows <= 80
    assert {a.name: len(set(a.costs)) for a in found.arms} == {"mine": 3, "random": 6, "full": 3}
    assert found.untouched > np.mean(arms["full"].costs), "training on the pool helps"
    text = found.explain()
    assert "mine" in text
    assert "nats/token, 1 epoch each, 3 seeds against 6 draws, " in text
    assert "nats/token, 1 epoch each, 3 seeds, " in text, "everything is no draw"
    told = json.loads(json.dumps(found.to_dict()))
    assert told["verdicts"][0]["comparator"] == "random"
    registered = json.loads((place / "run" / "registration.json").read_text())
    assert registered["looks"] == [3]
    assert registered["comparisons"] == 2
    assert set(registered["arms"]) == {"mine", "random", "full"}
    record = json.loads((place / "run" / "record.json").read_text())["content"]
    assert record["proof"]["verdicts"] == told["verdicts"]
    assert record["composition"]["unit"] == "tokens"
    assert [(p["name"], p["rows"]) for p in record["composition"]["parts"]] == [("pool", 80), ("mine", 16)]
    assert len(record["samples"]["mine"]["kept"]) == len(record["samples"]["mine"]["dropped"]) == 3
    assert dw.view(place / "run").claims[0].text.startswith("mine: ")
    card = (place / "run" / "card.md").read_text()
    assert f"card of this proof to paste: {place / 'run' / 'card.md'}" in text
    assert card.startswith("# dataworth prove of run\n\n- **mine: ")
    assert "## Arms" in card and "| full |" in card and record["pool"]["fingerprint"] in card
    assert record["proof"]["judged"] == {"goal": 34} and ". Judged on 34 rows of goal." in card
    rests = card.partition("## What it rests on")[2]
    for words in (
        "- Model: ",
        "- Goal: goal.jsonl (",
        " steer rows of ",
        "- Recipe: ",
        " lr 0.",
        "- Pool: pool.jsonl (80 rows)",
    ):
        assert words in rests, words
    assert str(place) not in rests, "where files lie on a machine is nothing to a card's readers"


def test_baselines_are_shown_without_a_verdict_unless_arms_are_named(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATAWORTH_CACHE", str(place / "usual-cache"))
    how = {k: v for k, v in fields(place).items() if k != "against"}
    found = dw.prove(str(place / "mine.jsonl"), run=str(place / "usual"), **how)
    assert [a.name for a in found.arms] == ["mine", "random", "full", "longest", "bm25"]
    assert [v.comparator for v in found.verdicts] == ["random", "full"]
    assert [len(a.costs) for a in found.arms] == [3, 6, 3, 3, 3]
    longest = dw.select(how["pool"], method="length", keep=16, run=str(place / "usual-length"), goal=how["goal"])
    longest.write(place / "usual-longest.jsonl")
    found = dw.prove(str(place / "usual-longest.jsonl"), run=str(place / "usual-2"), **how)
    assert [a.name for a in found.arms] == ["usual-longest", "random", "full", "bm25"], "no arm is trained twice"


def test_the_judged_number_is_that_of_the_trial_trained_by_hand(place: Path, cache: Path) -> None:
    from dataclasses import replace

    from dataworth.config import load_recipe
    from dataworth.formats import open_goal, open_pool
    from dataworth.trial import response_loss, train_on

    found = dw.prove(str(place / "mine.jsonl"), run=str(place / "again"), margin=0.5, **fields(place))
    pool = open_pool(place / "pool.jsonl")
    judge = open_goal(place / "again" / "goal" / "goal.yaml").subtasks[0].judge
    assert judge is not None
    judged = list(judge.open_for("proof").examples())
    recipe = replace(load_recipe(str(place / "recipe.yaml"), {}), seed=1)
    chosen = [pool.example(n) for n in range(16)]
    adapter = train_on(str(place / "model"), recipe, chosen, place / "by-hand")
    by_hand = response_loss(str(place / "model"), recipe, adapter, judged).per_token
    assert found.arms[0].costs[1] == pytest.approx(by_hand, rel=1e-6)
    untouched = response_loss(str(place / "model"), recipe, None, judged).per_token
    assert found.untouched == pytest.approx(untouched, rel=1e-6)


def test_upper_layers_are_trained_and_judged_from_states_computed_once(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.learners.tinymodel import tiny_folder

    from dataworth.learners.upper import Split

    tiny_folder(tmp_path / "model", layers=2)
    upper = "lr: 2.0e-2\nbatch_size: 8\nepochs: 1\nlora_r: 2\nlora_layers: 1\n"
    (tmp_path / "recipe.yaml").write_text(upper)
    monkeypatch.setenv("DATAWORTH_CACHE", str(tmp_path / "cache"))
    computed: list[bytes] = []
    lower = Split.lower

    def counted(self: Split, ids_BT: Any) -> Any:
        computed.append(ids_BT.numpy().tobytes())
        return lower(self, ids_BT)

    monkeypatch.setattr(Split, "lower", counted)
    changed = {"model": str(tmp_path / "model"), "recipe": str(tmp_path / "recipe.yaml")}
    found = dw.prove(str(place / "mine.jsonl"), run=str(tmp_path / "run"), margin=0.5, **fields(place, **changed))
    opened = max(computed.count(c) for c in computed)
    assert opened > 9, "each opening of the model checks that it may be cut"
    assert sum(computed.count(c) > 1 for c in set(computed)) == 1, "no row is computed twice"
    assert len(set(computed)) > 80, "judge rows among them"
    assert all(cost < found.untouched for arm in found.arms for cost in arm.costs)
    assert not [p for p in (tmp_path / "cache" / "states").rglob("*") if p.is_file()]


def test_another_arm_or_seed_trains_only_what_is_new(place: Path, cache: Path) -> None:
    dw.prove(str(place / "mine.jsonl"), run=str(place / "r1"), margin=0.4, **fields(place))
    before = trainings(cache)
    other = dw.prove(str(place / "mine.jsonl"), run=str(place / "r2"), margin=0.1, **fields(place))
    assert trainings(cache) == before, "another margin needs no training"
    assert sum("other registered proof" in note and str(place / "r1") in note for note in other.notes) == 1
    dw.prove(str(place / "mine.jsonl"), run=str(place / "r3"), **fields(place, against="random,full,longest"))
    longest = trainings(cache)
    assert len(longest - before) == 3
    dw.prove(str(place / "mine.jsonl"), run=str(place / "r4"), **fields(place, seeds=4))
    assert len(trainings(cache) - longest) == 4, "one more seed of each of three arms, for which two random draws"


def test_a_broken_off_proof_goes_on(place: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataworth.proving.trial_work import TrialWork

    monkeypatch.setenv("DATAWORTH_CACHE", str(place / "cut"))
    work, calls = TrialWork._trial, [0]

    def cut(self: TrialWork, job: Any) -> dict[str, Any]:
        calls[0] += 1
        if calls[0] == 5:
            raise KeyboardInterrupt
        return work(self, job)

    monkeypatch.setattr(TrialWork, "_trial", cut)
    with pytest.raises(KeyboardInterrupt):
        dw.prove(str(place / "mine.jsonl"), run=str(place / "cut-run"), **fields(place))
    half = trainings(place / "cut")
    found = dw.prove(str(place / "mine.jsonl"), run=str(place / "cut-run"), **fields(place))
    assert calls[0] == 5 + 13 - 4
    assert half < trainings(place / "cut")
    monkeypatch.setenv("DATAWORTH_CACHE", str(cache))
    whole = dw.prove(str(place / "mine.jsonl"), run=str(place / "whole"), **fields(place))
    assert [a.costs for a in found.arms] == [a.costs for a in whole.arms]
    records = [json.loads((place / run / "record.json").read_text())["content"] for run in ("cut-run", "whole")]
    assert records[0]["artefacts"] == records[1]["artefacts"], "trainings of cached trials are told, too"


def test_a_curve_gives_worth_and_shares_its_trials(place: Path, cache: Path) -> None:
    found = dw.prove(
        str(place / "mine.jsonl"), run=str(place / "curve"), **fields(place, curve=True, against="random,full")
    )
    sizes = [a.rows for a in found.arms if a.role == "curve"]
    assert sizes == sorted(sizes)
    assert sizes[-1] == next(a.rows for a in found.arms if a.name == "full")
    assert 16 in sizes
    arms = {a.name: a for a in found.arms}
    assert arms["random 16"].costs == arms["random"].costs[:3], "the curve has a chain a seed"
    assert arms[f"random {int(sizes[-1])}"].costs == arms["full"].costs
    assert "mine" in found.sizes.worth
    assert "random rows" in found.explain()


def test_equal_tokens_train_every_arm_alike(place: Path, cache: Path) -> None:
    found = dw.prove(str(place / "mine.jsonl"), run=str(place / "tokens"), **fields(place, protocol="tokens"))
    tokens = [a.tokens for a in found.arms]
    assert max(tokens) < 1.3 * min(tokens)
    assert "training tokens each" in found.explain()


def test_protected_skills_are_watched(place: Path, cache: Path) -> None:
    other = write(place / "other.jsonl", [{"text": " ".join(WORDS[::-1]) * 4} for _ in range(30)])
    found = dw.prove(
        str(place / "mine.jsonl"), run=str(place / "kept"), **fields(place, protect=(f"words={other}:ppl",))
    )
    assert [(k.skill, k.arm) for k in found.protected] == [("words", a) for a in ("mine", "random", "full")]
    assert all(k.broken == (k.cost.low > 0) for k in found.protected)
    assert "protected words" in found.explain()


def test_near_goal_rows_are_shown_with_and_without(place: Path, cache: Path) -> None:
    from dataworth.formats import open_goal

    dw.prove(str(place / "mine.jsonl"), run=str(place / "split"), margin=0.5, **fields(place))
    judge = open_goal(place / "split" / "goal" / "goal.yaml").subtasks[0].judge
    assert judge is not None
    asked = next(judge.open_for("proof").examples()).prompt
    leaky = [{"prompt": asked, "completion": "red red red"}, *rows(24, True, 1), *rows(56, False, 2)]
    pool = write(place / "leaky.jsonl", leaky)
    mine = write(place / "leaky-mine.jsonl", leaky[:16])
    found = dw.prove(str(mine), run=str(place / "leak"), **fields(place, pool=str(pool)))
    names = [a.name for a in found.arms]
    assert names[:2] == ["leaky-mine", "leaky-mine without near-goal rows"]
    assert [a.rows for a in found.arms[:2]] == [16, 15]
    assert len(found.verdicts) == 4
    assert "without them for 15 rows of 16, so its worth tells more than a comparison" in found.explain()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"model": None}, "prove needs --model"),
        ({"goal": None}, "prove needs --goal"),
        ({"protocol": "steps"}, "expected epochs or tokens"),
        ({"margin": 0.0}, "above 0"),
        ({"against": "random,xyz"}, "'xyz' is unknown: expected some of: random, random-tokens, "),
        ({"against": "rnadom", "pool": "gone.jsonl"}, "'rnadom' is unknown: did you mean 'random'"),
        ({"seeds": 2}, "3 or more"),
        ({"against": "bm25", "method": "less"}, "unknown to ProveRequest"),
        ({"against": " , "}, "at least one arm"),
    ],
)
def test_wrong_requests_are_one_line(place: Path, cache: Path, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        dw.prove(str(place / "mine.jsonl"), **fields(place, run=str(place / f"wrong-{len(said)}"), **changed))
    with pytest.raises(RequestError, match="prove needs a run folder or a file"):
        dw.prove([], **fields(place))


def test_subsets_of_one_size_are_proved_together_and_others_refused(place: Path, cache: Path) -> None:
    pool = [*rows(24, True, 1), *rows(56, False, 2)]
    small = write(place / "small.jsonl", pool[:9])
    other = write(place / "other-mine.jsonl", pool[40:56])
    found = dw.prove([str(place / "mine.jsonl"), str(other)], run=str(place / "two"), **fields(place, against="random"))
    assert [v.subject for v in found.verdicts] == ["mine", "other-mine"]
    assert found.verdicts[0].gain.level == pytest.approx(1 - 0.05 / 2)
    with pytest.raises(RequestError, match="different sizes"):
        dw.prove([str(place / "mine.jsonl"), str(small)], run=str(place / "sizes"), **fields(place))


def test_a_finished_proof_comes_back_as_it_was_without_its_cache(
    place: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write(place / "kept.jsonl", [{"text": " ".join(WORDS) * 3}] * 9)
    how = fields(place, curve=True, protect=(f"words={other}:ppl",))
    first = dw.prove(str(place / "mine.jsonl"), run=str(place / "back"), **how)
    monkeypatch.setenv("DATAWORTH_CACHE", str(place / "empty"))
    again = dw.prove(str(place / "mine.jsonl"), run=str(place / "back"), **how)
    assert again.explain() == first.explain()
    assert again.to_dict() == first.to_dict()
    assert again.sizes == first.sizes
    assert not (place / "empty").exists()


def test_a_dry_run_lists_the_trials_and_leaves_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dataworth.cli import app

    monkeypatch.setenv("DATAWORTH_CACHE", str(place / "dry"))
    monkeypatch.chdir(place)
    flags = [f"--{k}={v}" for k, v in fields(place).items() if k not in ("curve", "lr_search", "against")]
    app(
        ["prove", "mine.jsonl", *flags, "--against", "random,less", "--budget", "2h", "--dry-run", "--json"],
        standalone_mode=False,
    )
    told = json.loads(capsys.readouterr().out)
    assert "random 16" not in [a["name"] for a in told["arms"]], "the random arm has its trials"
    assert any("--budget 2h would cut this" in note for note in told["notes"])
    assert [(a["name"], a["rows"], a["trials"]) for a in told["arms"]][:3] == [
        ("mine", 16, 5), ("random", 16, 10), ("less", 16, 5)
    ]  # fmt: skip
    assert any("scores no row: the tokens of less are those of as many other rows" in n for n in told["notes"])
    assert not any("times the tokens of random ones" in n for n in told["notes"])
    longer = [{**row, "completion": row["completion"] + " and so on" * 9} for row in rows(8, True, 1)]
    pool = write(place / "longer.jsonl", [*longer, *rows(56, False, 2)])
    long = write(place / "long.jsonl", longer)
    plan = ["prove", str(long), *(f for f in flags if not f.startswith("--pool")), f"--pool={pool}", "--dry-run"]
    for more, said in ((["--against", "random"], True), (["--against", "random", "--protocol", "tokens"], False)):
        app([*plan, *more, "--json"], standalone_mode=False)
        notes = json.loads(capsys.readouterr().out)["notes"]
        assert any("times the tokens of random ones" in note for note in notes) == said
    # Three seeds, of random rows two draws each, and two more for the search of learning rates.
    assert told["comparisons"] == 2
    assert all(a["tokens"] > 0 for a in told["arms"])
    assert not (place / "dry").exists()
    assert not (place / "runs").exists()


def test_a_budget_buys_what_it_pays_for_once_and_for_all(
    place: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataworth import api

    asked = []

    def rates(session: Any) -> TrialRates:
        asked.append(session)
        return TrialRates(1e-3)

    monkeypatch.setattr(api, "training_rates", rates)
    found = dw.prove(str(place / "mine.jsonl"), run=str(place / "cheap"), **fields(place, curve=True, budget="11s"))
    names = [a.name for a in found.arms]
    assert names[:2] == ["mine", "random"]
    assert "full" not in names
    assert [v.comparator for v in found.verdicts] == ["random"]
    registered = json.loads((place / "cheap" / "registration.json").read_text())
    assert registered["affordable"]["arms"] == names
    assert "full" in registered["arms"], "what was left out stays on record"
    paid = {0.0: registered["affordable"]}
    for states in (1e-8, 2e-8):
        monkeypatch.setattr(api, "training_rates", lambda session, states=states: TrialRates(1e-3, states=states))
        run = place / f"states-{states}"
        dw.prove(str(place / "mine.jsonl"), run=str(run), **fields(place, curve=True, budget="11s"))
        paid[states] = json.loads((run / "registration.json").read_text())["affordable"]
        assert paid[states]["arms"] == names
    once = [paid[s]["seconds"] - paid[0.0]["seconds"] for s in (1e-8, 2e-8)]
    assert once[0] > 0 and once[1] == pytest.approx(2 * once[0], rel=1e-3)
    monkeypatch.setattr(api, "training_rates", rates)
    with pytest.raises(RequestError, match="expected at least that"):
        dw.prove(str(place / "mine.jsonl"), run=str(place / "poor"), **fields(place, budget="1s"))
    assert len(asked) == 2
    with pytest.raises(RequestError, match="such as 90s, 30m or 2h"):
        dw.prove(str(place / "mine.jsonl"), run=str(place / "odd"), **fields(place, budget="soon"))


def test_every_arm_gets_the_same_search_for_its_learning_rate_on_tune_rows(
    place: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataworth import api

    low = place / "low.yaml"
    low.write_text((place / "recipe.yaml").read_text().replace("2.0e-2", "1.0e-4"))
    how = fields(place, recipe=str(low), against="random", lr_search=True)
    heard = Heard()
    found = dw.prove(str(place / "mine.jsonl"), run=str(place / "search"), progress=heard, **how)
    foretold = next(n for n, line in enumerate(heard.said) if line.startswith("3 seeds: a gain of "))
    assert "of what training gains" in heard.said[foretold]
    assert not any("trials" in stage for stage in heard.stages[: heard.at[foretold]]), "it was told before the trials"
    assert [a.lr for a in found.arms] == [3.2e-3, 3.2e-3], (
        "training helps, and this rate is far too low: doubled five times"
    )
    assert "lies at an end of the search: try a higher lr in --recipe\n" in found.explain()
    plain = dw.prove(str(place / "mine.jsonl"), run=str(place / "no-search"), **{**how, "lr_search": False})
    assert [a.lr for a in plain.arms] == [1e-4, 1e-4]
    assert plain.arms[0].costs != found.arms[0].costs
    registered = json.loads((place / "search" / "registration.json").read_text())
    assert registered["lr_factors"] == [0.5, 1.0, 2.0] and registered["lr_further"] == 4
    monkeypatch.setattr(api, "training_rates", lambda session: TrialRates(1e-3))
    paid = dw.prove(str(place / "mine.jsonl"), run=str(place / "paid"), **how | {"budget": "15s"})
    affordable = json.loads((place / "paid" / "registration.json").read_text())["affordable"]
    assert affordable["lr_further"] == 0, "no trial of the search goes beyond what the budget pays for"
    assert [a.lr for a in paid.arms] == [2e-4, 2e-4]
    assert "try a higher lr in --recipe; --budget didn't pay for going on from there" in paid.explain()


def test_a_rate_at_which_training_breaks_is_not_chosen_and_a_broken_trial_is_told(
    place: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataworth.errors import NonsenseRefused
    from dataworth.proving.trial_work import TrialWork

    train, calls = TrialWork._train, []

    def fragile(self: TrialWork, job: Any) -> Any:
        calls.append((job.recipe["lr"], job.recipe["seed"], len(job.rows)))
        if job.recipe["lr"] > 2e-2 or (job.recipe["seed"] == 2 and len(job.rows) == 16):
            raise NonsenseRefused("the loss is nan at step 1")
        return train(self, job)

    monkeypatch.setattr(TrialWork, "_train", fragile)
    monkeypatch.setenv("DATAWORTH_CACHE", str(place / "fragile"))
    found = dw.prove(str(place / "mine.jsonl"), run=str(place / "fragile-run"), **fields(place, lr_search=True))
    tried = {(seed, min(count, 17)) for lr, seed, count in calls if lr > 2e-2}
    assert tried == {(0, 16), (0, 17), (1, 16)}, "random rows are searched by both draws of the first seed"
    assert all(a.lr <= 2e-2 for a in found.arms)
    assert {a.name: len(a.costs) for a in found.arms} == {"mine": 2, "random": 5, "full": 3}
    assert set(found.failed) == {"mine, trial 2", "random, trial 2"}
    assert "the loss is nan" in found.explain()
    assert [(v.word, v.gain.n) for v in found.verdicts] == [("cannot tell", 2)] * 2
    assert "trials failed" in found.verdicts[0].reason


def test_a_changed_subset_is_another_proof_and_never_the_old_answer(place: Path, cache: Path) -> None:
    pool = [*rows(24, True, 1), *rows(56, False, 2)]
    mine = write(place / "changing.jsonl", pool[:16])
    first = dw.prove(str(mine), run=str(place / "changing"), **fields(place, against="random"))
    write(mine, pool[30:46])
    with pytest.raises(RequestError, match="belongs to another request"):
        dw.prove(str(mine), run=str(place / "changing"), **fields(place, against="random"))
    again = dw.prove(str(mine), run=str(place / "changed"), **fields(place, against="random"))
    assert again.arms[0].costs != first.arms[0].costs
    assert again.arms[1].costs == first.arms[1].costs


def test_an_edited_registration_is_refused(place: Path, cache: Path) -> None:
    from dataworth.store.run import RunFolder

    dw.prove(str(place / "mine.jsonl"), run=str(place / "edited"), **fields(place, against="random", margin=0.2))
    path = place / "edited" / "registration.json"
    path.write_text(path.read_text().replace('"margin": 0.2', '"margin": 0.9'))
    assert not RunFolder.existing(place / "edited").finished
    with pytest.raises(RequestError, match=r"registered another proof \(differs in margin"):
        dw.prove(str(place / "mine.jsonl"), run=str(place / "edited"), **fields(place, against="random", margin=0.2))


def test_how_judge_rows_are_read_is_part_of_a_trial(place: Path, cache: Path) -> None:
    listed = [{"q": r["prompt"], "a": r["completion"], "long": r["completion"] + " indeed"} for r in rows(30, True, 9)]
    write(place / "g.jsonl", listed)
    found = []
    for answer in ("a", "long"):
        path = place / f"by-{answer}.yaml"
        path.write_text(
            "subtasks:\n  - name: words\n    steer: g.jsonl:0-5\n    judge: g.jsonl:5-30\n"
            f"    map: {{prompt: q, completion: {answer}}}\n"
        )
        how = fields(place, goal=str(path), against="random")
        found.append(dw.prove(str(place / "mine.jsonl"), run=str(place / f"by-{answer}"), **how))
    assert found[0].untouched != found[1].untouched
    assert set(found[0].arms[0].costs).isdisjoint(found[1].arms[0].costs)


def test_a_subset_named_like_a_control_keeps_its_own_trials(place: Path, cache: Path) -> None:
    mine = write(place / "random.jsonl", [*rows(24, True, 1), *rows(56, False, 2)][:16])
    found = dw.prove(str(mine), run=str(place / "named"), **fields(place, against="random,random"))
    assert [a.name for a in found.arms] == ["random (subset)", "random"]
    assert [len(a.costs) for a in found.arms] == [3, 6]


def test_rows_given_twice_are_compared_with_twice_as_many_random_rows(place: Path, cache: Path) -> None:
    mine = write(place / "twice.jsonl", [*rows(24, True, 1)][:8] * 2)
    found = dw.prove(str(mine), run=str(place / "twice"), **fields(place, against="random"))
    assert [a.rows for a in found.arms] == [16, 16]
    assert 0.7 < found.arms[0].tokens / found.arms[1].tokens < 1.4


def test_a_selection_that_saw_the_judge_rows_is_refused(place: Path, cache: Path) -> None:
    how = fields(place)
    dw.select(how["pool"], goal=how["goal"], method="bm25", keep=16, run=str(place / "saw"), out=place / "saw.jsonl")
    for seen in ("saw", "saw.jsonl"):  # the run's folder, and the file with its sidecar
        with pytest.raises(RequestError, match=r"was selected with \d+ of the \d+ judge rows .* that no selection saw"):
            dw.prove(str(place / seen), run=str(place / f"proof-{seen}"), **how)
    split = dw.goal(how["goal"], place / "split")
    honest = {"goal": str(split.path), "method": "bm25", "keep": 16}
    dw.select(how["pool"], **honest, run=str(place / "blind"), out=place / "blind.jsonl")
    assert dw.prove(str(place / "blind.jsonl"), run=str(place / "p"), **{**how, "goal": str(split.path)}).verdicts
    dw.select(how["pool"], goal=how["goal"], method="length", keep=16, run=str(place / "long"))  # sees no goal row
    assert dw.prove(str(place / "long"), run=str(place / "proof-long"), **how).verdicts


def test_the_goal_rows_themselves_are_an_arm(place: Path, cache: Path) -> None:
    found = dw.prove(str(place / "mine.jsonl"), run=str(place / "byhand"), **fields(place, against="random,goal-only"))
    arm = next(a for a in found.arms if a.name == "goal-only")
    split = dw.goal(place / "goal.jsonl", place / "split-byhand")
    assert arm.rows == split.rows["steer"] and arm.tokens > 0 and len(arm.costs) == 3
    assert [v.comparator for v in found.verdicts] == ["random", "goal-only"]
    before = trainings(cache)
    dw.prove(str(place / "mine.jsonl"), run=str(place / "byhand2"), **fields(place, against="goal-only"))
    assert trainings(cache) == before


@pytest.mark.parametrize("part", ["steer", "tune"])
def test_parts_of_a_goal_that_share_rows_are_refused(place: Path, cache: Path, part: str) -> None:
    slices = {"steer": "0-20", "tune": "20-30", "judge": "30-70"} | {part: "25-35" if part == "tune" else "0-31"}
    if part == "steer":
        slices["tune"] = "60-70"
        slices["judge"] = "30-60"
    lines = [f"    {name}: goal.jsonl:{slices[name]}" for name in ("steer", "tune", "judge")]
    path = place / f"overlap-{part}.yaml"
    path.write_text("\n".join(["subtasks:", "  - name: words", *lines]) + "\n")
    for more in ({}, {"run": str(place / f"overlap-{part}")}):
        how = fields(place, goal=str(path), **more)
        with pytest.raises(RequestError, match=rf"of its {part} rows are judge rows"):
            dw.prove(str(place / "mine.jsonl"), **how)


def test_a_goal_without_judge_rows_is_refused_before_a_row_is_tokenised(
    place: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "steers.yaml").write_text("subtasks:\n  - name: words\n    steer: goal.jsonl:0-20\n")

    def read(*_: object) -> None:
        raise AssertionError("tokenised")

    monkeypatch.setattr("dataworth.api.gate", read)
    with pytest.raises(RequestError, match="'words' has no judge rows: add `judge:`"):
        dw.prove(str(place / "mine.jsonl"), run=str(place / "steers"), **fields(place, goal=str(place / "steers.yaml")))


def test_a_part_of_a_goal_is_refused_by_the_name_of_the_whole(place: Path, cache: Path) -> None:
    split = dw.goal(place / "goal.jsonl", place / "whole")
    assert split.path == place / "whole" / "goal.yaml"
    with pytest.raises(RequestError, match=r"steer.jsonl is one part of the goal .*goal.yaml: expected all of it"):
        dw.prove(str(place / "mine.jsonl"), **fields(place, goal=str(place / "whole" / "steer.jsonl")))


def test_a_method_selects_anew_in_every_trial(place: Path, cache: Path) -> None:
    how = fields(place, against="random")
    found = dw.prove("rds@16", run=str(place / "method"), **how)
    (verdict,) = found.verdicts
    assert (verdict.subject, verdict.claim) == ("rds@16", "prediction"), "it picks the same rows whatever the seed"
    assert "judged as one subset" in found.explain() and len(found.arms[1].costs) == 6
    drawn = dw.prove("random@16", run=str(place / "drawn"), **how)
    registered = json.loads((place / "drawn" / "registration.json").read_text())["arms"]["random@16"]
    assert drawn.verdicts[0].claim == "means"
    assert [len(a.costs) for a in drawn.arms] == [3, 3], "Welch's t keeps its level at equal numbers"
    assert registered["redrawn"] and len(set(registered["draws"])) == 3
    assert len({round(c, 6) for c in drawn.arms[0].costs}) == 3
    with pytest.raises(RequestError, match="neither a file nor a method"):
        dw.prove("best@16", run=str(place / "none"), **how)
    with pytest.raises(RequestError, match="ask for rows or a share"):
        dw.prove("rds@2ktok", run=str(place / "in-tokens"), **how)


def test_worth_compares_subsets_of_any_size(place: Path, cache: Path) -> None:
    listed = [json.loads(line) for line in (place / "pool.jsonl").read_text().splitlines()]
    write(place / "good.jsonl", listed[:20])
    write(place / "bad.jsonl", listed[30:42])
    how = {k: v for k, v in fields(place).items() if k not in ("curve", "against")}
    found = dw.worth([str(place / "good.jsonl"), str(place / "bad.jsonl")], run=str(place / "worths"), **how)
    assert [(v.subject, v.comparator, v.claim) for v in found.verdicts] == [("good", "bad", "means")]
    assert {"good", "bad"} == set(found.sizes.worth) and {"good", "bad"} == set(found.retained)
    assert {a.rows for a in found.arms if a.role == "curve"} == {5, 10, 12, 20, 40, 80}
    told = found.explain()
    assert "for each of its 20 rows" in told or "cannot tell" in told
    assert "of the full pool's improvement" in told
    assert "per row " in told and "an inner size that is left out is missed by " in told
    read = json.loads((place / "worths" / "record.json").read_text())["content"]["proof"]
    assert read["worth"].keys() == {"good", "bad"} and "enough" in read
    again = dw.worth([str(place / "good.jsonl"), str(place / "bad.jsonl")], run=str(place / "worths"), **how)
    assert again.explain() == told
    pytest.importorskip("matplotlib")
    page = dw.view(place / "worths", html=place / "worth.html").html
    assert page is not None and "worth in random rows" in page.read_text()
    alone = dw.worth(str(place / "good.jsonl"), run=str(place / "alone"), **how)
    assert alone.verdicts == () and alone.headline().startswith("good: worth in random rows")


def test_subsets_that_can_show_nothing_are_refused_and_lost_rows_told(place: Path, cache: Path) -> None:
    from dataworth.formats import open_goal

    dw.prove(str(place / "mine.jsonl"), run=str(place / "goal-rows"), margin=0.5, **fields(place))
    judge = open_goal(place / "goal-rows" / "goal" / "goal.yaml").subtasks[0].judge
    assert judge is not None
    asked = [{"prompt": e.prompt, "completion": "red"} for e in judge.open_for("proof").examples()][:4]
    empty = [{"prompt": "say nothing, number 1", "completion": ""}]
    pool = write(place / "odd.jsonl", [*asked, *empty, *rows(24, True, 1), *rows(56, False, 2)])
    how = fields(place, pool=str(pool), against="random")
    with pytest.raises(RequestError, match="nearly equal goal or protected rows"):
        dw.prove(str(write(place / "near.jsonl", asked)), run=str(place / "near"), **how)
    with pytest.raises(RequestError, match="carry no loss"):
        dw.prove(str(write(place / "mute.jsonl", empty)), run=str(place / "mute"), **how)
    with pytest.raises(RequestError, match="nearly equal goal or protected rows or carry no loss"):
        dw.prove(str(write(place / "both.jsonl", [*asked, *empty])), run=str(place / "both"), **how)
    some = write(place / "some.jsonl", [*empty, *rows(24, True, 1)[:9]])
    found = dw.prove(str(some), run=str(place / "some"), **how)
    assert "1 of its rows carry no loss" in found.explain()


def test_the_longest_rows_are_of_those_that_can_be_trained_on(place: Path, cache: Path) -> None:
    endless = [{"prompt": f"number {n} " + "and on " * 3000, "completion": "red"} for n in range(16)]
    pool = write(place / "endless.jsonl", [*endless, *rows(24, True, 1), *rows(56, False, 2)])
    how = fields(place, pool=str(pool), against="longest")
    found = dw.prove(str(write(place / "plain.jsonl", rows(24, True, 1)[:16])), run=str(place / "endless"), **how)
    (longest,) = (arm for arm in found.arms if arm.name == "longest")
    assert (len(longest.costs), longest.rows, found.failed) == (3, 16, {}) and longest.tokens > 0


def test_a_look_says_words_only_where_its_trials_are_there() -> None:
    from dataclasses import replace
    from types import SimpleNamespace

    from dataworth.proof.arms import fixed_arm
    from dataworth.proof.looks import looks_at
    from dataworth.proof.verdict import Arm, Rules
    from dataworth.proving.prover import Prover

    prover = Prover.__new__(Prover)
    plans = [fixed_arm("mine", "subject", ["a"]), fixed_arm("full", "full", ["a", "b"])]
    prover.proposal = SimpleNamespace(rules=Rules(looks_at((3, 5, 8)), 2), pairs=(("mine", "full"),), arms=plans)
    survivors, full = np.array([1.0, 1.01, 0.99]), np.array([1.5, 1.51, 1.49, 1.5, 1.5])
    arms = {"mine": Arm("mine", survivors, False), "full": Arm("full", full, False)}
    assert [v.word for v in prover._verdicts(arms, 2.0, 5)] == [None], "two trials of the look failed"
    assert [v.word for v in prover._verdicts(arms, 2.0, 3)] == ["better"]
    assert [v.word for v in prover._verdicts(arms, 2.0, None)] == [None]
    prover.proposal.arms = [plans[0], replace(plans[1], per_seed=2)]
    assert [v.word for v in prover._verdicts(arms, 2.0, 3)] == [None], "one of six trials failed"


def test_what_a_dying_machine_left_is_tried_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataworth.proving.trial_work import TrialWork

    monkeypatch.setenv("DATAWORTH_CACHE", str(place / "dying"))
    work = TrialWork._trial

    def dying(self: TrialWork, job: Any) -> dict[str, Any]:
        if job.folder and job.recipe["seed"] == 1 and len(job.rows) == 16:
            raise MemoryError
        return work(self, job)

    monkeypatch.setattr(TrialWork, "_trial", dying)
    how = fields(place, against="full")
    first = dw.prove(str(place / "mine.jsonl"), run=str(place / "dying-1"), **how)
    assert {a.name: a.numbers for a in first.arms} == {"mine": (0, 2), "full": (0, 1, 2), "random": (0, 2)}
    assert {v.comparator for v in first.verdicts} == {"full"}, "random rows are shown whatever is compared"
    assert "the same command tries them again" in first.explain()
    shown = dw.view(place / "dying-1")
    assert "mine, trial 1 failed and is left out" in shown.explain(), "what there is can be looked at meanwhile"
    monkeypatch.setattr(TrialWork, "_trial", work)
    again = dw.prove(str(place / "mine.jsonl"), run=str(place / "dying-2"), **how)
    assert {a.name: a.numbers for a in again.arms} == dict.fromkeys(("mine", "full", "random"), (0, 1, 2))
    assert not again.failed
