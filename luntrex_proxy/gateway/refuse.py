"""How a refusal of ours is written: its headers, and a whole answer where no exchange is there to frame one."""

from luntrex_proxy.core.call import Dialect
from luntrex_proxy.core.outcome import REPORTED, Tokens
from luntrex_proxy.core.refusals import Refusal
from luntrex_proxy.core.wire.errors import error_body
from luntrex_proxy.gateway.http.exchange import REASONS
from luntrex_proxy.gateway.meter import meter
from luntrex_proxy.gateway.record import Draft

JSON = b"Content-Type: application/json\r\n"
_ERROR = 400
_PICO_PER_DOLLAR = 10**12
_LONGEST_WAIT_S = 60  # every SDK honours a Retry-After up to here (wire formats 5.2)
_SDKS_RETRY = frozenset({408, 409, 429})  # and every 5xx (wire formats 5.2)


def own_headers(draft: Draft) -> bytes:
    """What every answer carries: the request's id, under the names that both SDKs look for, and what limits leave."""
    # Of text: it takes half the time that it takes of bytes.
    lines = f"x-request-id: {draft.request_id}\r\nrequest-id: {draft.request_id}\r\n".encode()
    return lines + draft.limit_headers if draft.limit_headers else lines


def told_headers(told: frozenset[str], draft: Draft) -> bytes:
    """What the operator lets answers tell besides. The cost only where it is known before the head goes out."""
    lines = []
    if "upstream" in told:
        lines.append(b"x-luntrex-upstream: %b\r\n" % draft.upstream.encode())
    if "overhead" in told:
        lines.append(b"x-luntrex-overhead-us: %d\r\n" % draft.overhead_us)
    answer = draft.answer
    if "cost" in told and answer is not None and answer.complete and answer.reader is None:
        tokens, source = meter(draft.route, answer, draft.request_bytes, answer.gathered_bytes)
        if source is REPORTED and answer.status < _ERROR and draft.price.rates is not None:
            price = draft.price if type(tokens) is Tokens else draft.price.of(tokens)
            lines.append(b"x-luntrex-cost-usd: %b\r\n" % _dollars(price.cost_pico(tokens)))
    return b"".join(lines)


def _dollars(pico: int) -> bytes:
    whole, rest = divmod(pico, _PICO_PER_DOLLAR)
    return f"{whole}.{rest:012d}".encode()


def refusal_headers(refusal: Refusal, draft: Draft) -> bytes:
    """The lines of a refusal's head, but for its framing."""
    return own_headers(draft) + JSON + _retry_headers(refusal)


def whole_refusal(refusal: Refusal, dialect: Dialect, draft: Draft) -> bytes:
    """A whole answer, after which the connection closes."""
    row = refusal.row
    body = error_body(dialect, row, draft.request_id)
    head = b"HTTP/1.1 %d %b\r\n" % (row.status, REASONS[row.status])
    close = b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    return b"".join((head, refusal_headers(refusal, draft), close, body))


def _retry_headers(refusal: Refusal) -> bytes:
    row = refusal.row
    if refusal.retry_after_s is not None:
        # SDKs that would not wait that long would come back at once and hammer instead.
        stop = b"x-should-retry: false\r\n" if refusal.retry_after_s > _LONGEST_WAIT_S else b""
        return b"Retry-After: %d\r\n%b" % (refusal.retry_after_s, stop)
    if not row.retryable and (row.status >= 500 or row.status in _SDKS_RETRY):
        return b"x-should-retry: false\r\n"
    return b""
