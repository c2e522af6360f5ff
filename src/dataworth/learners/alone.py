"""A row without its prompt: what the learner thinks of the response when nothing was asked."""

from __future__ import annotations

import numpy as np

from dataworth.learners.render import Encoded


def without_prompt(row: Encoded, lead: int) -> Encoded:
    """The row's targets behind one token that stands for everything before them.

    Every token that carries loss in `row` carries loss here, in the same order, and no other: so the two means of IFD
    cover the same tokens. The reference code gives GPT-2 the response without a token before it, which leaves the
    first one out of one mean only (Cherry LLM, arXiv 2308.12032). A row cut at the maximum length was cut before its
    prompt is taken away, so what one side lost the other doesn't see; the result is never longer than the row. Where
    answers of several turns carry loss, they follow one another. A row without a prompt stays as it is, if `lead` is
    its first token.

    Args:
        row: As rendered; one that carries no loss keeps its reason.
        lead: Id of the token that begins a text: BOS, or the end-of-text token of a tokenizer that has none.
    """
    targets = row.input_ids[1:][row.supervised[1:]]
    input_ids = np.concatenate([np.array([lead], dtype=np.int32), targets])
    supervised = np.ones(len(input_ids), dtype=np.bool_)
    supervised[0] = False
    return Encoded(row.id, input_ids, supervised, row.truncated, row.reason, row.forged)
