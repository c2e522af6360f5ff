"""DW103: pilots that did best at the longest training that was tried, so that the curve may be one of optimisation.

A fixed number of steps turns a data curve into an optimisation curve: under-trained models look as if data gained
little (Bahri et al. 2021 train to an early-stopped optimum for this reason).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from dataworth.checks.given import given
from dataworth.results import Finding

GAIN = 0.01
"""A last doubling of the epochs that lowered the loss by more than this share might have been followed by another: a
share of the loss, or of what training gained where that is less, as of a tuned language model."""


class UnderTrained:
    """Sizes at which the last doubling of epochs still paid, or nothing but one number of epochs was tried."""

    code = "DW103"
    title = "under-trained pilots posing as a law"
    severity: Literal["issue", "tip"] = "issue"
    cost: Literal["free", "text", "model"] = "free"
    needs = frozenset({"stop", "stop_scale"})

    def __call__(self, inputs: Mapping[str, Any]) -> Finding | None:
        """Reads `stop`, for each size the losses that chose epochs, by epochs, and `stop_scale` (`still_falls`).

        Raises:
            NotApplicable: There are none.
        """
        stop: Mapping[int, Mapping[int, float]] = given(inputs, "stop", "no epochs were tried")
        still = {n: max(loss_of) for n, loss_of in stop.items() if still_falls(loss_of, inputs.get("stop_scale"))}
        if not still:
            return None
        sizes = ", ".join(f"{n:,} rows after {e}" for n, e in still.items())
        return Finding(
            self.code,
            self.title,
            self.severity,
            f"The longest training that was tried did best by over {GAIN:.0%} of the loss (or of what training gained, "
            f"if that is less), or was the only one, at {sizes} epochs.",
            "Raise epochs in --recipe (or --budget, where that cut them), or the learning rate, until more do worse.",
            {"epochs": still},
        )


def still_falls(loss_of: Mapping[int, float], scale: float | None = None) -> bool:
    """Whether the longest of several trainings did best by more than `GAIN`, or there was but one.

    Args:
        loss_of: Losses by epochs.
        scale: What `GAIN` is a share of; the losses themselves if None.
    """
    losses = [loss_of[epochs] for epochs in sorted(loss_of)]
    return len(losses) < 2 or losses[-1] < min(losses[:-1]) - GAIN * (min(losses[:-1]) if scale is None else scale)
