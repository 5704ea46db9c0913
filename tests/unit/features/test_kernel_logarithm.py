"""Our logarithm against decimals with sixty digits."""

from __future__ import annotations

import math
import random
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np

from assay.features import FeatureView, Sessions, col
from assay.features.kernel.layout import Machine


def logarithms(values: list[float], chunk: int = 64) -> np.ndarray:
    view = FeatureView("v", "s", "entity", {"f": col("x").log()}, Sessions(1))
    machine = Machine.build(view.plan.first, chunk)
    inputs = np.zeros((3, len(values)))
    inputs[2] = values
    outputs = np.empty((2, len(values)))
    machine.run(machine.states(1), np.array([[0, 0, len(values), 1]]), inputs, outputs)
    return outputs[1]


def sample() -> list[float]:
    generator = random.Random(7)
    near_one = [
        1.0 + generator.uniform(-0.4, 0.45) * 2.0 ** -generator.randrange(52) for _ in range(900)
    ]
    anywhere = [
        math.ldexp(generator.uniform(0.5, 1.0), generator.randrange(-1073, 1024))
        for _ in range(900)
    ]
    special = [5e-324, 2.2250738585072014e-308, 2.225073858507201e-308, 1.7976931348623157e308]
    edges = [math.sqrt(0.5), math.nextafter(math.sqrt(0.5), 0), math.sqrt(2), math.nextafter(1, 0)]
    return near_one + anywhere + special + edges + [math.nextafter(1, 2), 2.0, 0.5, 10.0]


def test_the_error_is_below_one_unit_in_the_last_place() -> None:
    values = sample()
    found = logarithms(values)
    with localcontext() as context:
        context.prec = 60
        for value, result in zip(values, found.tolist(), strict=True):
            exact = Decimal(value).ln()
            error = abs(Fraction(result) - Fraction(exact))
            assert error < Fraction(math.ulp(float(exact))), (value, result)


def test_one_is_zero_and_what_has_no_logarithm_is_missing() -> None:
    found = logarithms([1.0, 0.0, -0.0, -1.0, math.nan, math.inf, -math.inf])
    assert found[0] == 0.0
    assert np.isnan(found[1:]).all()


def test_the_bits_do_not_depend_on_how_many_are_taken_at_once() -> None:
    values = sample()
    expected = logarithms(values, 4096).tobytes()
    for chunk in (1, 3, 8, 65):
        assert logarithms(values, chunk).tobytes() == expected
