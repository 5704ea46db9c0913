"""False alarms of drift tests on persistent features."""

import numpy as np
import pytest
from benchmarks.size_and_power import distances

pytestmark = pytest.mark.long


def rates(repetitions, seed):
    found = distances.rows(repetitions, np.random.default_rng(seed))
    return {(one["test"], one["data"]): one["pass_rate"] for one in found}


def test_effective_rows_keep_the_level_at_every_persistence_where_rows_do_not():
    found = rates(200, 6)
    for rho in distances.PERSISTENCE:
        for test in ("KS, stored profile", "PSI, null at effective rows"):
            assert found[test, f"AR(1) {rho:g}"] <= 0.05 + 4 * 0.0154
    assert found["KS, rows", "AR(1) 0.9"] > 0.6
    assert found["PSI > 0.1", "AR(1) 0.9"] > 0.5
    assert found["PSI > max(0.1, null's 99 %)", "AR(1) 0.9"] <= 0.05


def test_a_move_is_found_where_the_rows_are_worth_something():
    found = rates(60, 7)
    assert found["KS, stored profile", "AR(1) 0.5, moved by 0.5 deviations"] > 0.7
    assert found["PSI, null at effective rows", "AR(1) 0, moved by 0.5 deviations"] > 0.9
