"""Archives of strangers: what is no plain file ends the reading, before it costs anything."""

from __future__ import annotations

import io
import tarfile

import pytest

from assay.registry.plain_tar import plain_files


def header(name: bytes, size: bytes = b"00000000000\0", kind: bytes = b"0") -> bytes:
    made = bytearray(512)
    made[: len(name)] = name
    made[124:136], made[156:157], made[257:265] = size, kind, b"ustar\x0000"
    made[148:156] = b" " * 8
    made[148:156] = b"%06o\0 " % sum(made)
    return bytes(made)


def extended(body: bytes, kind: bytes = b"x") -> bytes:
    return header(b"p", b"%011o\0" % len(body), kind) + body + bytes(-len(body) % 512)


FILE = header(b"CHANGES.md") + bytes(1024)
BEHIND = b"\xff" * 10 + b"\xfe\0"
HUGE = b"\x80" + b"\0" * 3 + b"\x40" + b"\0" * 7


@pytest.mark.parametrize(
    ("archive", "said"),
    [
        (extended(b"11 path=ab\n") * 3_000 + FILE, "extended headers are refused"),
        (extended(b"11 path=ab\n", b"g") * 3_000 + FILE, "extended headers are refused"),
        (extended(b"a" * 10, b"L") * 3_000 + FILE, "extended headers are refused"),
        (extended(b"1" * 200_000) + FILE, "extended headers are refused"),
        (header(b"a", BEHIND) + bytes(1024), "no number"),
        (header(b"a", HUGE) + bytes(1024), "no number"),
        (header(b"a", b"77777777777\0") + bytes(1024), "ends inside of 'a'"),
        (header(b"a", kind=b"S") + bytes(1024), "sparse files"),
        (bytes([*header(b"a")[:-1], 1]) + bytes(1024), "checksum"),
        (header(b"a"), "ends before its end"),
        (b"", "ends before its end"),
    ],
    ids=[
        "headers", "global headers", "long names", "a header that is searched for minutes",
        "a size below nothing", "a size beyond everything", "a size beyond its end", "sparse",
        "a wrong checksum", "no end", "nothing",
    ],
)  # fmt: skip
def test_what_is_no_plain_file_is_refused_in_words(archive: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        list(plain_files(io.BytesIO(archive)))


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_plain_files_come_out_as_they_went_in(form: int) -> None:
    files = {"model.onnx": bytes(range(256)) * 5, "empty": b"", "n" * 99: b"x" * 512}
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as out:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            out.addfile(member, io.BytesIO(data))
    assert dict(plain_files(made)) == files
