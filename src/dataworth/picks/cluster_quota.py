"""Cluster quota: the best rows of every cluster, each cluster with its share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from dataworth.picks.quota import Quota
from dataworth.picks.reach import NO_VECTOR
from dataworth.records import Budget
from dataworth.results import Selection

_SOURCE, _CLUSTER = "of its source within the source's share", "of its cluster within the cluster's share"


class ClusterQuota:
    """`quota` with clusters in the place of sources: shares equal, or in proportion to the clusters' eligible rows."""

    name = "cluster_quota"
    needs = frozenset({"score", "clusters"})

    def __call__(
        self,
        inputs: Mapping[str, Any],
        budget: Budget,
        *,
        seed: int = 0,
        shares: Literal["equal", "proportional"] = "equal",
    ) -> Selection:
        """Pick.

        Raises:
            RequestError: Unknown shares.
        """
        label_N = inputs["clusters"].label_N
        ids, code = inputs["ids"], ("no-vector", NO_VECTOR["no-vector"])
        without = {ids[i]: code for i in np.flatnonzero(label_N < 0).tolist()}
        names = tuple(f"cluster {c:06d}" for c in range(int(label_N.max(initial=0)) + 1))
        found = Quota()(
            {
                **inputs,
                "excluded": {**without, **inputs.get("excluded", {})},
                "source_N": np.maximum(label_N, 0),
                "sources": names,
            },
            budget,
            seed=seed,
            shares=shares,
        )
        reasons = tuple("kept-cluster" if r == "kept-quota" else r for r in found.reasons)
        texts = {r: found.reason_texts["kept-quota" if r == "kept-cluster" else r] for r in reasons}
        texts = {r: text.replace(_SOURCE, _CLUSTER) for r, text in texts.items()}
        notes = tuple(n.replace("no row of source 'cluster", "no row of 'cluster") for n in found.notes)
        return replace(found, reasons=reasons, reason_texts=texts, boundary={}, notes=notes)
