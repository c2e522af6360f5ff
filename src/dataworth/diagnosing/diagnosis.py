"""What pilots say: the data law with its predictions, the regime, capacity, checks; one sentence first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dataworth import plugins
from dataworth.checks.under_trained import still_falls
from dataworth.diagnosing.design import LEAST_ROWS, Prices, halvings, planned
from dataworth.diagnosing.measured import Measured
from dataworth.errors import NotApplicable, RequestError
from dataworth.laws.capacity import Fill, fill, membership_f1
from dataworth.laws.curve import Curve, Prediction, fit_curve
from dataworth.laws.regime import Regime, regime
from dataworth.laws.repeated import C4_R_STAR, effective_multiple, fit_repetition
from dataworth.numerics.ranks import Estimate, mean_interval
from dataworth.results import Finding, duration, html_of, table

CHECKS = ("DW101", "DW102", "DW103", "DW104", "DW105", "DW106")
FLAT = 0.02
"""Twice the rows that take away less than this share of `Measured.scale` hardly help."""
_ASKED = (2.0, 10.0)
_CURVE = 4
_UNBOUNDED = 1e4
"""A fitted R* above this says that these pilots don't tell it."""
_CROSSES = (
    "train and test loss, far apart at the smallest size, near one another within the measured ones (interpolation "
    "threshold), where curves bend"
)
_KEPT, _EPOCHS = 0.25, 4
"""What the law of repeated data is read at, where some pilot was trained as long."""


@dataclass(frozen=True)
class Diagnosis:
    """A diagnosis, read from what was measured; everything else follows from that.

    `target` is a loss that the user wants to reach.
    """

    run: Path
    measured: Measured
    target: float | None = None
    record: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def curve(self) -> Curve | str:
        """The data law of the goal's number, or why there is none."""
        sizes = np.array(self.measured.sizes, dtype=np.float64)
        test_CK = self.measured.losses()
        there_K = np.isfinite(test_CK).any(0) & self.measured.learnt()
        if there_K.sum() < _CURVE:
            return f"only {there_K.sum()} sizes learnt anything: a law takes {_CURVE}; raise epochs in --recipe"
        try:
            fitted = fit_curve(sizes[there_K], test_CK[:, there_K])
        except RequestError as reason:
            return str(reason)
        pilots = self.measured.pilots()
        crosses = pilots is not None and pilots.surely_crosses()
        return replace(fitted, beside=(_CROSSES,)) if crosses else fitted

    @cached_property
    def predictions(self) -> tuple[Prediction, ...]:
        """Losses at twice and ten times the largest size, and at the whole pool, twice and ten times it."""
        if isinstance(self.curve, str):
            return ()
        largest, pool = float(self.measured.sizes[-1]), float(self.measured.pool_rows)
        asked = {largest * by for by in _ASKED} | {pool * by for by in (1.0, *_ASKED)} - {largest}
        return tuple(self.curve.predict(D) for D in sorted(asked))

    @cached_property
    def rows_for_target(self) -> Prediction | None:
        """Rows that the target takes."""
        if self.target is None:
            return None
        if self._is_there():
            return Prediction("rows", self.target, 0.0, 0.0, 0.0, 0.9, 0.0, out_of_range=False)
        return None if isinstance(self.curve, str) else self.curve.rows_for(self.target)

    def _is_there(self) -> bool:
        """Whether the untouched learner has reached the target."""
        bare = self.measured.untouched
        return self.target is not None and bare is not None and bare <= self.target

    @cached_property
    def regime(self) -> Regime | str:
        """Which of data and model limits, or why nothing can be said."""
        pilots = self.measured.pilots()
        if pilots is None:
            return (
                "too few sizes learnt anything and leave pool rows untrained, on which train and test loss are "
                "compared: raise epochs, or give a larger pool"
            )
        try:
            return regime(pilots, settled=self._settled)
        except RequestError as reason:
            return str(reason)

    @property
    def _settled(self) -> bool:
        """Whether more epochs were tried at the largest size of the pilots that tell the regime and did no better."""
        return not self._still_falls(self._regime_rows())

    def _still_falls(self, rows: int) -> bool:
        """Whether the longest training that was tried at a size did best."""
        return still_falls(self.measured.stop_losses().get(rows, {}), self.measured.stop_scale())

    @cached_property
    def fill(self) -> Fill | None:
        """Bits of the pool against what the trained parameters hold; None where they weren't counted."""
        counted, parameters = self.measured.capacity, self.measured.parameters
        if counted is None or not parameters or not counted["bits"] > 0:
            return None
        bounds = {name: float(counted[name]) for name in ("low", "high")}
        return fill(counted["bits"], parameters, adapter=bool(counted["adapter"]), **bounds)

    @cached_property
    def checks(self) -> tuple[tuple[Finding, ...], dict[str, str]]:
        """(findings, what every other check came to)."""
        inputs = {
            "curve": None if isinstance(self.curve, str) else self.curve,
            "pilots": self.measured.pilots(),
            "stop": self.measured.stop_losses(),
            "scale": self.measured.scale(),
            "stop_scale": self.measured.stop_scale(),
            "fill": self.fill,
            "near_trained": None if self.measured.near is None else self.measured.near * self.measured.kept_near,
        }
        findings, others = [], {}
        for code in CHECKS:
            check = plugins.load("checks", code)
            try:
                found = check({name: inputs[name] for name in check.needs})
            except NotApplicable as reason:
                others[code] = f"not applicable: {reason}"
                continue
            if found is None:
                others[code] = "passed"
            else:
                findings.append(found)
        return tuple(findings), others

    @cached_property
    def repeats(self) -> str:
        """What a quarter of the pool for four epochs counts as, by the law of repeated data; empty where none fits."""
        rows, r_star, whose = self.measured.pool_rows, C4_R_STAR, "of language-model pretraining, not of this learner"
        fitted = self._r_stars()
        if fitted:
            r_star, low, high = fitted[0], min(fitted), max(fitted)
            whose = f"fitted to one chain's pilots, {low:.2g} to {high:.2g} with all sizes or without one"
        elif self.measured.loss_unit != "nats/token":
            return ""
        counts = float(f"{_KEPT * rows * float(effective_multiple(_EPOCHS, r_star)):.2g}")
        return (
            f"{_KEPT:.0%} of the pool for {_EPOCHS} epochs counts as about {counts:,.0f} rows seen once, where "
            f"{rows:,} rows seen once are all of it (R* = {r_star:.2g}, {whose})"
        )

    def _r_stars(self) -> list[float]:
        """R* by all pilots of the first chain, then without each size; empty where they can't tell it."""
        runs = [(p.epochs, p.rows, p.stop) for p in self.measured.points if not p.larger and p.chain == 0 and p.stop]
        if max((epochs for epochs, _, _ in runs), default=0) < _EPOCHS:
            return []
        found = []
        for left in (None, *self.measured.sizes):
            try:
                epochs, sizes, losses = zip(*(run for run in runs if run[1] != left), strict=True)
                found.append(fit_repetition(epochs, sizes, losses).r_star)
            except (RequestError, ValueError):  # pilots of one epoch at three sizes, and of more, aren't there
                return []
        return found if max(found) < _UNBOUNDED else []

    def price_of(self, sizes: Sequence[int], *, epochs_by: int = 1, chains_by: int = 1) -> float | None:
        """Seconds that pilots of these sizes would take at most on the same workers; None where none were timed."""
        if not self.measured.price:
            return None
        price = dict(self.measured.price)
        workers, epochs = int(price.pop("workers")), int(price.pop("epochs")) * epochs_by
        made = planned(
            self.measured.pool_rows,
            epochs,
            chains=self.measured.chains * chains_by,
            larger=bool(self.measured.larger),
            sizes=sizes,
            price=Prices(**price),
            workers=workers,
        )
        return made.seconds

    def what_would_tell(self) -> str:
        """How far the pilots are from the whole pool, and what closing the gap takes."""
        largest, pool = self.measured.sizes[-1], self.measured.pool_rows
        advice = [f.advice for f in self.checks[0] if f.severity == "issue"]
        # What the advice asks for is priced with it: under-trained pilots of more rows would be under-trained again.
        by = 2 if any(f.code == "DW103" for f in self.checks[0]) else 1
        said = " with twice the epochs" if by > 1 else ""

        def took(sizes: Sequence[int], chains_by: int = 1) -> str:
            seconds = self.price_of(sizes, epochs_by=by, chains_by=chains_by)
            return "" if seconds is None else f" (at most {duration(seconds)})"

        parts = []
        if pool > 2 * largest:  # that far it is predicted
            near, sure = (max(LEAST_ROWS, -(-pool // of)) for of in (10, 2))
            price = {n: f"pilots up to {n:,} rows{said}{took(halvings(n))}" for n in (near, sure)}
            told = f"{price[sure]} would measure the curve up to half of the pool"
            if near > largest:
                told = f"{price[near]} would tell if the curve is a clean power law; {told}"
            parts.append(f"the largest pilot has {largest:,} of {pool:,} rows (1/{pool / largest:,.1f}); {told}")
        elif not isinstance(self.regime, str) and self.regime.word == "undetermined":
            if not self.measured.larger:
                parts.append("a larger learner beside these pilots (--larger) would tell the data from the model")
            elif not self._crosses():
                priced = took(self.measured.sizes, 2)
                parts.append(f"twice the chains at these sizes{said}{priced} would narrow every interval")
        return "; ".join([*parts, *([f"first: {' '.join(advice)}"] if advice else [])])

    def _crosses(self) -> bool:
        pilots = self.measured.pilots()
        return pilots is not None and pilots.crossing() is not None

    def headline(self) -> str:
        """The answer in a sentence: of the data, then of the model."""
        return f"{self.of_data()}; {self.of_model()}."

    def of_data(self) -> str:
        """Whether more rows help, and what they would bring."""
        curve = self.curve
        if harm := self._harm():
            return harm
        if isinstance(curve, str):
            return f"Cannot tell what more rows would do, because {curve}"
        unit, largest, pool = self.measured.unit, float(curve.sizes_K[-1]), float(self.measured.pool_rows)
        measured = float(np.nanmean(curve.loss_CK[:, -1]))
        reached = f"{measured:.4g} {unit} at {largest:,.0f} rows"
        if rise := curve.rise():
            return f"More rows don't always help: the loss rises from {rise[0]:,.0f} to {rise[1]:,.0f} rows ({reached})"
        if not curve.inspection.falls:
            return f"More rows aren't shown to help: {reached}, not shown to be below that of {curve.sizes_K[0]:,.0f}"
        if self._still_falls(int(largest)):
            alone = len(self.measured.stop_losses().get(int(largest), {})) < 2
            why = "only one number of epochs was tried" if alone else "the longest training that was tried did best"
            return (
                f"More rows or more epochs help, and these pilots can't tell which, because at {largest:,.0f} rows "
                f"{why} ({reached}): the curve may be one of optimisation"
            )
        twice, then = curve.share_gained(2 * largest), curve.predict(pool if pool > largest else 2 * largest)
        most, of_scale = twice.high * curve.law.at(largest), self.measured.scale()
        if most < FLAT * (measured if of_scale is None else of_scale):
            return f"More rows hardly help: twice as many would take away {most:.2g} at most of {reached}"
        now = curve.band(largest)
        misses = not now.low <= measured <= now.high
        how = f"which misses the {measured:.4g} measured there" if misses else f"{measured:.4g} measured"
        told = f"{now.value:.4g} {unit} at {largest:,.0f} rows by the fitted law ({how})"
        help_ = "More rows help" if twice.low > 0 and not misses else "More rows may help"
        what = f"all {pool:,.0f} rows" if pool > largest else f"twice as many rows ({then.asked:,.0f})"
        if then.refusal:
            gain = f"twice as many would take about {twice.value:.1%} away from {told}"
            return f"{help_}: {gain}; what {what} reach cannot be told, because {then.refusal}"
        foretold = f"{then.value:.4g} [{then.low:.4g} .. {then.high:.4g}]"
        return f"{help_}: {what} are predicted to reach {foretold}, from {told}"

    def _harm(self) -> str:
        """That training made it worse, where the largest pilots show it; empty where they don't."""
        bare, unit, largest = self.measured.untouched, self.measured.unit, self.measured.sizes[-1]
        found = _interval(self.measured.losses()[:, -1])
        if bare is None or found is None or not found.low > bare:
            return ""
        worse = f"Training on these rows is worse than none: {found.value:.4g} {unit} at {largest:,} rows, {bare:.4g} "
        reach = [p for p in self.predictions if not p.refusal and p.high < bare]
        if not reach:
            return f"{worse}untouched, and no number of them is predicted to change that"
        return f"{worse}untouched, though {reach[0].asked:,.0f} are predicted to reach {reach[0].value:.4g}"

    def of_model(self) -> str:
        """Whether the data or the model is the bottleneck, on pool rows."""
        if isinstance(self.regime, str):
            return f"cannot tell whether the data or the model is the bottleneck, because {self.regime}"
        return f"{self.regime} (on pool rows, in {self.measured.loss_unit}, at up to {self._regime_rows():,} rows)"

    def _regime_rows(self) -> int:
        """The largest size that leaves pool rows untrained, on which train and test loss are compared."""
        pilots = self.measured.pilots()
        return int(pilots.sizes_K.max()) if pilots is not None else 0

    def of_larger(self) -> list[str]:
        """What the larger learner gains on the goal, a sentence a size."""
        m, out = self.measured, []
        gain_CK = m.grid("test") - m.grid("test", larger=True)
        for k, n in enumerate(m.sizes):
            if found := _interval(gain_CK[:, k]):
                own, theirs = m.chosen.get(n), m.chosen_larger.get(n, m.chosen.get(n))
                epochs = (
                    f"after {theirs} epochs, where the learner takes {own}" if theirs != own else f"both after {own}"
                )
                out.append(
                    f"the larger learner ({m.larger}) gains {found} {m.unit} on {m.on} at {n:,} rows (95 %; {epochs})"
                )
        return out

    def size_table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows of the sizes."""
        header = ["rows", "epochs", f"{self.measured.unit}", "95 %", "train / fresh", "larger"]
        test, larger = self.measured.grid("test"), self.measured.grid("test", larger=True)
        share = self.measured.grid("train") / self.measured.grid("fresh")
        rows = []
        for k, n in enumerate(self.measured.sizes):
            found = _interval(test[:, k])
            rows.append(
                [
                    f"{n:,}",
                    str(self.measured.chosen.get(n, "")),
                    f"{found.value:.4f}" if found else "",
                    f"{found.low:.4f} .. {found.high:.4f}" if found else "",
                    _mean(share[:, k], 3),
                    _mean(larger[:, k], 4),
                ]
            )
        return header, rows

    def lines(self) -> list[str]:
        """Everything below the table, a sentence each."""
        out = (
            [f"untouched: {self.measured.untouched:.4f} {self.measured.unit}"]
            if self.measured.untouched is not None
            else []
        )
        if not isinstance(self.curve, str):
            out += self.curve.explain().splitlines()
        out += self._foretold()
        dull = [f"{n:,}" for n, fits in zip(self.measured.sizes, self.measured.learnt(), strict=True) if not fits]
        if dull:
            out.append(
                f"pilots of {', '.join(dull)} rows learnt next to nothing yet and are in no law: raise epochs in "
                "--recipe"
            )
        out += [*self.of_larger(), *filter(None, [self.repeats, self.what_would_tell()])]
        if self.fill is not None and self.measured.capacity:
            out.append(f"capacity: {self.fill} (bits are {self.measured.capacity['how']})")
            if self.fill.adapter:
                f1 = membership_f1(self.measured.pool_rows, self.measured.parameters)
                out.append(
                    "membership: trained to the limit on as many rows of 64 tokens, a whole model of this size would "
                    f"let an attack by loss tell trained from unseen rows with F1 {f1:.2f}; untested for adapters and "
                    "other lengths, and no guarantee of privacy"
                )
        if self.measured.dimension:
            out.append(f"a rough prior and no diagnosis: the pool's vectors have {self.measured.dimension['told']}")
        if self.measured.delayed:
            out.append(str(self.measured.delayed["told"]))
        return out

    def _foretold(self) -> list[str]:
        """Predictions with 90 % intervals; what is refused for one reason is one sentence."""
        unit = self.measured.unit
        out = [f"{p.said(unit)} (90 %)" for p in self.predictions if not p.refusal]
        refused: dict[str, list[str]] = {}
        for p in self.predictions:
            if p.refusal:
                refused.setdefault(p.refusal, []).append(f"{p.asked:,.0f}")
        out += [f"{unit} at {', '.join(rows)} rows: cannot tell, because {why}" for why, rows in refused.items()]
        if self._is_there():
            return [*out, f"{unit} of {self.target:g}: the untouched learner is there without any row"]
        return out + ([self.rows_for_target.said(unit)] if self.rows_for_target else [])

    def check_lines(self) -> list[str]:
        """A line for each check that found something, and one for the others."""
        findings, others = self.checks
        out = [f"{f.code} {f.title}: {f.text} {f.advice}" for f in findings]
        passed = [code for code, what in others.items() if what == "passed"]
        return [*out, *([f"passed: {', '.join(passed)}"] if passed else []),
                *(f"{code}: {what}" for code, what in others.items() if what != "passed")]  # fmt: skip

    def explain(self) -> str:
        """The answer, the sizes, what follows from them, checks and notes."""
        header, rows = self.size_table()
        m = self.measured
        beside = f"judged on {m.on}, {m.chains} chains" + (f"; larger: {m.larger}" if m.larger else "")
        if not all(row[header.index("train / fresh")] for row in rows):
            beside += "; train / fresh is blank where a pilot leaves no pool rows untrained to compare with"
        failed = [f"pilot of {p.rows:,} rows, chain {p.chain}: {p.failed}" for p in m.points if p.failed]
        return "\n".join(
            [self.headline(), table(rows, header), beside, *self.lines(), *self.check_lines(), *failed, *m.notes]
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        findings, others = self.checks
        curve, found = self.curve, self.regime
        return {
            "run": str(self.run),
            "headline": self.headline(),
            "measured": self.measured.to_dict(),
            "curve": {"refusal": curve} if isinstance(curve, str) else curve.to_dict(),
            "predictions": [p.to_dict() for p in self.predictions],
            "target": self.rows_for_target and self.rows_for_target.to_dict(),
            "regime": {"word": "undetermined", "reasons": [found]} if isinstance(found, str) else found.to_dict(),
            "repeats": self.repeats,
            "what_would_tell": self.what_would_tell(),
            "capacity": self.fill and {**self.fill.to_dict(), **dict(self.measured.capacity or {})},
            "findings": [vars(f) for f in findings],
            "checks": others,
            "record": dict(self.record),
        }

    def with_record(self, record: Mapping[str, Any]) -> Diagnosis:
        """The same with the run's record."""
        return replace(self, record=record)

    def _repr_html_(self) -> str:
        return html_of(self.explain())


def _interval(values_C: Any) -> Estimate | None:
    values_C = values_C[np.isfinite(values_C)]
    return mean_interval(values_C) if len(values_C) > 1 else None


def _mean(values_C: Any, digits: int) -> str:
    values_C = values_C[np.isfinite(values_C)]
    return f"{values_C.mean():.{digits}f}" if len(values_C) else ""
