"""How an upstream is probed, if it is: by a GET that costs nothing, never with a prompt."""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from luntrex_proxy.settings.section import Count, Seconds, Section, fault

_PATH = re.compile(r"(?:/(?!\.\.?(?:/|$))[A-Za-z0-9._~@:-]*)+")


def _check_path(path: str) -> str:
    if "//" in path or not _PATH.fullmatch(path) or len(path) > 200:
        raise fault("must be a path of the upstream's own host, such as /health: no host, query, `..` or empty part")
    return path


class UpstreamProbe(Section):
    """A GET from time to time; {}: the defaults. 2xx and 429 pass, all else fails."""

    path: Annotated[str, AfterValidator(_check_path)] | None = Field(
        None, description="The path to ask for, from the host's root. null: the list of models, which costs nothing."
    )
    every_s: Seconds = Field(30, description="Seconds between two probes, give or take a fifth.")
    timeout_s: Seconds = Field(5, description="Seconds until one counts as failed.")
    fails: Count = Field(3, description="Failed ones in a row that put the model's other targets before it.")
    passes: Count = Field(2, description="Good ones in a row that end that, and let a request try an open breaker.")

    @model_validator(mode="after")
    def _ends_before_the_next(self) -> Self:
        if self.timeout_s >= self.every_s:
            raise fault("needs a timeout_s shorter than every_s")
        return self
