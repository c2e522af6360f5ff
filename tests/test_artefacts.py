"""How each artefact a score needs is made: values against naive twins, missing rows, guards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.made_pools import held_pool, jsonl_file, numbered

from dataworth import artefacts, config, plugins, rendered
from dataworth.errors import NonsenseRefused, RequestError
from dataworth.formats import open_pool
from dataworth.proving.trainee import trainee_of
from dataworth.proving.trials import open_judged
from dataworth.recipe import Recipe
from dataworth.records import Goal, Subtask
from dataworth.session import SILENT, Session
from dataworth.store.cache import Cache

EMPTY = {"prompt": "nothing to say", "completion": ""}
POOL = [*numbered(10), EMPTY]


def request(model: Path | None = None) -> config.SelectRequest:
    values = {"pool": "pool.jsonl", "device": "cpu", "workers": 0, "model": str(model) if model else None}
    return config.build(config.SelectRequest, values)


def two_subtasks() -> Goal:
    return Goal((Subtask("a", held_pool(numbered(3, 40))), Subtask("b", held_pool(numbered(2, 60)))))


@pytest.fixture
def plain(tmp_path: Path) -> Session:
    """A session without a model."""
    return Session(request(), held_pool(POOL), two_subtasks(), Recipe(), Cache(tmp_path), SILENT)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("peft")
    from tests.learners.tinymodel import tiny_folder

    return tiny_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def shared(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A session with a tiny model, whose artefacts are made once for the module."""
    recipe = Recipe(dtype="fp32", max_length=128)
    cache = Cache(tmp_path_factory.mktemp("cache"))
    with Session(request(model), held_pool(POOL), two_subtasks(), recipe, cache, SILENT) as opened:
        yield opened


def fresh(of: Session, **changes: Any) -> Session:
    """The same session with a ledger of its own and the same cache."""
    empty = {"guards": [], "costs": {}, "notes": [], "unscored": {}, "used": {}}
    return replace(of, **{**empty, **changes})


@pytest.mark.parametrize(
    ("needs", "of_model", "of_goal"),
    [
        (set(), False, False),
        ({"text:pool"}, False, False),
        ({"text:pool", "text:goal"}, False, True),
        ({"losses"}, True, False),
        ({"vectors", "goal_vectors"}, True, True),
        ({"similarity"}, True, True),
    ],
)
def test_what_an_artefact_asks_of_the_user(needs: set[str], of_model: bool, of_goal: bool) -> None:
    assert artefacts.needs_model(frozenset(needs)) is of_model
    assert artefacts.needs_goal(frozenset(needs)) is of_goal


def test_rows_cut_or_with_forged_special_tokens_are_told_once(shared: Session, tmp_path: Path) -> None:
    long = {"prompt": "count", "completion": "".join(f"{i} is one more than {i - 1}, " for i in range(50))}
    forged = {"prompt": "say <|im_end|> twice", "completion": "no"}
    session = fresh(shared, pool=held_pool([*numbered(3), long, long, forged]), cache=Cache(tmp_path))
    for _ in range(2):
        rendered.token_table(session, session.pool)
    rendered.token_table(session, held_pool([*numbered(2), long]))
    cut = (
        "are longer than 128 tokens: the rest of each is cut off, neither scored nor trained on; a recipe with a larger"
    )
    assert session.notes == [
        f"2 of 6 rows with a loss {cut} max_length reads on",
        "1 of 6 rows with a loss write out special tokens of the template, read as plain text",
        f"1 of 3 sampled rows with a loss {cut} max_length reads on",
    ]
    rendered.token_table(quiet := fresh(shared, cache=Cache(tmp_path)), shared.pool)
    assert not quiet.notes


def test_judge_rows_of_which_only_the_beginning_is_judged_are_told_once(shared: Session) -> None:
    long = {"prompt": "count", "completion": "".join(f"{i} is one more than {i - 1}, " for i in range(50))}
    session, pool = fresh(shared), held_pool([*numbered(3), long, long])
    judged_by = [replace(two_subtasks().subtasks[0], name=kind, judge_kind=kind) for kind in ("loss", "ppl")]
    lost = {"prompt": long["completion"], "completion": "no token of this is left"}
    for _ in range(2):
        judged = open_judged(trainee_of(session), [(part, pool) for part in judged_by])
    unread = [replace(judged_by[0], tune=(tune := held_pool([*numbered(3), lost, long])))]
    open_judged(trainee_of(session), [(part, tune) for part in unread])
    assert [len(j.rows) for j in judged] == [5, 5]
    assert session.notes == [
        "2 of 5 judge rows of loss are longer than 128 tokens: each is judged on its beginning; a recipe with a larger "
        "max_length reads on",
        "1 of 5 tune rows of loss are longer than 128 tokens: each is judged on its beginning; a recipe with a larger "
        "max_length reads on",
    ]


@pytest.mark.parametrize("name", plugins.SCORES)
def test_every_score_of_the_house_needs_only_what_can_be_made(name: str) -> None:
    assert plugins.load("scores", name).needs <= set(artefacts.MAKERS)


def test_an_artefact_that_nobody_makes_is_refused_before_any_is_made(plain: Session) -> None:
    with pytest.raises(
        RequestError, match="artefact 'hessian' is unknown: expected one of clusters, dynamics, entropies"
    ):
        artefacts.resolve(plain, frozenset({"losses", "hessian"}))
    assert plain.costs == {}


def test_a_score_gets_ids_its_artefacts_and_the_rows_known_to_have_none(plain: Session) -> None:
    plain.unscored["x"] = "why"
    found = artefacts.resolve(plain, frozenset({"text:pool", "text:goal"}))
    assert set(found) == {"ids", "text:pool", "text:goal", "unscored"}
    assert found["ids"] == plain.pool.ids
    assert found["unscored"] == {"x": "why"}
    assert {k: len(v) for k, v in found["text:goal"].items()} == {"a": 3, "b": 2}
    assert found["text:goal"]["b"][0] == plain.goal.subtasks[1].steer.example(0).full_text  # type: ignore[union-attr]


def test_texts_of_a_pool_are_read_when_iterated_and_can_be_again(plain: Session) -> None:
    texts = artefacts.PoolText(plain.pool)
    assert len(texts) == len(POOL)
    assert list(texts) == list(texts) == [f"{r['prompt']}\n{r['completion']}" for r in POOL]


def test_without_a_goal_or_a_model_the_message_says_what_to_give(plain: Session) -> None:
    with pytest.raises(RequestError, match="expected --goal FILE"):
        artefacts.goal_of(replace(plain, goal=None))
    with pytest.raises(RequestError, match="expected --model"):
        artefacts.tokens(plain)


@pytest.mark.lm
def test_tokens_are_those_of_the_renderer_and_counted_once(shared: Session) -> None:
    first = fresh(shared)
    counted = artefacts.tokens(first)
    rows = [shared.learner.renderer.encode(e) for e in shared.pool.examples()]
    assert counted[:10].tolist() == [len(r) for r in rows[:10]]
    again = fresh(shared)
    table = rendered.token_table(again, again.pool)
    assert "tokens" not in again.costs, "nothing was missing"
    assert list(again.used.values()) == ["tokens"]
    assert table.unscored == {shared.pool.ids[10]: rows[10].reason}
    stored = rendered.encoded_payload(again, again.pool)(shared.pool.ids[:10])
    for kept, now in zip(stored, rows, strict=False):
        assert np.array_equal(kept.input_ids, now.input_ids)
        assert np.array_equal(kept.supervised, now.supervised)


@pytest.mark.lm
def test_a_row_whose_tokens_can_not_be_made_is_counted_as_nan_or_nothing(shared: Session) -> None:
    counted = artefacts.tokens(fresh(shared))
    assert np.isnan(counted[10]) or counted[10] == 0
    assert (counted[:10] > 0).all()


@pytest.mark.lm
def test_losses_are_those_of_transformers_row_by_row(shared: Session, model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    bare = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    opened = fresh(shared)
    found = artefacts.losses(opened)
    for i in range(10):
        row = shared.learner.renderer.encode(shared.pool.example(i))
        ids = torch.tensor(row.input_ids, dtype=torch.long)[None]
        labels = torch.where(torch.tensor(row.supervised)[None], ids, -100)
        with torch.no_grad():
            assert found[i] == pytest.approx(bare(input_ids=ids, labels=labels).loss.item(), rel=1e-4)
    assert np.isnan(found[10])
    assert opened.unscored == {shared.pool.ids[10]: "every assistant turn is empty"}


@pytest.mark.lm
def test_new_rows_cost_only_themselves_and_order_changes_nothing(shared: Session) -> None:
    before = artefacts.losses(fresh(shared))
    grown = fresh(shared, pool=held_pool([*POOL[::-1], *numbered(3, 90)]))
    found = artefacts.losses(grown)
    assert grown.costs["losses"]["rows"] == 3
    assert grown.costs["tokens"]["rows"] == 3
    assert np.array_equal(found[:11], before[::-1], equal_nan=True)
    assert np.isfinite(found[11:]).all()


@pytest.mark.lm
def test_vectors_of_the_pool_and_of_each_subtask_have_the_models_width(shared: Session) -> None:
    opened = fresh(shared)
    of_pool = artefacts.vectors(opened)
    assert of_pool.shape == (11, 32)
    assert np.isfinite(of_pool[:10]).all()
    assert np.isnan(of_pool[10]).all()
    of_goal = artefacts.goal_vectors(opened)
    assert {k: v.shape for k, v in of_goal.items()} == {"a": (3, 32), "b": (2, 32)}
    assert [g["guard"] for g in opened.guards if "subtask" in g["evidence"]] == ["empty-masks"] * 2
    same = fresh(shared, goal=Goal((Subtask("c", held_pool(POOL[:2])),)))
    assert np.allclose(artefacts.goal_vectors(same)["c"], of_pool[:2]), "a goal row is embedded as a pool row"


@pytest.mark.lm
def test_a_goal_none_of_whose_rows_carry_loss_is_refused_and_recorded(shared: Session) -> None:
    opened = fresh(shared, goal=Goal((Subtask("void", held_pool([EMPTY])),)))
    with pytest.raises(NonsenseRefused, match="goal subtask 'void': 0 of 1 rows carry loss"):
        artefacts.goal_vectors(opened)
    assert [(g["guard"], g["passed"]) for g in opened.guards][-1] == ("empty-masks", False)


@pytest.mark.lm
def test_a_template_that_renders_otherwise_than_before_is_refused_and_recorded(
    shared: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = fresh(shared)
    rendered.token_table(opened, opened.pool)
    assert opened.guards[-1]["guard"] == "template-drift"
    assert opened.guards[-1]["passed"] is True
    encode = type(opened.learner.renderer).encode

    def drifted(self: Any, example: Any) -> Any:
        row = encode(self, example)
        return replace(row, input_ids=row.input_ids + 1)

    monkeypatch.setattr(type(opened.learner.renderer), "encode", drifted)
    again = fresh(shared)
    with pytest.raises(NonsenseRefused, match="cache --clear"):
        rendered.token_table(again, again.pool)
    assert again.guards[-1]["passed"] is False


@pytest.mark.lm
def test_another_mask_or_length_is_another_artefact_and_another_learning_rate_is_not(shared: Session) -> None:
    def kept(recipe: Recipe) -> tuple[str, str]:
        opened = fresh(shared, recipe=recipe)
        tokens = rendered.token_artefact(opened, opened.pool)
        return tokens.fingerprint, artefacts.probe_artefact(opened, "losses", opened.pool).fingerprint

    tokens, losses = kept(shared.recipe)
    assert kept(replace(shared.recipe, lr=1.0, epochs=9, lora_r=2)) == (tokens, losses)
    for changed in (replace(shared.recipe, mask_like="trl"), replace(shared.recipe, max_length=64)):
        other = kept(changed)
        assert other[0] != tokens
        assert other[1] != losses
    opened = fresh(shared)
    assert artefacts.probe_artefact(opened, "embeddings", opened.pool).fingerprint != losses


@pytest.mark.lm
def test_model_probes_are_told_the_model_the_recipe_and_the_adapter(shared: Session, model: Path) -> None:
    settings = artefacts.model_settings(shared, Path("adapter"))
    assert settings == {"model": str(model), "recipe": shared.recipe.to_dict(), "checkpoint": "adapter"}
    assert artefacts.model_settings(shared)["checkpoint"] is None


@pytest.mark.lm
def test_the_same_columns_read_as_another_schema_are_another_entry_of_every_artefact(
    shared: Session, tmp_path: Path
) -> None:
    (tmp_path / "qa.jsonl").write_text('{"question": "amber?", "answer": "birch"}\n')
    plain, sft, rl = (open_pool(tmp_path / "qa.jsonl", task=task) for task in (None, "sft", "rl"))
    assert plain.ids == sft.ids == rl.ids
    opened = fresh(shared)
    assert not rendered.token_table(opened, plain).unscored
    assert set(rendered.token_table(opened, rl).unscored.values()) == {"a rl row has no answer to learn from"}
    for of in (rendered.token_artefact, lambda s, p: artefacts.probe_artefact(s, "losses", p)):
        assert of(opened, plain).fingerprint == of(opened, sft).fingerprint != of(opened, rl).fingerprint
    assert rendered.as_read(plain, {"x": 1}) == {"x": 1}, "ordinary pools keep their keys"
    assert rendered.as_read(rl, {"x": 1}) == {"x": 1, "schema": ["rl"]}


@pytest.mark.lm
def test_the_same_row_read_by_another_mapping_is_another_entry_of_every_artefact(shared: Session) -> None:
    one = held_pool(POOL[:2], mapping=(("prompt", "prompt"), ("completion", "a")))
    two = held_pool(POOL[:2], mapping=(("prompt", "prompt"), ("completion", "b")))
    assert one.ids == two.ids == shared.pool.ids[:2]
    opened = fresh(shared)
    for of in (rendered.token_artefact, lambda s, p: artefacts.probe_artefact(s, "losses", p)):
        assert len({of(opened, pool).fingerprint for pool in (one, two, shared.pool)}) == 3
    assert rendered.as_read(shared.pool, {"x": 1}) == {"x": 1}
    assert rendered.as_read(one, {"x": 1}) == {"x": 1, "map": {"prompt": "prompt", "completion": "a"}}


def of_vectors(folder: Path, pool: list[list[float]], goal: list[list[float]]) -> Session:
    """A session over files of vectors with a class."""
    opened = []
    for name, vectors in (("pool", pool), ("goal", goal)):
        rows = [{"vector": vector, "label": n % 2} for n, vector in enumerate(vectors)]
        opened.append(open_pool(jsonl_file(folder / f"{name}.jsonl", rows)))
    return Session(request(), opened[0], Goal((Subtask("g", opened[1]),)), Recipe(), Cache(folder), SILENT)


def test_vectors_of_rows_have_the_commonest_width_whichever_comes_first(tmp_path: Path) -> None:
    session = of_vectors(tmp_path, [[1.0, 2.0], *([n, 1.0, 2.0] for n in range(4)), [3.0, 4.0]], [[1.0]])
    found, unscored = artefacts.own_vectors(session.pool)
    np.testing.assert_array_equal(found[1:5], [[n, 1, 2] for n in range(4)])
    assert unscored == dict.fromkeys(
        (session.pool.ids[0], session.pool.ids[5]), "its vector has 2 numbers, those of most rows 3"
    )
    assert np.isnan(found[[0, 5]]).all()
    tied = of_vectors(tmp_path / "tied", [[1.0], [1.0, 2.0], [2.0], [3.0, 4.0]], [[1.0]])
    assert artefacts.own_vectors(tied.pool)[0].shape == (4, 1)


def test_goal_vectors_of_another_width_than_the_pools_are_refused(tmp_path: Path) -> None:
    needs = plugins.load("scores", "knn_shapley").needs
    session = of_vectors(tmp_path, [[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.0, 3.0]])
    with pytest.raises(RequestError, match="goal subtask 'g': vectors of 3 numbers, expected 2 as in the pool"):
        artefacts.resolve(session, needs)
    assert artefacts.resolve(of_vectors(tmp_path / "same", [[1.0, 2.0]], [[3.0, 4.0]]), needs)["goal_vectors"]
