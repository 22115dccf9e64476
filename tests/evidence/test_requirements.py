"""The requirement catalogue: what it holds, and how a mistake in it is told."""

import re
from collections import Counter
from pathlib import Path

import pytest

from rig.errors import ConfigError
from rig.evidence.requirements import CLAIMS, STANDARDS, Requirement, load_catalogue
from rig.testplans import CATALOGUE

ROWS_OF_AREA = {
    "CK": 9,
    "PSK": 10,
    "CS": 13,
    "REC": 15,
    "HS": 18,
    "ALR": 4,
    "RSM": 7,
    "CID": 4,
    "T13": 3,
    "CRT": 3,
    "DCL": 2,
    "COAP": 25,
    "OBS": 5,
    "MC": 2,
    "WIR": 7,
    "EXH": 5,
    "PLT": 8,
    "ENE": 21,
    "HIP": 1,
}
CORE = """
    CK-01 CK-02 CK-03 CK-04 CK-09
    PSK-01 PSK-02 PSK-03 PSK-05 PSK-06 PSK-07
    CS-01 CS-03 CS-04 CS-05 CS-09 CS-10 CS-11 CS-12
    REC-01 REC-02 REC-03 REC-04 REC-06 REC-07 REC-08 REC-09 REC-11 REC-13 REC-15
    HS-01 HS-02 HS-03 HS-04 HS-05 HS-06 HS-07 HS-11 HS-13 HS-14 HS-15 HS-16 HS-18
    ALR-01 ALR-02
    RSM-01 RSM-02 RSM-05 RSM-06
    CID-01 CID-02 CID-03
    COAP-01 COAP-02 COAP-03 COAP-04 COAP-07 COAP-08 COAP-09 COAP-10 COAP-11 COAP-12 COAP-13 COAP-14
    COAP-16 COAP-17 COAP-19 COAP-21 COAP-22
    OBS-01 OBS-02 OBS-03
    WIR-01 WIR-02 WIR-05 WIR-07
    EXH-01 EXH-04
    PLT-01 PLT-03 PLT-04 PLT-05 PLT-06
    ENE-01
"""
ROW = """\
requirements:
  - id: PSK-01
    title: PSK handshake
    statement: A handshake completes
    clause: RFC 7252 9.1.3.1
    level: MUST
    method: Shake hands.
"""


@pytest.fixture(scope="module")
def shipped() -> dict[str, Requirement]:
    return load_catalogue(CATALOGUE)


def test_every_item_of_every_area_has_a_row(shipped: dict[str, Requirement]) -> None:
    assert Counter(row.area for row in shipped.values()) == ROWS_OF_AREA
    assert set(shipped) == {f"{area}-{n:02}" for area, count in ROWS_OF_AREA.items() for n in range(1, count + 1)}


def test_the_core_has_rows_and_can_be_tested_here(shipped: dict[str, Requirement]) -> None:
    core = CORE.split()
    assert len(core) == len(set(core)) == 84
    assert [one for one in core if shipped[one].not_testable] == []


def test_few_rows_are_not_testable_here(shipped: dict[str, Requirement]) -> None:
    assert sum(bool(row.not_testable) for row in shipped.values()) <= 20


def test_every_claim_decides_about_a_row(shipped: dict[str, Requirement]) -> None:
    assert {claim for row in shipped.values() for claim in row.applicable} == set(CLAIMS)


def test_nothing_is_called_more_than_evidence() -> None:
    texts = [*STANDARDS.values(), *(path.read_text() for path in CATALOGUE.glob("*.yaml"))]
    assert not re.findall(
        r"\b(?:certif(?:y|ied|ies|ication)|complian\w+|compl(?:y|ies)|conform\w*)\b", " ".join(texts), re.I
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("level: MUST", "level: MAY", "file.yaml:6: requirements.0.level: input should be 'MUST'"),
        ("level: MUST", "levl: MUST", "file.yaml:6: requirements.0.levl: unknown key; did you mean 'level'?"),
        ("    method: Shake hands.\n", "", "file.yaml:2: requirements.0.method: is missing"),
        ("PSK-01", "psk-1", "file.yaml:2: requirements.0.id: string should match"),
        ("9.1.3.1", "", "file.yaml:5: requirements.0.clause: 'RFC 7252' names no section of a known document"),
        ("RFC 7252 9.1.3.1", "RFC 7252 9.1; a book", "file.yaml:5: requirements.0.clause: 'a book' names no section"),
        (".\n", ".\n    applicable: [cid.ofered]\n", "file.yaml:8: requirements.0.applicable.0: no claim is called"),
        (
            ".\n",
            ".\n    evidence_for: {iso: [1]}\n",
            "file.yaml:8: requirements.0.evidence_for.iso: unknown key; known",
        ),
        (
            ".\n",
            ".\n    evidence_for: {etsi: [5.5-9]}\n",
            "file.yaml:8: requirements.0.evidence_for.etsi.0: there is no provision",
        ),
        (".\n", ".\n    evidence_for: {en18031: [GEC-7]}\n", "file.yaml:8: requirements.0.evidence_for.en18031.0: "),
        (".\n", ".\n    evidence_for: {hipaa: [f]}\n", "file.yaml:8: requirements.0.evidence_for.hipaa.0: string"),
    ],
)
def test_a_mistake_is_told_with_file_and_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    changed = ROW.replace(old, new)
    assert changed != ROW
    (tmp_path / "file.yaml").write_text(changed)
    with pytest.raises(ConfigError) as raised:
        load_catalogue(tmp_path)
    assert message in str(raised.value)


def test_an_id_stands_once_in_all_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(ROW)
    (tmp_path / "b.yaml").write_text(ROW.replace("PSK-01", "PSK-02") + ROW.split("\n", 1)[1])
    with pytest.raises(ConfigError, match=r"b\.yaml:8: id: PSK-01 stands twice \(first in .*a\.yaml:2\)"):
        load_catalogue(tmp_path)


def test_a_folder_without_files_is_no_catalogue(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a catalogue"):
        load_catalogue(tmp_path)
