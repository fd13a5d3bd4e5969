"""Numbers as a reader wants them: a true minus sign, as many digits as mean something, the interval beside."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Difference", "Effect", "Score", "count", "listed", "number", "percent", "points", "sentence"]

_MINUS = "\N{MINUS SIGN}"
_SPACE = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Effect:
    """A change and its 95 % interval, as fractions: -0.31 is 31 % less. It always shows its sign.

    Where the interval has no width, as with one fact, there is none to show.

    >>> str(Effect(-0.312, -0.354, -0.271)).replace(_MINUS, "-").replace(_SPACE, " ")
    '-31 % [-35, -27]'
    >>> str(Effect(0.042, -0.001, 0.085)).replace(_MINUS, "-").replace(_SPACE, " ")
    '+4.2 % [-0.1, +8.5]'
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.size} {self.interval}".strip()

    @property
    def size(self) -> str:
        """The change alone, such as -31 %."""
        return f"{self._signed(self.value)}{_SPACE}%"

    @property
    def interval(self) -> str:
        """The interval alone, such as [-35, -27], or nothing."""
        if not self.has_interval:
            return ""
        return f"[{self._signed(self.low)},{_SPACE}{self._signed(self.high)}]"

    @property
    def bounds(self) -> tuple[float, float]:
        """The ends of the interval."""
        return self.low, self.high

    @property
    def has_interval(self) -> bool:
        """Whether there were enough facts for an interval."""
        return self.low < self.high

    def _signed(self, fraction: float) -> str:
        text = number(fraction * 100, self._digits)
        return f"+{text}" if round(fraction * 100, self._digits) > 0 else text

    @property
    def _digits(self) -> int:
        size = 100 * max(abs(self.value), (self.high - self.low) / 2)
        return 0 if not size < 10 else 1 if size >= 0.095 else 2


@dataclass(frozen=True)
class Score:
    """An accuracy, or another fraction of 1, and its 95 % interval where it has one.

    >>> str(Score(0.9312, 0.924, 0.9371)).replace(_SPACE, " "), str(Score(0.17)).replace(_SPACE, " ")
    ('93.1 % [92.4, 93.7]', '17.0 %')
    """

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        return f"{self.size} {self.interval}".strip()

    @property
    def size(self) -> str:
        """The score alone, such as 93.1 %."""
        return f"{self._shown(self.value)}{_SPACE}%"

    @property
    def interval(self) -> str:
        """The interval alone, such as [92.4, 93.7], or nothing."""
        if self.low is None or self.high is None:
            return ""
        return f"[{self._shown(self.low)},{_SPACE}{self._shown(self.high)}]"

    @property
    def bounds(self) -> tuple[float, float]:
        """The ends of the interval; the value itself where there is none."""
        return (self.value if self.low is None else self.low, self.value if self.high is None else self.high)

    def _shown(self, fraction: float) -> str:
        return number(100 * fraction, 1)


@dataclass(frozen=True)
class Difference(Score):
    """A difference of two fractions of 1, in points of a hundred, always with its sign.

    >>> str(Difference(0.2134, 0.2, 0.228)).replace(_SPACE, " "), Difference(-0.0032).size.replace(_MINUS, "-")
    ('+21.3 points [+20.0, +22.8]', '-0.32 points')
    """

    @property
    def size(self) -> str:
        """The difference alone, such as +21.3 points."""
        return f"{self._shown(self.value)} points"

    def _shown(self, fraction: float) -> str:
        low, high = self.bounds
        digits = 2 if max(abs(self.value), abs(low), abs(high)) < 0.00995 else 1
        text = number(100 * fraction, digits)
        return f"+{text}" if round(100 * fraction, digits) > 0 else text


def number(value: float | None, digits: int) -> str:
    """A number with a true minus sign and no minus before nought; a dash where there is none.

    >>> number(1234.5, 1), number(-0.01, 1), number(None, 1) == "\N{EN DASH}"
    ('1,234.5', '0.0', True)
    """
    if value is None or math.isnan(value):
        return "\N{EN DASH}"
    return f"{round(value, digits) + 0.0:,.{digits}f}".replace("-", _MINUS)


def percent(fraction: float | None, digits: int = 0) -> str:
    """A fraction as a percentage.

    >>> percent(0.257).replace(_SPACE, " ")
    '26 %'
    """
    text = number(None if fraction is None else fraction * 100, digits)
    return text if text == "\N{EN DASH}" else f"{text}{_SPACE}%"


def points(fraction: float) -> str:
    """A small share of accuracy in points of a hundred.

    >>> points(0.01), points(0.005)
    ('1 point', '0.5 points')
    """
    return f"{100 * fraction:.3g} {'point' if round(100 * fraction, 9) == 1 else 'points'}"


def count(n: int, singular: str, plural: str = "") -> str:
    """How many of what, with the right ending.

    >>> count(1, "fact"), count(2100, "fact"), count(2, "has", "have")
    ('1 fact', '2,100 facts', '2 have')
    """
    return f"{n:,} {singular if n == 1 else plural or singular + 's'}"


def listed(names: Sequence[str], most: int = 6) -> str:
    """Names in a row, the last ones counted when there are many.

    >>> listed(["a", "b", "c"]), listed(list("abcdefgh"), most=3)
    ('a, b and c', 'a, b, c and 5 more')
    """
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def sentence(text: str) -> str:
    """The text with a capital first letter.

    >>> sentence("suppressing PARIS.")
    'Suppressing PARIS.'
    """
    return text[:1].upper() + text[1:]
