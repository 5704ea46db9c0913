"""Two people are two people, whatever names, keys, roles and files say."""

import shutil

import pytest

from assay.access import AccessDenied, load_access
from assay.delivery.approvals import approve, count_approvals, prepare_approval
from assay.delivery.promotion import break_glass, promote
from assay.errors import Refused
from assay.testing.clocks import FixedClock
from assay.testing.versions import (
    AUTHOR,
    FIRST_APPROVER,
    SECOND_APPROVER,
    make_candidate,
    make_registry,
    pass_gates,
)

T0 = 1_700_000_000_000_000_000
ONE = ("fx_vol", "1.0.0")


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("registry")
    made = make_registry(folder, FixedClock(T0))
    made.register(make_candidate())
    pass_gates(made, *ONE)
    return folder


@pytest.fixture
def registry(template, tmp_path):
    shutil.copytree(template, tmp_path, symlinks=True, dirs_exist_ok=True)
    return make_registry(tmp_path, FixedClock(T0))


@pytest.fixture
def people(tmp_path):
    """Reads users; one line each."""

    def read(*lines):
        path = tmp_path / "access.yaml"
        path.write_text("users:\n" + "".join(f"  {line}\n" for line in lines))
        return load_access(path)

    return read


def counted(registry, access):
    report = registry.gate_record(*ONE)
    return count_approvals(registry, *ONE, report.digest, now=T0, access=access)


def yes(registry, who, access=None):
    return approve(registry, *ONE, who, clock=registry.clock, access=access)


def test_two_keys_of_one_person_are_one_approval_also_when_given_before_anybody_knew(
    registry, people
):
    yes(registry, FIRST_APPROVER)
    yes(registry, SECOND_APPROVER)
    assert counted(registry, None).sufficient
    same = people(
        f"{AUTHOR}: {{roles: [quant]}}",
        f"jane: {{roles: [mlops], identities: [{FIRST_APPROVER}, {SECOND_APPROVER}]}}",
    )
    found = counted(registry, same)
    assert found.approvers == (FIRST_APPROVER,)
    assert "one person counts once" in found.ignored[0]
    with pytest.raises(Refused, match="expected 2 different people"):
        promote(
            registry, *ONE, initiated_by=FIRST_APPROVER, clock=registry.clock,
            monotonic=lambda: 0.0, access=same,
        )  # fmt: skip


def test_an_author_does_not_approve_by_another_key_nor_by_a_service(registry, people):
    access = people(
        f"{AUTHOR}: {{roles: [quant], identities: [{AUTHOR}, {FIRST_APPROVER}]}}",
        f"{SECOND_APPROVER}: {{kind: service, owner: {AUTHOR}, roles: [mlops]}}",
    )
    with pytest.raises(Refused, match="is the author"):
        yes(registry, FIRST_APPROVER, access)
    with pytest.raises(AccessDenied, match="is a service: people approve"):
        yes(registry, SECOND_APPROVER, access)
    yes(registry, FIRST_APPROVER)  # into the log, by somebody who ignores the file
    assert counted(registry, access).valid == ()


def test_whoever_owns_the_service_that_made_it_is_its_author(registry, people):
    access = people(
        f"{FIRST_APPROVER}: {{roles: [mlops]}}",
        f"{AUTHOR}: {{kind: service, owner: {FIRST_APPROVER}, roles: [quant]}}",
        f"{SECOND_APPROVER}: {{roles: [mlops]}}",
    )
    with pytest.raises(Refused, match="is the author"):
        prepare_approval(registry, *ONE, FIRST_APPROVER, clock=registry.clock, access=access)
    assert yes(registry, SECOND_APPROVER, access).approver == SECOND_APPROVER


def test_who_may_not_promote_is_refused_and_the_log_says_so(registry, people):
    access = people(
        f"{AUTHOR}: {{roles: [quant]}}",
        *(f"{one}: {{roles: [mlops]}}" for one in (FIRST_APPROVER, SECOND_APPROVER)),
    )
    for one in (FIRST_APPROVER, SECOND_APPROVER):
        yes(registry, one, access)
    common = {"clock": registry.clock, "monotonic": lambda: 0.0, "access": access}
    with pytest.raises(AccessDenied, match="do not allow model:promote"):
        promote(registry, *ONE, initiated_by=AUTHOR, **common)
    with pytest.raises(AccessDenied, match="do not allow model:break_glass"):
        break_glass(registry, *ONE, initiated_by=FIRST_APPROVER, reason="x", **common)
    last = registry.history("fx_vol")[-2:]
    assert [(e.type, e.outcome, e.initiated_by) for e in last] == [
        ("promote", "refused", AUTHOR), ("break_glass", "refused", FIRST_APPROVER),
    ]  # fmt: skip
    done = promote(registry, *ONE, initiated_by=FIRST_APPROVER, **common)
    assert done.approved_by == (FIRST_APPROVER, SECOND_APPROVER)
