"""The RFC 2217 client: against pyserial's own server side, well behaved and not, and against servers people run."""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import serial
from serial import rfc2217

from rig.board import SerialPort
from rig.errors import BenchError

EVERY_BYTE = bytes(range(256)) * 8
SETTINGS = {rfc2217.SET_BAUDRATE, rfc2217.SET_DATASIZE, rfc2217.SET_PARITY, rfc2217.SET_STOPSIZE}
SER2NET = shutil.which("ser2net", path=f"{os.environ['PATH']}:/usr/sbin")


class Manager(rfc2217.PortManager):
    """pyserial's server side, with a hand on what it answers."""

    def __init__(self, port, connection, requests, answers):
        self.requests = requests
        self.answers = answers
        super().__init__(port, connection)

    def _telnet_process_subnegotiation(self, suboption):
        self.requests.append((suboption[1:2], suboption[2:]))
        super()._telnet_process_subnegotiation(suboption)

    def rfc2217_send_subnegotiation(self, option, value=b""):
        for one in self.answers(option, value):
            super().rfc2217_send_subnegotiation(option, one)


def as_it_should(_option, value):
    yield value


class Server:
    """An RFC 2217 server before a port whose line is looped back; one client after the other."""

    def __init__(self, answers=as_it_should):
        self.requests = []
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"rfc2217://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()

    def controls(self):
        return [value for option, value in self.requests if option == rfc2217.SET_CONTROL]

    def _serve(self):
        while True:
            try:
                self._client, _ = self._listener.accept()
            except OSError:
                return
            with self._client, serial.serial_for_url("loop://", timeout=0) as self._port:
                self._manager = Manager(self._port, self, self.requests, self._answers)
                self._talk()

    def _talk(self):
        try:
            while data := self._client.recv(1024):
                self._port.write(b"".join(self._manager.filter(data)))
                self.write(b"".join(self._manager.escape(self._port.read(self._port.in_waiting))))
        except (OSError, StopIteration):
            pass

    def write(self, data):
        self._client.sendall(data)


def test_each_byte_comes_as_it_was_sent():
    with Server() as server, SerialPort(server.url) as port:
        port.write(EVERY_BYTE)
        got = b""
        while len(got) < len(EVERY_BYTE):
            got += port.read()
        assert got == EVERY_BYTE


def test_only_what_differs_is_negotiated():
    with Server() as server, SerialPort(server.url) as port:
        opening = len(server.requests)
        assert {option for option, _ in server.requests} >= SETTINGS
        for timeout_s in (3, 0.1, 8):
            port.raw.timeout = timeout_s
        assert server.requests[opening:] == []
        port.raw.baudrate = 460_800
        port.raw.baudrate = 460_800
        assert server.requests[opening:] == [(rfc2217.SET_BAUDRATE, (460_800).to_bytes(4, "big"))]
        port.restore()
        port.restore()
        assert server.requests[opening + 1 :] == [(rfc2217.SET_BAUDRATE, (115_200).to_bytes(4, "big"))]


def test_opening_again_negotiates_again():
    with Server() as server:
        for _ in range(2):
            before = len(server.requests)
            with SerialPort(server.url):
                assert {option for option, _ in server.requests[before:]} >= SETTINGS


def test_rts_is_released_before_dtr_and_a_reset_pulls_rts_alone():
    flow = rfc2217.SET_CONTROL_USE_NO_FLOW_CONTROL
    with Server() as server, SerialPort(server.url) as port:
        assert server.controls() == [flow, rfc2217.SET_CONTROL_RTS_OFF, rfc2217.SET_CONTROL_DTR_OFF]
        port.hard_reset()
        assert server.controls()[3:] == [
            rfc2217.SET_CONTROL_DTR_OFF,
            rfc2217.SET_CONTROL_RTS_ON,
            rfc2217.SET_CONTROL_RTS_OFF,
        ]


def test_a_server_that_answers_late_is_waited_for():
    answered = []

    def late(option, value):
        time.sleep(0.1)
        answered.append(option)
        yield value

    with Server(late) as server, SerialPort(server.url) as port:
        for raised in (True, False):
            so_far = answered.count(rfc2217.SERVER_SET_CONTROL)
            port.raw.rts = raised
            assert answered.count(rfc2217.SERVER_SET_CONTROL) == so_far + 1


def test_a_setting_refused_is_the_bench_s_fault():
    def at_most_115200(option, value):
        yield min(value, (115_200).to_bytes(4, "big")) if option == rfc2217.SERVER_SET_BAUDRATE else value

    with Server(at_most_115200) as server:
        with SerialPort(server.url) as port:
            port.baudrate = 460_800
            with pytest.raises(BenchError, match="baudrate"):
                port.restore()
        with pytest.raises(BenchError, match="baudrate"), SerialPort(server.url, baudrate=460_800):
            pass


def test_a_modem_line_refused_is_the_bench_s_fault():
    def stuck(option, value):
        is_rts_on = option == rfc2217.SERVER_SET_CONTROL and value == rfc2217.SET_CONTROL_RTS_ON
        yield rfc2217.SET_CONTROL_RTS_OFF if is_rts_on else value

    with Server(stuck) as server, SerialPort(server.url) as port, pytest.raises(BenchError, match="control"):
        port.hard_reset()


def test_other_lines_told_out_of_turn_are_no_refusal():
    def chatty(option, value):
        if option == rfc2217.SERVER_SET_CONTROL:
            yield rfc2217.SET_CONTROL_USE_NO_FLOW_CONTROL
            yield rfc2217.SET_CONTROL_BREAK_OFF
            if value in (rfc2217.SET_CONTROL_RTS_ON, rfc2217.SET_CONTROL_RTS_OFF):
                yield rfc2217.SET_CONTROL_DTR_ON
        yield value

    with Server(chatty) as server, SerialPort(server.url) as port:
        port.hard_reset()


def test_the_late_answer_to_a_request_given_up_is_not_taken_for_the_next_one_s():
    held = []

    def holds_rts_on(option, value):
        if option == rfc2217.SERVER_SET_CONTROL and value == rfc2217.SET_CONTROL_RTS_ON:
            held.append(value)
            return
        yield from held
        held.clear()
        yield value

    with Server(holds_rts_on) as server, SerialPort(f"{server.url}?timeout=0.2") as port:
        with pytest.raises(BenchError, match="does not answer"):
            port.hard_reset()
        port.raw.rts = False
        assert held == []


@pytest.mark.parametrize(
    ("silent", "named"),
    [
        (SETTINGS, "baudrate"),
        ({rfc2217.SET_CONTROL}, "control.*ign_set_control"),
        ({rfc2217.PURGE_DATA}, "purge"),
    ],
)
def test_no_answer_is_the_bench_s_fault_in_bounded_time(silent, named):
    def mute(option, value):
        # A server's numbers are the client's and 100.
        if bytes([option[0] - 100]) not in silent:
            yield value

    with Server(mute) as server, pytest.raises(BenchError, match=named), SerialPort(f"{server.url}?timeout=0.2"):
        pass


def test_a_server_of_another_kind_is_the_bench_s_fault_in_bounded_time():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"rfc2217://127.0.0.1:{listener.getsockname()[1]}?timeout=0.2"
        with pytest.raises(BenchError, match="does not seem to support RFC2217"), SerialPort(url):
            pass


def test_a_connection_closed_in_the_middle_ends_the_wait():
    def hangs_up(option, value):
        if option == rfc2217.SERVER_SET_CONTROL and value == rfc2217.SET_CONTROL_RTS_ON:
            raise OSError
        yield value

    with (
        Server(hangs_up) as server,
        SerialPort(f"{server.url}?timeout=3600") as port,
        pytest.raises(BenchError, match="closed the connection"),
    ):
        port.hard_reset()


@contextmanager
def program(*command, port, **environment):
    """A server's process that listens on *port*."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | environment) as process:
        # Seen in the kernel's table: these servers serve one client, and one that only tries would be that one.
        listening = f":{port:04X} 00000000:0000 0A"
        while process.poll() is None and listening not in Path("/proc/net/tcp").read_text():
            time.sleep(0.02)
        yield
        process.terminate()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def flash_twice(closed, images, provisioning):
    with closed as board:
        for action in ("written", "skipped"):
            assert {part.action for part in board.flash(images, provisioning).parts} == {action}
            board.wait_network()


def test_a_board_behind_esp_rfc2217_server_is_flashed_and_starts(virtual_board, images, provisioning, tmp_path):
    port = free_port()
    # That server plays the reset sequence by itself. Its own one wants a port of this machine; this one, in esptool's
    # configuration, goes through the virtual board's RFC 2217 server as well.
    settings = tmp_path / "esptool.cfg"
    settings.write_text("[esptool]\ncustom_reset_sequence = D0|R1|W0.1|D1|R0|W0.05|D0\n")
    command = (sys.executable, "-m", "esp_rfc2217_server", "--localport", str(port), virtual_board.url)
    with program(*command, port=port, ESPTOOL_CFGFILE=str(settings)):
        behind = virtual_board.at(f"rfc2217://127.0.0.1:{port}?ign_set_control")
        flash_twice(behind.open(tmp_path / "console.log"), images, provisioning)


# Not in `make test`: Debian's package starts a service on the machine where the tests run.
@pytest.mark.soak
def test_a_board_behind_ser2net_is_flashed_and_starts(virtual_board, images, provisioning, tmp_path):
    assert SER2NET is not None, "ser2net is missing; install it with: apt-get install ser2net"
    port = free_port()
    settings = tmp_path / "ser2net.yaml"
    # As in labgrid's exporter, but that the port behind it is the virtual board's RFC 2217 server, not a device.
    settings.write_text(
        "connection: &dut\n"
        f"  accepter: telnet(rfc2217),tcp,127.0.0.1,{port}\n"
        f"  connector: telnet(rfc2217),tcp,{virtual_board.url.removeprefix('rfc2217://').replace(':', ',')}\n"
    )
    with program(SER2NET, "-n", "-c", str(settings), port=port):
        behind = virtual_board.at(f"rfc2217://127.0.0.1:{port}")
        flash_twice(behind.open(tmp_path / "console.log"), images, provisioning)


def test_no_answer_from_esp_rfc2217_server_is_told_with_the_fix(virtual_board):
    port = free_port()
    command = (sys.executable, "-m", "esp_rfc2217_server", "--localport", str(port), virtual_board.url)
    with program(*command, port=port):
        url = f"rfc2217://127.0.0.1:{port}?timeout=0.5"
        with pytest.raises(BenchError, match=r"\?ign_set_control"), SerialPort(url):
            pass
