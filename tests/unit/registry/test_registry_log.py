import json
import shutil
from dataclasses import replace

import pytest

from assay.domain.canonical import canonical_bytes, sha256_hex
from assay.domain.verdicts import Outcome
from assay.errors import ContractViolation, Refused, Tampered
from assay.registry import ModelRegistry, PromotionClaim, PromotionGateError, verify_registry
from assay.registry.chained_file import ChainedFile
from assay.registry.log import EMPTY, Entry
from assay.testing.clocks import FixedClock
from assay.testing.versions import AUTHOR, make_candidate, make_registry, pass_gates

T0 = 1_700_000_000_000_000_000


@pytest.fixture
def clock():
    return FixedClock(T0)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Three versions; the second is in production, so a signed head stands at the end."""
    folder, clock = tmp_path_factory.mktemp("registry"), FixedClock(T0)
    made = make_registry(folder, clock)
    for index, version in enumerate(["1.0.0", "1.1.0", "1.2.0"]):
        clock.advance(10**9)
        made.register(make_candidate(version=version, weights=(index, 1)))
    for version in ["1.0.0", "1.1.0"]:
        clock.advance(10**9)
        glass(made, version)
    return folder, clock.now()


@pytest.fixture
def registry(template, tmp_path, clock):
    """A copy of the template: making it takes thirty times longer."""
    folder, now = template
    shutil.copytree(folder, tmp_path, symlinks=True, dirs_exist_ok=True)
    clock.advance(now - clock.now())
    return make_registry(tmp_path, clock)


def glass(registry, version):
    champion = registry.current("fx_vol")
    claim = PromotionClaim(
        "fx_vol",
        champion.version if champion else None,
        champion.digest if champion else "",
        version,
        registry.get("fx_vol", version).digest,
        "",
        {},
        (),
        registry.clock.now() + 10**12,
        break_glass=True,
    )
    envelope = registry.keyring.sign(AUTHOR, claim.to_statement())
    registry.break_glass("fx_vol", version, envelope, initiated_by=AUTHOR, reason="test")


def lines(registry):
    return (registry.root / "log" / "events.jsonl").read_bytes().splitlines(keepends=True)


def write(registry, changed):
    (registry.root / "log" / "events.jsonl").write_bytes(b"".join(changed))


def problems(registry):
    return verify_registry(registry.root, registry.keyring, None).problems


def test_every_entry_is_bound_to_the_one_before_it(registry):
    previous = "0" * 64
    for number, line in enumerate(lines(registry), start=1):
        document = json.loads(line)
        stated = document.pop("hash")
        assert (document["seq"], document["previous"]) == (number, previous)
        canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert sha256_hex(canonical.encode()) == stated
        previous = stated


def test_entries_carry_what_an_audit_asks_for(registry):
    document = json.loads(lines(registry)[-1])
    assert document["timestamp"] == "2023-11-14T22:13:25Z"
    assert document["model"] == "fx_vol"
    assert (document["from_version"], document["to_version"]) == ("1.0.0", "1.1.0")
    assert (document["initiated_by"], document["outcome"]) == (AUTHOR, "done")
    assert document["reason"] == "test"
    assert "statement" in document["evidence"]


def test_an_intact_log_verifies_up_to_its_signed_head(registry):
    report = registry.verify_log()
    assert (report.ok, report.entries, report.signed_up_to) == (True, 5, 5)


@pytest.mark.parametrize("line", range(5))
def test_an_edit_is_found_in_its_line(registry, line):
    changed = lines(registry)
    changed[line] = changed[line].replace(b'"model":"fx_vol"', b'"model":"fx_val"')
    write(registry, changed)
    found = problems(registry)
    assert [item.line for item in found] == [line + 1]
    assert "was changed" in found[0].detail


@pytest.mark.parametrize("line", range(4))
def test_an_edit_with_its_hash_mended_is_found_at_the_next_line(registry, line):
    changed = lines(registry)
    entry = Entry.from_line(changed[line][:-1])

    changed[line] = replace(entry, reason="edited").sealed().to_line() + b"\n"
    write(registry, changed)
    assert (problems(registry)[0].line, "replaced" in problems(registry)[0].detail) == (
        line + 2,
        True,
    )


def test_a_whole_chain_forged_anew_contradicts_the_signed_heads(registry):

    previous, changed = "0" * 64, []
    for raw in lines(registry):
        entry = replace(Entry.from_line(raw[:-1]), previous=previous, initiated_by="eve").sealed()
        previous = entry.hash
        changed.append(entry.to_line() + b"\n")
    write(registry, changed)
    found = [item.detail for item in problems(registry)]
    assert any("signed head 000000000005.json names another entry 5" in text for text in found)
    assert any("version fx_vol 1.1.0 names another entry 1" in text for text in found)


@pytest.mark.parametrize("line", range(1, 4))
def test_a_cut_in_the_middle_is_found_where_it_is(registry, line):
    changed = lines(registry)
    del changed[line]
    write(registry, changed)
    found = problems(registry)[0]
    assert found.line == line + 1
    assert found.detail == (
        f"entry {line + 2} stands where entry {line + 1} should: missing or moved"
    )


@pytest.mark.parametrize("line", range(4))
def test_a_changed_order_is_found_where_it_begins(registry, line):
    changed = lines(registry)
    changed[line], changed[line + 1] = changed[line + 1], changed[line]
    write(registry, changed)
    found = problems(registry)
    assert [item.line for item in found[:2]] == [line + 1, line + 2]


def test_a_repeated_entry_is_found(registry):
    changed = lines(registry)
    write(registry, [*changed, changed[-1]])
    assert "repeated or moved" in problems(registry)[0].detail


@pytest.mark.parametrize("kept", range(5))
def test_a_cut_off_end_contradicts_heads_versions_and_index(registry, kept):
    write(registry, lines(registry)[:kept])
    text = " ".join(item.detail for item in problems(registry))
    assert "cut off" in text
    assert "signed head" in text
    assert "index" in text


def test_a_cut_off_end_is_found_without_heads_and_index(registry):
    shutil.rmtree(registry.root / "log" / "heads")
    for path in registry.root.glob("registry.db*"):
        path.unlink()
    write(registry, lines(registry)[:1])
    text = " ".join(item.detail for item in problems(registry))
    assert "version fx_vol 1.2.0 names entry 2, but the log ends at 1" in text


def test_an_unregistered_folder_is_named(registry):
    folder = registry.root / "artifacts" / "fx_vol"
    shutil.copytree(folder / "1.0.0", folder / "9.0.0")
    assert "version fx_vol 9.0.0 stands in" in problems(registry)[0].detail


def test_a_changed_or_foreign_head_is_named(registry):
    head = min((registry.root / "log" / "heads").iterdir())
    head.chmod(0o644)
    head.write_bytes(head.read_bytes().replace(b"keyid", b"keyix"))
    assert head.name in problems(registry)[0].detail


def test_opening_a_registry_whose_log_was_cut_is_refused(registry, clock):
    write(registry, lines(registry)[:3])
    with pytest.raises(Tampered, match="log was cut or replaced"):
        ModelRegistry(registry.root, registry.keyring, clock)


def test_opening_a_registry_whose_last_entry_was_replaced_is_refused(registry, clock):

    changed = lines(registry)
    last = replace(Entry.from_line(changed[-1][:-1]), initiated_by="eve").sealed()
    write(registry, [*changed[:-1], last.to_line() + b"\n"])
    with pytest.raises(Tampered, match="log was cut or replaced"):
        ModelRegistry(registry.root, registry.keyring, clock)


def test_a_promotion_that_nobody_signed_is_found_and_not_served(registry, clock):
    """Someone who can write files but holds no key appends a correctly chained entry."""
    log = ChainedFile(registry.root / "log" / "events.jsonl")
    head = log.head()
    forged = Entry.from_line(lines(registry)[-1][:-1])

    forged = replace(
        forged, seq=head.seq + 1, previous=head.hash, from_version="1.1.0", to_version="1.2.0"
    ).sealed()
    log.append(forged)
    again = ModelRegistry(registry.root, registry.keyring, clock)
    assert "about another promotion" in again.verify_log().problems[0].detail
    with pytest.raises(Tampered, match="about another promotion"):
        again.open_production("fx_vol")


@pytest.mark.parametrize("drop", [1, 2, 50, 200])
def test_a_torn_last_line_is_dropped_and_the_next_event_takes_its_number(registry, clock, drop):
    events = registry.root / "log" / "events.jsonl"
    before = events.read_bytes()
    index = {path: path.read_bytes() for path in registry.root.glob("registry.db*")}
    registry.fail("fx_vol", "1.2.0", initiated_by=AUTHOR, reason="x")
    torn = events.read_bytes()
    events.write_bytes(torn[: max(len(before), len(torn) - drop)])
    for path in registry.root.glob("registry.db*"):
        path.unlink()
    for path, data in index.items():
        path.write_bytes(data)
    again = ModelRegistry(registry.root, registry.keyring, clock)
    whole = drop == 1  # only the line break was lost: the event happened
    assert again.get("fx_vol", "1.2.0").stage == ("failed" if whole else "staged")
    assert again.verify_log().entries == (6 if whole else 5)
    if not whole:
        again.fail("fx_vol", "1.2.0", initiated_by=AUTHOR, reason="x")
        assert lines(again)[-1].startswith(b'{"evidence"')
    assert [item for item in again.verify_log().problems if "signed head" not in item.detail] == []


def test_the_tail_is_read_across_blocks(tmp_path):
    log = ChainedFile(tmp_path / "events.jsonl")
    entries = []
    previous = "0" * 64
    for seq in range(1, 4):
        entry = Entry.from_line(
            Entry.from_line(canonical_bytes(make_entry(seq, previous, "x" * 100_000))).to_line()
        )
        log.append(entry)
        previous = entry.hash
        entries.append(entry)
    assert log.head().seq == 3
    assert [entry for entry, _ in log.entries_after(EMPTY)] == entries
    with log.path.open("ab") as handle:
        handle.write(b"y" * 70_000)
    assert log.head().seq == 3
    assert log.is_torn()
    assert log.repair_tail() == b"y" * 70_000
    assert log.head().seq == 3
    assert not log.is_torn()


def make_entry(seq, previous, reason):
    body = {
        "seq": seq,
        "timestamp": "2026-01-15T10:30:00Z",
        "type": "gate",
        "model": "m",
        "from_version": None,
        "to_version": "1.0.0",
        "initiated_by": "a",
        "outcome": "done",
        "reason": reason,
        "evidence": {},
        "previous": previous,
    }
    return {**body, "hash": sha256_hex(canonical_bytes(body))}


def test_time_never_goes_back_in_the_log(registry):
    registry.clock = registry._journal._clock = FixedClock(5)
    registry.fail("fx_vol", "1.2.0", initiated_by=AUTHOR, reason="x")
    assert registry.history("fx_vol")[-1].at == T0 + 5 * 10**9
    assert registry.verify_log().ok


def test_the_audit_export_is_the_log_itself(registry):
    assert registry._audit_path.read_bytes() == b"".join(lines(registry))


@pytest.mark.parametrize("damage", ["edit", "cut", "extend", "gone"])
def test_a_damaged_audit_export_is_named_and_keeps_nobody_from_working(registry, clock, damage):
    export = registry._audit_path
    data = export.read_bytes()
    if damage == "edit":
        export.write_bytes(data.replace(b"fx_vol", b"fx_val", 1))
    elif damage == "cut":
        export.write_bytes(data[:300])
    elif damage == "extend":
        export.write_bytes(data + b"{}\n")
    else:
        export.unlink()
    assert "audit export" in registry.verify_log().problems[0].detail
    again = ModelRegistry(registry.root, registry.keyring, clock, audit_path=export)
    again.fail("fx_vol", "1.2.0", initiated_by=AUTHOR, reason="x")
    # What was only cut follows again; what was changed stays as it is, to be looked at.
    assert again.verify_log().ok == (damage in {"cut", "gone"})


def test_recording_what_is_known_already_writes_nothing(registry):
    pass_gates(registry, "fx_vol", "1.2.0")
    before = len(lines(registry))
    pass_gates(registry, "fx_vol", "1.2.0")
    assert len(lines(registry)) == before


def test_an_outcome_that_does_not_follow_from_the_results_is_refused(registry):
    with pytest.raises(ContractViolation, match="these results give NOT_YET"):
        registry.record_gates("fx_vol", "1.2.0", [], Outcome.PROMOTABLE, "p", initiated_by=AUTHOR)


def test_gates_hold_for_their_evidence_and_their_champion(registry):
    with pytest.raises(PromotionGateError, match="judged by no gates"):
        registry.promotable("fx_vol", "1.2.0")
    pass_gates(registry, "fx_vol", "1.2.0")
    assert registry.promotable("fx_vol", "1.2.0").outcome is Outcome.PROMOTABLE
    registry.rollback("fx_vol", "1.0.0", withdraw="1.1.0", initiated_by=AUTHOR, reason="x")
    with pytest.raises(PromotionGateError, match="another champion"):
        registry.promotable("fx_vol", "1.2.0")


def test_a_move_that_the_lifecycle_does_not_have_leaves_no_entry(registry):
    before = lines(registry)
    with pytest.raises(Refused, match="is staged, expected archived"):
        registry.rollback("fx_vol", "1.2.0", withdraw="1.1.0", initiated_by=AUTHOR, reason="x")
    assert lines(registry) == before
    assert registry.current("fx_vol").version == "1.1.0"
