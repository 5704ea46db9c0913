"""The registry against a dictionary that follows the same rules in plain Python."""

import shutil
import tempfile
import time
import uuid
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from assay.delivery.approvals import approve
from assay.delivery.promotion import break_glass, promote
from assay.delivery.rollback import rollback
from assay.errors import Conflict, NotFound, Refused
from assay.registry import ModelRegistry
from assay.testing.clocks import FixedClock
from assay.testing.versions import (
    AUTHOR,
    FIRST_APPROVER,
    SECOND_APPROVER,
    make_candidate,
    make_keys,
    pass_gates,
)

T0 = 1_700_000_000_000_000_000
NAMES = ("fx_vol", "fx_direction")
VERSIONS = st.tuples(st.integers(0, 1), st.integers(0, 2)).map(lambda p: f"1.{p[0]}.{p[1]}")
names = st.sampled_from(NAMES)


class RegistryMachine(RuleBasedStateMachine):
    """Model: name -> version -> [stage, content]; and who was live when."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="registry-machine-"))
        self.clock = FixedClock(T0)
        self.keyring = make_keys(self.folder)
        self.stage = {name: {} for name in NAMES}
        self.content = {name: {} for name in NAMES}
        self.live = {name: [] for name in NAMES}
        self.past = []
        self.open()

    def teardown(self):
        shutil.rmtree(self.folder)

    def open_ledger(self):
        """None for a file and SQLite in the registry's folder."""

    def drop_catalogue(self):
        for path in self.registry.root.glob("registry.db*"):
            path.unlink()

    def open(self):
        self.registry = ModelRegistry(
            self.folder / "desk" / "data" / "models",
            self.keyring,
            self.clock,
            ledger=self.open_ledger(),
        )

    def champion(self, name):
        found = [v for v, stage in self.stage[name].items() if stage == "production"]
        return found[0] if found else None

    def set_live(self, name, version):
        if (self.live[name][-1][1] if self.live[name] else None) != version:
            self.live[name].append((self.clock.now(), version))

    @rule(name=names, version=VERSIONS, content=st.integers(0, 6))
    def register(self, name, version, content):
        candidate = make_candidate(name, version, weights=(content, 1))
        same = [v for v, known in self.content[name].items() if known == content]
        if same:
            made = self.registry.register(candidate)
            assert (made.created, made.version) == (False, same[0])
        elif version in self.stage[name]:
            with pytest.raises(Conflict):
                self.registry.register(candidate)
        else:
            assert self.registry.register(candidate).created
            self.stage[name][version] = "staged"
            self.content[name][version] = content

    def some(self, name, index):
        versions = sorted(self.stage[name])
        return versions[index % len(versions)] if versions else None

    @rule(name=names, index=st.integers(0, 5), glass=st.booleans(), people=st.integers(0, 2))
    def promote(self, name, index, glass, people):
        version = self.some(name, index)
        if version is None:
            return
        arguments = {
            "initiated_by": AUTHOR,
            "clock": self.clock,
            "monotonic": time.monotonic,
            "reason": "because",
        }
        allowed = self.stage[name][version] == "staged"
        if not glass:
            pass_gates(self.registry, name, version)
            for person in (FIRST_APPROVER, SECOND_APPROVER)[:people]:
                approve(self.registry, name, version, person, clock=self.clock)
            # Approvals for an unchanged report stand: earlier steps may have given them.
            report = self.registry.gate_record(name, version).digest
            given = {
                entry.initiated_by
                for entry in self.registry.approvals(name, version)
                if entry.evidence["gate_report_digest"] == report
            }
            allowed = allowed and len(given) == 2
        act = break_glass if glass else promote
        if not allowed:
            with pytest.raises(Refused):
                act(self.registry, name, version, **arguments)
            return
        old = self.champion(name)
        done = act(self.registry, name, version, **arguments)
        assert (done.from_version, done.to_version) == (old, version)
        if old:
            self.stage[name][old] = "archived"
        self.stage[name][version] = "production"
        self.set_live(name, version)

    @rule(name=names, index=st.none() | st.integers(0, 5), keep=st.booleans())
    def rollback(self, name, index, keep):
        target = None if index is None else self.some(name, index)
        expected = target
        if target is None:
            before = [v for _, v in self.live[name] if v and self.stage[name][v] == "archived"]
            expected = before[-1] if before else None
        arguments = {
            "reason": "because",
            "initiated_by": AUTHOR,
            "monotonic": time.monotonic,
            "keep": keep,
        }
        if expected is None or self.stage[name][expected] != "archived":
            with pytest.raises((Refused, NotFound)):
                rollback(self.registry, name, target, **arguments)
            return
        old = self.champion(name)
        done = rollback(self.registry, name, target, **arguments)
        assert (done.from_version, done.to_version) == (old, expected)
        if old:
            self.stage[name][old] = "archived" if keep else "failed"
        self.stage[name][expected] = "production"
        self.set_live(name, expected)

    @rule(name=names, index=st.integers(0, 5))
    def fail(self, name, index):
        version = self.some(name, index)
        if version is None:
            return
        if self.stage[name][version] in {"staged", "production"}:
            was_live = self.stage[name][version] == "production"
            self.registry.fail(name, version, initiated_by=AUTHOR, reason="because")
            self.stage[name][version] = "failed"
            if was_live:
                self.set_live(name, None)
        else:
            with pytest.raises(Refused):
                self.registry.fail(name, version, initiated_by=AUTHOR, reason="because")

    @rule(nanos=st.integers(1, 10**12))
    def wait(self, nanos):
        self.clock.advance(nanos)

    @rule(drop=st.booleans())
    def reopen(self, drop):
        if drop:
            self.drop_catalogue()
        self.registry.close()
        self.open()

    @invariant()
    def stages_agree(self):
        for name in NAMES:
            found = {item.version: str(item.stage) for item in self.registry.list(name)}
            assert found == self.stage[name]
            current = self.registry.current(name)
            assert (current.version if current else None) == self.champion(name)
            assert list(found.values()).count("production") <= 1
            link = self.registry.root / "latest" / name
            assert (link.resolve().name if link.is_symlink() else None) == self.champion(name)

    @invariant()
    def the_past_agrees(self):
        now = {(one.name, one.version): str(one.stage) for one in self.registry.list()}
        then = self.registry.list(at=self.clock.now())
        assert {(one.name, one.version): str(one.stage) for one in then} == now
        self.past.append((self.clock.now(), now))
        for index, (moment, state) in enumerate(self.past[-4:]):
            if any(later == moment for later, _ in self.past[-4:][index + 1 :]):
                continue  # it went on within that nanosecond
            found = self.registry.list(at=moment)
            assert {(one.name, one.version): str(one.stage) for one in found} == state

    @invariant()
    def history_agrees(self):
        for name in NAMES:
            for index, (moment, version) in enumerate(self.live[name]):
                after = self.live[name][index + 1 :]
                if after and after[0][0] == moment:
                    continue  # replaced at the same instant
                answer = self.registry.live_at(name, moment)
                assert (answer.version.version if answer.version else None) == version
            if self.live[name]:
                assert self.registry.live_at(name, self.live[name][0][0] - 1).version is None


class FinalChecks(RegistryMachine):
    def teardown(self):
        report = self.registry.verify_log()
        assert report.ok, report.problems
        rows = list(self.registry._catalogue.dump())
        self.registry.rebuild()
        assert list(self.registry._catalogue.dump()) == rows
        self.registry.close()
        super().teardown()


def on_postgres(server):
    """The same machine, each run of it in a schema of its own."""
    from assay.adapters.postgres import PostgresAddress, PostgresLedger
    from assay.adapters.postgres.connection import connect

    class OnPostgres(FinalChecks):
        def __init__(self):
            self.url = server.url(f"machine_{uuid.uuid4().hex}")
            super().__init__()

        def open_ledger(self):
            return PostgresLedger(self.url)

        def drop_catalogue(self):
            with connect(PostgresAddress.parse(self.url)) as connection:
                for table in ("applied", "versions", "events", "production", "stages"):
                    connection.execute(f"DROP TABLE {table}")

    return OnPostgres


def run(machine, examples, steps):
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.fixture(params=["file", "postgres"])
def machine(request):
    if request.param == "file":
        return FinalChecks
    return on_postgres(request.getfixturevalue("postgres"))


def test_the_registry_behaves_like_its_plain_model(machine):
    run(machine, examples=12, steps=20)


@pytest.mark.long
def test_the_registry_behaves_like_its_plain_model_for_long(machine):
    run(machine, examples=150, steps=50)
