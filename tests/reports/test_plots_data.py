"""Thinning keeps every peak, and packets are named and placed on the rig's clock."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rig.reports import record
from rig.reports.messages import name_datagram
from rig.reports.packets import packets_during
from rig.reports.text import duration, number, quantity, visible
from rig.reports.waveforms import envelope, trace


@given(arrays(np.float64, st.integers(0, 300), elements=st.floats(-1, 1) | st.just(np.nan)), st.integers(1, 40))
def test_envelope_keeps_the_outline(values, bins):
    index = envelope(values, bins)
    assert (np.diff(index) > 0).all()
    assert index.size <= 2 * bins + 2
    finite = values[np.isfinite(values)]
    if finite.size:
        assert np.nanmin(values[index]) == finite.min()
        assert np.nanmax(values[index]) == finite.max()
    if values.size:
        assert index[0] == 0
        assert index[-1] == values.size - 1


def test_a_gap_wider_than_a_bin_stays_a_gap():
    values = np.ones(10_000)
    values[4_000:6_000] = np.nan
    assert np.isnan(values[envelope(values, 100)]).any()


def test_a_short_file_and_overloads_are_counted(make_run):
    run = record.load(make_run(samples=6_000))
    file = run.directory / run.waveforms[0].file
    samples = np.fromfile(file, "<f4")
    samples[10:13] = np.float32(9.9e37)
    samples[13] = np.nan
    file.write_bytes(samples.tobytes()[:-402])
    drawn = trace(run, run.waveforms[0], 4000)
    assert (drawn.samples, drawn.missing, drawn.unusable) == (5_899, 101, 4)
    file.unlink()
    assert trace(run, run.waveforms[0], 4000).missing == 6_000


def test_packets_of_a_waveform(make_run):
    run = record.load(make_run())
    waveform = run.waveforms[0]
    log = packets_during(run, waveform, 6.0)
    assert [(packet.from_board, packet.name) for packet in log.packets] == [
        (False, "ClientHello"),
        (True, "HelloVerifyRequest"),
        (False, "ClientHello"),
        (True, "ServerHello, ServerHelloDone"),
        (False, "ClientKeyExchange, ChangeCipherSpec, handshake (encrypted)"),
        (True, "ChangeCipherSpec, handshake (encrypted)"),
        (False, "application_data"),
        (True, "application_data"),
        (True, "alert (encrypted)"),
    ]
    assert log.packets[0].t_s - waveform.t0_s == pytest.approx(1.31, abs=1e-5)
    assert packets_during(run, waveform, 1.4).packets == log.packets[:3]


def test_a_damaged_capture_is_named(make_run):
    run = record.load(make_run())
    (run.directory / "handshake.pcapng").write_bytes(b"no capture at all")
    log = packets_during(run, run.waveforms[0], 6.0)
    assert log.packets == ()
    assert "handshake.pcapng: not a pcapng file" in log.notes[0]


@given(st.binary(max_size=80))
def test_any_datagram_has_a_name(payload):
    name, _ = name_datagram(payload)
    assert name


def test_plaintext_alert_is_read():
    assert name_datagram(bytes.fromhex("15fefd0000000000000000000202") + b"\x33") == ("alert: decrypt_error", "alert")


@given(st.text())
def test_visible_leaves_nothing_that_acts(text):
    shown = visible(text)
    shown.encode()
    assert visible(shown) == shown
    assert all(char in "\n\t" or char.isprintable() or char.isspace() for char in shown)


@pytest.mark.parametrize(
    ("value", "uncertainty", "unit", "shown"),
    [
        (0.3142, 0.0061, "J", "(314.2 ± 6.1) mJ"),
        (9.7e-6, 0.6e-6, "A", "(9.70 ± 0.60) µA"),
        (1e-6, None, "A", "1 µA"),
        (19.0, 0.0, "attempts", "19 attempts"),
        (0.95, 0.11, "", "0.95 ± 0.11"),
        (None, 1.0, "A", "–"),
        (5.0, 120.0, "J", "(5 ± 120) J"),
    ],
)
def test_quantities(value, uncertainty, unit, shown):
    assert quantity(value, uncertainty, unit).replace("\N{NO-BREAK SPACE}", " ") == shown


def test_numbers_and_durations():
    assert number(0.001, "s").replace("\N{NO-BREAK SPACE}", " ") == "1 ms"
    assert number(1234.5, "attempts").replace("\N{NO-BREAK SPACE}", " ") == "1234 attempts"
    assert duration(59.96).replace("\N{NO-BREAK SPACE}", " ") == "60 s"
    assert duration(97.25) == "1 min 37 s"
    assert duration(7322) == "2 h 2 min 2 s"
