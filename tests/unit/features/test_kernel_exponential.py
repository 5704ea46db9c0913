"""Exponentials and powers against sixty digits; their bits do not depend on the number of rows."""

from __future__ import annotations

import math
import random
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest

from assay.errors import DefinitionError
from assay.features import Expression, FeatureView, Sessions, col
from assay.features.kernel.layout import Machine

X = col("x")


def computed(expression: Expression, values: list[float], chunk: int = 64) -> np.ndarray:
    view = FeatureView("v", "s", "entity", {"f": expression}, Sessions(1))
    machine = Machine.build(view.plan.first, chunk)
    inputs = np.zeros((3, len(values)))
    inputs[2] = values
    outputs = np.empty((2, len(values)))
    machine.run(machine.states(1), np.array([[0, 0, len(values), 1]]), inputs, outputs)
    return outputs[1]


def exponents() -> list[float]:
    generator = random.Random(3)
    wide = [generator.uniform(-708.0, 709.7) for _ in range(700)]
    small = [generator.uniform(-1, 1) * 2.0 ** -generator.randrange(60) for _ in range(700)]
    edges = [math.log(2) * (n + 0.5) for n in range(-40, 40)]
    return [*wide, *small, *edges, 0.0, -0.0, 1.0, -1.0, 709.782712893384, 5e-324]


def test_the_error_of_an_exponential_is_below_one_unit_in_the_last_place() -> None:
    values = exponents()
    with localcontext() as context:
        context.prec = 60
        for value, found in zip(values, computed(X.exp(), values).tolist(), strict=True):
            exact = Decimal(value).exp()
            error = abs(Fraction(found) - Fraction(exact))
            assert error < Fraction(math.ulp(float(exact))), (value, found)


def test_exponentials_that_overflow_are_missing_and_those_that_vanish_are_zero() -> None:
    values = [709.79, 1e4, math.inf, math.nan, -746.0, -1e300, -740.0]
    found = computed(X.exp(), values)
    assert np.isnan(found[:4]).all()
    assert found[4:6].tolist() == [0.0, 0.0]
    assert found[6] == pytest.approx(math.exp(-740.0), abs=5e-324)


@pytest.mark.parametrize("exponent", [3.0, -2.0, 1.5, 0.1, -0.37, 17.25, 1 / 3])
def test_the_error_of_a_power_is_within_its_promise(exponent: float) -> None:
    generator = random.Random(5)
    values = [generator.uniform(1e-3, 1e3) for _ in range(200)]
    values += [1.0 + generator.uniform(-1, 1) * 2.0 ** -generator.randrange(1, 50) for _ in values]
    with localcontext() as context:
        context.prec = 60
        for value, found in zip(values, computed(X**exponent, values).tolist(), strict=True):
            logarithm = Decimal(exponent) * Decimal(value).ln()
            exact = Fraction(logarithm.exp())
            bound = 2.0**-52 + abs(float(logarithm)) * 2.0**-58
            assert abs(Fraction(found) - exact) <= exact * Fraction(bound), (value, found)


def test_powers_of_zero_and_of_negative_numbers_follow_the_rules() -> None:
    values = [0.0, -2.0, -0.0, math.nan, 4.0]
    cube, root = computed(X**3, values), computed(X**2.5, values)
    inverse, nothing = computed(X**-3, values), computed(X**0, values)
    assert cube[:3].tolist() == [0.0, -8.0, 0.0]
    assert root[4] == 32.0
    assert np.isnan(root[1])
    assert np.isnan(inverse[[0, 2, 3]]).all()
    assert inverse[1] == -0.125
    assert nothing[[0, 1, 4]].tolist() == [1.0, 1.0, 1.0]
    assert np.isnan(cube[3])
    assert computed(X**2, [3.0, 1e200]).tolist()[0] == 9.0
    assert np.isnan(computed(X**3, [1e200])).all()


def test_a_power_that_is_no_number_is_refused() -> None:
    with pytest.raises(DefinitionError, match="power"):
        X ** float("nan")
    with pytest.raises(DefinitionError, match="expected an expression or a number"):
        X ** "2"  # type: ignore[operator]


def test_the_bits_do_not_depend_on_how_many_are_taken_at_once() -> None:
    values = exponents()
    for expression in (X.exp(), X.abs() ** 1.7):
        expected = computed(expression, values, 4096).tobytes()
        for chunk in (1, 3, 8, 65):
            assert computed(expression, values, chunk).tobytes() == expected
