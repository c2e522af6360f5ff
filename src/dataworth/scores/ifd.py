"""IFD: how much the prompt helps the learner to predict the response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import RequestError
from dataworth.results import Scored
from dataworth.scores.assemble import assemble


class IFD:
    """Instruction-following difficulty: perplexity of the response given its prompt over its perplexity alone.

    Sources: Li et al. 2024, arXiv 2402.00530 (Superfiltering), Eq. 3, for `form=ppl`, exp(L(A|Q) - L(A)); the code of
    Li et al. 2023, arXiv 2308.12032 (Cherry LLM), for `form=loss`, L(A|Q) / L(A). The two order rows differently.
    Both losses are means over the same response tokens in nats. The means of responses of one to three tokens are
    noisy, and so is their IFD.
    """

    name = "ifd"
    kinds = frozenset({"sft"})
    needs = frozenset({"losses", "losses_alone"})
    higher: Literal["keep", "drop"] = "keep"

    def __call__(
        self, inputs: Mapping[str, Any], *, form: Literal["ppl", "loss"] = "ppl", threshold: float = 1.0
    ) -> Scored:
        """Score every row from `losses` and `losses_alone` [N] (nats a token, NaN where there is none).

        A row at or above `threshold` isn't ranked, as in the papers: its prompt doesn't help. It is unscored with its
        IFD in the reason; `threshold=inf` ranks all rows.

        Raises:
            RequestError: An unknown form, or a threshold that isn't a positive number.
        """
        if form not in ("ppl", "loss"):
            raise RequestError(f"form={form!r}: expected ppl or loss; correct --option form")
        if not threshold > 0:
            raise RequestError(
                f"threshold={threshold!r}: expected a positive number or inf; correct --option threshold"
            )
        given_N = np.asarray(inputs["losses"], np.float64)
        alone_N = np.asarray(inputs["losses_alone"], np.float64)
        values_N = _ifd(given_N, alone_N, form)
        unhelped = np.flatnonzero(values_N >= threshold).tolist()
        reasons = {inputs["ids"][i]: f"its prompt does not help (IFD {values_N[i]:.2f})" for i in unhelped}
        values_N[unhelped] = np.nan
        known = {"ids": inputs["ids"], "unscored": {**reasons, **inputs.get("unscored", {})}}
        return assemble(values_N, known, "it has no loss with or without its prompt")


def _ifd(given_N: NDArray[np.float64], alone_N: NDArray[np.float64], form: str) -> NDArray[np.float64]:
    """One number per row, not finite where both losses are zero or too far apart."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        return np.exp(given_N - alone_N) if form == "ppl" else given_N / alone_N
