"""Published manifests are found by hash and by view, and are never overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assay.domain.canonical import canonical_bytes
from assay.errors import Conflict, DefinitionError, NotFound, Tampered, Unavailable
from assay.features import FeatureView, Manifest, ManifestCatalogue, ManifestSet, Sessions, col
from assay.features.definition.catalogue import Publication
from assay.storage.objects import LocalObjects
from assay.testing.clocks import FixedClock

MID = col("mid")
START = 1_700_000_000 * 10**9


def manifest(name: str = "fx", lag: int = 1) -> Manifest:
    features = {"ret": MID.simple_return(lag)}
    return Manifest.of(FeatureView(name, "market", "instrument", features, Sessions(3)))


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(START)


@pytest.fixture
def catalogue(tmp_path: Path, clock: FixedClock) -> ManifestCatalogue:
    return ManifestCatalogue(LocalObjects(tmp_path), clock)


def test_a_manifest_is_stored_as_its_canonical_bytes_under_its_hash(
    catalogue: ManifestCatalogue, tmp_path: Path
) -> None:
    catalogue.publish(manifest(), by="quant")
    path = tmp_path / f"{manifest().hash}.json"
    assert path.read_bytes() == canonical_bytes(manifest().document)
    found = catalogue.get(manifest().hash)
    assert (found.view, found.source, found.entity, found.ttl, found.feature_names) == (
        "fx", "market", "instrument", Sessions(3), ("ret",),
    )  # fmt: skip


def test_publishing_again_gives_the_first_publication(
    catalogue: ManifestCatalogue, clock: FixedClock
) -> None:
    first = catalogue.publish(manifest(), by="quant")
    clock.advance(10**9)
    assert catalogue.publish(manifest(), by="somebody.else") == first
    assert (first.published_at, first.published_by) == (START, "quant")


def test_the_manifests_of_a_view_are_listed_in_the_order_of_publication(
    catalogue: ManifestCatalogue, clock: FixedClock
) -> None:
    assert catalogue.publications("fx") == ()
    hashes = []
    for lag in (3, 1, 2):
        hashes.append(catalogue.publish(manifest(lag=lag), by="quant").manifest)
        clock.advance(5)
    catalogue.publish(manifest("other"), by="quant")
    found = catalogue.publications("fx")
    assert [one.manifest for one in found] == hashes
    assert [one.published_at for one in found] == [START, START + 5, START + 10]
    assert catalogue.resolve("fx", hashes[1][:8]) == found[1]
    with pytest.raises(NotFound, match="begins with 'zz'"):
        catalogue.resolve("fx", "zz")
    with pytest.raises(Conflict, match="3 manifests"):
        catalogue.resolve("fx", "")
    with pytest.raises(DefinitionError):
        catalogue.publications("../fx")


def test_other_content_under_a_hash_is_refused_and_never_overwritten(
    catalogue: ManifestCatalogue, tmp_path: Path
) -> None:
    path = tmp_path / f"{manifest().hash}.json"
    path.write_bytes(b"{}")
    with pytest.raises(Tampered, match=manifest().hash):
        catalogue.publish(manifest(), by="quant")
    assert path.read_bytes() == b"{}"
    with pytest.raises(Tampered, match=manifest().hash):
        catalogue.get(manifest().hash)


def test_any_flipped_byte_is_found(catalogue: ManifestCatalogue, tmp_path: Path) -> None:
    catalogue.publish(manifest(), by="quant")
    digest = manifest().hash
    path, note = tmp_path / f"{digest}.json", tmp_path / f"published/fx/{digest}.json"
    good = path.read_bytes()
    for place in range(0, len(good), 7):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        with pytest.raises(Tampered):
            catalogue.get(digest)
    path.write_bytes(good)
    said = note.read_bytes()
    note.write_bytes(said.replace(b'"fx"', b'"fy"'))
    with pytest.raises(Tampered, match="of view fx was published"):
        catalogue.publications("fx")
    note.write_bytes(said[:-4])
    with pytest.raises(Tampered):
        catalogue.publish(manifest(), by="quant")


@pytest.mark.parametrize("digest", ["", "abc", "../x", "A" * 64, "0" * 64])
def test_a_hash_that_is_not_published_is_not_found(
    catalogue: ManifestCatalogue, digest: str
) -> None:
    with pytest.raises(NotFound):
        catalogue.get(digest)


def test_a_set_of_manifests_is_no_manifest(catalogue: ManifestCatalogue, tmp_path: Path) -> None:
    found = ManifestSet((manifest(),))
    found.publish(tmp_path)
    with pytest.raises(NotFound, match="set of manifests"):
        catalogue.get(found.hash)


def test_a_publisher_that_died_between_its_two_objects_is_followed(
    catalogue: ManifestCatalogue, tmp_path: Path
) -> None:
    manifest().publish(tmp_path)
    assert catalogue.publications("fx") == ()
    assert catalogue.get(manifest().hash) == manifest()
    catalogue.publish(manifest(), by="quant")
    assert len(catalogue.publications("fx")) == 1


def test_a_catalogue_on_a_real_s3_server(bucket: str, clock: FixedClock) -> None:
    from assay.adapters.objects import FsspecObjects

    catalogue = ManifestCatalogue(FsspecObjects(f"s3://{bucket}/desk"), clock)
    note = catalogue.publish(manifest(), by="quant")
    elsewhere = ManifestCatalogue(FsspecObjects(f"s3://{bucket}/desk"), clock)
    assert elsewhere.get(note.manifest) == manifest()
    assert elsewhere.publications("fx") == (note,)
    assert elsewhere.url == f"s3://{bucket}/desk"
    gone = ManifestCatalogue(FsspecObjects("s3://no-such-bucket-here/desk"), clock)
    with pytest.raises(Unavailable, match="no-such-bucket-here"):
        gone.publish(manifest(), by="quant")


def test_a_note_reads_as_it_was_written() -> None:
    note = Publication("fx", "a" * 64, START, "quant")
    data = canonical_bytes(note.to_json())
    assert Publication.from_bytes(data, view="fx", manifest="a" * 64) == note
    for wrong in (b"", b"[]", b"null", json.dumps(note.to_json()).encode()):
        with pytest.raises(Tampered):
            Publication.from_bytes(wrong, view="fx", manifest="a" * 64)


def test_a_copy_answers_where_the_objects_cannot_be_reached(
    tmp_path: Path, clock: FixedClock
) -> None:
    class Far(LocalObjects):
        gone = False

        def get(self, name: str) -> bytes:
            if self.gone:
                raise Unavailable("no network")
            return super().get(name)

    far, near = Far(tmp_path / "far"), LocalObjects(tmp_path / "near")
    catalogue = ManifestCatalogue(far, clock, copies=near)
    catalogue.publish(manifest(), by="quant")
    assert near.names() == []
    assert catalogue.get(manifest().hash) == manifest()
    far.gone = True
    assert catalogue.get(manifest().hash) == manifest()
    with pytest.raises(Unavailable):
        catalogue.get(manifest(lag=2).hash)
    copy = tmp_path / f"near/{manifest().hash}.json"
    copy.write_bytes(b"{}")
    with pytest.raises(Unavailable):
        catalogue.get(manifest().hash)
    far.gone = False
    assert catalogue.get(manifest().hash) == manifest(), "a damaged copy is passed over"
