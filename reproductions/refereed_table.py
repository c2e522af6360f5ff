"""The refereed table of the README: `python -m reproductions.refereed_table --write README.md`.

Made from the committed results of `flan_proof` and `shuffled_proof` and from nothing else: each method's subset, what
it is worth in random rows with its 90 % set, and the verdicts against random rows (by the recipe's
epochs, and by as many training tokens) and against everything.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dataworth.laws.worth import Worth

BEGIN, END = "<!-- refereed table: python -m reproductions.refereed_table --write README.md -->", "<!-- end -->"
POOLS = {
    "flan_proof/gsm8k": "1,400 rows of flan_cot, goal gsm8k",
    "flan_proof/arc_easy": "1,400 rows of flan_cot, goal arc_easy",
    "shuffled_proof/answers": "1,400 rows of flan_cot, 30 % of answers wrong",
}
HEAD = (
    "pool and goal",
    "rows picked by",
    "worth in random rows",
    "against as many random rows",
    "the same with equal training tokens",
    "against all rows",
)


def rows_of(label: str, told: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A row for each subject of a proof, in its own order."""
    goal = told.get("goal", "")
    out = []
    for arm in told["epochs"]["arms"]:
        if arm["role"] != "subject":
            continue
        name = arm["name"]
        said, even = (
            {v["comparator"]: v for v in told.get(protocol, {}).get("verdicts", ()) if v["subject"] == name}
            for protocol in ("epochs", "tokens")
        )
        found = told["epochs"]["worth"].get(name)
        worth = str(Worth.from_dict(found)) if found else "not measured"
        asked = ((said, "random"), (even, "random"), (said, "full"))
        cells = [cell(of[c]) if c in of else "not compared" for of, c in asked]
        cells[1] = cells[1] if "tokens" in told or "so far" not in told["verdict"] else "to come"
        out.append((label, f"{name.removeprefix(f'{goal}-')} ({arm['rows']:,.0f})", worth, *cells))
    return out


def cell(verdict: Mapping[str, Any]) -> str:
    """A verdict in a cell: its word, what it cost, and the gain with its interval."""
    gain = verdict["gain"]
    cost = f" at the cost of {', '.join(verdict['at_the_cost_of'])}" if verdict["at_the_cost_of"] else ""
    numbers = f" ({gain['value']:+.3f} [{gain['low']:+.3f} .. {gain['high']:+.3f}])" if gain else ""
    return f"{verdict['verdict']}{cost}{numbers}"


def table(results: Path) -> str:
    """The table as Markdown; a proof that hasn't been run at its stated sizes has no row."""
    rows = []
    for name, label in POOLS.items():
        path = results / f"{name}.json"
        told = json.loads(path.read_text()) if path.is_file() else {"verdict": ""}
        if told["verdict"].startswith("at the stated sizes"):
            rows += rows_of(label, told)
    lines = [HEAD, ("---",) * len(HEAD), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def written(page: str, block: str) -> str:
    """The page with the block between its marks.

    Raises:
        SystemExit: The marks aren't there.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"expected {BEGIN} and {END} in the page")
    return f"{before}{BEGIN}\n\n{block}\n\n{END}{after}"


def main(arguments: list[str] | None = None) -> None:
    """Print the table, or write it into a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("reproductions/results"))
    parser.add_argument("--write", type=Path, help="the page between whose marks it goes")
    args = parser.parse_args(arguments)
    block = table(args.results)
    if args.write:
        args.write.write_text(written(args.write.read_text(), block))
    else:
        print(block)


if __name__ == "__main__":
    main()
