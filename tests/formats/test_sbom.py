"""Lists of components in the formats that builds write, and the order of versions."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.errors import ConfigError
from rig.evidence.advisories import load_advisories
from rig.formats.sbom import Component, read_components, version_key
from rig.testplans import VULNERABILITIES

EXPECTED = (Component("libcoap", "4.3.5a"), Component("mbedtls", ""))
SPDX = {"spdxVersion": "SPDX-2.3", "packages": [{"name": "libcoap", "versionInfo": "4.3.5a"}, {"name": "mbedtls"}]}
CYCLONEDX = {"bomFormat": "CycloneDX", "components": [{"name": "libcoap", "version": "4.3.5a"}, {"name": "mbedtls"}]}
TAGS = """SPDXVersion: SPDX-2.2
PackageName: libcoap
SPDXID: SPDXRef-1
PackageVersion: 4.3.5a

PackageName: mbedtls
SPDXID: SPDXRef-2
"""


@pytest.mark.parametrize("text", [json.dumps(SPDX), json.dumps(CYCLONEDX), TAGS], ids=["spdx", "cyclonedx", "tags"])
def test_components_are_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sbom"
    path.write_text(text)
    assert read_components(path) == EXPECTED


@pytest.mark.parametrize("text", ["", "{", "[]", '{"packages": 3}', "{}", "SPDXVersion: SPDX-2.2\n"])
def test_what_lists_no_component_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sbom.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"sbom\.json: lists no component"):
        read_components(path)


@given(st.text(max_size=200))
def test_no_text_breaks_the_order_of_versions(text: str) -> None:
    assert version_key(text) == version_key(text)
    assert not version_key(text) < version_key(text)


def test_versions_are_ordered_as_they_were_released() -> None:
    ordered = ["2.28.9", "2.28.10", "3.6.2", "3.6.10", "4.3.5", "4.3.5a", "4.3.5b", "4.3.5.1", "4.3.6", "4.10"]
    assert sorted(ordered, key=version_key) == ordered
    assert version_key("v4.3.5~7") == version_key("4.3.5-1") == version_key("4.3.5")


@pytest.mark.parametrize(
    ("name", "version", "flaws"),
    [
        ("libcoap", "4.3.5b", set()),
        ("libcoap", "4.3.5a", {"CVE-2026-29013"}),
        ("libcoap", "4.3.5~7", {"CVE-2026-29013", "CVE-2025-34468"}),
        ("libcoap", "4.3.1", {"CVE-2026-29013", "CVE-2025-34468", "CVE-2023-30362", "CVE-2023-35862"}),
        ("mbedTLS", "3.6.6", set()),
        ("mbedtls", "3.6.2", {"CVE-2025-27810", "CVE-2026-25834"}),
        ("mbedtls", "2.28.10", set()),
        ("mbedtls", "", set()),
        ("mbedtls-fork", "2.0.0", set()),
    ],
)
def test_flaws_of_a_version(name: str, version: str, flaws: set[str]) -> None:
    concerned = {one.id for one in load_advisories(VULNERABILITIES) if one.concerns(Component(name, version))}
    assert concerned == flaws
