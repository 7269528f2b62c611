"""Templates and the files beside them, read once. How they look is theirs; nothing is decided here."""

import functools
import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import jinja2
import segno
from markupsafe import Markup

from luntrex_proxy.console.pages import phrases, wording

_HERE: Final = Path(__file__).parents[1]
_TYPES: Final = {".css": "text/css", ".svg": "image/svg+xml", ".js": "text/javascript"}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file of console/static, ready to be sent."""

    body: bytes
    gzipped: bytes
    content_type: str
    version: str  # of its content: in its address, so that browsers keep it for good


@functools.cache
def static_files() -> dict[str, StaticFile]:
    """Each file that pages use, by name."""
    found = sorted((_HERE / "static").iterdir())
    return {file.name: _read(file) for file in found if file.suffix in _TYPES}


def template_of(name: str) -> jinja2.Template:
    """A template of console/templates; every value in it is escaped, and one that is missing is an error."""
    return _environment().get_template(name)


def qr_code(text: str) -> Markup:
    """A picture of the text for a phone's camera, without any style of its own."""
    return Markup(segno.make(text, error="m").svg_inline(scale=5, border=2, svgclass="qr", lineclass=None))  # noqa: S704 -- segno's own numbers


def _read(file: Path) -> StaticFile:
    body = file.read_bytes()
    packed = gzip.compress(body, 9, mtime=0)
    return StaticFile(body, packed, _TYPES[file.suffix], hashlib.sha256(body).hexdigest()[:12])


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
    environment.filters |= wording.FILTERS | phrases.FILTERS
    environment.globals["pairs"] = lambda words: [(word, word) for word in sorted(words)]
    versions = {name: file.version for name, file in static_files().items()}
    environment.globals["static"] = lambda name: f"/static/{name}?v={versions[name]}"
    return environment
