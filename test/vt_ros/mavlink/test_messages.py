# SPDX-License-Identifier: Apache-2.0
"""Frames and messages, compared with pymavlink, and fed with bytes of all kinds."""

from __future__ import annotations

import math
from dataclasses import astuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vt_ros.mavlink.messages import (
    MESSAGES,
    CameraInformation,
    CommandLong,
    FrameReader,
    Heartbeat,
    StatusText,
    encode,
)

common = pytest.importorskip("pymavlink.dialects.v20.common", reason="make setup installs it")

NUMBERS = {
    "B": st.integers(0, 255),
    "H": st.integers(0, 65535),
    "h": st.integers(-(2**15), 2**15 - 1),
    "I": st.integers(0, 2**32 - 1),
    "i": st.integers(-(2**31), 2**31 - 1),
    "f": st.floats(width=32, allow_nan=False),
}
CODES = {"U8": "B", "U16": "H", "I16": "h", "U32": "I", "I32": "i", "F32": "f"}
HEARTBEAT = encode(Heartbeat(), 255, 190, 7)
COMMAND = encode(CommandLong(0.25, 0.5, 0.75, command=2004, target_system=1), 255, 190, 8)


@st.composite
def messages(draw):
    kind = draw(st.sampled_from(sorted(MESSAGES.values(), key=lambda kind: kind.NUMBER)))
    values = []
    for name in kind.__annotations__:
        code = kind.__annotations__[name]
        if code.startswith("_Chars"):
            size = int(code.removeprefix("_Chars"))
            values.append(draw(st.binary(max_size=size)).rstrip(b"\0").ljust(size, b"\0"))
        else:
            values.append(draw(NUMBERS[CODES[code[1:]]]))
    return kind(*values)


@pytest.mark.parametrize("kind", MESSAGES.values(), ids=lambda kind: kind.__name__)
def test_message_has_the_layout_of_the_dialect(kind):
    theirs = common.mavlink_map[kind.NUMBER]
    assert theirs.msgname.replace("_", "") == kind.__name__.upper()
    assert (kind.CRC_EXTRA, kind.LAYOUT.size) == (theirs.crc_extra, theirs.unpacker.size)
    names = []
    for name, length in zip(theirs.ordered_fieldnames, theirs.array_lengths, strict=True):
        names += ["q_w", "q_x", "q_y", "q_z"] if (name, length) == ("q", 4) else [name]
    assert [name.replace("_", "") for name in kind.__annotations__] == [
        name.replace("_", "").lower() for name in names
    ]


@settings(max_examples=300, deadline=None)
@given(messages(), st.integers(1, 255), st.integers(1, 255), st.integers(0, 1000))
def test_frame_is_what_pymavlink_reads_and_writes(message, system, component, sequence):
    data = encode(message, system, component, sequence)
    theirs = common.MAVLink(None).parse_buffer(data)
    assert [part.get_msgId() for part in theirs] == [message.NUMBER]
    writer = common.MAVLink(None, system, component)
    writer.seq = sequence & 0xFF
    assert theirs[0].pack(writer) == data
    (frame,) = FrameReader().read_datagram(data)
    assert frame == (system, component, message)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([HEARTBEAT, COMMAND])), max_size=8)
)
def test_stream_gives_the_same_frames_in_any_pieces(parts):
    data = b"".join(parts)
    at_once = FrameReader().read_stream(data)
    reader, frames = FrameReader(), []
    for byte in data:
        frames += reader.read_stream(bytes((byte,)))
    assert frames == at_once
    assert len(reader._rest) < 300


@pytest.mark.parametrize("end", range(len(COMMAND)))
def test_truncated_datagram_is_counted_and_does_not_touch_the_next(end):
    reader = FrameReader()
    assert reader.read_datagram(COMMAND[:end]) == []
    assert reader.counts["damaged"] == bool(end)
    assert len(reader.read_datagram(COMMAND)) == 1


def test_a_changed_bit_is_noticed():
    for bit in range(8, 8 * len(COMMAND)):  # the first byte says where a frame begins
        data = bytearray(COMMAND)
        data[bit // 8] ^= 1 << bit % 8
        assert FrameReader().read_datagram(bytes(data)) == [], bit


def test_damaged_frame_does_not_hide_the_next_one():
    damaged = bytearray(COMMAND)
    damaged[12] ^= 0xFF
    reader = FrameReader()
    frames = reader.read_stream(bytes(damaged) + b"\xfd" + HEARTBEAT + COMMAND)
    assert [type(frame.message) for frame in frames] == [Heartbeat, CommandLong]
    assert reader.counts["damaged"] > 0


def test_unknown_messages_are_passed_over():
    display = common.MAVLink_vfr_hud_message(1.0, 2.0, 90, 50, 100.0, 0.5)
    data = display.pack(common.MAVLink(None, 1, 1)) + HEARTBEAT
    reader = FrameReader()
    (frame,) = reader.read_datagram(data)
    assert isinstance(frame.message, Heartbeat)
    assert not reader.counts.total()


def test_mavlink_1_is_read():
    link = common.MAVLink(None, 255, 190)
    heartbeat = common.MAVLink_heartbeat_message(6, 8, 0, 0, 4, 3)
    data = heartbeat.pack(link, force_mavlink1=True)
    assert data[0] == 0xFE
    (frame,) = FrameReader().read_datagram(data)
    assert frame == (255, 190, Heartbeat(0, 6, 8, 0, 4, 3))


@pytest.mark.parametrize("accept", [True, False])
def test_signed_frames_are_accepted_or_refused_as_asked(accept):
    link = common.MAVLink(None, 255, 190)
    link.signing.secret_key, link.signing.sign_outgoing = bytes(32), True
    signed = common.MAVLink_heartbeat_message(6, 8, 0, 0, 4, 3).pack(link)
    assert signed[2] == 1
    reader = FrameReader(accept_signed=accept)
    frames = reader.read_datagram(signed + COMMAND)
    assert len(frames) == 1 + accept
    assert reader.counts["signed"] == 1 - accept


def test_frame_with_an_unknown_incompatibility_flag_is_not_read():
    data = bytearray(HEARTBEAT)
    data[2] = 2
    reader = FrameReader()
    assert reader.read_datagram(bytes(data)) == []
    assert reader.counts["incompatible"] == 1


def test_fields_of_a_later_version_are_ignored():
    kind = StatusText
    payload = kind(4, b"text").payload().ljust(kind.LAYOUT.size, b"\0") + b"new"
    assert kind.from_payload(payload) == kind.from_payload(kind(4, b"text").payload())


def test_not_known_is_nan_or_zero():
    values = dict(zip(CameraInformation.__annotations__, astuple(CameraInformation()), strict=True))
    assert math.isnan(values["focal_length"])
    assert values["resolution_h"] == 0
