"""Sleep, wake and the watchdog, seen from the board's end of the wire."""

import re
import socket
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

GIVE_UP_S = 20.0
PowerUp = Callable[..., Any]
STRAY = bytes(777)  # a datagram of a size that nothing else has


def put_power(chip: Any, duration_ms: int, mode: str | None = None) -> None:
    query = f"?mode={mode}" if mode else ""
    assert "c:2.04" in chip.coap("put", f"/power{query}", "-e", str(duration_ms))


def light(chip: Any) -> str:
    found: list[str] = re.findall(r":: '(.*)'", chip.coap("get", "/light"))
    return found[-1] if found else ""


def marks_from(chip: Any, name: str) -> list[str]:
    marks: list[str] = chip.marks()
    return marks[next(index for index, mark in enumerate(marks) if mark.startswith(name)) :]


# --- deep sleep ------------------------------------------------------------------------------------------------------


def test_deep_sleep_ends_the_program(chip: Any) -> None:
    put_power(chip, 1500)
    chip.wait_until_ended()
    chip.messages.wait_for("sleep")
    assert chip.events()[-4:] == ["wdt 0", "state cpu", "gpio 4 0", "sleep 1500"]
    chip.console.wait_for("sleep_entry")
    assert chip.marks()[-1] == "sleep_entry mode=deep_sleep duration_ms=1500"


def test_deep_sleep_sends_close_notify_to_an_observer(chip: Any) -> None:
    command = ["coap-client-openssl", "-v", "7", "-u", "board-under-test", "-k", "0123456789abcdef", "-s", "3"]
    with subprocess.Popen([*command, f"coaps://{chip.address}/light"], stdout=subprocess.PIPE, text=True) as observer:
        chip.console.wait_for("request_end")
        put_power(chip, 1000)
        output = observer.communicate(timeout=GIVE_UP_S)[0]
    assert "alert read:warning:close notify" in output
    assert "4.04" not in output


def test_the_longest_sleep_is_a_day(chip: Any) -> None:
    put_power(chip, 86_400_000)
    chip.messages.wait_for("sleep 86400000$")


def test_boot_count_survives_deep_sleep_only(power_up: PowerUp) -> None:
    first = power_up(rtc=b"\xa5" * 8192)
    first.wait_until_up()
    woken = power_up(rtc=first.rtc_memory(), reset_reason=8, wake_cause=4)
    woken.wait_until_up()
    assert woken.marks()[0] == "boot reset_reason=8 boot_count=2"
    assert '"reset_reason":"deep sleep"' in woken.coap("get", "/stats")
    restarted = power_up(rtc=woken.rtc_memory(), reset_reason=9)
    restarted.wait_until_up()
    assert restarted.marks()[0] == "boot reset_reason=9 boot_count=1"


@pytest.mark.parametrize(("wake_cause", "name"), [(None, "none"), (4, "timer"), (7, "gpio"), (5, "other")])
def test_wake_from_deep_sleep_is_told_within_the_boot(power_up: PowerUp, wake_cause: int | None, name: str) -> None:
    chip = power_up(reset_reason=8, wake_cause=wake_cause)
    chip.wait_until_up()
    assert chip.marks() == [
        "boot reset_reason=8 boot_count=1",
        f"wake cause={name} mode=deep_sleep",
        f"network_up address={chip.address} port=5684",
    ]
    chip.messages.wait_for("gpio 4 0")
    assert chip.transitions() == ["state cpu", "gpio 4 1", "state wifi_connect", "state wifi_idle", "gpio 4 0"]


def test_no_wake_without_sleep(chip: Any) -> None:
    assert [mark.split()[0] for mark in chip.marks()] == ["boot", "network_up"]


# --- light sleep, and the radio off ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "asleep", "cause"),
    [("light_sleep", ["state light_sleep", "state cpu"], "timer"), ("radio_off", [], "none")],
)
def test_pause_and_its_end(chip: Any, mode: str, asleep: list[str], cause: str) -> None:
    put_power(chip, 400, mode)
    chip.console.wait_for("network_up", nth=2)
    assert marks_from(chip, "sleep_entry") == [
        f"sleep_entry mode={mode} duration_ms=400",
        f"wake cause={cause} mode={mode}",
        f"network_up address={chip.address} port=5684",
    ]
    assert light(chip) == "off"
    chip.messages.wait_for("wdt 10000", nth=3)
    expected = ["state cpu", "gpio 4 0", *asleep, "gpio 4 1", "state wifi_connect", "state wifi_idle", "gpio 4 0"]
    pause = chip.transitions()[chip.transitions().index("state cpu", 1) :]
    assert pause[: len(expected)] == expected
    slept_at, woke_at = (
        int(chip.messages.all[chip.messages.wait_for(level, nth=nth)].split()[0]) for level, nth in edges()
    )
    assert woke_at - slept_at >= 400_000_000


def edges() -> tuple[tuple[str, int], tuple[str, int]]:
    """Return the edges of sleep entry and wake: after boot, one handshake and one request there are three of each."""
    return ("gpio 4 0", 4), ("gpio 4 1", 4)


@pytest.mark.parametrize("mode", ["light_sleep", "radio_off"])
def test_sessions_and_observers_outlive_a_pause(chip: Any, mode: str) -> None:
    command = ["coap-client-openssl", "-v", "6", "-u", "board-under-test", "-k", "0123456789abcdef", "-s", "60"]
    with subprocess.Popen([*command, f"coaps://{chip.address}/light"], stdout=subprocess.PIPE, text=True) as observer:
        assert observer.stdout is not None
        chip.console.wait_for("mark: request_end .*code=2.05")
        put_power(chip, 300, mode)
        chip.console.wait_for("network_up", nth=2)
        chip.coap("put", "/light", "-e", "on")
        assert any("t:CON c:2.05" in line and ":: 'on'" in line for line in observer.stdout)
        observer.kill()
    chip.console.wait_for("handshake_end .*ok=1", nth=3)
    assert chip.marks().count("handshake_end ok=1") == 3  # the observer's, and one for each PUT


@pytest.mark.parametrize("mode", ["light_sleep", "radio_off"])
def test_datagrams_that_come_while_the_radio_is_off_are_lost(chip: Any, mode: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect((chip.address, 5684))
        put_power(chip, 500, mode)
        chip.console.wait_for("sleep_entry")
        for _ in range(3):
            client.send(STRAY)
        chip.console.wait_for("network_up", nth=2)
        client.send(STRAY)
        chip.messages.wait_for(f"rx {len(STRAY)}$")
    assert light(chip) == "off"
    assert chip.events().count(f"rx {len(STRAY)}") == 1


def test_first_answer_is_told_after_a_wake_too(chip: Any) -> None:
    put_power(chip, 300, "light_sleep")
    chip.console.wait_for("network_up", nth=2)
    light(chip)
    chip.console.wait_for("app: first answer after", nth=2)


def test_pauses_can_follow_each_other_and_end_in_deep_sleep(chip: Any) -> None:
    for count, mode in enumerate(("light_sleep", "radio_off", "light_sleep"), 2):
        put_power(chip, 50, mode)
        chip.console.wait_for("network_up", nth=count)
    put_power(chip, 100)
    chip.wait_until_ended()
    chip.messages.wait_for(" sleep 100$")


# --- the watchdog ----------------------------------------------------------------------------------------------------


def test_watchdog_is_armed_once_the_server_runs(chip: Any) -> None:
    chip.messages.wait_for("wdt 10000")
    assert chip.events()[:6] == [
        *("state cpu", "gpio 4 1", "state wifi_connect", "state wifi_idle", "gpio 4 0", "wdt 10000"),
    ]


def test_watchdog_is_fed_by_the_servers_rounds(chip: Any) -> None:
    chip.messages.wait_for("wdt 10000", nth=3)  # nobody asks anything: the rounds go on
    fed = chip.events().count("wdt 10000")
    light(chip)
    chip.console.wait_for("request_end")
    chip.messages.wait_for("wdt 10000", nth=fed + 3)


@pytest.mark.parametrize("mode", ["light_sleep", "radio_off"])
def test_watchdog_is_off_while_nothing_is_served(chip: Any, mode: str) -> None:
    put_power(chip, 300, mode)
    chip.console.wait_for("network_up", nth=2)
    chip.messages.wait_for("wdt", nth=1 + count_of(chip, "wdt"))
    events = [event for event in chip.events() if event.startswith(("wdt", "state wifi_idle"))]
    off = events.index("wdt 0")
    assert events[off : off + 3] == ["wdt 0", "state wifi_idle", "wdt 10000"]


def count_of(chip: Any, verb: str) -> int:
    return sum(event.startswith(verb) for event in chip.events())
