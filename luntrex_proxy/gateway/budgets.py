"""What a request may cost: held of all budgets that count before it is sent, charged when the meter has the truth.

Nothing here is remembered between requests but in the purses; an account without a hard budget never gets here. Nobody
waits but who is the first to spend of a budget, or faster than more can be borrowed: once, and for two seconds at most.
"""

from collections.abc import Awaitable, Sequence

from luntrex_proxy.core.budgets import dollars
from luntrex_proxy.core.leases import NEVER_US, Budgets, Purse, Wallet
from luntrex_proxy.core.pricing import COST_LIMIT_PICO
from luntrex_proxy.core.refusals import Refusal
from luntrex_proxy.core.wire.ratelimits import rfc3339
from luntrex_proxy.gateway.authorise import Permit
from luntrex_proxy.gateway.estimate import estimate
from luntrex_proxy.gateway.ports import Lender
from luntrex_proxy.gateway.record import Draft
from luntrex_proxy.gateway.route import Routing, Target

_TRIES = 8  # what was lent may be taken by requests that came meanwhile
_PATIENCE_US = 2_000_000
_SERVICE_MEMBERS = frozenset({"service_tier", "speed"})


def hold_money(
    budgets: Budgets, lender: Lender, permit: Permit, targets: Sequence[Target], routing: Routing, draft: Draft
) -> Awaitable[None] | None:
    """Hold what a request may cost at the dearest of its targets, or raise Refusal: 429 with the budget.

    Nearly always at once: only when something is returned it must be awaited.
    """
    caller = permit.caller
    wallet = budgets.wallet(caller.account_id, caller.key_id, caller.person)
    if not wallet.purses:
        return None
    tokens = draft.estimate or estimate(draft.route, permit.fields, draft.request_bytes)
    pico = _dearest(permit, targets, routing, tokens)
    if not pico:
        if pico is None and any(tokens):
            budgets.unpriced += 1
        return None
    hold = budgets.take(wallet, pico, draft.started_us)
    if hold is None:
        return _borrow(budgets, lender, wallet, pico, draft)
    draft.hold = hold
    if budgets.low:
        lender.wake()
    return None


async def _borrow(budgets: Budgets, lender: Lender, wallet: Wallet, pico: int, draft: Draft) -> None:
    purses, at_us, begun_us = wallet.purses, draft.started_us, draft.elapsed_us()
    pico = min(pico, COST_LIMIT_PICO)  # nobody has as much at hand
    for _ in range(_TRIES):
        try:
            is_known = await lender.lend(purses, pico, at_us)
        except TimeoutError:  # a burst that keeps this process from hearing is no outage: an open budget holds
            draft.note_wait("budget", begun_us)
            raise Refusal("budget_unknown") from None
        hold = budgets.take(wallet, pico, at_us)
        if hold is not None:
            draft.note_wait("budget", begun_us)
            draft.hold = hold
            if budgets.low:
                lender.wake()
            return
        lacking = [purse for purse in purses if purse.lacks(pico, at_us)]
        spent = next((purse for purse in lacking if purse.is_spent(pico, at_us)), None)
        if spent is not None or not is_known or draft.elapsed_us() - begun_us > _PATIENCE_US:
            break
    draft.note_wait("budget", begun_us)
    if is_known:
        if spent is None:  # there is more, and others were faster each time: no reason to give up for good
            raise Refusal("budget_unknown")
        raise Refusal("budget_spent", limit=_said(spent, pico, at_us))
    is_open = all(purse.budget.is_open for purse in lacking)
    draft.limit_headers += b"x-luntrex-allowance: %b\r\n" % (b"open" if is_open else b"closed")
    if not is_open:
        raise Refusal("budget_unknown")
    draft.hold = budgets.take_anyway(wallet, pico, at_us)


def _dearest(permit: Permit, targets: Sequence[Target], routing: Routing, tokens: tuple[int, int]) -> int | None:
    """In pico-dollars, at the dearest that its tokens may be; None: nobody knows the price at any of the targets."""
    input_tokens, output_tokens = tokens
    dearest = None
    for target in targets:
        rates = (target.price or routing.prices.price(permit.resolution, target.candidate, permit.model)).rates
        if rates is None:
            continue
        if rates is not target.rates:  # another one as soon as anything of the price changes
            target.rates, target.dearest = rates, None if rates.tiers else rates.dearest(0)
        into, out, percent = target.dearest or rates.dearest(input_tokens)
        cost = input_tokens * into + output_tokens * out
        if percent > 100 and _asks_service(permit):
            cost = cost * percent // 100
        if dearest is None or cost > dearest:
            dearest = cost
    return dearest


def _asks_service(permit: Permit) -> bool:
    return permit.fields is not None and not _SERVICE_MEMBERS.isdisjoint(permit.fields.members)


def _said(purse: Purse, pico: int, at_us: int) -> str:
    """The budget, what is left of it, and when it begins anew, in fixed words and numbers."""
    lease = purse.lease_at(at_us)
    left = max(0, purse.left + (0 if lease is None else lease.free))
    words = f"{purse.budget.words}; ${dollars(left)} are left, and this request may cost up to ${dollars(pico)}"
    if lease is None or lease.ends_us == NEVER_US:
        return words
    return f"{words}; it begins anew at {rfc3339(lease.ends_us / 1e6)}"
