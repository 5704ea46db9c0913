"""A pack says what is recorded, is the same for the same state, and can be checked by itself."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
import time
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from assay import bootstrap
from assay.delivery.approvals import approve
from assay.delivery.canary import CanaryPolicy
from assay.delivery.deployments import end_canary, start_canary, start_shadow
from assay.delivery.promotion import break_glass, promote
from assay.delivery.rollback import rollback
from assay.domain.instants import render
from assay.errors import ConfigurationError, Conflict, ContractViolation, NotFound, Tampered
from assay.orchestration.challengers import (
    ChallengerFiles,
    compare_shadow,
    look_at_canary,
    record_shadow,
    write_card,
)
from assay.orchestration.desk import Desk
from assay.orchestration.effective import verify_records
from assay.orchestration.evidence_pack import (
    bom_of,
    check_pack,
    gather_pack,
    pack_files,
    pack_page,
    read_declared,
    write_pack,
)
from assay.orchestration.evidence_pack import writing as pack_writing
from assay.registry import revoke_key
from assay.registry.acknowledging import sign_log
from assay.registry.keyring import PURPOSES
from assay.serving.challengers.pair_log import Kept, PairLog
from assay.serving.challengers.pairs import Turn, encode_turns
from assay.testing.clocks import FixedClock
from assay.testing.versions import make_candidate, pass_gates

T0 = 1_790_000_000 * 10**9
SECOND = 10**9
HOSTILE = "<script>alert('x')</script>"
DECLARED = """\
fx_vol:
  materiality: high
  owner: head
  validator: model.risk
  intended_use: Sizing of positions from one session to the next.
  limits: [No use for options.]
  not_tested: [What happens while a central bank intervenes.]
  revalidate_by: 2027-06-30
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """1.0.0 passed and is live; 1.1.0 was forced live for 90 seconds, and withdrawn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        clock = FixedClock(T0)
        folder = tmp_path_factory.mktemp("told") / "desk"
        members = [
            bootstrap.Member(one, tuple(PURPOSES)) for one in ("author", "risk", "head", "ops")
        ]
        bootstrap.create_desk(folder, name="desk", members=members)
        desk = bootstrap.open_desk(folder, clock=clock)
        registry = desk.registry
        registry.register(make_candidate("fx_vol", "1.0.0"), reason=f"the first {HOSTILE}")
        pass_gates(registry, "fx_vol", "1.0.0")
        for person in ("risk", "head"):
            clock.advance(SECOND)
            approve(registry, "fx_vol", "1.0.0", person, clock=clock)
        promote(registry, "fx_vol", "1.0.0", initiated_by="ops", clock=clock,
                monotonic=time.monotonic, reason="passed")  # fmt: skip
        clock.advance(3600 * SECOND)
        registry.register(make_candidate("fx_vol", "1.1.0", bias=1.0))
        break_glass(registry, "fx_vol", "1.1.0", initiated_by="ops", reason="drill", clock=clock,
                    monotonic=time.monotonic)  # fmt: skip
        clock.advance(90 * SECOND)
        rollback(registry, "fx_vol", reason="withdrawn", initiated_by="ops",
                 monotonic=time.monotonic)  # fmt: skip
        yield desk


@pytest.fixture
def desk(told: Desk, tmp_path: Path) -> Desk:
    """A copy of that desk to change."""
    folder = tmp_path / "desk"
    shutil.copytree(told.layout.root, folder, symlinks=True)
    return bootstrap.open_desk(folder, clock=FixedClock(T0 + 10**6 * SECOND))


def failing(path: Path, keys: Path | None = None) -> set[str]:
    return {one.what for one in check_pack(path, keys).findings if not one.ok}


def listed_again(folder: Path) -> None:
    """What somebody would do who changes a file and hides it."""
    paths = {one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file()}
    lines = [
        f"{hashlib.sha256((folder / path).read_bytes()).hexdigest()}  {path}\n"
        for path in sorted(paths - {"checksum.sha256", "pack.signature"})
    ]
    (folder / "checksum.sha256").write_text("".join(lines))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(data))


def test_the_same_state_gives_the_same_bytes_whenever_it_is_asked_for(
    told: Desk, tmp_path: Path
) -> None:
    later = bootstrap.open_desk(told.layout.root, clock=FixedClock(T0 + 10**7 * SECOND))
    assert pack_files(told, "fx_vol", "1.0.0") == pack_files(later, "fx_vol", "1.0.0")
    for name in ("one.zip", "two.zip"):
        write_pack(told, "fx_vol", "1.0.0", tmp_path / name, signer="risk")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_a_pack_holds_as_a_folder_and_as_an_archive(told: Desk, tmp_path: Path) -> None:
    for version in ("1.0.0", "1.1.0"):
        for path in (tmp_path / version, tmp_path / f"{version}.zip"):
            write_pack(told, "fx_vol", version, path, signer="risk")
            found = check_pack(path)
            assert found.ok, [one for one in found.findings if not one.ok]
            assert check_pack(path, told.keyring.public_dir).ok
            assert found.digest == told.registry.get("fx_vol", version).digest
    with pytest.raises(Conflict, match="is not empty"):
        write_pack(told, "fx_vol", "1.0.0", tmp_path / "1.0.0")


def test_the_list_of_digests_is_one_that_other_tools_read(told: Desk, tmp_path: Path) -> None:
    write_pack(told, "fx_vol", "1.0.0", tmp_path / "pack")
    lines = (tmp_path / "pack/checksum.sha256").read_text().splitlines()
    for line in lines:
        digest, path = line.split("  ")
        assert hashlib.sha256((tmp_path / "pack" / path).read_bytes()).hexdigest() == digest
    files = {p.relative_to(tmp_path / "pack").as_posix()
             for p in (tmp_path / "pack").rglob("*") if p.is_file()}  # fmt: skip
    assert files == {line.split("  ")[1] for line in lines} | {"checksum.sha256"}


def test_one_changed_byte_in_any_file_is_found_also_when_the_list_is_made_again(
    told: Desk, tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    files = write_pack(told, "fx_vol", "1.0.0", whole, signer="risk")
    for path in sorted(files):
        changed = tmp_path / "changed"
        shutil.copytree(whole, changed)
        flip(changed / path)
        for again in (False, True):
            if again:
                listed_again(changed)
            try:
                found = failing(changed, told.keyring.public_dir)
            except ContractViolation:
                continue  # no pack at all any more
            if path in {"checksum.sha256", "pack.signature"} and again:
                continue
            assert found, (path, again)
        shutil.rmtree(changed)


def test_a_pack_that_nobody_signed_still_cannot_tell_otherwise_than_log_and_metadata(
    told: Desk, tmp_path: Path
) -> None:
    pack = tmp_path / "pack"
    write_pack(told, "fx_vol", "1.0.0", pack)
    document = json.loads((pack / "pack.json").read_bytes())
    assert failing(pack) == set()
    for place, change in (
        (("gates", "outcome"), "REFUSED"),
        (("people", "author"), "somebody"),
        (("data", "config_hash"), "0" * 64),
        (("identity", "digest"), "0" * 64),
        (("history", 0, "reason"), "another"),
        (("people", "approvals", 0, "approver"), "ops"),
    ):
        told_otherwise = json.loads(json.dumps(document))
        target: Any = told_otherwise
        for key in place[:-1]:
            target = target[key]
        assert target[place[-1]] != change
        target[place[-1]] = change
        (pack / "pack.json").write_text(json.dumps(told_otherwise))
        picture = (pack / "lineage.svg").read_text()
        (pack / "pack.html").write_text(pack_page(told_otherwise, picture))
        listed_again(pack)
        assert failing(pack), place


def test_keys_that_came_with_a_pack_are_not_believed_against_ones_own(
    told: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "other"))
    members = [bootstrap.Member("author", tuple(PURPOSES))]
    bootstrap.create_desk(tmp_path / "stranger", name="stranger", members=members)
    write_pack(told, "fx_vol", "1.0.0", tmp_path / "pack.zip")
    found = failing(tmp_path / "pack.zip", tmp_path / "stranger/keys")
    assert {"version/signature", "heads"} <= found
    assert any(one.startswith("statements/approval") for one in found)


def test_only_public_keys_are_packed(told: Desk) -> None:
    files = pack_files(told, "fx_vol", "1.0.0")
    assert not [path for path, data in files.items() if b"PRIVATE" in data]
    assert {path for path in files if path.startswith("keys/")} == {
        "keys/trust.json", *(f"keys/{one}.pem" for one in ("author", "risk", "head", "ops")),
    }  # fmt: skip
    assert not [path for path in files if path.startswith("version/model")]


def test_who_made_judged_and_approved_a_version_is_told_with_the_rules(told: Desk) -> None:
    people = gather_pack(told, "fx_vol", "1.0.0")["people"]
    assert people["author"] == "author"
    assert [(one["approver"], one["signature"]) for one in people["approvals"]] == [
        ("risk", "valid"), ("head", "valid"),
    ]  # fmt: skip
    assert all(one["expires_at"] > one["granted_at"] for one in people["approvals"])
    (promotion,) = people["promotions"]
    assert (promotion["approvers"], promotion["signed_by"]) == (["head", "risk"], "ops")
    verdicts = [one["verdict"] for one in people["separation"]]
    assert verdicts == ["PASS", "PASS", "PASS", "INDETERMINATE"]
    forced = gather_pack(told, "fx_vol", "1.1.0")["people"]
    assert [one["verdict"] for one in forced["separation"]] == [
        "INDETERMINATE", "FAIL", "FAIL", "INDETERMINATE",
    ]  # fmt: skip


def test_when_it_was_live_is_told_to_the_moment(told: Desk) -> None:
    forced = gather_pack(told, "fx_vol", "1.1.0")["live"]["intended"]
    assert forced == [{"from": "2026-09-21T15:13:22Z", "to": "2026-09-21T15:14:52Z"}]
    first = gather_pack(told, "fx_vol", "1.0.0")
    assert [one["to"] for one in first["live"]["intended"]] == ["2026-09-21T15:13:22Z", None]
    assert first["as_of"] == "2026-09-21T15:14:52Z"
    assert [one["event"] for one in first["outcomes"]] == ["rollback"]


def test_a_version_that_never_was_live_has_a_pack_too(desk: Desk, tmp_path: Path) -> None:
    desk.registry.register(make_candidate("fx_new", "1.0.0"))
    pack = tmp_path / "pack"
    write_pack(desk, "fx_new", "1.0.0", pack)
    assert json.loads((pack / "pack.json").read_text())["live"]["intended"] == []
    assert failing(pack) == set()


def test_what_nobody_declared_or_tested_is_said(desk: Desk) -> None:
    document = gather_pack(desk, "fx_vol", "1.1.0")
    assert document["declared"]["materiality"] is None
    assert "No gate has judged this version." in document["not_tested"]
    page = pack_page(document, "<svg/>")
    assert page.count("not declared") >= 6
    (desk.layout.root / "configs/models.yaml").write_text(DECLARED)
    document = gather_pack(desk, "fx_vol", "1.1.0")
    assert document["declared"]["limits"] == ["No use for options."]
    assert document["not_tested"][0] == "What happens while a central bank intervenes."
    assert document["people"]["separation"][3]["verdict"] == "PASS"
    page = pack_page(document, "<svg/>")
    assert "Sizing of positions" in page
    files = pack_files(desk, "fx_vol", "1.1.0")
    assert files["declared.yaml"] == DECLARED.encode()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fx_vol: {materialty: high}", "unknown key 'materialty'"),
        ("fx_vol: {materiality: huge}", "expected high, medium, low"),
        ("fx_vol: {limits: none}", "expected a list of sentences"),
        ("fx_vol: {revalidate_by: soon}", "expected a date"),
        ("fx_vol: [a]", "expected keys such as"),
        ("fx_vol: {owner: 5}", "expected text"),
        ("- fx_vol", "expected keys: values"),
    ],
)
def test_a_wrong_declaration_is_refused_by_its_place(desk: Desk, text: str, said: str) -> None:
    (desk.layout.root / "configs/models.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        read_declared(desk.layout.root, "fx_vol")


def test_the_page_is_well_formed_escaped_and_claims_nothing(told: Desk) -> None:
    files = pack_files(told, "fx_vol", "1.0.0")
    page = files["pack.html"].decode()
    tree = ET.fromstring(page.removeprefix("<!DOCTYPE html>\n"))
    assert tree.find(".//script") is None
    text = re.sub(r"\s+", " ", " ".join(tree.itertext()))
    assert HOSTILE in text
    assert "It is not a validation" in text
    assert "complian" not in text.lower()
    assert "SR 26-2" in text
    assert "SR 11-7" in text
    loaded = [
        one.get("src") or one.get("href") for one in tree.iter() if one.tag in {"img", "link"}
    ]
    assert loaded == [], "it needs nothing from elsewhere"


def test_no_pack_is_made_of_what_does_not_verify(desk: Desk) -> None:
    with pytest.raises(NotFound, match=r"no version 9\.0\.0"):
        pack_files(desk, "fx_vol", "9.0.0")
    flip(desk.layout.registry / "artifacts/fx_vol/1.0.0/bench.json")
    with pytest.raises(Tampered, match=r"bench\.json"):
        pack_files(desk, "fx_vol", "1.0.0")


def test_what_is_no_pack_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        check_pack(tmp_path / "none")
    (tmp_path / "text").write_text("no archive")
    (tmp_path / "pack.json").write_text("[]")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/pack.json").write_text("[" * 100_000)
    for path in (tmp_path / "text", tmp_path, tmp_path / "deep"):
        with pytest.raises(ContractViolation):
            check_pack(path)


def test_an_archive_cannot_write_outside_of_itself(told: Desk, tmp_path: Path) -> None:
    files = pack_files(told, "fx_vol", "1.0.0")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)
        archive.writestr("keys/../../escaped.pem", b"x")
        archive.writestr("../escaped.pem", b"x")
        archive.writestr("keys/..", b"x")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/pack.zip").write_bytes(buffer.getvalue())
    assert failing(tmp_path / "deep/pack.zip") == {"checksum.sha256"}
    assert not list(tmp_path.rglob("escaped.pem"))


def test_the_bill_of_materials_is_valid_cyclonedx(desk: Desk) -> None:
    pytest.importorskip("cyclonedx", reason="pip install 'cyclonedx-python-lib[json-validation]'")
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    (desk.layout.root / "configs/models.yaml").write_text(DECLARED)
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    for version in ("1.0.0", "1.1.0"):
        document = bom_of(desk, "fx_vol", version)
        assert validator.validate_str(json.dumps(document)) is None
        component = document["metadata"]["component"]
        assert component["type"] == "machine-learning-model"
        folder = desk.layout.registry / f"artifacts/fx_vol/{version}"
        assert (
            component["hashes"][0]["content"]
            == hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
        )
        assert {one["name"] for one in component["components"]} == {
            one.name for one in folder.iterdir()
        }
        card = component["modelCard"]
        assert card["considerations"]["technicalLimitations"] == ["No use for options."]
    broken = json.dumps(document).replace("machine-learning-model", "machine-learning")
    assert validator.validate_str(broken) is not None, "the validator does look"


def test_every_signature_in_a_pack_can_be_checked_without_this_program(
    told: Desk, tmp_path: Path
) -> None:
    write_pack(told, "fx_vol", "1.0.0", tmp_path / "pack", signer="risk")
    pack = tmp_path / "pack"
    policy = {
        key["key_id"]: key for key in json.loads((pack / "keys/trust.json").read_text())["keys"]
    }
    envelopes = [pack / "version/signature", pack / "pack.signature"]
    envelopes += [*(pack / "statements").iterdir(), *(pack / "heads").iterdir()]
    assert len(envelopes) >= 2 + 3 + 3
    signers = set()
    for path in envelopes:
        envelope = json.loads(path.read_text())
        (signature,) = envelope["signatures"]
        key = policy[signature["keyid"]]
        pem = load_pem_public_key((pack / "keys" / key["public_key"]).read_bytes())
        assert isinstance(pem, Ed25519PublicKey)
        body, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
        signed = b" ".join(
            [b"DSSEv1", str(len(kind)).encode(), kind, str(len(body)).encode(), body]
        )
        pem.verify(base64.b64decode(signature["sig"]), signed)
        assert json.loads(body)["predicateType"].split(":")[2] in key["may_sign"]
        signers.add(key["identity"])
    assert signers == {"author", "risk", "head", "ops"}


def trusting(folder: Path, told: Desk, identity: str, **changed: Any) -> Path:
    """The desk's trust policy, with something changed about somebody's key."""
    shutil.copytree(told.keyring.public_dir, folder)
    policy = folder / "trust.json"
    document = json.loads(policy.read_text())
    for key in document["keys"]:
        if key["identity"] == identity:
            key.update(changed)
    policy.write_text(json.dumps(document))
    return folder


def test_what_a_key_signed_after_it_was_retired_does_not_hold_in_a_pack(
    told: Desk, tmp_path: Path
) -> None:
    pack = tmp_path / "pack.zip"
    write_pack(told, "fx_vol", "1.1.0", pack)
    before = trusting(tmp_path / "before", told, "ops", retired=render(T0 + 60 * SECOND))
    (wrong,) = failing(pack, before)
    assert wrong.startswith("statements/promotion-")
    later = trusting(tmp_path / "later", told, "ops", retired=render(T0 + 10**6 * SECOND))
    assert failing(pack, later) == set()


def test_a_pack_over_a_revoked_key_says_so_and_holds_where_others_vouch(
    desk: Desk, tmp_path: Path
) -> None:
    stolen = desk.keyring.key_of("author")
    assert stolen is not None
    revoke_key(desk.keyring.public_dir, stolen.key_id, "laptop stolen")
    document = gather_pack(desk, "fx_vol", "1.0.0")
    assert "laptop stolen" in document["identity"]["signature_note"]
    assert document["identity"]["signed_with"] == stolen.key_id
    pack = tmp_path / "pack.zip"
    write_pack(desk, "fx_vol", "1.0.0", pack)
    found = {one.what: one for one in check_pack(pack).findings}
    assert all(one.ok for one in found.values())
    assert "NOTE: signed by author" in found["version/signature"].detail
    # Whoever signed every head is gone as well: nobody who is trusted stands for the log.
    key = desk.keyring.key_of("ops")
    assert key is not None
    revoke_key(desk.keyring.public_dir, key.key_id, "stolen too")
    with pytest.raises(Tampered, match="assay audit sign"):
        gather_pack(desk, "fx_vol", "1.0.0")
    without = trusting(tmp_path / "keys", desk, "nobody")
    assert {"heads", "version/signature"} <= failing(pack, without)
    sign_log(
        desk.registry.journal, desk.keyring, verify_records(desk), signer="head", reason="read"
    )
    again = tmp_path / "again.zip"
    write_pack(desk, "fx_vol", "1.0.0", again)
    assert failing(again) == set()


def ran_beside(desk: Desk) -> str:
    """1.2.0 was in shadow, recorded, and then a canary that was ended; its number."""
    registry, files = desk.registry, ChallengerFiles(
        desk.layout.root / "shadow/predictions.jsonl", desk.layout.root / "feedback.jsonl"
    )  # fmt: skip
    registry.register(make_candidate("fx_vol", "1.2.0", bias=2.0))
    own = {"initiated_by": "ops", "reason": "a test", "monotonic": time.monotonic}
    shadow = start_shadow(registry, "fx_vol", "1.2.0", **own)  # type: ignore[arg-type]
    write_turns(files.pairs, desk, shadow.seq)
    found = compare_shadow(desk, files, "fx_vol", "1.2.0")
    record_shadow(desk, found, initiated_by="ops")
    assert isinstance(desk.clock, FixedClock)
    desk.clock.advance(SECOND)
    canary = start_canary(registry, "fx_vol", "1.2.0", share=0.25, **own)  # type: ignore[arg-type]
    write_turns(files.pairs, desk, canary.seq)
    look = write_card(desk, look_at_canary(desk, files, "fx_vol", CanaryPolicy()))
    end_canary(
        registry, "fx_vol", initiated_by="ops", reason="seen enough",
        finding=look.finding.to_json(),
    )  # fmt: skip
    return f"canary-1.2.0-{canary.seq:06d}"


def write_turns(path: Path, desk: Desk, revision: int) -> None:
    digests = [desk.registry.get("fx_vol", one).digest for one in ("1.0.0", "1.2.0")]
    at = desk.registry.now()
    answers = [float(n) for n in range(20)]
    turn = Turn(
        at, "fx_vol", "1.0.0", digests[0], "1.2.0", digests[1], revision, None, 1, answers,
        list(answers), at, 5, 6, [f"E{n}" for n in range(20)],
    )  # fmt: skip
    PairLog(path, Kept()).append(encode_turns([turn]), at)


def test_what_was_seen_of_a_challenger_is_in_the_pack_of_the_version_it_judged(
    desk: Desk, tmp_path: Path
) -> None:
    kept = ran_beside(desk)
    files = write_pack(desk, "fx_vol", "1.2.0", tmp_path / "pack")
    assert failing(tmp_path / "pack") == set()
    document = json.loads(files["pack.json"])
    assert [one["event"] for one in document["beside"]] == [
        "shadow.start", "canary.start", "canary.end"
    ]  # fmt: skip
    assert document["beside"][2]["evidence"]["finding"]["numbers"]["pairs"] == 20
    shadow, canary = document["scorecards"]
    assert (shadow["kind"], shadow["rows"]) == ("shadow", 20)
    assert (canary["path"], canary["verdict"]) == (f"scorecards/{kept}.json", "INDETERMINATE")
    card = json.loads(files[canary["path"]])
    assert card["finding"]["numbers"]["pairs"] == 20
    assert f"scorecards/{kept}.html" in files
    evidence = {one["name"]: one for one in document["evidence"]}
    named = evidence["shadow_stable_hours"]["provenance"]["inputs_digest"]
    assert named == shadow["inputs_digest"] != canary["inputs_digest"]
    page = files["pack.html"].decode()
    assert f'href="scorecards/{kept}.html"' in page
    # Another version's pack holds none of it.
    other = pack_files(desk, "fx_vol", "1.0.0")
    assert not [path for path in other if path.startswith("scorecards/")]
    assert json.loads(other["pack.json"])["beside"] == []


def test_a_look_at_a_canary_while_a_pack_is_made_leaves_it_whole(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = ran_beside(desk)
    card = desk.layout.root / f"reports/models/fx_vol/scorecards/{kept}.json"
    gather = pack_writing.gather_pack

    def gathered(*given: Any) -> Any:
        document = gather(*given)
        card.write_bytes(card.read_bytes().replace(b'"ended":false', b'"ended":true '))
        return document

    monkeypatch.setattr(pack_writing, "gather_pack", gathered)
    before = card.read_bytes()
    files = write_pack(desk, "fx_vol", "1.2.0", tmp_path / "pack")
    assert card.read_bytes() != before == files[f"scorecards/{kept}.json"]
    assert failing(tmp_path / "pack") == set()


@pytest.mark.parametrize("what", ["changed", "hidden", "retold"])
def test_a_scorecard_that_was_changed_afterwards_is_found(
    desk: Desk, tmp_path: Path, what: str
) -> None:
    kept = ran_beside(desk)
    pack = tmp_path / "pack"
    write_pack(desk, "fx_vol", "1.2.0", pack)
    path = pack / f"scorecards/{kept}.json"
    if what == "changed":
        path.write_text(path.read_text().replace("INDETERMINATE", "PASS"))
    elif what == "hidden":
        path.unlink()
    else:
        told = pack / "pack.json"
        told.write_text(told.read_text().replace('"verdict":"INDETERMINATE"', '"verdict":"PASS"'))
    listed_again(pack)
    assert "pack.json" in failing(pack)
