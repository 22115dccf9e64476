"""What is tested: the requirement catalogue, limits, plans, and the pytest modules that verify them."""

from pathlib import Path

HERE = Path(__file__).resolve().parent
CATALOGUE = HERE / "requirements"
LIMITS = HERE / "limits.yaml"
USAGE = HERE / "usage"
VULNERABILITIES = HERE / "vulnerabilities.yaml"
