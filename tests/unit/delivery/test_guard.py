import json
import math
import shutil
import time

import numpy as np
import pytest

from assay.delivery.guard import (
    GuardFinding,
    GuardPolicy,
    LiveEvidence,
    enforce,
    judge,
    measure,
    psi_limit,
)
from assay.delivery.promotion import break_glass
from assay.domain.verdicts import Verdict
from assay.errors import Conflict, ContractViolation, NotFound, Tampered
from assay.orchestration.swapped import swapped_candidate
from assay.registry.metadata import ModelMetadata
from assay.serving import OnnxModel
from assay.testing.clocks import FixedClock
from assay.testing.versions import AUTHOR, make_candidate, make_registry
from assay.validation.artefacts import schema

T0 = 1_700_000_000_000_000_000
POLICY = GuardPolicy()
GOOD = LiveEvidence(
    100, rank_correlation=0.99, psi=0.01, parity_share=1.0, psi_buckets=10, parity_rows=100
)
WRONG = judge(
    LiveEvidence(100, rank_correlation=-0.3, psi=4.0, parity_share=1.0, parity_rows=100), POLICY
)


def changed(**values):
    return LiveEvidence(**{**GOOD.to_json(), **values})


# -- measuring: against the same formulas in plain Python ----------------------------------------


def plain_ranks(values):
    return [
        sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2
        for value in values
    ]


def plain_spearman(first, second):
    x, y = plain_ranks(first), plain_ranks(second)
    mx, my = sum(x) / len(x), sum(y) / len(y)
    both = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
    return both / math.sqrt(sum((a - mx) ** 2 for a in x) * sum((b - my) ** 2 for b in y))


def plain_psi(new, old):
    ordered = sorted(old)

    def quantile(share):
        place = share * (len(ordered) - 1)
        low = math.floor(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (ordered[high] - ordered[low]) * (place - low)

    edges = sorted({quantile(tenth / 10) for tenth in range(1, 10)})
    bounds = list(zip([-math.inf, *edges], [*edges, math.inf], strict=True))

    def share(values, low, high):
        inside = sum(low < value <= high for value in values)
        return (inside + 0.5) / (len(values) + 0.5 * len(bounds))

    return sum(
        (share(new, *bound) - share(old, *bound))
        * math.log(share(new, *bound) / share(old, *bound))
        for bound in bounds
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("places", [1, 12])
def test_the_measures_are_those_of_plain_formulas_with_ties_and_without(seed, places):
    generator = np.random.default_rng(seed)
    old = np.round(generator.lognormal(-2, 0.5, 60), places)
    new = np.round(old * generator.lognormal(0.1, 0.3, 60), places)
    found = measure(new, old)
    assert found.rank_correlation == pytest.approx(plain_spearman(new, old), abs=1e-12)
    assert found.psi == pytest.approx(plain_psi(new, old), rel=1e-9)
    assert found.median_ratio == pytest.approx(np.median(new) / np.median(old))
    assert (found.rows, found.undefined, found.parity_share) == (60, 0, None)


def test_a_version_that_answers_the_same_is_at_no_distance():
    same = np.arange(30.0)
    found = measure(same, same, served=same, recomputed=same)
    assert found == LiveEvidence(30, 1.0, 0.0, 1.0, 1.0, 10, 30, 0)
    assert judge(found, POLICY).verdict is Verdict.PASS


def test_the_sign_of_a_zero_and_the_last_bit_break_parity():
    values = np.linspace(0.0, 1.0, 40)
    again = values.copy()
    again[0] = -0.0
    again[7] = np.nextafter(again[7], 2.0)
    found = measure(values, values, served=values, recomputed=again)
    assert found.parity_share == 38 / 40
    finding = judge(found, POLICY)
    assert finding.verdict is Verdict.FAIL
    assert finding.reason.startswith("2 of 40 served predictions are not, bit for bit")


def test_floats_of_both_widths_are_compared_by_value():
    values = np.linspace(0, 1, 30, dtype=np.float32)
    assert measure(values, values, served=values, recomputed=list(values)).parity_share == 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_prediction_that_is_no_number_is_left_out_and_excludes_a_pass(bad):
    new, old = np.arange(50.0), np.arange(50.0)
    new[3] = bad
    found = measure(new, old, served=new, recomputed=new)
    assert (found.rows, found.undefined) == (49, 2)
    assert found.rank_correlation == pytest.approx(1.0)
    finding = judge(found, POLICY)
    assert finding.verdict is Verdict.INDETERMINATE
    assert finding.reasons == ("2 predictions are NaN or infinite, expected none",)


def test_one_nan_does_not_hide_a_broken_limit():
    new, old = -np.arange(50.0), np.arange(50.0)
    new[3] = np.nan
    assert judge(measure(new, old), POLICY).verdict is Verdict.FAIL


def test_nothing_to_measure_is_no_evidence():
    for rows in ([], [np.nan] * 30):
        found = measure(rows, rows, served=[], recomputed=[])
        assert (found.rows, found.rank_correlation, found.psi, found.parity_share) == (
            0, None, None, None,
        )  # fmt: skip
        assert judge(found, POLICY).verdict is Verdict.INDETERMINATE


def test_a_constant_champion_decides_nothing():
    same = np.arange(30.0)
    found = measure(same, np.ones(30), served=same, recomputed=same)
    assert (found.rank_correlation, found.psi) == (None, None)
    finding = judge(found, POLICY)
    assert finding.verdict is Verdict.INDETERMINATE
    assert len(finding.reasons) == 2


def test_a_version_that_is_stuck_at_one_number_is_caught_by_its_distribution():
    finding = judge(measure(np.full(60, 30.0), np.arange(60.0)), POLICY)
    assert finding.evidence.rank_correlation is None
    assert finding.verdict is Verdict.FAIL
    assert "PSI" in finding.reason


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (([1.0], [1.0, 2.0]), {}),
        (([[1.0]], [[1.0]]), {}),
        (([1.0], [1.0]), {"served": [1.0]}),
        (([1.0], [1.0]), {"recomputed": [1.0]}),
        (([1.0], [1.0]), {"served": [1.0], "recomputed": [1.0, 2.0]}),
    ],
)
def test_rows_that_do_not_belong_together_are_refused(arguments, options):
    with pytest.raises(ContractViolation):
        measure(*arguments, **options)


# -- judging -------------------------------------------------------------------------------------


def test_what_holds_passes_and_each_limit_is_named():
    finding = judge(GOOD, POLICY)
    assert finding.verdict is Verdict.PASS
    assert [word in finding.reason for word in ("rank correlation", "PSI", "bit for bit")] == [
        True, True, True,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ({"rank_correlation": 0.95}, Verdict.PASS),
        ({"rank_correlation": math.nextafter(0.95, 0)}, Verdict.FAIL),
        ({"rank_correlation": None}, Verdict.INDETERMINATE),
        ({"rank_correlation": math.nan}, Verdict.INDETERMINATE),
        ({"psi": 0.4}, Verdict.PASS),  # the null's quantile at 100 rows is 0.433
        ({"psi": 0.44}, Verdict.FAIL),
        ({"psi": None}, Verdict.INDETERMINATE),
        ({"psi": math.inf}, Verdict.INDETERMINATE),
        ({"parity_share": 0.99}, Verdict.FAIL),
        ({"parity_share": None}, Verdict.INDETERMINATE),
        ({"undefined": 1}, Verdict.INDETERMINATE),
        ({"psi": 9.0, "rank_correlation": None}, Verdict.FAIL),
        ({"parity_share": 0.0, "rows": 0}, Verdict.FAIL),
    ],
)
def test_a_broken_limit_fails_and_a_missing_number_never_passes(values, verdict):
    assert judge(changed(**values), POLICY).verdict is verdict


@pytest.mark.parametrize(("rows", "verdict"), [(19, "INDETERMINATE"), (20, "FAIL")])
def test_too_few_rows_decide_nothing_however_bad_they_look(rows, verdict):
    bad = changed(rows=rows, rank_correlation=-1.0, psi=9.0)
    assert judge(bad, POLICY).verdict == verdict
    unequal = changed(parity_rows=rows, parity_share=0.5)
    assert judge(unequal, POLICY).verdict == verdict


def test_parity_is_asked_only_by_a_policy_that_wants_it():
    without = changed(parity_share=None, parity_rows=0)
    assert judge(without, GuardPolicy(parity=False)).verdict is Verdict.PASS


def test_the_psi_limit_is_the_policys_or_what_chance_does_to_so_few_rows():
    # 99 % quantile of chi-squared with 9 degrees of freedom, from a printed table: 21.666.
    assert psi_limit(changed(rows=60), POLICY) == pytest.approx(21.666 * 2 / 60, rel=1e-4)
    assert psi_limit(changed(rows=100_000), POLICY) == 0.25
    assert psi_limit(changed(psi_buckets=2, rows=20), POLICY) == pytest.approx(0.6635, rel=1e-3)


def test_two_samples_of_one_distribution_are_rarely_called_different():
    generator = np.random.default_rng(5)
    policy = GuardPolicy(rank_correlation=-1.0, parity=False)
    rows = 60
    failed = sum(
        judge(measure(generator.normal(size=rows), generator.normal(size=rows)), policy).verdict
        is Verdict.FAIL
        for _ in range(1000)
    )
    assert failed <= 25  # at most 1 % is expected; a limit of 0.25 alone would fail half of them


@pytest.mark.parametrize(
    "options",
    [
        {"rank_correlation": math.nan},
        {"rank_correlation": 1.5},
        {"psi": math.nan},
        {"psi": 0.0},
        {"min_rows": 1},
    ],
)
def test_a_policy_that_could_never_fail_is_refused(options):
    with pytest.raises(ContractViolation):
        GuardPolicy(**options)


def test_a_finding_is_json():
    document = json.loads(json.dumps(WRONG.to_json(), allow_nan=False))
    assert document["verdict"] == "FAIL"
    assert document["evidence"]["rank_correlation"] == -0.3
    assert document["reasons"] == list(WRONG.reasons)


# -- acting --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """1.0.0 was in production, 1.1.0 is: the same model with its two inputs exchanged."""
    folder = tmp_path_factory.mktemp("guard")
    made = make_registry(folder, FixedClock(T0))
    made.register(make_candidate())
    live(made, "1.0.0")
    opened = made.open_version("fx_vol", "1.0.0")
    made.register(swapped_candidate(opened, numbered(opened, "1.1.0"), "x0", "x1"))
    live(made, "1.1.0")
    return folder


@pytest.fixture
def registry(template, tmp_path):
    shutil.copytree(template, tmp_path, symlinks=True, dirs_exist_ok=True)
    return make_registry(tmp_path, FixedClock(T0))


def numbered(opened, version):
    return ModelMetadata.from_json({**opened.metadata.to_json(), "version": version})


def live(registry, version):
    break_glass(
        registry, "fx_vol", version, initiated_by=AUTHOR, reason="test", clock=registry.clock,
        monotonic=time.monotonic,
    )  # fmt: skip


def act(registry, finding=WRONG, **options):
    return enforce(
        registry, "fx_vol", finding, initiated_by="guard", monotonic=time.monotonic, **options
    )


def answers(registry, version, columns):
    opened = registry.open_version("fx_vol", version)
    rows = np.stack([columns[name] for name in opened.schema.names], axis=1).astype(np.float32)
    return OnnxModel.from_bytes(opened.onnx, opened.schema).predict(rows)


def test_exchanged_columns_are_refused_by_the_gate_and_withdrawn_by_the_guard(registry):
    first = registry.open_version("fx_vol", "1.0.0")
    second = registry.open_version("fx_vol", "1.1.0")
    assert second.onnx == first.onnx
    assert second.schema.names == ("x1", "x0")
    assert b"Made to be caught" in second.files["CHANGES.md"]
    refused = schema(trained=first.schema, exported=second.schema)
    assert (refused.value, refused.details["order_equal"]) == (0.0, False)
    assert refused.details["names_equal"] is True

    generator = np.random.default_rng(1)
    columns = {"x0": generator.normal(size=200), "x1": generator.normal(size=200)}
    new, old = (answers(registry, version, columns) for version in ("1.1.0", "1.0.0"))
    finding = judge(measure(new, old, served=new, recomputed=new), POLICY)
    assert finding.verdict is Verdict.FAIL
    assert finding.evidence.parity_share == 1.0

    request, done = act(registry, finding, version="1.1.0")
    assert (request.type, request.outcome) == ("rollback.requested", "done")
    assert (request.from_version, request.to_version) == ("1.1.0", "1.1.0")
    assert request.evidence == finding.to_json()
    assert (done.from_version, done.to_version, done.withdrawn_as) == ("1.1.0", "1.0.0", "failed")
    assert done.reason == request.reason == finding.reason
    assert done.seq == request.seq + 1
    assert registry.open_production("fx_vol").version == "1.0.0"
    assert registry.verify_log().ok


@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.INDETERMINATE])
def test_nothing_but_a_fail_acts(registry, verdict):
    before = registry.history("fx_vol")
    assert act(registry, GuardFinding(verdict, ("so it is",), GOOD)) is None
    assert registry.history("fx_vol") == before
    assert registry.current("fx_vol").version == "1.1.0"


def test_a_finding_about_a_version_that_is_gone_withdraws_nothing(registry):
    before = registry.history("fx_vol")
    with pytest.raises(Conflict, match=r"1\.1\.0 is in production, expected 1\.0\.0"):
        act(registry, version="1.0.0")
    assert registry.history("fx_vol") == before


def test_a_promotion_between_request_and_rollback_is_left_alone(registry, monkeypatch):
    registry.register(make_candidate(version="1.2.0", weights=(1, 2)))
    ask = registry.request_rollback

    def ask_then_promote(*arguments, **options):
        entry = ask(*arguments, **options)
        live(registry, "1.2.0")
        return entry

    monkeypatch.setattr(registry, "request_rollback", ask_then_promote)
    with pytest.raises(Conflict, match=r"1\.1\.0 was found wrong .* 1\.2\.0 is"):
        act(registry)
    assert registry.current("fx_vol").version == "1.2.0"


def test_without_a_version_to_go_back_to_the_request_stands_in_the_log(tmp_path):
    registry = make_registry(tmp_path, FixedClock(T0))
    registry.register(make_candidate())
    live(registry, "1.0.0")
    with pytest.raises(NotFound, match="no earlier version"):
        act(registry)
    last = registry.history("fx_vol")[-1]
    assert (last.type, last.to_version, last.evidence) == (
        "rollback.requested", "1.0.0", WRONG.to_json(),
    )  # fmt: skip
    assert registry.current("fx_vol").version == "1.0.0"


def test_a_broken_version_before_is_not_gone_back_to(registry):
    path = registry.root / "artifacts" / "fx_vol" / "1.0.0" / "model.onnx"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Tampered):
        act(registry)
    assert registry.current("fx_vol").version == "1.1.0"
    assert [entry.type for entry in registry.history("fx_vol")[-2:]] == [
        "rollback.requested", "rollback",
    ]  # fmt: skip


def test_only_two_different_known_columns_can_be_exchanged(registry):
    opened = registry.open_version("fx_vol", "1.0.0")
    for first, second in (("x0", "x0"), ("x0", "x9"), ("y", "x1")):
        with pytest.raises(ContractViolation):
            swapped_candidate(opened, opened.metadata, first, second)
