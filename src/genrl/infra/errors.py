"""Errors that a user can cause, and how their messages are put."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Something the user can mend: one line that names the option or file, and the mend.

    The command line prints the line and exits with 2.
    """


class NonFiniteError(UserError):
    """A loss or a gradient became NaN or infinite; no optimiser has moved."""


def first_line(error: Exception) -> str:
    """What an error of somebody else's says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A clause naming the known words nearest to a misspelt one, or all of them where none is near.

    Args:
        name: What the user wrote.
        known: What there is.

    Returns:
        For instance `did you mean 'walker_run'?` or `known: a, b, c`; an empty string when nothing is known.
    """
    known = list(known)
    near = get_close_matches(name, known, n=3, cutoff=0.6)
    if near:
        return "did you mean " + " or ".join(repr(word) for word in near) + "?"
    return "known: " + ", ".join(known) if known else ""
