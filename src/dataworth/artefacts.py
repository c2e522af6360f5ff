"""How each artefact a score needs is made; only what is missing in the cache is computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import RequestError
from dataworth.geometry import Clusters, Neighbours
from dataworth.records import Goal, Pool, id_order
from dataworth.rendered import TOKEN_SHARD, as_read, encoded_payload, token_table
from dataworth.results import Scored, Similarity
from dataworth.session import Session
from dataworth.store.artefact import Artefact
from dataworth.store.table import Table

if TYPE_CHECKING:
    from dataworth.learners.render import Encoded

MODEL_SHARD = 256


class PoolText:
    """Texts of a pool, or its responses, read as they are iterated: one pass over a million rows holds one row."""

    def __init__(self, pool: Pool, *, responses: bool = False) -> None:
        self.pool, self.responses = pool, responses

    def __len__(self) -> int:
        return len(self.pool)

    def __iter__(self) -> Iterator[str]:
        return (e.response if self.responses else e.full_text for e in self.pool.examples())


COLUMN = "column:"
OF_TEXT = frozenset({"text:pool", "text:response", "text:goal"})
"""What is read from the rows' words alone."""
GEOMETRY = ("neighbours", "clusters", "near_duplicates")
OF_NETS = frozenset({"dynamics", "threshold_dynamics", "probabilities", "grad_norms"})
OF_HALVES = frozenset({"losses_seen", "losses_unseen"})
"""What two trainings on halves of the pool tell of its rows."""
OF_LEARNER = frozenset({"losses", "losses_alone", "entropies", "similarity"}) | OF_NETS | OF_HALVES
OF_CLASSES = frozenset({"labels", "goal_labels"}) | OF_NETS
OF_VECTORS = frozenset({"vectors", "goal_vectors", "neighbours", "clusters"})
"""What is made from rows' vectors, whether those are the learner's hidden states or an encoder's."""


def needs_model(needs: frozenset[str]) -> bool:
    """Whether any of these artefacts is made by running the learner, unless an encoder makes the vectors."""
    return bool(needs & (OF_LEARNER | OF_VECTORS))


def needs_goal(needs: frozenset[str]) -> bool:
    """Whether any of these artefacts is made from the goal."""
    return bool(needs & {"text:goal", "goal_vectors", "goal_labels", "similarity"})


def resolve(session: Session, needs: frozenset[str]) -> dict[str, Any]:
    """The inputs of a score: ids and every artefact it needs.

    Raises:
        RequestError: An artefact nobody can make, or vectors of the goal that the pool's can't be compared with.
    """
    unknown = sorted(need for need in needs - set(MAKERS) if not need.startswith(COLUMN))
    if unknown:
        raise RequestError(f"artefact {unknown[0]!r} is unknown: expected one of {', '.join(sorted(MAKERS))}")
    inputs: dict[str, Any] = {"ids": session.pool.ids}
    for name in sorted(needs):
        inputs[name] = column(session, name) if name.startswith(COLUMN) else resolve_once(session, name)
    _refuse_other_width(inputs)
    inputs["unscored"] = session.unscored
    return inputs


def _refuse_other_width(inputs: Mapping[str, Any]) -> None:
    """Refuse goal vectors that the pool's can't be compared with."""
    for name, rows_QD in inputs.get("goal_vectors", {}).items():
        if "vectors" in inputs and rows_QD.shape[1] != (width := inputs["vectors"].shape[1]):
            raise RequestError(
                f"goal subtask {name!r}: vectors of {rows_QD.shape[1]} numbers, expected {width} as in the pool; fix it"
            )


def resolve_once(session: Session, name: str) -> Any:
    """An artefact that a score and a pick of one run may both need, made once where making it takes time."""
    if name not in GEOMETRY:
        return MAKERS[name](session)
    key = (name, session.geometry, session.request.seed)
    if key not in session.made:
        session.made[key] = MAKERS[name](session)
    return session.made[key]


def column(session: Session, name: str) -> Scored:
    """The numbers of a column of the user's, by the name `column:NAME`."""
    from dataworth.scores.column import read_column

    pool = session.pool
    return read_column(name.removeprefix(COLUMN), pool.ids, (pool.columns(i) for i in range(len(pool))))


def goal_of(session: Session) -> Goal:
    """The goal of the request, whose steer rows are read.

    Raises:
        RequestError: None was given, or a part of it has no steer rows.
    """
    if session.goal is None:
        raise RequestError(
            "this needs a goal: expected --goal FILE with examples of what the model should become good at"
        )
    for sub in session.goal.subtasks:
        if not len(sub.steer):
            raise RequestError(
                f"goal subtask {sub.name!r} has no steer rows: expected examples of what the model should become good "
                "at, as this reads them; add `steer:` to the goal file"
            )
    return session.goal


def probe(session: Session, kind: str, pool: Pool, stage: str) -> Table:
    """Losses or embeddings of the untouched learner for every row of a pool."""
    token_table(session, pool)
    artefact, payload = probe_artefact(session, kind, pool), encoded_payload(session, pool)
    runner = f"dataworth.probes.{kind}:open_{kind}"
    return session.fill(stage, artefact, pool.ids, runner, model_settings(session), payload, MODEL_SHARD)


def probe_artefact(session: Session, kind: str, pool: Pool) -> Artefact:
    """Where `losses` or `embeddings` of the untouched learner are kept, for rows read as this pool's are."""
    return session.artefact(kind, as_read(pool, {"learner": session.learner.frozen_spec, "probe": kind}))


def model_settings(session: Session, checkpoint: Path | None = None) -> dict[str, Any]:
    """What a model probe's runner is told: the model, the recipe and the adapter it is to merge."""
    return {
        "model": str(session.learner.source.folder),
        "recipe": session.recipe.to_dict(),
        "checkpoint": str(checkpoint) if checkpoint else None,
    }


def tokens(session: Session) -> NDArray[np.float64]:
    """Tokens of each pool row, NaN where a row can't be rendered."""
    table = token_table(session, session.pool)
    return np.where(table.scored_N, table.column("tokens", fill=0), np.nan)


def losses(session: Session) -> NDArray[np.float64]:
    """Mean loss of each pool row under the untouched learner in nats a token, NaN where a row has none."""
    return _per_token(session, probe(session, "losses", session.pool, "losses"), "loss_sum")


def losses_alone(session: Session) -> NDArray[np.float64]:
    """Mean loss of each pool row's response without its prompt, over the tokens of `losses`; NaN where it has none.

    Raises:
        RequestError: The mask covers prompts, too: nothing would be left out.
    """
    from dataworth.learners.alone import without_prompt

    pool, lead = session.pool, session.learner.lead
    if session.recipe.mask_like == "trl" and any(f.schema in ("messages", "sharegpt") for f in pool.files):
        raise RequestError(
            "mask_like='trl' lets prompts of conversations carry loss, so no response stands alone: expected a mask on "
            "the answers; leave --mask-like out"
        )
    token_table(session, pool)
    spec = as_read(pool, {"learner": session.learner.frozen_spec, "probe": "losses_alone", "lead": lead})
    whole = encoded_payload(session, pool)

    def payload(ids: Sequence[str]) -> list[Encoded]:
        return [row if row.reason else without_prompt(row, lead) for row in whole(ids)]

    artefact, runner = session.artefact("losses", spec), "dataworth.probes.losses:open_losses"
    settings = model_settings(session)
    found = session.fill("losses without prompts", artefact, pool.ids, runner, settings, payload, MODEL_SHARD)
    return _per_token(session, found, "loss_sum")


def entropies(session: Session) -> NDArray[np.float64]:
    """Mean entropy of the untouched learner's predictions of each row's response in nats, NaN where it has none.

    For rows with a class: of the trained nets' prediction of it.
    """
    if session.classifies:
        return _of_nets("entropies")(session)
    return _per_token(session, probe(session, "losses", session.pool, "losses"), "entropy_sum")


def _per_token(session: Session, table: Table, name: str) -> NDArray[np.float64]:
    session.unscored |= table.unscored
    return table.column(name, fill=np.nan).astype(np.float64) / table.column("targets", fill=1)


def vectors(session: Session) -> NDArray[np.float32]:
    """The pool's vectors `[N, D]`, NaN where a row has none: see `vectors_of`."""
    vectors_ND, unscored = vectors_of(session, session.pool, "embeddings")
    session.unscored |= unscored
    return vectors_ND


def label_free(session: Session, who: str, needs: frozenset[str]) -> list[str]:
    """In one sentence, whose labels a method of vectors depends on though it reads none; nothing for other methods."""
    if not session.classifies or not needs & OF_VECTORS or needs & OF_CLASSES:
        return []
    if has_own_vectors(session.pool):
        return [f"{who} is label-free given what made the rows' vectors"]
    if session.request.encoder is None:
        return [
            f"{who} is label-free given a supervised encoder: its vectors are features of a net trained on the labels"
        ]
    if any(file.schema == "labelled_image" for file in session.pool.files):
        return [f"{who} is label-free: its vectors are by an encoder trained on the pool's images alone"]
    return [f"{who} is label-free given the encoder that was brought"]


def goal_vectors(session: Session) -> dict[str, NDArray[np.float32]]:
    """The same for the goal's steer rows that have one, by subtask.

    Raises:
        NonsenseRefused: No row of a subtask has one.
    """
    out = {}
    for sub in goal_of(session).subtasks:
        vectors_QD, unscored = vectors_of(session, sub.steer, "embeddings (goal)")
        refuse_empty(session, len(sub.steer), unscored, f"goal subtask {sub.name!r}")
        out[sub.name] = vectors_QD[[i not in unscored for i in sub.steer.ids]]
    return out


def vectors_of(session: Session, pool: Pool, stage: str) -> tuple[NDArray[np.float32], dict[str, str]]:
    """Vectors of a pool's rows: their own where they are vectors, the encoder's where one is named, else the learner's.

    The learner's are position-weighted means of its hidden states.

    Raises:
        RequestError: There is neither an encoder nor a learner.
    """
    if has_own_vectors(pool):
        return own_vectors(pool)
    if session.classifies and session.request.encoder is None:
        return _net_features(session, pool)
    if session.request.encoder is not None and any(f.schema == "labelled_image" for f in pool.files):
        from dataworth.selfsupervised import image_vectors

        return image_vectors(session, pool, stage)
    if session.request.encoder is None:
        table = probe(session, "embeddings", pool, stage)
        return table.column("vector", fill=np.nan), table.unscored
    from dataworth.probes.encoder import encoder_folder, encoder_spec

    named = session.request.encoder
    artefact = session.artefact("encodings", as_read(pool, {"encoder": encoder_spec(named)}))
    settings = {"folder": str(encoder_folder(named))}

    def payload(ids: Sequence[str]) -> list[str]:
        return [pool.example(pool.position[i]).full_text for i in ids]

    runner = "dataworth.probes.encoder:open_encoder"
    table = session.fill(stage, artefact, pool.ids, runner, settings, payload, TOKEN_SHARD)
    return table.column("vector", fill=np.nan), table.unscored


def _net_features(session: Session, pool: Pool) -> tuple[NDArray[np.float32], dict[str, str]]:
    """Features of the first trained net, of the pool's rows or of a goal's."""
    from dataworth import classifying  # which imports this module

    if pool is not session.pool:
        return classifying.goal_features(session, pool)
    return classifying.features(session), session.unscored


def _of_nets(name: str) -> Callable[[Session], Any]:
    """A maker from `classifying`, which imports this module."""

    def make(session: Session) -> Any:
        from dataworth import classifying

        return getattr(classifying, name)(session)

    return make


def has_own_vectors(pool: Pool) -> bool:
    """Whether the rows are vectors with a class."""
    return {file.schema for file in pool.files} == {"labelled_vector"}


def own_vectors(pool: Pool) -> tuple[NDArray[np.float32], dict[str, str]]:
    """The vectors that rows hold; one of another length than most is none (of lengths as common, the first counts)."""
    found = [example.content for example in pool.examples()]
    width = Counter(map(len, found)).most_common(1)[0][0]
    vectors_ND = np.array([v_D if len(v_D) == width else np.full(width, np.nan) for v_D in found], dtype=np.float32)
    odd = {i: len(v_D) for i, v_D in zip(pool.ids, found, strict=True) if len(v_D) != width}
    unscored = {i: f"its vector has {n} numbers, those of most rows {width}" for i, n in odd.items()}
    return vectors_ND, unscored


def similarity(session: Session) -> Similarity:
    """Cosines of the pool's gradient features with the goal's, over the warm-up's checkpoints."""
    from dataworth.influence import goal_similarity

    return goal_similarity(session)


def goal_texts(session: Session) -> dict[str, list[str]]:
    """Texts of the goal's steer rows, by subtask."""
    return {s.name: [e.full_text for e in s.steer.examples()] for s in goal_of(session).subtasks}


def refuse_empty(session: Session, rows: int, unscored: Mapping[str, str], what: str) -> None:
    """Record how many rows there is something of, and refuse when there is nothing."""
    first = next(iter(unscored.values()), "")
    session.guard(
        "empty-masks",
        len(unscored) < rows,
        f"{what}: {rows - len(unscored)} of {rows} rows carry loss" + (f" ({first})" if first else ""),
        "give rows with an answer, or correct --map",
    )


def neighbours(session: Session) -> Neighbours:
    """The nearest other rows of each row by cosine of their vectors."""
    from dataworth.numerics.neighbours import nearest

    vectors_ND = vectors(session)
    with session.costing("neighbours", len(session.pool)):
        return nearest(vectors_ND, id_order(session.pool.ids), session.geometry.neighbours)


def clusters(session: Session) -> Clusters:
    """k-means of the rows' vectors; unless told otherwise, as many as classes, or as the square root of the rows.

    Sorscher et al. 2022 (arXiv 2206.14486) found prototypes to care little for it within a factor of ten of the number
    of classes, which the square root of a large pool exceeds.
    """
    from dataworth.numerics.clusters import kmeans

    vectors_ND, rows = vectors(session), len(session.pool)
    usual = len(class_numbers(session)) if session.classifies else round(rows**0.5)
    k = session.geometry.clusters or max(1, usual)
    with session.costing("clusters", rows):
        return kmeans(vectors_ND, id_order(session.pool.ids), k, seed=session.request.seed)


def near_duplicate_groups(session: Session) -> NDArray[np.int64]:
    """The group of near-duplicates of each row, by its words."""
    from dataworth.numerics.near_duplicates import near_duplicates

    pool = session.pool
    with session.costing("near-duplicates", len(pool)):
        return near_duplicates(id_order(pool.ids), PoolText(pool), session.geometry.similar)


def labels(session: Session) -> NDArray[np.int64]:
    """The number of each row's class, in the order of the classes' names.

    Raises:
        RequestError: The rows have no classes.
    """
    return np.array([class_numbers(session)[str(e.label)] for e in session.pool.examples()], dtype=np.int64)


def goal_labels(session: Session) -> dict[str, NDArray[np.int64]]:
    """The same for the goal's steer rows with a vector, by subtask; -1 for a class that the pool hasn't."""
    number, out = class_numbers(session), {}
    for sub in goal_of(session).subtasks:
        _, unscored = vectors_of(session, sub.steer, "embeddings (goal)")  # rows without a vector are in neither
        found = [number.get(str(e.label), -1) for e in sub.steer.examples() if e.id not in unscored]
        out[sub.name] = np.array(found, dtype=np.int64)
    return out


def class_numbers(session: Session) -> dict[str, int]:
    """Class -> its number.

    Raises:
        RequestError: The rows have no classes.
    """
    if session.pool.kinds != {"classify"}:
        raise RequestError(
            f"this needs rows with a class, but the pool has {', '.join(sorted(session.pool.kinds))} rows: expected "
            "--task classify, or images or vectors with a label"
        )
    if "classes" not in session.made:
        found = sorted({str(e.label) for e in session.pool.examples()})
        session.made["classes"] = {label: n for n, label in enumerate(found)}
    numbers: dict[str, int] = session.made["classes"]
    return numbers


def _of_halves(name: str) -> Callable[[Session], NDArray[np.float64]]:
    """A maker from `memorising`, which needs what proofs need."""

    def make(session: Session) -> NDArray[np.float64]:
        from dataworth import memorising

        found: NDArray[np.float64] = getattr(memorising, name)(session)
        return found

    return make


MAKERS: Mapping[str, Callable[[Session], Any]] = {
    "text:pool": lambda session: PoolText(session.pool),
    "text:response": lambda session: PoolText(session.pool, responses=True),
    "text:goal": goal_texts,
    "tokens": tokens,
    "losses": losses,
    "losses_alone": losses_alone,
    "losses_seen": _of_halves("losses_seen"),
    "losses_unseen": _of_halves("losses_unseen"),
    "entropies": entropies,
    "vectors": vectors,
    "neighbours": neighbours,
    "clusters": clusters,
    "near_duplicates": near_duplicate_groups,
    "labels": labels,
    "dynamics": _of_nets("dynamics"),
    "threshold_dynamics": _of_nets("threshold_dynamics"),
    "probabilities": _of_nets("probabilities"),
    "grad_norms": _of_nets("gradient_norms"),
    "goal_labels": goal_labels,
    "goal_vectors": goal_vectors,
    "similarity": similarity,
}
