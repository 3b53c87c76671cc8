"""Episodes as messages: the round trip, and a refusal by name of everything else."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lerobot.configs import FeatureType, PolicyFeature
from small_data import ACTION, ENV_STATE, INPUTS, STATE, assert_same_recording, make_recording

from lerobot_serl.replay.episode_message import (
    MARGIN_BYTES,
    MAX_FRAMES,
    MAX_INFO_ENTRIES,
    decode_episode,
    encode_episode,
    largest_message_bytes,
)
from lerobot_serl.transport import MAX_MESSAGE_BYTES, MessageError, decode, encode

CAMERA = "observation.images.front"
WITH_CAMERA = {**INPUTS, CAMERA: PolicyFeature(type=FeatureType.VISUAL, shape=(3, 4, 5))}
OBSERVATION = "observation/"
WORDS = st.text(max_size=30).filter(str.isprintable)


@settings(max_examples=60, deadline=None)
@given(
    frames=st.integers(1, 9),
    end=st.sampled_from(["terminated", "truncated", "data end"]),
    task=WORDS,
    info=st.dictionaries(WORDS, st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False) | WORDS, max_size=3),
    uuid=st.from_regex(r"[A-Za-z0-9-]{1,64}", fullmatch=True),
)
def test_decoding_inverts_encoding(frames, end, task, info, uuid):
    recording = make_recording(max(frames, 1 if end == "terminated" else 2), end, task=task, info=info)
    back_uuid, back = decode_episode(encode_episode(recording, uuid), INPUTS, 2)
    assert back_uuid == uuid
    assert_same_recording(recording, back)


def test_images_stay_uint8():
    recording = make_recording(3)
    image = torch.randint(0, 256, (3, 3, 4, 5), dtype=torch.uint8)
    recording = replace(recording, observation={**recording.observation, CAMERA: image})
    _, back = decode_episode(encode_episode(recording, "u"), WITH_CAMERA, 2)
    assert_same_recording(recording, back)
    wrong = replace(recording, observation={**recording.observation, CAMERA: image.float()})
    with pytest.raises(MessageError, match=f"'{OBSERVATION}{CAMERA}' is .*float32.*expected .*uint8"):
        decode_episode(encode_episode(wrong, "u"), WITH_CAMERA, 2)


def changed(header=None, tensors=None):
    """The message of a good episode with some header fields and tensors replaced; None removes."""
    original_header, original_tensors = decode(encode_episode(make_recording(4), "u"))
    merged_header = {k: v for k, v in (original_header | (header or {})).items() if v is not None}
    merged = {k: v for k, v in (original_tensors | (tensors or {})).items() if v is not None}
    return encode(merged_header, merged)


def nan_at(shape, index):
    value = torch.zeros(shape)
    value[index] = float("nan")
    return value


BAD = {
    "action dimension": ({}, {ACTION: torch.zeros(4, 3)}, r"'action' is \(\(4, 3\), torch.float32\), expected \(\(4, 2\)"),
    "action dtype": ({}, {ACTION: torch.zeros(4, 2, dtype=torch.float64)}, "'action' is .*float64.*expected .*float32"),
    "action missing": ({}, {ACTION: None}, "episode of 0 frames"),
    "action of one dimension": ({}, {ACTION: torch.zeros(4)}, "episode of 0 frames"),
    "no frames": ({}, {ACTION: torch.zeros(0, 2)}, f"episode of 0 frames, expected 1 to {MAX_FRAMES}"),
    "too many frames": ({}, {ACTION: torch.zeros(MAX_FRAMES + 1, 2)}, f"episode of {MAX_FRAMES + 1} frames"),
    "state shape": ({}, {OBSERVATION + STATE: torch.zeros(4, 5)}, f"'{OBSERVATION}{STATE}' is .*5.*expected .*4, 4"),
    "state frames": ({}, {OBSERVATION + STATE: torch.zeros(3, 4)}, f"'{OBSERVATION}{STATE}'"),
    "state dtype": ({}, {OBSERVATION + STATE: torch.zeros(4, 4, dtype=torch.float16)}, f"'{OBSERVATION}{STATE}' is .*float16"),
    "state missing": ({}, {OBSERVATION + STATE: None}, f"'{OBSERVATION}{STATE}' is missing"),
    "a key too many": ({}, {OBSERVATION + "observation.force": torch.zeros(4, 1)}, "'observation/observation.force' is .*expected absent"),
    "foreign tensor": ({}, {"weights": torch.zeros(1)}, "'weights' is .*expected absent"),
    "reward shape": ({}, {"reward": torch.zeros(4, 1)}, "'reward' is"),
    "intervention dtype": ({}, {"intervention": torch.zeros(4)}, "'intervention' is .*expected .*bool"),
    "NaN state": ({}, {OBSERVATION + ENV_STATE: nan_at((4, 3), (2, 1))}, f"'{OBSERVATION}{ENV_STATE}' contains NaN"),
    "NaN action": ({}, {ACTION: nan_at((4, 2), (0, 0))}, "'action' contains NaN"),
    "infinite reward": ({}, {"reward": torch.tensor([0.0, 0.0, 0.0, float("inf")])}, "'reward' contains NaN or infinite"),
    "no uuid": ({"uuid": None}, {}, "header field 'uuid' is None, expected str"),
    "numeric uuid": ({"uuid": 3}, {}, "header field 'uuid' is 3"),
    "end missing": ({"terminated": None}, {}, "header field 'terminated'"),
    "end as number": ({"truncated": 1}, {}, "header field 'truncated' is 1, expected bool"),
    "both ends": ({"terminated": True, "truncated": True}, {}, "not both"),
    "info is a list": ({"info": [1]}, {}, "header field 'info'"),
    "task is a number": ({"task": 1}, {}, "header field 'task'"),
    "uuid is a path": ({"uuid": "../x"}, {}, "header field 'uuid' is '../x', expected 1 to 64"),
    "uuid of dots": ({"uuid": "..."}, {}, "header field 'uuid' is '...', expected 1 to 64 letters, digits and dashes"),
    "uuid with another's letters": ({"uuid": "a_b"}, {}, "header field 'uuid' is 'a_b'"),
    "uuid is long": ({"uuid": "x" * 65}, {}, "header field 'uuid'"),
    "too much info": ({"info": {str(i): i for i in range(MAX_INFO_ENTRIES + 1)}}, {}, f"{MAX_INFO_ENTRIES + 1} entries"),
}


@pytest.mark.parametrize(("header", "tensors", "named"), BAD.values(), ids=BAD.keys())
def test_what_does_not_fit_is_refused_by_name(header, tensors, named):
    with pytest.raises(MessageError, match=named):
        decode_episode(changed(header, tensors), INPUTS, 2)


def test_a_column_that_an_earlier_release_did_not_send_may_be_missing():
    """As one line of the table says: the default stands for it, and a column that is there is read."""
    without = decode_episode(changed(tensors={"plan_age": None, "plan_action": None}), INPUTS, 2)[1]
    assert without.plan_age.tolist() == [-1] * 4
    assert without.plan_action.tolist() == [[0.0, 0.0]] * 4
    assert decode_episode(changed(), INPUTS, 2)[1].plan_age.tolist() == [-1, 0, 1, 2]
    with pytest.raises(MessageError, match="'reward' is missing"):
        decode_episode(changed(tensors={"reward": None}), INPUTS, 2)


def test_one_frame_must_have_terminated():
    uuid, back = decode_episode(encode_episode(make_recording(1, "terminated"), "one"), INPUTS, 2)
    assert (uuid, len(back), back.success) == ("one", 1, True)
    for end in ("truncated", "data end"):
        with pytest.raises(MessageError, match="one frame that did not terminate"):
            decode_episode(encode_episode(make_recording(1, end), "one"), INPUTS, 2)


def test_long_words_are_cut_and_nested_info_is_dropped():
    data = changed({"task": "x" * 5000, "info": {"actor": "a", "nested": {"b": 1}, "list": [1], "nothing": None, "rms": 0.5}})
    _, back = decode_episode(data, INPUTS, 2)
    assert len(back.task) == 1000
    assert back.info == {"actor": "a", "rms": 0.5}


def test_booleans_are_true_or_false():
    data = bytearray(encode_episode(make_recording(4), "u"))
    start = int.from_bytes(data[:8], "little") + 8
    first, _ = json.loads(data[8:start])["intervention"]["data_offsets"]
    data[start + first] = 2
    with pytest.raises(MessageError, match="'intervention' contains bytes that are neither true nor false"):
        decode_episode(bytes(data), INPUTS, 2)


def test_words_cannot_break_out_of_their_line():
    data = changed({"task": "touch\nthe\x1b[31m dot", "info": {"a\rb": "c\u2028d", "ok": "é"}})
    _, back = decode_episode(data, INPUTS, 2)
    assert back.task == "touch the [31m dot"
    assert back.info == {"a b": "c d", "ok": "é"}


def test_the_limit_follows_from_the_policys_features():
    frame_bytes = 4 * 4 + 3 * 4 + 2 * 4 + 4 + 1 + 2 * 4 + 8
    assert largest_message_bytes(INPUTS, 2) == MAX_FRAMES * frame_bytes + MARGIN_BYTES
    large = {**INPUTS, CAMERA: PolicyFeature(type=FeatureType.VISUAL, shape=(3, 480, 640))}
    assert largest_message_bytes(large, 2) == MAX_MESSAGE_BYTES
    longest = encode_episode(make_recording(MAX_FRAMES, "truncated"), "u")
    assert len(longest) < largest_message_bytes(INPUTS, 2)
    decode_episode(longest, INPUTS, 2)
    with pytest.raises(MessageError, match=r"episode of .* bytes, expected at most"):
        decode_episode(bytes(largest_message_bytes(INPUTS, 2) + 1), INPUTS, 2)
