"""``report.html``: the run on one page, in one file that loads nothing from anywhere.

Three safeguards against what a device prints: Jinja2 escapes every value, :func:`rig.reports.text.visible` turns
control characters into text, and the page's own content security policy runs no script but the three whose
hashes it names.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bokeh.resources import Resources
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from rig.reports import record, text
from rig.reports.page import page
from rig.reports.verdicts import describe_bound, read_state

FILE = "report.html"
_HERE = Path(__file__).parent


def write_report(run_dir: Path) -> Path:
    """Write ``report.html`` of the run in *run_dir*, finished or not, and return its path.

    The same record gives the same bytes.
    """
    content = render(page(record.load(run_dir)))
    path = run_dir / FILE
    path.write_text(content, encoding="utf-8")
    return path


def render(values: Mapping[str, Any]) -> str:
    """Return the page for the template's *values*."""
    scripts = {"bokeh": _bokeh(), "script": _source("report.js")} if values["plots"] else {}
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; script-src "
    policy += " ".join(_hash(script) for script in scripts.values()) or "'none'"
    template = _environment().get_template("report.html.j2")
    return template.render(
        **values,
        policy=policy,
        scripts={name: Markup(script) for name, script in scripts.items()},
        style=Markup(_source("report.css")),
        plot_items=_json([plot["item"] for plot in values["plots"]]),
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=text.number,
        quantity=text.quantity,
        duration=text.duration,
        byte_count=text.byte_count,
        bound=describe_bound,
        state=read_state,
    )
    return environment


def _finalize(value: Any) -> Any:
    return text.visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _bokeh() -> str:
    """Return the core of BokehJS alone: no widgets, no tables, no WebGL."""
    sources = Resources(mode="inline", components=["bokeh"], minified=True).js_raw
    return "\n".join(source for source in sources).replace("</script", "<\\/script")


def _source(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() + "'"


def _json(value: Any) -> Markup:
    """Return JSON that no HTML parser can take for markup."""
    escapes = {ord(char): f"\\u{ord(char):04x}" for char in "<>&"}
    return Markup(json.dumps(value, separators=(",", ":")).translate(escapes))
