"""Currency pairs as instruments, and rates into one currency out of their prices."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from assay.portfolio.terms import Instrument

_PAIR = re.compile(r"^([A-Z]{3})_([A-Z]{3})$")


def instrument_of(name: str) -> Instrument:
    """``EUR_USD`` as a margined pair; other names are priced in the account's currency."""
    found = _PAIR.match(name)
    return Instrument(name) if found is None else Instrument(name, quote=found[2], base=found[1])


def quote_currencies(names: Iterable[str], currency: str) -> tuple[str, ...]:
    """The quote currencies of pairs that need a rate into ``currency``, in alphabetical order."""
    quotes = {instrument_of(name).quote for name in names}
    return tuple(sorted(quotes - {"", currency}))


def rates_into(currency: str, wanted: Iterable[str], mid: Mapping[str, float]) -> dict[str, float]:
    """Units of ``currency`` for one unit of each wanted one, as far as the pairs say.

    Taken from the pair of the two, in either direction; or else through the first base, in
    alphabetical order, that has a price against both.
    """
    price: dict[tuple[str, str], float] = {}
    for name in sorted(mid):
        found = _PAIR.match(name)
        if found is not None and mid[name] > 0.0:
            price[found[1], found[2]] = mid[name]
    rates: dict[str, float] = {}
    for one in wanted:
        rate = _direct(price, one, currency)
        if rate is None:
            for base in sorted({base for base, _ in price}):
                through, into = _direct(price, base, one), _direct(price, base, currency)
                if through is not None and into is not None:
                    rate = into / through
                    break
        if rate is not None:
            rates[one] = rate
    return rates


def _direct(price: Mapping[tuple[str, str], float], one: str, other: str) -> float | None:
    if (one, other) in price:
        return price[one, other]
    return 1.0 / price[other, one] if (other, one) in price else None
