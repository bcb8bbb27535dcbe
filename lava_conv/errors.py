"""Every error a user can meet: one sentence that names the place, the value, the limit and the remedy."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class LavaConvError(Exception):
    """Base of all errors raised on purpose; the command line prints it without a traceback, exit code 2."""


class ConversionError(LavaConvError):
    """A model or graph cannot be expressed as an integer spiking network."""


class NetFormatError(LavaConvError):
    """A `.net` file is damaged or breaks the schema; names the path inside the file."""


class RangeError(LavaConvError):
    """An integer does not fit its bit width; names the layer, the bound, the limit and the remedy."""


class FitError(LavaConvError):
    """A network does not fit the chip it was checked against."""


class BackendError(LavaConvError):
    """A backend is missing, failed or stopped moving."""


class DataError(LavaConvError):
    """Images, labels or a data set are not what the network or the reader expects."""


class Problem(NamedTuple):
    """One of many problems of a model.

    Fields:
        place: of the layer or call, "" where it concerns the whole.
        what: what is wrong there, as a verb that follows the place: "is a PReLU", "calls mul".
        remedy: what to do.
    """

    place: str
    what: str
    remedy: str


SHOWN = 3  # places of each group
GROUPS = 6  # remedies of one message


def grouped(problems: Iterable[Problem]) -> str:
    """Many problems in few words: one clause per remedy, with its count and the first places."""
    groups: dict[str, list[Problem]] = {}
    for problem in problems:
        groups.setdefault(problem.remedy, []).append(problem)
    clauses = [f"{_places(group)}; {remedy}" for remedy, group in list(groups.items())[:GROUPS]]
    if len(clauses) > 1:
        clauses = [f"({number}) {clause}" for number, clause in enumerate(clauses, 1)]
    if rest := sum(len(group) for group in list(groups.values())[GROUPS:]):
        clauses.append(f"and {rest} more problems of other kinds; solve these first")
    return "; ".join(clauses)


def _places(group: Sequence[Problem]) -> str:
    """The first places of problems with one remedy, and what is wrong there."""
    same = len({problem.what for problem in group}) == 1
    if len(group) == 1:
        return f"{group[0].place} {group[0].what}".strip()
    named = [problem.place if same else f"{problem.place} {problem.what}" for problem in group[:SHOWN]]
    if len(group) > SHOWN:
        places = f"{', '.join(named)} and {len(group) - SHOWN} more ({len(group)} in all)"
    else:
        places = f"{', '.join(named[:-1])} and {named[-1]}"
    return f"{places}: each {group[0].what}" if same else places


def one_line(error: object, most: int = 200) -> str:
    """The words of another library's error in one line, shortened at the end of a word.

    Args:
        error: an exception or a text.
        most: characters.
    """
    words = " ".join(str(error).split())
    if not words:
        return type(error).__name__
    return words if len(words) <= most else words[: words.rfind(" ", 0, most) if " " in words[:most] else most] + " ..."
