"""Rows as the learner's template renders them: token ids and masks, and what beside the recipe decides a row's text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dataworth.records import Example, Pool
from dataworth.session import Session
from dataworth.store.artefact import Artefact
from dataworth.store.table import Table

if TYPE_CHECKING:
    from dataworth.learners.render import Encoded

TOKEN_SHARD = 4096
DRIFT_ROWS = 3


def as_read(pool: Pool, spec: Mapping[str, Any]) -> dict[str, Any]:
    """`spec` with what else decides a row's text: its id is that of its columns.

    That is the pool's mapping, if it has one, and the schemas that its columns alone don't tell.
    """
    out, mapping = dict(spec), dict(pool.files[0].mapping)
    told = sorted({f.schema for f in pool.files if not f.implied})
    if mapping:
        out["map"] = mapping
    if told:
        out["schema"] = told
    return out


def token_artefact(session: Session, pool: Pool) -> Artefact:
    """Where token ids and masks of this renderer are kept, for rows read as this pool's are."""
    return session.artefact("tokens", as_read(pool, session.learner.renderer.spec))


def token_table(session: Session, pool: Pool, stage: str = "tokens") -> Table:
    """Token ids and masks of every row of a pool (or of a goal's steer rows)."""
    card = session.learner
    settings = {
        "folder": str(card.source.folder),
        "mask_like": session.recipe.mask_like,
        "max_length": session.recipe.max_length,
    }

    def payload(ids: Sequence[str]) -> list[Example]:
        return [pool.example(pool.position[i]) for i in ids]

    artefact, runner = token_artefact(session, pool), "dataworth.probes.tokens:open_tokens"
    table = session.fill(stage, artefact, pool.ids, runner, settings, payload, TOKEN_SHARD)
    _refuse_drift(session, pool, table)
    _tell(session, table, pool)
    return table


def _tell(session: Session, table: Table, pool: Pool) -> None:
    """A note, once, of rows that the learner sees otherwise than they stand in the file.

    What a trainer of the user's own makes of them isn't known: it gets rows, not tokens.
    """
    if not table.columns:
        return
    goal = session.goal.subtasks if session.goal else ()
    rows = next((f"steer rows of {sub.name}" for sub in goal if sub.steer is pool), "sampled rows")
    rows = "rows" if pool is session.pool else rows
    count = int(table.scored_N.sum())
    cut, forged = (int((np.asarray(table.column(name, fill=0)) > 0).sum()) for name in ("truncated", "forged"))
    most = session.recipe.max_length
    notes = {
        f"{cut:,} of {count:,} {rows} with a loss are longer than {most:,} tokens: the rest of each is cut off, "
        + ("not scored (your trainer gets it)" if session.trainer else "neither scored nor trained on")
        + "; a recipe with a larger max_length reads on": cut,
        f"{forged:,} of {count:,} {rows} with a loss write out special tokens of the template, "
        + ("which your trainer may read as such" if session.trainer else "read as plain text"): forged,
    }
    session.notes += [note for note, some in notes.items() if some and note not in session.notes]


def _refuse_drift(session: Session, pool: Pool, table: Table) -> None:
    """Render a few rows again and compare with what is stored: a template that drifts gives other tokens."""
    from dataworth.probes.tokens import encoded_rows

    chosen = sorted(i for i in pool.ids if i not in table.unscored)[:DRIFT_ROWS]
    if not chosen:
        return
    stored = encoded_rows(token_artefact(session, pool).table(chosen), chosen)
    now = [session.learner.renderer.encode(pool.example(pool.position[i])) for i in chosen]
    same = all(
        np.array_equal(a.input_ids, b.input_ids) and np.array_equal(a.supervised, b.supervised)
        for a, b in zip(stored, now, strict=True)
    )
    session.guard(
        "template-drift",
        same,
        f"{len(chosen)} stored rows of tokens {'equal' if same else 'differ from'} those rendered now",
        "the template renders differently than before; pin what it depends on, or `dataworth cache --clear`",
    )


def encoded_payload(session: Session, pool: Pool) -> Callable[[Sequence[str]], list[Encoded]]:
    """What model probes get for a shard: its rows as the learner sees them, from the token artefact."""
    from dataworth.probes.tokens import encoded_rows

    artefact = token_artefact(session, pool)
    return lambda ids: encoded_rows(artefact.table(list(ids)), ids)
