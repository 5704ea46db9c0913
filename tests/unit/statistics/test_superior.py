"""Hansen's, White's and Romano and Wolf's tests, against plain loops on the same resamples."""

import math

import numpy as np
import pytest

from assay.errors import ContractViolation
from assay.statistics.resampling import stationary_indices, stationary_variance
from assay.statistics.superior import (
    CHUNK,
    reality_check,
    stepwise_superior,
    superior_ability,
)

RESAMPLES = 199


def noise(seed=1, size=120, models=6):
    return np.random.default_rng(seed).standard_normal((size, models))


def quiet_good_among_loud():
    matrix = noise(3, 250, 20)
    matrix *= 8.0
    matrix[:, 4] = 0.5 * np.random.default_rng(4).standard_normal(250) + 0.12
    return matrix


def resampled(matrix, length, seed):
    """Means, and standard deviations over the sample's, of the dates that the function draws."""
    assert RESAMPLES <= CHUNK
    drawn = stationary_indices(len(matrix), length, RESAMPLES, np.random.default_rng(seed))
    means, scales = [], []
    for dates in drawn.tolist():
        columns = [[matrix[t, k] for t in dates] for k in range(matrix.shape[1])]
        means.append([sum(column) / len(column) for column in columns])
        scales.append(
            [
                math.sqrt(sum((x - mean) ** 2 for x in column) / len(column)) / matrix[:, k].std()
                for k, (column, mean) in enumerate(zip(columns, means[-1], strict=True))
            ]
        )
    return means, scales


def shapes():
    mixed = noise(5) + np.array([0.3, 0.0, -0.1, -0.9, 0.05, -0.2])
    return {"noise": noise(), "mixed": mixed, "worse": noise(6) - 0.5}


@pytest.mark.parametrize("spread", ["sample", "resample"])
@pytest.mark.parametrize("name", shapes())
def test_the_three_p_values_are_hansens(name, spread):
    matrix = shapes()[name]
    size, models = matrix.shape
    found = superior_ability(
        matrix,
        generator=np.random.default_rng(9),
        resamples=RESAMPLES,
        block_length=3.0,
        spread=spread,
    )
    means = [sum(matrix[:, k]) / size for k in range(models)]
    omega = [math.sqrt(v) for v in stationary_variance(matrix, 3.0)]
    root = math.sqrt(size)
    statistic = max(0.0, *(root * means[k] / omega[k] for k in range(models)))
    assert found.value == pytest.approx(statistic)
    threshold = math.sqrt(2 * math.log(math.log(size)))
    centres = {
        "lower": [max(mean, 0.0) for mean in means],
        "consistent": [
            mean if root * mean / omega[k] >= -threshold else 0.0 for k, mean in enumerate(means)
        ],
        "upper": means,
    }
    drawn, scales = resampled(matrix, 3.0, 9)
    if spread == "sample":
        scales = [[1.0] * models] * RESAMPLES
    for which, centre in centres.items():
        exceeding = sum(
            max(
                0.0,
                *(root * (row[k] - centre[k]) / (omega[k] * scale[k]) for k in range(models)),
            )
            >= statistic - 1e-12
            for row, scale in zip(drawn, scales, strict=True)
        )
        assert getattr(found, which) == (1 + exceeding) / (RESAMPLES + 1)
    assert found.p_value == found.consistent
    assert found.lower <= found.consistent <= found.upper
    assert found.best == int(np.argmax(np.array(means) / omega))


def test_when_all_models_are_worse_the_p_value_is_one():
    found = superior_ability(shapes()["worse"], generator=np.random.default_rng(1))
    assert found.value == 0.0
    assert found.p_value == 1.0


def test_the_reality_check_is_whites():
    matrix = shapes()["mixed"]
    found = reality_check(
        matrix, generator=np.random.default_rng(9), resamples=RESAMPLES, block_length=3.0
    )
    means = matrix.mean(axis=0)
    exceeding = sum(
        max(np.array(row) - means) >= means.max() for row in resampled(matrix, 3.0, 9)[0]
    )
    assert found.value == pytest.approx(math.sqrt(120) * means.max())
    assert found.p_value == (1 + exceeding) / (RESAMPLES + 1)


def test_a_quiet_good_model_is_found_among_loud_ones_only_when_studentised():
    matrix = quiet_good_among_loud()
    found = superior_ability(matrix, generator=np.random.default_rng(2))
    assert found.p_value <= 0.02
    assert found.best == 4
    assert reality_check(matrix, generator=np.random.default_rng(2)).p_value > 0.10
    stepped = stepwise_superior(matrix, generator=np.random.default_rng(2))
    assert stepped.superior == (4,)
    assert stepped.value == 1.0


def test_the_steps_are_those_of_romano_and_wolf():
    matrix = noise(7, 150, 6) + np.array([0.4, 0.0, 0.3, -0.5, 0.18, 0.0])
    size = len(matrix)
    found = stepwise_superior(
        matrix, generator=np.random.default_rng(9), resamples=RESAMPLES, block_length=2.0, level=0.1
    )
    means = matrix.mean(axis=0)
    error = np.sqrt(stationary_variance(matrix, 2.0) / size)
    drawn, scales = map(np.array, resampled(matrix, 2.0, 9))
    drawn = (drawn - means) / error / scales
    # Step by step: all whose statistic exceeds the quantile of the maximum over the remaining.
    remaining, superior = list(range(6)), []
    while remaining:
        largest = drawn[:, remaining].max(axis=1)
        passed = [
            k
            for k in remaining
            if (1 + sum(largest >= means[k] / error[k] - 1e-12)) / (RESAMPLES + 1) <= 0.1
        ]
        if not passed:
            break
        superior += sorted(passed, key=lambda k: -means[k] / error[k])
        remaining = [k for k in remaining if k not in passed]
    assert found.superior == tuple(superior)
    assert superior[:2] == [0, 2]
    assert (found.adjusted <= 0.1).sum() == len(superior)
    assert found.p_value == found.adjusted.min()


def test_the_first_step_is_whites_test_studentised():
    matrix = noise(8) + 0.1
    same = {"resamples": 400, "block_length": 2.0}
    stepped = stepwise_superior(matrix, generator=np.random.default_rng(1), **same)
    whole = superior_ability(matrix, generator=np.random.default_rng(1), **same)
    assert stepped.p_value == whole.upper


def test_the_direction_is_larger_is_better():
    matrix = noise(9) + np.array([0.5, 0, 0, 0, 0, 0])
    generator = np.random.default_rng
    assert superior_ability(matrix, generator=generator(1)).p_value < 0.01
    assert superior_ability(-matrix, generator=generator(1)).p_value > 0.2


def test_units_of_a_model_do_not_matter():
    matrix = noise(10) + 0.05
    scaled = matrix * np.array([1.0, 1e-3, 1e5, 2.0, 0.5, 7.0])
    one, two = (
        superior_ability(each, generator=np.random.default_rng(1), block_length=2.0)
        for each in (matrix, scaled)
    )
    assert one.value == pytest.approx(two.value)
    assert one.p_value == two.p_value


def test_still_models_are_dropped_and_it_is_said():
    matrix = noise(11) + 0.2
    wide = np.concatenate((np.zeros((120, 1)), matrix, np.full((120, 1), -0.1)), axis=1)
    found = superior_ability(wide, generator=np.random.default_rng(1), block_length=2.0)
    alone = superior_ability(matrix, generator=np.random.default_rng(1), block_length=2.0)
    assert found.p_value == alone.p_value
    assert found.best == alone.best + 1
    assert found.details["models"] == 8
    assert found.details["models_tested"] == 6
    assert "2 of 8 models" in found.warnings[0]
    stepped = stepwise_superior(wide, generator=np.random.default_rng(1), block_length=2.0)
    assert stepped.adjusted[0] == stepped.adjusted[7] == 1.0
    assert all(0 < model < 7 for model in stepped.superior)


def test_the_block_length_is_the_median_automatic_one():
    matrix = noise(12, 400, 5)
    for t in range(1, 400):
        matrix[t] += 0.6 * matrix[t - 1]
    found = superior_ability(matrix, generator=np.random.default_rng(1))
    assert found.details["block_length"] > 3.0
    short = superior_ability(matrix[:20], generator=np.random.default_rng(1), block_length=5.0)
    assert "few" in short.warnings[0]


def degenerate():
    holes = noise()
    holes[5, 2] = math.nan
    return {
        "at least 10": noise(size=9),
        "missing or infinite in 1 columns": holes,
        "no performance differences": np.empty((50, 0)),
        "by more than a constant": np.zeros((50, 3)),
        "same amount on every date": np.full((50, 3), 0.01),
        "overflow": noise() * 1e300,
    }


@pytest.mark.parametrize("word", degenerate())
def test_differences_that_cannot_be_judged_have_no_value_and_a_reason(word):
    for test in (superior_ability, reality_check, stepwise_superior):
        found = test(degenerate()[word], generator=np.random.default_rng(0), resamples=19)
        assert found.value is None
        assert found.p_value is None
        expected = "there are no performance" if word.startswith("no perf") else word
        assert expected in found.undefined


def test_wrong_shapes_and_numbers_are_refused():
    generator = np.random.default_rng(0)
    for test in (superior_ability, reality_check, stepwise_superior):
        with pytest.raises(ContractViolation, match="shape"):
            test(np.zeros(30), generator=generator)
        with pytest.raises(ContractViolation, match="resamples"):
            test(noise(), generator=generator, resamples=0)
        with pytest.raises(ContractViolation, match="block length"):
            test(noise(), generator=generator, block_length=0.5)
    with pytest.raises(ContractViolation, match="level"):
        stepwise_superior(noise(), generator=generator, level=1.0)
