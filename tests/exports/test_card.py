"""The card says what was picked and why, adds up, and can't be taken over by the data."""

import numpy as np
import yaml
from tests.formats import pool_files as files

from dataworth.exports.card import dataset_card
from dataworth.formats import open_pool
from dataworth.results import Selection


def made(tmp_path, **options):
    rows = [{"text": f"t{i}", "source": "web|<b>" if i % 4 else "wiki"} for i in range(40)]
    path = files.jsonl(tmp_path / "p.jsonl", rows)
    path.write_text(path.read_text() + "broken\n")
    pool = open_pool(path)
    kept = np.arange(40) % 8 == 0
    selection = Selection(
        ids=tuple(i for i, k in zip(pool.ids, kept, strict=True) if k),
        weights=np.ones(5),
        kept_N=kept,
        reason_code_N=(~kept).astype(np.uint8),
        reasons=("kept", "below-cut"),
        reason_texts={"kept": "among the 5 best", "below-cut": "not among the 5 best"},
    )
    return pool, dataset_card(
        pool,
        selection,
        title="picked",
        method="less, top 5",
        command="dataworth select p.jsonl --keep 5",
        **options,
    )


def test_card(tmp_path):
    pool, card = made(tmp_path, goal="gsm8k", learner="SmolLM2-135M", lengths_N=np.arange(40), licence="cc-by-4.0")
    header = yaml.safe_load(card.split("---")[1])
    assert header == {
        "pretty_name": "picked",
        "license": "cc-by-4.0",
        "size_categories": ["n<1K"],
        "task_categories": ["text-generation"],
        "tags": ["data-selection", "dataworth"],
    }
    assert "\n\nKept:" not in card
    assert "Kept: 9 of 80 tokens &lt;b&gt;.\n" in made(tmp_path, beside="9 of 80 tokens <b>")[1]
    assert "5 of 40 rows, picked by less, top 5 for the model SmolLM2-135M and the goal gsm8k." in card
    assert "| 5 | among the 5 best |" in card and "| 35 | not among the 5 best |" in card
    assert "Rows that could not be read: 1." in card
    assert pool.files[0].sha256 in card
    assert "| wiki | 10 | 25.0 % | 5 | 100.0 % |" in card
    assert "| web\\|&lt;b&gt; | 30 | 75.0 % | 0 | 0.0 % |" in card
    assert "| pick | 0 | 3 | 16 | 29 | 32 | 80 |" in card
    assert "```sh\ndataworth select p.jsonl --keep 5\n```" in card


def test_a_licence_is_never_invented(tmp_path):
    _, card = made(tmp_path)
    assert "license" not in yaml.safe_load(card.split("---")[1])
    assert "licence was not given" in card


def test_many_sources_are_cut_with_their_sum(tmp_path):
    rows = [{"text": f"t{i}", "source": f"site {i:03}"} for i in range(80)]
    pool = open_pool(files.jsonl(tmp_path / "p.jsonl", rows))
    kept = np.arange(80) < 60
    selection = Selection(
        ids=pool.ids[:60],
        weights=np.ones(60),
        kept_N=kept,
        reason_code_N=(~kept).astype(np.uint8),
        reasons=("kept", "dropped"),
        reason_texts={"kept": "kept", "dropped": "dropped"},
    )
    card = dataset_card(pool, selection, title="t", method="m", command="c ``` d")
    assert card.count("| site ") == 50 and "30 further sources hold 10 picked rows." in card
    assert "\n````sh\nc ``` d\n````" in card and "picked by m. Rows are" in card
