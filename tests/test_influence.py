"""The frozen warm-up, its checkpoints, and cosines of gradient features with a goal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.made_pools import held_pool, numbered

from dataworth import config, influence
from dataworth.errors import FingerprintMismatch, FormatError, NonsenseRefused, RequestError
from dataworth.influence import UNTOUCHED, Checkpoint, finished_warm_up, goal_similarity, warm_up
from dataworth.options import GradientOptions
from dataworth.probes.spec import FeatureSpec
from dataworth.recipe import Recipe
from dataworth.records import Goal, Pool, Subtask, hash_unit
from dataworth.session import SILENT, Session
from dataworth.store.cache import Cache, mark_done

pytestmark = pytest.mark.lm

EMPTY = {"prompt": "nothing to say", "completion": ""}
ROWS = [*numbered(20), EMPTY]
PLAIN = FeatureSpec(optimizer="sgd", bias_correction=False, width=512)
OPTIONS = GradientOptions(6, FeatureSpec(optimizer="adam", bias_correction=True, width=512))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("peft")
    from tests.learners.tinymodel import tiny_folder

    return tiny_folder(tmp_path_factory.mktemp("model"))


def opened(model: Path, cache: Path, rows: Sequence[Any] = ROWS, **more: Any) -> Session:
    asked = {k: more.pop(k) for k in ("seed", "rewarm") if k in more}
    values = {"pool": "pool.jsonl", "device": "cpu", "workers": 0, "model": str(model), **asked}
    goal = Goal((Subtask("a", held_pool(numbered(3, 40))), Subtask("b", held_pool(numbered(2, 60)))))
    recipe = Recipe(dtype="fp32", batch_size=2, epochs=2, lr=1e-3, lora_r=4, max_length=128)
    parts = {"goal": goal, "recipe": recipe, "gradient": OPTIONS, **more}
    pool = rows if isinstance(rows, Pool) else held_pool(rows)
    request = config.build(config.SelectRequest, values)
    return Session(request=request, pool=pool, cache=Cache(cache), progress=SILENT, **parts)


@pytest.fixture
def untrained(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A session whose warm-ups are only noted, not trained."""

    def noted(session: Session, ids: tuple[str, ...], base: int, share: float) -> Any:
        freeze(session, ids, base, share)
        return SimpleNamespace(folders=(tmp_path / "c1",), sha256=("one",), mean_lr=(2e-4,))

    monkeypatch.setattr(influence, "_trained", noted)
    monkeypatch.setattr(influence, "LEAST_STEPS", 1)
    return opened(model, tmp_path / "cache")


def freeze(session: Session, ids: Sequence[str], base: int, share: float = 6, done: bool = True) -> Path:
    """A warm-up in the cache, as a finished training leaves it."""
    folder = session.cache.folder("warmup", influence._spec(session, ids, share))
    (folder / "base.json").write_text(json.dumps({"ids": list(ids), "base": base}))
    if done:
        mark_done(folder)
    return folder


def test_the_warm_up_is_the_hash_ordered_sample_of_rows_that_carry_loss(untrained: Session) -> None:
    pool = untrained.pool
    found = warm_up(untrained)
    usable = np.array(pool.ids[:20])
    expected = usable[np.argsort(hash_unit(list(usable), 0, "warm-up"))[:6]]
    assert set(found.ids) == set(expected)
    assert found.ids == tuple(sorted(found.ids))
    assert pool.ids[20] not in found.ids, "a row without loss trains nothing"
    assert untrained.warmup_record == {"ids": list(found.ids), "base": 21}


def test_the_sample_does_not_depend_on_the_order_of_the_rows_but_on_the_seed(untrained: Session) -> None:
    here, _ = influence._sample(untrained, 6)
    turned, _ = influence._sample(replace(untrained, pool=held_pool(ROWS[::-1])), 6)
    assert turned == here
    other = replace(untrained, request=replace(untrained.request, seed=1))
    assert influence._sample(other, 6)[0] != here


def test_excluded_rows_are_not_trained_on_and_the_others_stay(untrained: Session) -> None:
    here, _ = influence._sample(untrained, 6)
    untrained.excluded[here[0]] = ("near-goal", "near")
    without, _ = influence._sample(untrained, 6)
    assert here[0] not in without
    assert set(here[1:]) < set(without)


@pytest.mark.parametrize(("share", "count"), [(0.05, 10), (0.001, 10), (0.6, 12), (1, 1), (8, 8), (500, 20)])
def test_a_share_is_of_the_whole_pool_but_enough_for_a_direction_and_a_count_is_a_count(
    untrained: Session, monkeypatch: pytest.MonkeyPatch, share: float, count: int
) -> None:
    monkeypatch.setattr(influence, "LEAST_STEPS", 100)
    ids, base = influence._sample(untrained, share)
    assert (len(ids), base) == (count, 21)


def test_a_warm_up_of_a_few_steps_is_called_noise(untrained: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(influence, "LEAST_STEPS", 100)
    warm_up(untrained)
    assert any("close to noise" in note for note in untrained.notes)


def test_a_frozen_warm_up_is_reused_while_its_rows_lie_in_the_pool(untrained: Session) -> None:
    first = warm_up(untrained)
    grown = replace(untrained, pool=held_pool([*ROWS, *numbered(9, 100)]))
    assert warm_up(grown).ids == first.ids
    assert warm_up(grown).base == 21
    assert grown.notes == []
    shrunk = replace(untrained, pool=held_pool([r for r, i in zip(ROWS, untrained.pool.ids, strict=True)
                                                if i != first.ids[0]]))  # fmt: skip
    assert first.ids[0] not in warm_up(shrunk).ids


def test_frozen_rows_near_this_goal_stay_are_said_and_leave_when_asked(untrained: Session) -> None:
    first = warm_up(untrained)
    excluded = {first.ids[0]: ("near-goal", "near"), first.ids[3]: ("near-goal", "near")}
    near = replace(untrained, excluded=excluded, notes=[])
    assert warm_up(near).ids == first.ids, "pool features belong to every goal"
    assert near.notes == ["2 of the 6 frozen warm-up rows are near this goal: --rewarm draws without them"]
    drawn = replace(near, request=replace(near.request, rewarm=True), notes=[])
    assert not set(warm_up(drawn).ids) & set(excluded)
    assert drawn.notes == []


def test_when_the_gate_leaves_nothing_to_warm_up_on_that_is_said(untrained: Session) -> None:
    every = dict.fromkeys(untrained.pool.ids, ("near-goal", "near"))
    with pytest.raises(RequestError, match="no row is left to warm up on"):
        warm_up(replace(untrained, excluded=every))


def test_of_several_frozen_warm_ups_the_one_from_the_largest_pool_is_taken(untrained: Session) -> None:
    ids = untrained.pool.ids
    freeze(untrained, sorted(ids[0:6]), base=12)
    freeze(untrained, sorted(ids[6:12]), base=20)
    freeze(untrained, sorted(ids[12:18]), base=15)
    freeze(untrained, sorted([*ids[:5], "f" * 32]), base=900)
    found = warm_up(untrained)
    assert (found.ids, found.base) == (tuple(sorted(ids[6:12])), 20)


def test_an_unfinished_warm_up_is_not_reused(untrained: Session) -> None:
    ids = sorted(untrained.pool.ids[:6])
    folder = freeze(untrained, ids, base=99, done=False)
    assert influence._frozen(untrained, 6) is None
    mark_done(folder)
    assert influence._frozen(untrained, 6) == (tuple(ids), 99)
    (folder / "base.json").write_text(json.dumps({"ids": ids, "base": 99, "damaged": True}))
    assert influence._frozen(untrained, 6) is None


def test_a_damaged_list_of_frozen_rows_is_named_with_its_folder(untrained: Session) -> None:
    folder = freeze(untrained, untrained.pool.ids[:6], 21)
    (folder / "base.json").write_text('{"ids": [')
    with pytest.raises(FormatError, match=r"base\.json is damaged: no JSON") as caught:
        warm_up(untrained)
    assert f"delete the folder {folder} to train it again" in str(caught.value)


def test_a_warm_up_of_another_share_seed_or_recipe_is_not_reused(untrained: Session) -> None:
    freeze(untrained, sorted(untrained.pool.ids[:6]), base=21)
    assert influence._frozen(untrained, 6) is not None
    assert influence._frozen(untrained, 0.3) is None
    assert influence._frozen(replace(untrained, request=replace(untrained.request, seed=1)), 6) is None
    assert influence._frozen(replace(untrained, recipe=replace(untrained.recipe, lr=5e-4)), 6) is None


def test_rewarm_draws_again_from_the_pool_as_it_is(untrained: Session) -> None:
    stale = tuple(sorted(untrained.pool.ids[:6]))
    freeze(untrained, stale, base=21)
    assert warm_up(untrained).ids == stale
    again = replace(untrained, request=replace(untrained.request, rewarm=True), notes=[])
    assert warm_up(again).ids == influence._sample(untrained, 6)[0] != stale


@pytest.mark.parametrize(("base", "said"), [(14, False), (13, True), (21, False)])
def test_a_pool_grown_by_more_than_half_says_so(untrained: Session, base: int, said: bool) -> None:
    freeze(untrained, sorted(untrained.pool.ids[:6]), base=base)
    warm_up(untrained)
    assert bool(untrained.notes) is said
    if said:
        assert "drawn from 13 rows; the pool has 21 now: --rewarm" in untrained.notes[0]


def test_recorded_rows_are_trained_on_whatever_else_there_is(untrained: Session) -> None:
    freeze(untrained, sorted(untrained.pool.ids[:6]), base=99)
    recorded = tuple(sorted(untrained.pool.ids[9:15]))
    assert warm_up(replace(untrained, warmup_ids=recorded)).ids == recorded


def test_weights_of_checkpoints_are_their_shares_of_the_learning_rate() -> None:
    trained = SimpleNamespace(folders=(Path("a"), Path("b")), sha256=("x", "y"), mean_lr=(3e-4, 1e-4))
    found = influence._warm_up_of(trained, ("i",), 5)  # type: ignore[arg-type]
    assert [p.weight for p in found.checkpoints] == pytest.approx([0.75, 0.25])
    assert [p.sha256 for p in found.checkpoints] == ["x", "y"]


def test_no_warm_up_is_one_look_at_the_untouched_learner(untrained: Session) -> None:
    onesided = GradientOptions(0, FeatureSpec(kind="onesided", width=512, k=4))
    for find in (warm_up, finished_warm_up):
        assert find(replace(untrained, gradient=onesided)) is UNTOUCHED
    assert [(p.folder, p.weight) for p in UNTOUCHED.checkpoints] == [(None, 1.0)]
    assert untrained.warmup_record is None


def test_before_any_warm_up_none_is_finished(untrained: Session) -> None:
    assert finished_warm_up(untrained) is None
    found = warm_up(untrained)
    assert finished_warm_up(untrained) == found
    assert finished_warm_up(replace(untrained, request=replace(untrained.request, rewarm=True))) is None


def test_features_of_another_checkpoint_or_description_are_kept_apart(untrained: Session) -> None:
    def kept(point: Checkpoint, feature: FeatureSpec) -> str:
        return influence.gradient_artefact(untrained, point, feature, untrained.pool).fingerprint

    one, two = Checkpoint(Path("a"), "x", 0.5), Checkpoint(Path("a"), "y", 0.5)
    assert kept(one, PLAIN) != kept(two, PLAIN)
    assert kept(one, PLAIN) == kept(replace(one, folder=Path("elsewhere"), weight=1.0), PLAIN)
    for changed in ({"width": 256}, {"seed": 1}, {"format": "fp16"}, {"optimizer": "adam"}, {"loss": "sum"}):
        assert kept(one, replace(PLAIN, **changed)) != kept(one, PLAIN)


class Stamped:
    """A table of features with the given projection stamps."""

    def __init__(self, stamps: list[int]) -> None:
        self.scored_N = np.ones(len(stamps), dtype=bool)
        self.unscored: dict[str, str] = {}
        self.stamps = np.array(stamps, dtype=np.uint64)

    def __len__(self) -> int:
        return len(self.stamps)

    def column(self, name: str, fill: Any = None) -> Any:
        return self.stamps if name == "projection" else np.ones(len(self), np.float32)


def test_rows_of_several_projections_are_never_compared() -> None:
    assert influence._rows(Stamped([7, 7]), PLAIN).projection == f"{7:016x}"  # type: ignore[arg-type]
    with pytest.raises(FingerprintMismatch, match="2 projections: expected one"):
        influence._rows(Stamped([7, 8]), PLAIN)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trained(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Session, Any]]:
    """One real warm-up with its similarities, for the module."""
    with opened(model, tmp_path_factory.mktemp("cache")) as session:
        yield session, goal_similarity(session)


def again(of: Session, **changes: Any) -> Session:
    return replace(of, **{"guards": [], "costs": {}, "notes": [], "unscored": {}, "used": {}, **changes})


def test_there_is_a_cosine_per_checkpoint_row_and_subtask(trained: tuple[Session, Any]) -> None:
    session, found = trained
    assert found.mean_CNG.shape == found.centroid_CNG.shape == (2, 21, 2)
    assert found.subtasks == ("a", "b")
    assert found.weight_C.sum() == pytest.approx(1)
    assert (np.diff(found.weight_C) < 0).all(), "a falling learning rate weighs the first epoch more"
    assert np.isfinite(found.mean_CNG[:, :20]).all()
    assert np.abs(found.centroid_CNG[:, :20]).max() <= 1.01
    assert np.isnan(found.mean_CNG[:, 20]).all()
    assert found.unscored == {session.pool.ids[20]: "every assistant turn is empty"}


def test_guards_and_costs_of_every_part_are_recorded(trained: tuple[Session, Any]) -> None:
    session, _ = trained
    masks = [g["evidence"] for g in session.guards if g["guard"] == "empty-masks"]
    assert masks[0].startswith("the pool: 20 of 21 rows carry loss")
    assert masks[1:] == ["goal subtask 'a': 3 of 3 rows carry loss", "goal subtask 'b': 2 of 2 rows carry loss"]
    assert all(g["passed"] for g in session.guards)
    assert session.costs["warm-up"]["rows"] == 6
    assert session.costs["gradients, checkpoint 2 of 2"]["rows"] == 21
    assert session.costs["goal gradients, checkpoint 1 of 2"]["rows"] == 5
    assert {"tokens", "warmup", "gradients"} == set(session.used.values())


def test_the_same_again_trains_and_probes_nothing_and_is_equal(trained: tuple[Session, Any]) -> None:
    session, found = trained
    repeated = again(session)
    same = goal_similarity(repeated)
    assert np.array_equal(same.mean_CNG, found.mean_CNG, equal_nan=True)
    assert set(repeated.costs) == {"similarity"}
    assert repeated.used == session.used


def test_a_goal_row_in_the_pool_has_cosine_one_with_itself_under_plain_gradients(trained: tuple[Session, Any]) -> None:
    session, _ = trained
    itself = Goal((Subtask("itself", held_pool(ROWS[3:4])), Subtask("a", held_pool(numbered(3, 40)))))
    plain = GradientOptions(6, PLAIN)
    found = goal_similarity(again(session, goal=itself, gradient=plain))
    assert found.mean_CNG[:, 3, 0] == pytest.approx(1, abs=0.02)
    assert (np.nanargmax(found.mean_CNG[:, :, 0], axis=1) == 3).all()
    assert found.mean_CNG[:, 3, 0] == pytest.approx(found.centroid_CNG[:, 3, 0], abs=1e-5)


def test_a_subtask_is_compared_apart_whatever_stands_beside_it(trained: tuple[Session, Any]) -> None:
    session, found = trained
    assert session.goal is not None
    alone = goal_similarity(again(session, goal=Goal((session.goal.subtasks[1],))))
    assert np.allclose(alone.mean_CNG[..., 0], found.mean_CNG[..., 1], equal_nan=True, atol=1e-6)


def test_subtasks_read_by_different_mappings_keep_their_places(trained: tuple[Session, Any]) -> None:
    session, found = trained
    assert session.goal is not None
    a, b = (s.steer for s in session.goal.subtasks)
    mapped = held_pool(numbered(2, 60), mapping=(("prompt", "prompt"), ("completion", "completion")))
    goal = Goal((Subtask("a1", a), Subtask("b1", mapped), Subtask("a2", a), Subtask("b2", b)))
    other = goal_similarity(again(session, goal=goal))
    assert other.subtasks == ("a1", "b1", "a2", "b2")
    for n, same in enumerate((0, 1, 0, 1)):
        assert np.allclose(other.mean_CNG[..., n], found.mean_CNG[..., same], equal_nan=True, atol=1e-6), n


def test_copies_and_order_of_rows_change_no_cosine(trained: tuple[Session, Any]) -> None:
    session, found = trained
    turned = again(session, pool=held_pool([*ROWS[::-1], ROWS[0]]))
    other = goal_similarity(turned)
    assert np.array_equal(other.mean_CNG[:, 20::-1], found.mean_CNG, equal_nan=True)
    assert np.array_equal(other.mean_CNG[:, 21], found.mean_CNG[:, 0]), "a copy scores as its original"
    assert turned.costs["gradients, checkpoint 1 of 2"]["rows"] == 1


@pytest.mark.parametrize("where", ["pool", "goal"])
def test_nothing_to_learn_from_is_refused_before_any_training(model: Path, tmp_path: Path, where: str) -> None:
    void = held_pool([EMPTY])
    parts: dict[str, Any] = {"rows": void} if where == "pool" else {"goal": Goal((Subtask("void", void),))}
    session = opened(model, tmp_path, **parts)
    with pytest.raises(NonsenseRefused, match="carry loss"):
        goal_similarity(session)
    assert session.guards[-1]["passed"] is False
    assert not (tmp_path / "warmup").exists()
