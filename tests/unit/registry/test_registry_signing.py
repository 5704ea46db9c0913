import base64
import json

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from assay.errors import Tampered
from assay.registry.signing import (
    PAYLOAD_TYPE,
    Envelope,
    Statement,
    pre_authentication_encoding,
    sign_statement,
)

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
STATEMENT = Statement("version", {"b": "22", "a": "11"}, {"name": "fx_vol"})


def test_the_encoding_that_is_signed_is_the_one_of_the_dsse_specification():
    # The example of the protocol document.
    assert pre_authentication_encoding("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_lengths_are_counted_in_bytes_not_in_characters():
    assert pre_authentication_encoding("ä", "öü".encode()) == b"DSSEv1 2 " + (
        "ä".encode() + b" 4 " + "öü".encode()
    )


def test_an_envelope_is_one_that_any_dsse_reader_can_check():
    document = json.loads(sign_statement(STATEMENT, KEY, "k1").to_bytes())
    body = base64.b64decode(document["payload"])
    kind = document["payloadType"]
    covered = b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(body), body)
    KEY.public_key().verify(base64.b64decode(document["signatures"][0]["sig"]), covered)
    with pytest.raises(InvalidSignature):
        KEY.public_key().verify(base64.b64decode(document["signatures"][0]["sig"]), covered + b" ")
    assert kind == "application/vnd.in-toto+json"
    statement = json.loads(body)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["subject"] == [
        {"name": "a", "digest": {"sha256": "11"}},
        {"name": "b", "digest": {"sha256": "22"}},
    ]


def test_a_statement_survives_its_envelope():
    envelope = sign_statement(STATEMENT, KEY, "k1")
    assert Statement.from_bytes(Envelope.from_bytes(envelope.to_bytes()).body) == STATEMENT


def test_every_flipped_bit_of_an_envelope_is_noticed():
    data = sign_statement(STATEMENT, KEY, "k1").to_bytes()
    for position in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            try:
                envelope = Envelope.from_bytes(bytes(changed))
            except Tampered:
                continue
            if envelope.key_id != "k1":
                continue  # another key's id: unknown to every policy
            with pytest.raises(InvalidSignature):
                KEY.public_key().verify(
                    envelope.signature, pre_authentication_encoding(PAYLOAD_TYPE, envelope.body)
                )


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        b'{"payload":"","payloadType":"x","signatures":[]}',
        b'{"payload":"!","payloadType":"x","signatures":[{"keyid":"k","sig":""}]}',
        b'{"payload":NaN,"payloadType":"x","signatures":[{"keyid":"k","sig":""}]}',
        b"[" * 100_000,
    ],
)
def test_anything_but_an_envelope_is_refused_as_tampered(text):
    with pytest.raises(Tampered):
        Envelope.from_bytes(text)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff", b'{"_type":1,"predicateType":"a:b"}'])
def test_anything_but_a_statement_is_refused_as_tampered(body):
    with pytest.raises(Tampered):
        Statement.from_bytes(body)
