"""False edges and real ones found by tests of information coefficients."""

import numpy as np
import pytest
from benchmarks.size_and_power import information

pytestmark = pytest.mark.long


def rates(repetitions, seed):
    found = information.rows(repetitions, np.random.default_rng(seed))
    return {(one["test"], one["data"].split(",")[0]): one["pass_rate"] for one in found}


def test_lags_for_the_overlap_keep_the_level_and_a_real_edge_is_found():
    found = rates(300, 1)
    honest = "IC, Newey-West t, lags for the overlap"
    naive = "IC, Newey-West t, lags by the rule alone"
    assert found[honest, "no edge"] <= 0.13
    assert found[naive, "no edge"] > found[honest, "no edge"] + 0.02
    assert found["paired IC difference", "no edge"] <= 0.13
    edge = "daily edge 0.02"
    assert found[honest, edge] > found["paired IC difference", edge] > 0.1
