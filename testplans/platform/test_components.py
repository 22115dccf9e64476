"""What the image is made of: PLT-08."""

import pytest

from rig.bench.bench import Bench
from rig.evidence.advisories import Advisory, load_advisories
from rig.evidence.declaration import Declaration
from rig.fixtures.measure import Measure
from rig.formats.sbom import Component, read_components
from rig.testplans import VULNERABILITIES


@pytest.mark.requirement("PLT-08")
def test_no_component_has_a_published_flaw(bench: Bench, dut: Declaration, measure: Measure) -> None:
    assert bench.board_config.dut is not None
    if dut.sbom is None:
        pytest.skip(f"the declaration {bench.board_config.dut} names no list of components (sbom:)")
    path = bench.path.parent / bench.board_config.dut.parent / dut.sbom
    components, advisories = read_components(path), load_advisories(VULNERABILITIES)
    found = [(one, advisory) for one in components for advisory in advisories if advisory.concerns(one)]
    unknown = [one.name for one in components if not one.version]
    measure.check(
        "PLT-08",
        "no component is of a version with a published flaw",
        not found,
        observed=f"{len(components)} components, {len(advisories)} advisories; "
        f"{', '.join(_told(*one) for one in found) or 'none concerned'}",
        evidence=[measure.facts("components", {one.name: one.version for one in components})],
        notes=[f"advisories of {VULNERABILITIES.name} and no others were compared"]
        + ([f"without a version, and not compared: {', '.join(unknown)}"] if unknown else []),
    )


def _told(component: Component, advisory: Advisory) -> str:
    return f"{component.name} {component.version}: {advisory.id} ({advisory.about})"
