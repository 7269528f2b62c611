"""Station 4, authorise: the only place that makes a `Permit`; `forward` takes nothing less."""

import msgspec

from luntrex_proxy.core.access import Caller
from luntrex_proxy.core.catalogue import Names, Resolution
from luntrex_proxy.core.consents import PROVIDER_RETENTION_BIT, TRAINING_BIT
from luntrex_proxy.core.policy import BadPolicyError, Policy, narrow_by_header
from luntrex_proxy.core.refusals import Refusal
from luntrex_proxy.core.wire.fields import Fields
from luntrex_proxy.core.wire.forbidden import forbidden_field
from luntrex_proxy.gateway.accept import Call

POLICY_HEADER = b"x-luntrex-policy"


class Permit(msgspec.Struct, frozen=True, eq=False):
    """Proof that this caller may have this call, with these fields, answered by this model within this policy."""

    caller: Caller
    call: Call
    fields: Fields | None  # None: a request without a body
    model: str  # the client's string: for routing only, never recorded
    resolution: Resolution
    policy: Policy

    def __repr__(self) -> str:
        return "Permit()"  # never the client's words in a traceback


def authorise(
    caller: Caller,
    model: str | None,
    call: Call,
    names: Names,
    default: Policy,
    fields: Fields | None = None,
) -> Permit:
    """The permit for a model; `default` is the policy of accounts that have none of their own. Raises Refusal."""
    if not model:
        raise Refusal("missing_model", "model")
    scope = caller.scope
    if scope is not None and not scope.allows_model(model):
        raise Refusal("model_not_found", "model")
    resolution = names.resolve(model, call.route.dialect)
    if resolution is None:
        raise Refusal("model_not_found", "model")
    policy = default if caller.policy is None else caller.policy
    if policy is not default or policy.trains:
        # Training needs the owner's word whoever set the policy, the configuration included.
        policy = policy.without_consent(
            default,
            training=bool(caller.consents & TRAINING_BIT),
            keeping=bool(caller.consents & PROVIDER_RETENTION_BIT),
        )
    if scope is not None:
        policy = scope.narrow(policy)
    if POLICY_HEADER in call.headers:
        policy = _narrowed(policy, call.headers[POLICY_HEADER])
    field = None if fields is None or fields.dull else forbidden_field(call.route, fields, policy)
    if field is not None:
        raise Refusal("policy_forbids", field)
    return Permit(caller, call, fields, model, resolution, policy)


def _narrowed(policy: Policy, header: bytes) -> Policy:
    try:
        return narrow_by_header(policy, header)
    except BadPolicyError:
        raise Refusal("bad_policy") from None
