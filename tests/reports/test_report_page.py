"""report.html: one file, nothing fetched, nothing that a device says runs."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from rig.reports.html import write_report
from tests.reports.conftest import T0_S, SampleRun, exchange

HOSTILE = "</td><script>alert(1)</script>\x1b[2J\u202e\ud800\"onload='x'"
FETCHING = {"src", "srcset", "href", "action", "data", "poster", "background", "cite", "formaction", "xlink:href"}


class Page(HTMLParser):
    """The elements of a page, and the text outside script and style."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside = ""
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        assert tag
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside == "style":
            self.styles.append(data)
        else:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def test_first_screen_and_every_row(make_run):
    page = read(write_report(make_run()))
    for words in ("coaps-light 1.4.0 on bulb-1", "7c:df:a1:00:00:01", "ab" * 32, "1 min 37 s", "3 of 11 requirements"):
        assert words in page.text
    for requirement in ("PSK-01", "WIR-01", "OBS-01", "HS-18", "RSM-05", "ENE-03", "ENE-04", "ENE-05", "ENE-06"):
        assert requirement in page.text
    assert "did not finish" not in page.text
    assert "router relay: capture stopped early" in page.text
    assert "-113,Undefined header" in page.text
    repeat = ".venv/bin/python -m pytest --rig-limits=l.yaml plans/testplans/test_security.py::test_"
    assert f"{repeat}psk_01" in page.text
    assert f"{repeat}wir_01" in page.text
    assert "19 of 20 handshakes succeeded" in page.text


def test_a_verdict_that_is_no_pass_shows_what_proves_it(make_run):
    page = read(write_report(make_run()))
    assert "The exchange: 3 packets" in page.text
    assert page.text.count("client → device") == 2
    assert "0.002000 s" in page.text
    assert "ETSI EN 303 645 (test groups of ETSI TS 103 701): 5.5-10, 5.5-2; 45 CFR 164.312: (e)(1)" in page.text
    assert {"href": "keys.log"} in page.all("a")


def test_a_long_exchange_says_how_much_of_it_is_in_the_capture_alone(make_run):
    run_dir = make_run()
    more = SampleRun(run_dir, lines=(run_dir / "journal.jsonl").read_text().splitlines())
    for _ in range(200):
        exchange(more, "WIR-01", 1000)
    page = read(write_report(more.write()))
    assert page.text.count("970 packets in between") == 200
    assert page.text.count("ClientHello seq 0") == 3 + 200 * 30
    assert (run_dir / "report.html").stat().st_size < 5_000_000


def test_published_figures_stand_beside_the_measured_ones(make_run):
    text = "".join(read(write_report(make_run())).text.split())
    assert "PSKhandshake,UDPpayloadinbothdirectionsTLS_X360BcoursechapteronCoAPsecurity544B+51%" in text
    assert "2.5s,4.9s,13swithin,within,+8%,1notmeasured" in text
    assert "60%to84%coursechapteronDTLS25%-58%" in text


def test_verdicts_that_rest_on_chance_have_a_sum_and_a_budget(make_run):
    run_dir = make_run()
    assert "is at most 3e-05; the budget of a plan is 0.0001." in read(write_report(run_dir)).text
    more = SampleRun(run_dir, lines=(run_dir / "journal.jsonl").read_text().splitlines())
    more.event("check", test="t", requirement="HS-18", state="pass", observed="x", false_alarm=9e-5)
    assert (
        "at most 0.00012; the budget of a plan is 0.0001, and it is exceeded." in read(write_report(more.write())).text
    )


def test_standards_are_told_as_evidence_for(make_run):
    page = read(write_report(make_run()))
    assert "ETSI EN 303 645 (test groups of ETSI TS 103 701): evidence for 2 of its parts" in page.text
    assert page.text.rindex("5.5-2") < page.text.rindex("5.5-10")
    assert "nothing here says that a device conforms to a standard, or is certified" in page.text


def test_a_cut_run_says_so_plainly(make_run):
    page = read(write_report(make_run(finish=False)))
    assert "This run did not finish." in page.text
    assert "ENE-03" in page.text


def test_an_empty_journal_still_makes_a_page(tmp_path):
    (tmp_path / "journal.jsonl").write_text("")
    page = read(write_report(tmp_path))
    assert "This run did not finish." in page.text
    assert "Nothing was judged." in page.text
    assert page.all("script") == []


@pytest.mark.parametrize("finish", [True, False])
def test_nothing_hostile_runs(make_run, finish):
    path = write_report(make_run(hostile=HOSTILE, finish=finish))
    page = read(path)
    assert page.text.count("<script>alert(1)</script>\\x1b[2J\\u202e\\ud800") > 20
    assert len(page.all("script")) == 3
    assert not any("alert(1)" in script for script in page.scripts[1:])
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page.text)


def test_hostile_phase_names_are_data_of_the_plot(make_run):
    script = read(write_report(make_run(hostile=HOSTILE))).scripts[0]
    assert "<" not in script
    assert "\\x1b[2J" in json.dumps(json.loads(script), ensure_ascii=False).replace("\\\\", "\\")


def test_the_page_fetches_nothing(make_run):
    page = read(write_report(make_run()))
    addresses = [value for _, row in page.elements for name, value in row.items() if name in FETCHING and value]
    assert addresses
    assert not [address for address in addresses if ":" in address or address.startswith("//")]
    assert not page.all("link")
    assert not page.all("iframe")
    assert not any("url(" in style or "@import" in style for style in page.styles)
    policy = next(row["content"] for row in page.all("meta") if row.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")
    assert "'unsafe-inline'" not in policy.partition("script-src")[2]
    assert policy.count("'sha256-") == 2


def test_evidence_links_stay_in_the_run_folder(make_run):
    directory = make_run(hostile=" #%?\"'")
    page = read(write_report(directory))
    links = {row["href"] for row in page.all("a")} - {None}
    assert "handshake.pcapng" in links
    assert "current%20%23%25%3F%22%27.f32" in links
    assert not [link for link in links if ".." in link]
    assert "../../etc/passwd (not in the run folder)" in " ".join(page.text.split())


def test_tables_and_headings_are_named(make_run):
    page = read(write_report(make_run()))
    assert len(page.all("h1")) == 1
    assert len(page.all("th")) == len([row for row in page.all("th") if row.get("scope")])
    ids = [row["id"] for _, row in page.elements if "id" in row]
    assert len(ids) == len(set(ids))
    labels = [row["aria-labelledby"] for _, row in page.elements if "aria-labelledby" in row]
    assert set(labels) <= set(ids)


def test_size_and_the_same_bytes_again(make_run):
    directory = make_run(samples=2_000_000)
    path = write_report(directory)
    first = path.read_bytes()
    assert len(first) < 2_000_000
    assert write_report(directory).read_bytes() == first


def test_many_captures_stay_small(make_run):
    directory = make_run(samples=40_000)
    journal = directory / "journal.jsonl"
    lines = journal.read_text().splitlines()
    waveforms = [line for line in lines if '"waveform"' in line] * 24
    journal.write_text("\n".join([*lines, *waveforms]) + "\n")
    assert write_report(directory).stat().st_size < 5_000_000


def _again(run_dir: Path) -> SampleRun:
    """Return the run in *run_dir*, to be written on."""
    return SampleRun(run_dir, lines=(run_dir / "journal.jsonl").read_text().splitlines())


def _figure(run: SampleRun, requirement: str, name: str, value: float, unit: str, limit: float) -> None:
    budget = [{"source": "meter gain", "standard_uncertainty": 0.01 * value, "unit": unit, "kind": "B"}]
    told = {"name": name, "value": value, "unit": unit, "expanded_uncertainty": 0.02 * value, "k": 2.0}
    bound = {"max": limit, "min": None, "unit": unit, "source": "x"}
    run.event("measurement", test="t", requirement=requirement, **told, limit=bound, state="pass", budget=budget)


def test_the_first_screen_names_every_figure_of_a_requirement_and_the_one_nearest_its_limit_first(make_run):
    more = _again(make_run())
    for name, value in (("boot_energy", 0.1), ("wake_energy", 0.29), ("wake_energy", 0.2)):
        _figure(more, "ENE-06", name, value, "J", 0.3)
    text = read(write_report(more.write())).text
    first_screen = text[: text.index("Verdicts by requirement")]
    assert first_screen.index("wake energy") < first_screen.index("boot energy")
    assert "(290.0\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}5.8)" in first_screen
    assert "(200.0" not in first_screen


def test_ranges_are_told_by_test(make_run):
    more = _again(make_run())
    rows = [
        {
            "what": "stepping down",
            "range_a": 1.0,
            "start_s": T0_S + 1,
            "end_s": T0_S + 1.5,
            "mean_a": 2e-5,
            "note": "fits",
        },
        {"what": "raised", "range_a": 1e-4, "start_s": T0_S + 2, "end_s": T0_S + 2.1, "mean_a": None, "note": "awake"},
    ]
    more.event("ranges", test="energy/test_sleep.py::test_floor", rows=rows)
    text = "".join(read(write_report(more.write())).text.split())
    assert "energy/test_sleep.py::test_floor" in text
    assert "500mssteppingdown1A20µAfits" in text
    assert "raised100µA–awake" in text


def _usage(name: str, sleep: str = "deep_sleep_current") -> dict[str, Any]:
    battery = {"capacity_mah": 2400, "usable_share": 0.8, "cutoff_v": 3.0, "self_discharge_percent_per_year": 0}
    day = {"wakes_per_day": 0, "messages_per_wake": 0, "bytes_per_message": 0, "handshakes_per_day": {"full": 24}}
    profile = {"title": f"Node {name}", "source": "x", "battery": battery, "sleep": sleep, **day}
    return {"file": f"{name}.yaml", "name": name, "profile": profile}


def test_battery_life_is_told_from_the_record_alone(make_run):
    run_dir = make_run()
    more = _again(run_dir)
    more.event("bench", file="bench.yaml", bench={"boards": [{"name": "b", "supply_voltage_v": 3.3}]})
    _figure(more, "ENE-04", "deep_sleep_current", 5e-6, "A", 1e-5)
    more.event("usage_profile", **_usage("soil-sensor"))
    more.event("usage_profile", **_usage("lamp", sleep="idle_current"))
    more.event("usage_profile", file="x.yaml", name="odd", profile={"title": "Odd"})
    path = write_report(more.write())
    text = read(path).text
    # 0.3142 J for each of 24 handshakes a day at 3.3 V, and 5 uA: 2400 mAh * 0.8 / 31.4 uA
    assert "6.96\N{NO-BREAK SPACE}years" in text
    assert "missing: idle_current" in " ".join(text.split())
    assert "missing: a usage profile (Field required)" in " ".join(text.split())
    assert "Battery life of an hourly soil sensor" in text
    before = path.read_bytes()
    assert write_report(run_dir).read_bytes() == before


def test_without_a_supply_voltage_no_battery_life_is_told(make_run):
    more = _again(make_run())
    more.event("usage_profile", **_usage("soil-sensor"))
    assert "missing: the board's supply voltage" in " ".join(read(write_report(more.write())).text.split())
