"""Everything Dataworth raises on purpose.

    DataworthError                 exit code
    ├── RequestError               2   the request is wrong: value, expectation, next action
    │   ├── FormatError            2   a file can't be read as what it claims to be
    │   ├── MissingExtra           2   an optional package is needed
    │   ├── FingerprintMismatch    2   two artefacts that must not be mixed
    │   └── NonsenseRefused        2   a guard of law 6 fired: the numbers would mean nothing
    ├── TooManyRejects             3   finished, but more rows were rejected than allowed
    └── Stopped                    4   stopped on purpose; the same command resumes

Messages are one line: the value, what was expected, what to do next. The command line prints the message and
exits with `exit_code`; anything that is not a `DataworthError` is a bug and exits 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class DataworthError(Exception):
    """Base of every error raised on purpose."""

    exit_code = 1


class RequestError(DataworthError):
    """The request can't be carried out as asked."""

    exit_code = 2


class FormatError(RequestError):
    """A file, or one of its rows, isn't what it claims to be."""


class MissingExtra(RequestError):
    """An optional dependency isn't installed.

    Args:
        feature: What was asked for, in the user's words.
        package: The package that is missing.
        extra: The extra of this project that brings it; empty where the package itself is to be installed.
    """

    def __init__(self, feature: str, package: str, extra: str) -> None:
        what = f"'dataworth[{extra}]'" if extra else package
        super().__init__(f"{feature} needs the package {package!r}: pip install {what}")


class FingerprintMismatch(RequestError):
    """Two artefacts were made under different learners, goals, recipes or projections."""


class NonsenseRefused(RequestError):
    """A guard found numbers that carry no information (all-zero features, constant scores, empty masks)."""


class TooManyRejects(DataworthError):
    """The work is done, but the share of rejected rows exceeds `--max-rejected`; `result` is what was done."""

    exit_code = 3
    result: Any = None


class Stopped(DataworthError):
    """Work was stopped on purpose and can be resumed by the same command."""

    exit_code = 4


def nearest(name: str, known: Iterable[str], what: str = "known") -> str:
    """What to say of a name that nothing has: `did you mean 'x'?`, or `what` and the names there are."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"{what}: {', '.join(names) or 'none'}"


class NotApplicable(Exception):
    """Raised by a check that has nothing to say about this input; not an error."""
