"""Whatever the data says, a card stays one YAML header and whole tables whose counts add up."""

import re
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.formats import pool_files as files

from dataworth.exports.card import dataset_card
from dataworth.formats import open_pool, write_sidecar
from dataworth.results import Scored, Selection

NASTY = st.one_of(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12),
    st.sampled_from(
        ["---", "a|b", "<script>x</script>", "# title\n\n- list", "x\n---\nlicense: mit", "```", "\u202ebidi"]
    ),
)


def parts_of(card: str) -> tuple[dict, str]:
    header, body = re.fullmatch(r"---\n(.*?\n)---\n\n(.*)", card, re.DOTALL).groups()
    return yaml.safe_load(header), body


def cells(line: str) -> list[str]:
    return [c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]]


def tables_of(body: str) -> dict[str, list[list[str]]]:
    """Section title -> rows of its table, without header and rule."""
    sections = re.split(r"^## ", body, flags=re.MULTILINE)[1:]
    found = {}
    for section in sections:
        lines = [cells(line) for line in section.splitlines() if line.startswith("|")]
        assert len({len(line) for line in lines}) <= 1
        found[section.splitlines()[0]] = lines[2:]
    return found


def number(text: str) -> int:
    return int(text.replace(",", ""))


@settings(max_examples=40)
@given(
    st.lists(st.tuples(NASTY, st.booleans()), min_size=1, max_size=12),
    NASTY,
    NASTY,
    st.none() | NASTY,
    st.none() | NASTY,
)
def test_a_card_adds_up_and_holds_nothing_but_what_it_says(rows, title, words, goal, licence):
    with tempfile.TemporaryDirectory() as folder:
        content = [{"text": f"t{i}", "source": s} for i, (s, _) in enumerate(rows)]
        path = files.jsonl(Path(folder) / "p.jsonl", content)
        pool = open_pool(path)
        kept = np.array([k for _, k in rows])
        selection = Selection(
            ids=tuple(i for i, k in zip(pool.ids, kept, strict=True) if k),
            weights=np.ones(int(kept.sum())),
            kept_N=kept,
            reason_code_N=(~kept).astype(np.uint8),
            reasons=("kept", "dropped"),
            reason_texts={"kept": words, "dropped": f"not {words}"},
            notes=(words,),
        )
        lengths = np.arange(len(rows)) * 7
        card = dataset_card(
            pool, selection, title=title, method=words, command=words, goal=goal, lengths_N=lengths, licence=licence
        )
    header, body = parts_of(card)
    assert (
        header["pretty_name"] == title and header.get("license") == licence and ("license" in header) == bool(licence)
    )
    assert header["size_categories"] == ["n<1K"] and header["task_categories"] == ["text-generation"]
    outside, command = body.split("## How to repeat it\n\n")
    fence = re.match("`+", command)[0]
    assert command.startswith(f"{fence}sh\n{words.strip()}\n{fence}\n") and fence not in words
    assert "<" not in outside and not any(c in outside for c in "\u202e\0\x1b")
    assert body.startswith("# ") and f"{int(kept.sum()):,} of {len(rows):,} rows" in body
    tables = tables_of(outside)
    reasons = tables["Why each row was kept or dropped"]
    assert sum(number(r[0]) for r in reasons) == len(rows)
    (parent,) = tables["Parent files"]
    assert (parent[0], number(parent[1]), parent[4]) == ("p.jsonl", len(rows), f"`{pool.files[0].sha256}`")
    sources = tables["Sources"]
    assert sum(number(r[1]) for r in sources) == len(rows) and sum(number(r[3]) for r in sources) == kept.sum()
    assert [number(r[3]) for r in sources] == sorted((number(r[3]) for r in sources), reverse=True)
    shown = {r[0]: r[1:] for r in tables["Length in tokens"]}
    assert set(shown) == ({"pool", "pick"} if kept.any() else {"pool"})
    assert number(shown["pool"][-1]) == lengths.sum() and number(shown["pool"][4]) == lengths.max()
    if kept.any():
        assert number(shown["pick"][-1]) == lengths[kept].sum() and number(shown["pick"][0]) == lengths[kept].min()


def selection_of(pool, kept, **more):
    return Selection(
        ids=tuple(i for i, k in zip(pool.ids, kept, strict=True) if k),
        weights=np.ones(int(np.sum(kept))),
        kept_N=np.array(kept),
        reason_code_N=(~np.array(kept)).astype(np.uint8),
        reasons=("kept", "dropped"),
        reason_texts={"kept": "kept it", "dropped": "dropped it"},
        **more,
    )


def test_copies_rejects_kinds_and_sizes_are_told(tmp_path):
    pairs = files.jsonl(tmp_path / "a.jsonl", [{"chosen": "c", "rejected": "r"}] * 3)
    prompts = files.jsonl(tmp_path / "b.jsonl", [{"prompt": "p", "ground_truth": "4"}])
    pairs.write_text(pairs.read_text() + "broken\n{}\n")
    pool = open_pool([pairs, prompts])
    card = dataset_card(pool, selection_of(pool, [True] * 4), title="t", method="m", command="c", learner="L")
    header, body = parts_of(card)
    assert header["task_categories"] == ["reinforcement-learning", "text-generation"]
    assert "could not be read: 2." in body and "copies of an earlier one: 2." in body
    assert "picked by m for the model L. Rows are unchanged" in body and "| 4 | kept it |" in body
    assert [line[0] for line in tables_of(body)["Parent files"]] == ["a.jsonl", "b.jsonl"]


def test_size_categories_at_their_borders(tmp_path):
    pool = open_pool(files.jsonl(tmp_path / "a.jsonl", [{"text": "x"}] * 1000))
    for kept, said in ((999, "n<1K"), (1000, "1K<n<10K")):
        rows = np.arange(1000) < kept
        header, _ = parts_of(dataset_card(pool, selection_of(pool, rows), title="t", method="m", command="c"))
        assert header["size_categories"] == [said]


@settings(max_examples=25)
@given(st.lists(st.tuples(st.booleans(), st.none() | st.integers(-5, 5)), min_size=1, max_size=10), st.booleans())
def test_the_sidecar_accounts_for_every_row(rows, scored_twice):
    with tempfile.TemporaryDirectory() as folder:
        pool = open_pool(files.jsonl(Path(folder) / "p.jsonl", [{"text": f"t{i // 2}"} for i in range(len(rows))]))
        values = np.array([np.nan if v is None else float(v) for _, v in rows])
        unscored = {pool.ids[i]: f"why {i}" for i, (_, v) in enumerate(rows) if v is None}
        scores = {"x": Scored(values, unscored)} | ({"y": Scored(np.zeros(len(rows)))} if scored_twice else {})
        selection = selection_of(pool, [k for k, _ in rows])
        written = write_sidecar(Path(folder) / "o.jsonl", pool, selection, scores, "card", {})
        reasons, weights = (pq.read_table(p).to_pydict() for p in written[:2])
    assert reasons["id"] == list(pool.ids) and reasons["kept"] == [k for k, _ in rows]
    assert reasons["reason"] == ["kept" if k else "dropped" for k, _ in rows]
    assert reasons["reason_text"] == [f"{r} it" for r in reasons["reason"]] and set(reasons["source"]) == {"p"}
    assert reasons["score_x"] == [v for _, v in rows]
    assert reasons.get("unscored_x", [None] * len(rows)) == [unscored.get(i) for i in pool.ids]
    assert ("score_y" in reasons) == scored_twice and "unscored_y" not in reasons
    assert weights == {
        "id": [i for i, k in zip(pool.ids, reasons["kept"], strict=True) if k],
        "weight": [1.0] * len(selection.ids),
    }
