# SPDX-License-Identifier: Apache-2.0
"""Links over real sockets and a real pseudo-terminal: both ways, and back after they break."""

from __future__ import annotations

import contextlib
import os
import pty
import socket
import time

import pytest

from vt_ros.mavlink.links import create_link, parse_url
from vt_ros.mavlink.messages import CommandLong, FrameReader, Heartbeat, encode

PATIENCE = 20.0
HEARTBEAT = encode(Heartbeat(), 255, 190, 0)
COMMAND = encode(CommandLong(command=512), 255, 190, 1)


def udp():
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    server.settimeout(PATIENCE)
    return server


def link_to(url):
    return create_link(parse_url(url, "url"), accept_signed=True)


def received(link):
    """The next messages that come through a link, and from where."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        frames = link.receive()
        if frames:
            return [(type(frame.message), address) for frame, address in frames]
    raise AssertionError("nothing came")


def until_open(link):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            link.receive()
        except OSError:
            assert link.problem
            time.sleep(0.05)
        else:
            return
    raise AssertionError(link.problem)


def test_udpout_sends_to_one_address_and_hears_only_that():
    with udp() as station, udp() as stranger:
        link = link_to(f"udpout:127.0.0.1:{station.getsockname()[1]}")
        until_open(link)
        link.send(HEARTBEAT, None)
        data, address = station.recvfrom(1000)
        assert data == HEARTBEAT
        stranger.sendto(HEARTBEAT, address)
        station.sendto(COMMAND + HEARTBEAT, address)
        assert received(link) == [(CommandLong, None), (Heartbeat, None)]
        assert link.fixed
        link.close()


def test_udpout_survives_that_nobody_listens():
    with udp() as station:
        port = station.getsockname()[1]
    link = link_to(f"udpout:127.0.0.1:{port}")
    for _ in range(3):
        until_open(link)
        link.send(HEARTBEAT, None)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as station:
        station.bind(("127.0.0.1", port))
        station.settimeout(PATIENCE)
        until_open(link)
        link.send(HEARTBEAT, None)
        assert station.recv(1000) == HEARTBEAT
    link.close()


def test_udpin_answers_each_station_where_it_is():
    with udp() as free:
        port = free.getsockname()[1]
    link = link_to(f"udpin:127.0.0.1:{port}")
    until_open(link)
    with udp() as one, udp() as other:
        for station, data in ((one, HEARTBEAT), (other, COMMAND)):
            station.sendto(data, ("127.0.0.1", port))
            ((_, address),) = received(link)
            assert address == station.getsockname()
            link.send(data, address)
            assert station.recv(1000) == data
    assert not link.fixed
    link.close()


def test_link_that_cannot_be_opened_says_why_and_is_tried_again():
    with udp() as occupied:
        link = link_to(f"udpin:127.0.0.1:{occupied.getsockname()[1]}")
        with pytest.raises(OSError, match="in use"):
            link.receive()
        assert "in use" in link.problem
        link.send(HEARTBEAT, ("127.0.0.1", 1))
        assert link.counts["unsent"] == 1
    until_open(link)
    assert link.problem == ""
    link.close()


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a" * 70 + ".b", "127.0.0.1.."])
def test_host_that_does_not_exist_is_a_problem_not_an_exception_of_its_own(host):
    link = link_to(f"udpout:{host}:14550")
    with pytest.raises(OSError, match=r"."):
        link.receive()
    assert link.problem


def test_tcp_connects_again_and_half_a_frame_does_not_survive_that():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)
        link = link_to(f"tcp:127.0.0.1:{server.getsockname()[1]}")
        until_open(link)
        connection, _ = server.accept()
        link.send(HEARTBEAT, None)
        assert connection.recv(1000) == HEARTBEAT
        connection.sendall(HEARTBEAT + COMMAND[:20])
        assert received(link) == [(Heartbeat, None)]
        connection.close()
        until_closed(link)
        until_open(link)
        connection, _ = server.accept()
        connection.sendall(COMMAND)
        assert received(link) == [(CommandLong, None)]
        connection.close()
    link.close()


def until_closed(link):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            link.receive()
        except OSError:
            return
    raise AssertionError("still open")


def test_stream_that_nobody_reads_loses_whole_frames_only():
    controller, device = pty.openpty()
    os.set_blocking(controller, False)
    link = link_to(f"serial:{os.ttyname(device)}:57600")
    until_open(link)
    reader, frames = FrameReader(), []
    for _ in range(2):  # the second time what was begun is ended first
        lost = link.counts["unsent"]
        while link.counts["unsent"] == lost:
            link.send(HEARTBEAT, None)
            assert link.counts["sent"] < 100_000
        with contextlib.suppress(BlockingIOError):
            while data := os.read(controller, 1000):
                frames += reader.read_stream(data)
    assert reader.counts["damaged"] == 0
    assert link.counts["sent"] - len(frames) in (0, 1)
    link.close()
    os.close(controller)
    os.close(device)


def test_serial_port_is_raw_and_comes_back_after_it_was_gone(tmp_path):
    port = tmp_path / "port"
    for _ in range(2):  # a USB adapter that is pulled out and put in again
        controller, device = pty.openpty()
        port.symlink_to(os.ttyname(device))
        link = link_to(f"serial:{port}:57600")
        until_open(link)
        link.send(HEARTBEAT + b"\r\n\x03", None)  # nothing of this is turned into something else
        assert os.read(controller, 100) == HEARTBEAT + b"\r\n\x03"
        os.write(controller, COMMAND)
        assert received(link) == [(CommandLong, None)]
        os.close(controller)
        os.close(device)
        until_closed(link)
        port.unlink()
        with pytest.raises(OSError, match="No such file"):
            link.receive()
        link.close()


def test_file_that_is_no_serial_port_is_refused(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OSError, match="is no serial port"):
        link_to(f"serial:{tmp_path / 'file'}:57600").receive()
