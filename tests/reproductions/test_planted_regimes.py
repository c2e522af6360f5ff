"""Planted regimes, a few of them live, and the committed result recomputed."""

import json

from reproductions.planted_regimes import CASES, FIRST, OUT, case, main, outcome, summary

RESULT = json.loads(OUT.read_text())


def test_cases_are_what_their_definition_says():
    cases = [case(n) for n in range(FIRST, FIRST + CASES)]
    assert [c.planted for c in cases].count("border") == 10
    for c in cases:
        ratio = (c.smallest / c.features, c.features / c.sizes[-1])
        assert (ratio[0] >= 4) == (c.planted == "variance-limited in data")
        assert (ratio[1] >= 4) == (c.planted == "resolution-limited in data")


def test_the_committed_summary_is_that_of_its_cases():
    assert len(RESULT["cases"]) == CASES
    assert summary(RESULT["cases"]) == {k: v for k, v in RESULT.items() if k != "cases"}


def test_live_cases_come_out_as_committed():
    for number in (FIRST, FIRST + 1, FIRST + 4):
        told = next(c for c in RESULT["cases"] if c["number"] == number)
        assert outcome(case(number))["word"] == told["word"]


def test_a_few_cases_say_that_they_are_no_reproduction(capsys):
    main(["--cases", "1", "--first", "3"])
    assert capsys.readouterr().out.startswith("not reproduced: not the stated 50 cases")
