"""summary.json and measurements.csv: the contract with other programs."""

import json

import pandas as pd

from rig.reports import record
from rig.reports.summary import write_summary
from rig.reports.tables import COLUMNS, measurements_frame, write_csv


def test_summary(make_run):
    content = json.loads(write_summary(make_run()).read_text())
    assert content["schema"] == 1
    assert content["run"]["finished"] is True
    assert {row["requirement"]: row["state"] for row in content["verdicts"]} == {
        "PSK-01": "pass",
        "PSK-02": "pass",
        "CK-01": "deviation",
        "WIR-01": "fail",
        "OBS-01": "error",
        "HS-18": "inconclusive",
        "RSM-05": "not-run",
        "ENE-03": "pass",
        "ENE-04": "conditional",
        "ENE-05": "fail",
        "ENE-06": "not-run",
    }
    rows = {row["requirement"]: row for row in content["verdicts"]}
    assert rows["ENE-04"]["side"] == "pass"
    assert "side" not in rows["PSK-01"]
    assert rows["PSK-01"]["evidence"] == ["handshake.pcapng"]
    assert rows["PSK-01"]["test"] == "testplans/test_security.py::test_psk_01"
    assert content["measurements"][0] == {
        "name": "handshake_energy",
        "value": 0.3142,
        "unit": "J",
        "expanded_uncertainty": 0.0061,
        "k": 2.0,
        "degrees_of_freedom": None,
        "limit": {"min": None, "max": 0.4, "unit": "J"},
        "rule": "ILAC-G8:09/2019 4.2.3, guard band w = U",
        "acceptance": {"min": None, "max": 0.3939},
        "false_accept": 1e-9,
        "false_reject": None,
        "state": "pass",
        "requirement": "ENE-03",
        "test": "testplans/test_energy.py::test_handshake_and_sleep",
    }


def test_summary_of_a_cut_run_says_so(make_run):
    content = json.loads(write_summary(make_run(finish=False)).read_text())
    assert content["run"]["finished"] is False
    assert content["run"]["exit_code"] is None
    assert len(content["verdicts"]) == 11


def test_csv_is_the_frame(make_run):
    directory = make_run()
    frame = measurements_frame(record.load(directory))
    read = pd.read_csv(write_csv(directory), keep_default_na=False, na_values={"value": "", "limit_min": ""})
    assert list(read.columns) == list(COLUMNS)
    assert read["value"].tolist() == frame["value"].tolist()
    assert read["evidence"].tolist() == ["current.f32", "", ""]
    assert frame["side"].tolist() == ["", "pass", ""]
    assert frame["limit_min"].isna().all()


def test_a_run_without_measurements_has_an_empty_table(tmp_path):
    (tmp_path / "journal.jsonl").write_text("")
    frame = measurements_frame(record.load(tmp_path))
    assert frame.empty
    assert frame["value"].dtype == "float64"
    assert write_csv(tmp_path).read_text().strip() == ",".join(COLUMNS)
