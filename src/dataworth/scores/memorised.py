"""Bits of each row that a learner holds by heart: what training on it saves beyond what other rows teach."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from dataworth.results import Scored
from dataworth.scores.assemble import assemble

_NATS_A_BIT = float(np.log(2.0))


class Memorised:
    """max(0, log2 p(row) under a learner trained on it - log2 p(row) under one trained on other rows), in bits.

    Source: Morris et al. 2025, arXiv 2505.24832, section 2 (unintended memorisation), taken over whole rows, with a
    learner of the same size trained on the other half of the pool as the reference. Rows that can only be learnt by
    heart (noise, wrong labels, rare facts) score high, rows that others teach, too, near 0; which of them are worth
    training on is the pool's matter, so `prove` or `--policy auto` decide. By default few bits are kept.
    """

    name = "memorised"
    kinds = frozenset({"sft", "text", "classify"})
    needs = frozenset({"losses_seen", "losses_unseen"})
    higher: Literal["keep", "drop"] = "drop"

    def __call__(self, inputs: Mapping[str, Any]) -> Scored:
        """Score every row from `losses_seen` and `losses_unseen` `[N]`, nats of whole rows, NaN where there is none."""
        seen_N, unseen_N = (np.asarray(inputs[name], np.float64) for name in ("losses_seen", "losses_unseen"))
        # max(0, nan) would be 0 with fmax: a row without a loss has no bits, not none.
        bits_N = np.maximum(unseen_N - seen_N, 0.0) / _NATS_A_BIT
        return assemble(bits_N, inputs, "it carries no loss")
