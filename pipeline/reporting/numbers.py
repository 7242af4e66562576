"""Numbers as people read them. None and NaN become a dash, never a word that looks like a number."""

from __future__ import annotations

import math

DASH = "–"
THIN = "\u202f"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_MINUS = str.maketrans("-", "−")


def known(value: float | None) -> bool:
    """Whether `value` is a finite number."""
    return value is not None and math.isfinite(value)


def significant(value: float | None, digits: int = 3, scientific_from: float = 1e6) -> str:
    """`value` to `digits` significant digits; as a power of ten from `scientific_from` on and below 0.001."""
    if not known(value):
        return DASH
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    power = int(exponent)
    if abs(value) >= scientific_from or abs(value) < 1e-3:
        ten = "10" + str(power).translate(_SUPERSCRIPT)
        front = "" if mantissa == "1" else f"{mantissa}×".translate(_MINUS)
        return front + ten
    return decimal(value, max(digits - 1 - power, 0))


def decimal(value: float | None, places: int) -> str:
    """`value` with `places` decimals and thin spaces between thousands."""
    if not known(value):
        return DASH
    return f"{value:,.{places}f}".replace(",", THIN).translate(_MINUS)


def as_given(value: float | None) -> str:
    """A number of somebody else's with the digits that it was given with."""
    return f"{value:.10g}".translate(_MINUS) if known(value) else DASH


def whole(value: float | None) -> str:
    """A whole number in full, thousands apart."""
    return decimal(value, 0)


def count(value: float | None, digits: int = 3) -> str:
    """Parameters or tokens in short: 20.7 k, 1.2 M, 3 G."""
    if not known(value):
        return DASH
    rounded = float(f"{value:.{digits}g}")
    for unit, name in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(rounded) >= unit:
            return f"{rounded / unit:.10g}{THIN}{name}".translate(_MINUS)
    return f"{rounded:g}".translate(_MINUS)


def percent(value: float | None, digits: int = 2) -> str:
    """A fraction as a percentage to `digits` significant digits."""
    if not known(value):
        return DASH
    return f"{significant(100 * value, digits)}{THIN}%"


def factor(value: float | None) -> str:
    """A ratio: 32×, 1.6×."""
    if not known(value):
        return DASH
    return f"{float(f'{value:.{2 if value < 100 else 3}g}'):,.10g}×".replace(",", THIN)


def probability(value: float | None) -> str:
    """A p-value to two digits, its ends as bounds."""
    if not known(value):
        return DASH
    if value < 1e-99:
        return "<10⁻⁹⁹"
    return ">0.99" if value > 0.99 else significant(value, 2)


def duration(seconds: float | None) -> str:
    """Seconds as 48 s, 5 min 28 s or 3 h 07 min."""
    if not known(seconds):
        return DASH
    if seconds < 10:
        return f"{seconds:.2g}{THIN}s"
    total = round(seconds)
    if total < 60:
        return f"{total}{THIN}s"
    if total < 3600:
        return f"{total // 60}{THIN}min {total % 60:02d}{THIN}s"
    return f"{total // 3600}{THIN}h {total % 3600 // 60:02d}{THIN}min"


def places_for(low: float | None, high: float | None, value: float | None) -> int:
    """Decimals that show two significant digits of the half width of an interval, or three of `value` without one."""
    if known(low) and known(high) and high > low:
        return min(max(1 - math.floor(math.log10((high - low) / 2)), 0), 6)
    if known(value) and value:
        return min(max(2 - math.floor(math.log10(abs(value))), 0), 6)
    return 3


def interval(low: float | None, high: float | None, value: float | None = None) -> str:
    """[low, high] with decimals that fit its width."""
    if not (known(low) and known(high)):
        return DASH
    if max(abs(low), abs(high)) >= 1e6:
        return f"[{significant(low)}, {significant(high)}]"
    places = places_for(low, high, value)
    return f"[{decimal(low, places)}, {decimal(high, places)}]"
