"""Messages: round trips, and everything that must be refused."""

import json
import os
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lerobot.transport import services_pb2
from lerobot.transport.utils import TransferState

from lerobot_serl import transport
from lerobot_serl.message_header import HEADER_KEY, MessageError
from lerobot_serl.transport import DIGEST_BYTES, DamagedMessage, decode, encode, join, split

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.text(max_size=12).filter(lambda name: name != "__metadata__")
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.uint8, torch.int64, torch.bool)


@st.composite
def tensors(draw):
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    value = torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 99)))).to(draw(st.sampled_from(DTYPES)))
    return value.transpose(0, -1) if value.dim() > 1 and draw(st.booleans()) else value  # not contiguous


@settings(max_examples=100, deadline=None)
@given(header=st.dictionaries(st.text(max_size=8), JSON, max_size=4), values=st.dictionaries(NAMES, tensors(), max_size=4))
def test_decode_inverts_encode(header, values):
    back, loaded = decode(encode(header, values))
    assert back == header
    assert loaded.keys() == values.keys()
    for name, value in values.items():
        assert loaded[name].dtype == value.dtype
        assert torch.equal(loaded[name], value)


def test_parameters_and_slices_travel():
    weight = torch.arange(9.0).reshape(3, 3).requires_grad_()
    _, loaded = decode(encode({}, {"slice": weight[1:, 1:], "transposed": weight.t()}))
    assert loaded["slice"].tolist() == [[4.0, 5.0], [7.0, 8.0]]
    assert loaded["transposed"].tolist() == [[0.0, 3.0, 6.0], [1.0, 4.0, 7.0], [2.0, 5.0, 8.0]]
    assert not loaded["slice"].requires_grad


def test_numbers_that_json_lacks_are_not_sent():
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode({"x": float("nan")}, {})


class Trap:
    """Unpickling this leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def safetensors_document(document, body=b""):
    text = (document if isinstance(document, str) else json.dumps(document)).encode()
    return len(text).to_bytes(8, "little") + text + body


GOOD = encode({"kind": "x", "n": 1}, {"a": torch.arange(4.0)})
REFUSED = {
    "empty": b"",
    "seven bytes": b"\0" * 7,
    "zeros": b"\0" * 64,
    "text": b"GET / HTTP/1.1\r\nHost: learner\r\n\r\n",
    "huge header size": b"\xff" * 8 + GOOD[8:],
    "negative body": GOOD[:-1],
    "something appended": GOOD + b"\0",
    "no header": safetensors_document({}),
    "no metadata of ours": safetensors_document({"__metadata__": {"format": "pt"}}),
    "a list": safetensors_document([]),
    "a number": safetensors_document("3"),
    "no JSON": safetensors_document("{'a': 1}"),
    "no UTF-8": (4).to_bytes(8, "little") + b"\xff\xfe\xff\xfe",
    "header is a list": safetensors_document({"__metadata__": {HEADER_KEY: "[1]"}}),
    "header is null": safetensors_document({"__metadata__": {HEADER_KEY: "null"}}),
    "header is no string": safetensors_document({"__metadata__": {HEADER_KEY: 3}}),
    "header is no JSON": safetensors_document({"__metadata__": {HEADER_KEY: "{"}}),
    "nested too deep": safetensors_document('{"__metadata__": ' + "[" * 200_000),
    "an integer of 5000 digits": safetensors_document({"__metadata__": {HEADER_KEY: '{"n": ' + "9" * 5000 + "}"}}),
    "offsets outside": safetensors_document(
        {"__metadata__": {HEADER_KEY: "{}"}, "a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 1 << 40]}}, b"\0" * 16
    ),
    "unknown dtype": safetensors_document(
        {"__metadata__": {HEADER_KEY: "{}"}, "a": {"dtype": "PY", "shape": [4], "data_offsets": [0, 16]}}, b"\0" * 16
    ),
    "pickle": pickle.dumps({"a": [1, 2]}),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_message_is_refused(data):
    with pytest.raises(MessageError):
        decode(data)


def test_pickles_are_never_executed(tmp_path):
    trap = tmp_path / "executed"
    bomb = pickle.dumps(Trap(trap))
    torch_bomb = tmp_path / "bomb.pt"
    torch.save(Trap(trap), torch_bomb)
    in_header = safetensors_document({"__metadata__": {HEADER_KEY: bomb.decode("latin-1")}})
    for data in (bomb, torch_bomb.read_bytes(), in_header, len(bomb).to_bytes(8, "little") + bomb):
        with pytest.raises(MessageError):
            decode(data)
    assert not trap.exists()
    pickle.loads(bomb)
    assert trap.exists()  # the trap works


@settings(max_examples=200, deadline=None)
@given(cut=st.integers(0, len(GOOD) - 1))
def test_every_truncation_is_refused(cut):
    with pytest.raises(MessageError):
        decode(GOOD[:cut])


@settings(max_examples=300, deadline=None)
@given(position=st.integers(0, len(GOOD) - 1), byte=st.integers(0, 255), noise=st.binary(max_size=64))
def test_damaged_bytes_give_a_message_or_a_message_error(position, byte, noise):
    for data in (GOOD[:position] + bytes([byte]) + GOOD[position + 1 :], noise):
        try:
            header, values = decode(data)
        except MessageError:
            continue
        assert isinstance(header, dict)
        assert all(isinstance(value, torch.Tensor) for value in values.values())


@settings(max_examples=100, deadline=None)
@given(messages=st.lists(st.binary(max_size=40), max_size=4), chunk=st.integers(1, 12))
def test_join_inverts_split(messages, chunk):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transport, "CHUNK_BYTES", chunk)
        parts = [part for message in messages for part in split(message, services_pb2.Transition)]
    assert all(len(part.data) <= chunk + DIGEST_BYTES for part in parts)
    assert list(join(parts)) == messages


@settings(max_examples=300, deadline=None)
@given(data=st.binary(min_size=1, max_size=40), chunk=st.integers(1, 12), choose=st.data())
def test_a_message_that_was_changed_on_the_way_is_not_taken_for_the_one_that_was_sent(data, chunk, choose):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transport, "CHUNK_BYTES", chunk)
        parts = list(split(data, services_pb2.Transition))
    index = choose.draw(st.integers(0, len(parts) - 1))
    fault = choose.draw(st.sampled_from(["changed", "lost", "repeated", "shortened"]))
    if fault == "changed":
        at = choose.draw(st.integers(0, len(parts[index].data) - 1))
        changed = bytearray(parts[index].data)
        changed[at] ^= choose.draw(st.integers(1, 255))
        parts[index].data = bytes(changed)
    elif fault == "lost":
        del parts[index]
    elif fault == "repeated":
        parts.insert(index, parts[index])
    else:
        parts[index].data = parts[index].data[:-1]
    try:
        assert set(join(parts)) <= {data}
    except DamagedMessage:
        assert fault != "repeated" or len(parts) > 2


def test_parts_are_marked_begin_middle_end():
    data = bytes(2 * transport.CHUNK_BYTES + 1)
    states = [part.transfer_state for part in split(data, services_pb2.Parameters)]
    assert states == [TransferState.TRANSFER_BEGIN, TransferState.TRANSFER_MIDDLE, TransferState.TRANSFER_END]
    assert [p.transfer_state for p in split(b"", services_pb2.Parameters)] == [TransferState.TRANSFER_END]


def test_a_message_over_the_limit_is_refused_before_it_is_complete():
    taken = []

    def parts():
        for index in range(100):
            taken.append(index)
            state = TransferState.TRANSFER_BEGIN if index == 0 else TransferState.TRANSFER_MIDDLE
            yield services_pb2.Transition(transfer_state=state, data=b"x" * 10)

    with pytest.raises(MessageError, match="larger than 35 bytes"):
        list(join(parts(), limit_bytes=35))
    assert len(taken) == 4
    assert list(join(split(b"x" * 35, services_pb2.Transition), limit_bytes=35)) == [b"x" * 35]


def test_a_stream_that_ends_in_a_message_is_refused():
    parts = list(split(bytes(2 * transport.CHUNK_BYTES), services_pb2.Transition))
    with pytest.raises(DamagedMessage, match="ended in the middle"):
        list(join(parts[:1]))
    assert list(join([parts[0], *parts])) == [bytes(2 * transport.CHUNK_BYTES)]  # a new beginning drops what came before
