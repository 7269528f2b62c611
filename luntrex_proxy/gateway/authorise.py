"""Station 4, authorise: the only place that makes a `Permit`; `forward` takes nothing less."""

from luntrex_proxy.core.access import Caller
from luntrex_proxy.core.call import Dialect
from luntrex_proxy.core.catalogue import Catalogue, Resolution
from luntrex_proxy.core.refusals import Refusal


class Permit:
    """Proof that this caller may use this model."""

    __slots__ = ("caller", "model", "resolution")

    def __init__(self, caller: Caller, model: str, resolution: Resolution) -> None:
        self.caller = caller
        self.model = model  # the client's string: for routing only, never recorded
        self.resolution = resolution


def authorise(caller: Caller, model: str | None, dialect: Dialect, catalogue: Catalogue) -> Permit:
    """The permit for a model. Raises Refusal."""
    if not model:
        raise Refusal("missing_model", "model")
    resolution = catalogue.resolve(model, dialect)
    if resolution is None:
        raise Refusal("model_not_found", "model")
    return Permit(caller, model, resolution)
