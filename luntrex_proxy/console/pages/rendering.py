"""Templates and the files beside them, read once. How they look is theirs; nothing is decided here."""

import functools
import hashlib
from pathlib import Path
from typing import Final

import jinja2
import segno
from markupsafe import Markup

_HERE: Final = Path(__file__).parents[1]
_TYPES: Final = {".css": "text/css", ".svg": "image/svg+xml"}


@functools.cache
def static_files() -> dict[str, tuple[bytes, str]]:
    """Body and type of each file in console/static, by name."""
    found = sorted((_HERE / "static").iterdir())
    return {file.name: (file.read_bytes(), _TYPES[file.suffix]) for file in found if file.suffix in _TYPES}


def template_of(name: str) -> jinja2.Template:
    """A template of console/templates; every value in it is escaped, and one that is missing is an error."""
    return _environment().get_template(name)


def qr_code(text: str) -> Markup:
    """A picture of the text for a phone's camera, without any style of its own."""
    return Markup(segno.make(text, error="m").svg_inline(scale=5, border=2, svgclass="qr", lineclass=None))  # noqa: S704 -- segno's own numbers


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters["moment"] = lambda at: at.strftime("%Y-%m-%d %H:%M UTC")
    versions = {name: hashlib.sha256(body).hexdigest()[:12] for name, (body, _) in static_files().items()}
    environment.globals["static"] = lambda name: f"/static/{name}?v={versions[name]}"
    return environment
