import numpy as np
import pytest

from dataworth.learners.alone import without_prompt
from dataworth.learners.render import Encoded

BOS = 1


def row(ids, supervised, **more):
    return Encoded("r", np.array(ids, dtype=np.int32), np.array(supervised, dtype=bool), **more)


def targets(r):
    """What carries loss, as batches are made: the first token never does."""
    return r.input_ids[1:][r.supervised[1:]].tolist()


@pytest.mark.parametrize(
    "mask",
    [[0, 0, 0, 1, 1], [0, 1, 1, 1, 1], [0, 0, 1, 0, 1], [1, 0, 1, 1, 0], [0, 0, 0, 0, 1]],
    ids=["prompt", "none", "turns", "first", "last"],
)
def test_both_means_cover_the_same_tokens(mask):
    given = row([BOS, 11, 12, 13, 14], mask)
    alone = without_prompt(given, BOS)
    assert targets(alone) == targets(given)
    assert alone.targets == len(alone) - 1 == sum(mask[1:])
    assert len(alone) <= len(given)


def test_the_prompt_is_gone_and_the_first_response_token_is_predicted():
    alone = without_prompt(row([BOS, 11, 12, 13, 14], [0, 0, 0, 1, 1]), BOS)
    assert alone.input_ids.tolist() == [BOS, 13, 14]
    assert alone.supervised.tolist() == [False, True, True]
    assert alone.input_ids.dtype == np.int32 and alone.supervised.dtype == bool


def test_a_row_without_a_prompt_stays_as_it_is():
    """So its IFD is 1: both losses are those of one and the same row."""
    given = row([BOS, 11, 12], [0, 1, 1])
    alone = without_prompt(given, BOS)
    np.testing.assert_array_equal(alone.input_ids, given.input_ids)
    np.testing.assert_array_equal(alone.supervised, given.supervised)


def test_a_cut_row_shows_the_same_part_of_its_response():
    """The prompt doesn't give its room to tokens that the other side never saw."""
    whole = row(range(100, 200), [0] * 60 + [1] * 40)
    cut = row(whole.input_ids[:80], whole.supervised[:80], truncated=True)
    alone = without_prompt(cut, BOS)
    assert alone.truncated and targets(alone) == list(range(160, 180))


def test_answers_of_several_turns_follow_one_another():
    alone = without_prompt(row([BOS, 11, 21, 22, 12, 23], [0, 0, 1, 1, 0, 1]), BOS)
    assert alone.input_ids.tolist() == [BOS, 21, 22, 23]


def test_a_row_that_carries_no_loss_keeps_its_reason():
    alone = without_prompt(row([], [], reason="every assistant turn is empty", forged=2), BOS)
    assert alone.reason == "every assistant turn is empty" and alone.targets == 0 and alone.forged == 2
