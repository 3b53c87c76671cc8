"""The header of a message: what it claims is checked before anything is allocated."""

import json

import pytest
import torch

from lerobot_serl import message_header
from lerobot_serl.message_header import HEADER_KEY, MAX_HEADER_BYTES, MAX_TENSORS, MessageError, TensorClaim, read_header, strict_json
from lerobot_serl.transport import decode, encode


def document(entries, body=b"", header="{}", metadata=None):
    text = entries if isinstance(entries, str) else json.dumps({"__metadata__": metadata or {HEADER_KEY: header}, **entries})
    return len(text.encode()).to_bytes(8, "little") + text.encode() + body


def entry(shape=(2,), dtype="F32", offsets=(0, 8), **extra):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **extra}


def test_claims_are_what_the_tensors_are():
    tensors = {"a": torch.zeros(3, 2), "b": torch.zeros(4, dtype=torch.bool), "empty": torch.zeros(0, 5), "number": torch.tensor(1.0)}
    header, claims = read_header(encode({"n": [1, {"x": None}]}, tensors))
    assert header == {"n": [1, {"x": None}]}
    assert claims == {name: TensorClaim(tuple(value.shape), value.dtype) for name, value in tensors.items()}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (document({"a": entry(shape=[2**40, 2**40])}, bytes(8)), "its shape and dtype need"),
        (document({"a": entry(offsets=(0, 2**50), shape=[2**48])}, bytes(8)), f"the tensors take {2**50} bytes, but 8 came"),
        (document({"a": entry(), "b": entry()}, bytes(8)), "'b' begins at byte 0, expected 8: tensors overlap"),
        (document({"a": entry(), "b": entry(offsets=(12, 20))}, bytes(20)), "'b' begins at byte 12, expected 8"),
        (document({"a": entry()}, bytes(9)), "take 8 bytes, but 9 came"),
        (document({"a": entry(offsets=(8, 0), shape=[-2])}, bytes(8)), "no usable shape"),
        (document({"a": entry(offsets=(8, 0))}, bytes(8)), "takes -8 bytes"),
        (document({"a": entry(shape=[True, 2])}, bytes(8)), "no usable shape"),
        (document({"a": entry(shape=[1] * 9 + [2])}, bytes(8)), "no usable shape"),
        (document({"a": entry(offsets=(0, 4, 8))}, bytes(8)), "no usable data_offsets"),
        (document({"a": entry(dtype="F4")}, bytes(8)), "dtype 'F4', expected one of F32"),
        (document({"a": entry(dtype=["F32"])}, bytes(8)), "has the dtype"),
        (document({"a": entry(extra=1)}, bytes(8)), "not described by dtype"),
        (document({"a": [1]}, bytes(8)), "not described by dtype"),
        (document({"n" * 201: entry()}, bytes(8)), "name has 201 characters"),
        (document({str(i): entry(shape=[0], offsets=(0, 0)) for i in range(MAX_TENSORS + 1)}), f"{MAX_TENSORS + 1} tensors"),
        (document({}, metadata={HEADER_KEY: "{}", "format": "pt"}), "metadata are not one text"),
        (document({}, metadata={HEADER_KEY: {}}), "metadata are not one text"),
        (document("{}"), "metadata are not one text"),
        (document('{"a": 1, "a": 1}'), "stands twice"),
        (document({}, header='{"u": {"x": 1, "x": 2}}'), "stands twice"),
        (document({}, header='{"x": NaN}'), "NaN is no JSON"),
        (document({}, header='{"x": 1e999}'), "too large"),
        (document({}, header=f'{{"x": {2**63}}}'), "64 bits"),
        (document({}, header='{"x": ' + "9" * 100_000 + "}"), "an integer of 100000 digits"),
        (document({}, header='{"x": "\\ud800"}'), "no Unicode"),
        (document({}, header='{"\\udfff": 1}'), "no Unicode"),
        (document({}, header='{"x": ' + "[" * 16 + "]" * 16 + "}"), "nested deeper than 16"),
        (document({}, header='{"x": ' + "[" * 100_000), "no usable JSON"),
        (document({}, header="[]"), "JSON list, expected an object"),
        ((MAX_HEADER_BYTES + 1).to_bytes(8, "little") + bytes(MAX_HEADER_BYTES + 1), "with a header of"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_not_as_it_should_be_is_refused_by_name(data, said):
    with pytest.raises(MessageError, match="(?s)" + said.replace("{", r"\{")) as caught:
        read_header(data)
    assert len(str(caught.value)) < 400


def test_tensors_are_decoded_only_after_the_check(monkeypatch):
    decoded = []
    monkeypatch.setattr("safetensors.torch.load", lambda data: decoded.append(data) or {})

    def refuse(header, claims):
        assert claims["a"].shape == (3,)
        raise MessageError("not wanted")

    with pytest.raises(MessageError, match="not wanted"):
        decode(encode({}, {"a": torch.zeros(3)}), refuse)
    assert decoded == []
    decode(encode({}, {"a": torch.zeros(3)}), lambda header, claims: None)
    assert len(decoded) == 1


def test_every_dtype_that_is_known_travels():
    tensors = {name: torch.ones(3).to(dtype) for name, dtype in message_header.DTYPES.items()}
    _, back = decode(encode({}, tensors))
    assert {name: value.dtype for name, value in back.items()} == message_header.DTYPES


def test_strict_json_takes_ordinary_json():
    value = {"a": [1, -2.5e-3, True, None, "ü\U0001f600"], "b": {"c": {}}, "n": -(2**63), "m": 2**63 - 1}
    assert strict_json(json.dumps(value).encode()) == value
