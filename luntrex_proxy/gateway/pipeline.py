"""The way of a request, top to bottom (`Pipeline.handle`). Each station is a file of its own, named by its verb.

Nothing on this way awaits but the client's body and the upstream's answer; all else is in memory.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from time import perf_counter_ns

from luntrex_proxy.core.access import Caller
from luntrex_proxy.core.attempts import Attempts
from luntrex_proxy.core.outcome import COMPLETE, REFUSED, UPSTREAM_FAILED, Ending
from luntrex_proxy.core.refusals import Refusal
from luntrex_proxy.core.wire.errors import error_body
from luntrex_proxy.core.wire.fields import Fields
from luntrex_proxy.gateway.accept import Call, accept, guess_dialect, speaks
from luntrex_proxy.gateway.authenticate import Door, known_caller
from luntrex_proxy.gateway.authorise import authorise
from luntrex_proxy.gateway.body import HeldBodies, decode
from luntrex_proxy.gateway.budgets import hold_money
from luntrex_proxy.gateway.capture import begin_capture
from luntrex_proxy.gateway.estimate import note_longest
from luntrex_proxy.gateway.forward import conclude, forward, is_good, send_first
from luntrex_proxy.gateway.http.addresses import Addresses, Clients
from luntrex_proxy.gateway.http.client import ClientConnection
from luntrex_proxy.gateway.http.exchange import Exchange
from luntrex_proxy.gateway.limits import take_room
from luntrex_proxy.gateway.meter import meter
from luntrex_proxy.gateway.models import ANY_MODEL, local_models
from luntrex_proxy.gateway.openpaths import PATHS as OPEN_PATHS
from luntrex_proxy.gateway.openpaths import open_path
from luntrex_proxy.gateway.overload import REFUSING, Overload
from luntrex_proxy.gateway.ports import Captures, Outside
from luntrex_proxy.gateway.record import OTHER, Draft
from luntrex_proxy.gateway.refuse import JSON, own_headers, refusal_headers, told_headers, whole_refusal
from luntrex_proxy.gateway.relay import Relayed, begin_relay, broken_end, end_relay
from luntrex_proxy.gateway.route import Routing, choose
from luntrex_proxy.settings.model import GatewayLimits, GatewayTimeouts

# Refusals after which a model may have worked for nobody: a client that asks again may pay twice.
_MAY_HAVE_RUN = frozenset(("upstream_closed", "upstream_cut", "upstream_error", "upstream_invalid", "upstream_timeout"))


class Pipeline:
    """Handles every request of the gateway's listeners."""

    def __init__(self, outside: Outside, limits: GatewayLimits, timeouts: GatewayTimeouts, routing: Routing) -> None:
        self._keys = outside.keys
        self._limits = outside.limits
        self._budgets = outside.budgets
        self._lender = outside.lender
        self._teller = outside.teller
        self._outside = outside
        self._is_ready = outside.is_ready
        self._on_bug = outside.on_bug
        self._body_limit_bytes = limits.body_bytes
        self._held = HeldBodies(limits.bodies_held_bytes)
        self.routing = routing  # replaced whole by a reload; a request keeps what it chose
        self.door = Door(outside.keys, outside.prove, Attempts(limits.key_failures_per_minute), outside.on_key_refused)
        self.captures: Captures | None = None  # set while somebody has a debug capture running
        self.console_url = ""
        self.told: frozenset[str] = frozenset()  # gateway.response_headers
        self.limits = limits
        self._most_requests = limits.requests
        self.timeouts = timeouts
        self.connections: set[ClientConnection] = set()
        self.draining = False
        self.overload = Overload()
        self.clients = Clients()
        self._addresses = Addresses(limits.requests_per_address)
        self.inflight = 0

    def set_limits(self, limits: GatewayLimits) -> None:
        """Other limits, for requests from now on."""
        self.limits = limits
        self._most_requests = limits.requests
        self._body_limit_bytes = limits.body_bytes
        self._held.limit_bytes = limits.bodies_held_bytes
        self._addresses.limit = limits.requests_per_address
        self.door.attempts.limit = limits.key_failures_per_minute

    async def handle(  # noqa: C901, PLR0912, PLR0915 -- the stations in their order, on one screen
        self, exchange: Exchange
    ) -> None:
        """Answer one request and put it on record, whatever happens."""
        if exchange.head.path in OPEN_PATHS and self._answer_openly(exchange):
            return
        now = time.time()
        draft = Draft(now, exchange.arrived_ns, self._outside)
        self.inflight += 1
        try:
            # 1 accept: the head alone decides, nothing is read for a path that does not exist.
            call = accept(exchange.head)
            draft.route = call.route.name
            self._find_room(exchange)
            # 2 authenticate: before the body, so that a wrong key never gets its body read.
            caller = known_caller(call, self._keys, now)
            if caller is None:
                caller = await self._examined(exchange, draft, call, now)
            self._let_in(exchange, draft, caller, call)
            if call.route.method == "GET":
                await self._travel_models(exchange, draft, call, caller)
                return
            try:
                # 3 body: bounded bytes; the prompt never becomes a Python object.
                body = exchange.take_body(self._body_limit_bytes, self._held)
                if body is None:
                    body, caller = await self._late_body(exchange, draft, call, caller)
                fields = self._decode(exchange, draft, call, body)
                # 4 authorise: the only source of a permit.
                routing = self.routing
                names = routing.names(caller.account_id) if routing.has_own else routing.catalogue
                permit = authorise(caller, fields.model, call, names, routing.policy, fields)
                draft.model = permit.resolution.name or OTHER
                limited = self._limits.terms
                if caller.account_id in limited or caller.key_id in limited:
                    waits = take_room(self._limits, self._teller, permit, draft)
                    if waits is not None:
                        await waits
                # 5 route: decided before anything is sent, so that a change of configuration can't split a request.
                targets = choose(permit, routing, draft)
                # What it may cost depends on who may serve it; nothing is sent that no budget has the money for.
                if caller.account_id in self._budgets.accounts:
                    waits = hold_money(self._budgets, self._lender, permit, targets, routing, draft)
                    if waits is not None:
                        await waits
                # 6 forward: recorded as open, sent, and awaited until there is something to decide on.
                answer = send_first(permit, targets, body, draft, routing)
                if answer is not None:
                    await answer.decided()
                if answer is None or not is_good(answer):
                    answer = await forward(permit, targets, body, draft, routing, answer)
            finally:
                exchange.leave_room()
                if draft.answer is not None and not draft.answer.done:  # who leaves it pays for what it may have been
                    note_longest(draft, fields)
            del body, fields, permit  # an answer may take an hour; its prompt is not needed for it
            # 7 relay: everything but the last piece goes to the client as it comes.
            headers = own_headers(draft)
            if self.told:
                headers += told_headers(self.told, draft)
            relayed = begin_relay(call.route, draft.request_id, headers, answer, exchange)
            if relayed is None:
                await answer.finished()
                relayed = end_relay(call.route, draft.request_id, answer)
            # 8 meter, 9 record: before the last piece is released, because SDKs stop reading there.
            self._release(exchange, draft, relayed)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 -- one must not take the others with it
            self._fail(exchange, draft, error)
        finally:
            self._leave(exchange, draft)

    def _answer_openly(self, exchange: Exchange) -> bool:
        """Probes and the front page need no key and leave no record."""
        opened = open_path(exchange.head, self.console_url, self._is_ready)
        if opened is None:
            return False
        exchange.respond(opened.status, opened.headers, opened.body)
        exchange.close()
        return True

    def _fail(self, exchange: Exchange, draft: Draft, error: BaseException) -> None:
        """The request got no further: it is refused, was left or cut, or met a bug."""
        if isinstance(error, Refusal):
            self._refuse(exchange, draft, error)
        elif isinstance(error, Exception):
            self._on_bug(error)
            self._refuse(exchange, draft, Refusal("internal_error"))
        else:
            self._break_off(exchange, draft)

    def _leave(self, exchange: Exchange, draft: Draft) -> None:
        """The last of a request, however it went: nothing that was taken for it stays taken."""
        self.inflight -= 1
        if exchange.address:
            self._addresses.leave(exchange.address)
        answer = draft.answer
        if answer is not None and not answer.done:
            answer.abandon()  # whatever way we left by: no upstream works for nobody
        if not draft.recorded:
            self._record_anyway(exchange, draft)
        if draft.room is not None:
            # In the same turn of the loop as the last bytes went out: given back or charged, as the meter said.
            draft.room.settle(draft.tokens.input + draft.tokens.output, perf_counter_ns())
        if draft.hold is not None:
            draft.hold.settle(draft.cost_pico)  # what is on record, nothing else
        if draft.health is not None:
            conclude(draft)
        if not draft.released:
            exchange.connection.answered()

    def _find_room(self, exchange: Exchange) -> None:
        """Whether there is room for one more request, of all and of its address. Raises Refusal."""
        if self.draining:
            raise Refusal("draining")
        if self.overload.stage >= REFUSING or self.inflight > self._most_requests:
            raise Refusal("overloaded")
        connection = exchange.connection
        if connection.address or connection.forwards:
            self._count_address(exchange)

    async def _examined(self, exchange: Exchange, draft: Draft, call: Call, now: float) -> Caller:
        """The caller whose key is not in memory. Raises Refusal."""
        begun_us = draft.elapsed_us()
        caller = await self.door.examine(call.headers, now, self._origin(exchange))
        draft.note_wait("key", begun_us)
        return caller

    def _let_in(self, exchange: Exchange, draft: Draft, caller: Caller, call: Call) -> None:
        """From now on it is this caller's request, if the key is one for it. Raises Refusal."""
        exchange.caller = caller
        draft.account_id = caller.account_id
        draft.key_id = caller.key_id
        if caller.scope is not None:
            self.door.check_scope(caller, caller.scope, call.route, self._origin(exchange))

    def _decode(self, exchange: Exchange, draft: Draft, call: Call, body: bytes) -> Fields:
        draft.request_bytes = len(body)
        if self.captures is not None:
            begin_capture(self.captures, exchange, draft, body)
        fields = decode(call.route, body)
        draft.streamed = fields.stream
        return fields

    async def _late_body(self, exchange: Exchange, draft: Draft, call: Call, caller: Caller) -> tuple[bytes, Caller]:
        """A body that takes its time, and the caller once it has come: limits and policy are those of then."""
        generation, begun_us = self._keys.generation, draft.elapsed_us()
        body = await exchange.rest_of_body()
        draft.note_wait("body", begun_us)
        if self._keys.generation != generation:
            found = known_caller(call, self._keys, time.time())
            if found is None:
                raise Refusal("key_revoked")
            self._let_in(exchange, draft, found, call)
            return body, found
        return body, caller

    def _count_address(self, exchange: Exchange) -> None:
        """Whoever shares an address shares its requests. Raises Refusal when they have as many as they may have."""
        address = exchange.connection.address
        if exchange.connection.forwards:
            address = self.clients.forwarded(exchange.head.headers.get(b"x-forwarded-for", b""))
        if address and not self._addresses.enter(address):
            raise Refusal("too_many_requests", retry_after_s=1)
        exchange.address = address

    def _origin(self, exchange: Exchange) -> str:
        """The client's whole address, "" when nobody knows it. It is looked at and kept nowhere."""
        if exchange.connection.forwards:
            return self.clients.origin(exchange.head.headers.get(b"x-forwarded-for", b""))
        return exchange.connection.peer

    async def _travel_models(self, exchange: Exchange, draft: Draft, call: Call, caller: Caller) -> None:
        """GET models: our own catalogue, or the upstream's list where every name passes."""
        exchange.discard_body()
        routing = self.routing
        names = routing.names(caller.account_id)
        body = local_models(names, call, caller.scope)
        if body is not None:
            draft.status, draft.code, draft.ending = 200, "ok", COMPLETE
            self._record(exchange, draft)
            exchange.respond(200, own_headers(draft) + JSON, body)
            return
        permit = authorise(caller, call.model_id or ANY_MODEL, call, names, routing.policy)
        waits = take_room(self._limits, self._teller, permit, draft)
        if waits is not None:
            await waits
        answer = await forward(permit, choose(permit, routing, draft), b"", draft, routing)
        relayed = begin_relay(call.route, draft.request_id, own_headers(draft), answer, exchange)
        if relayed is None:
            await answer.finished()
            relayed = end_relay(call.route, draft.request_id, answer)
        self._release(exchange, draft, relayed)

    def _release(self, exchange: Exchange, draft: Draft, relayed: Relayed) -> None:
        """Put a relayed answer on record, then let the client have its end."""
        draft.status, draft.code = relayed.status or 200, relayed.code
        draft.ending = COMPLETE if relayed.status or relayed.code == "ok" else UPSTREAM_FAILED
        self._record(exchange, draft, 0 if relayed.cut else len(relayed.body), partial(self._let_go, exchange, relayed))
        draft.released = True

    def _let_go(self, exchange: Exchange, relayed: Relayed) -> None:
        """The answer is on record: the client may have its end."""
        try:
            if exchange.gone:
                return
            if relayed.cut:
                exchange.abort()
            elif relayed.status:
                exchange.respond(relayed.status, relayed.headers, relayed.body)
            else:
                exchange.finish(relayed.body)
        except Exception as bug:  # noqa: BLE001 -- others are let go with it
            self._on_bug(bug)
            exchange.abort()  # whatever came next on this connection would be taken for its answer
        finally:
            exchange.connection.answered()

    def _record(
        self,
        exchange: Exchange,
        draft: Draft,
        unsent_bytes: int = 0,
        then: Callable[[], None] | None = None,
    ) -> None:
        """Stations 8 and 9; only the first call counts. `unsent_bytes` follow as soon as the request is on record.

        `then` is called when it is; without it that is when this returns.
        """
        if draft.recorded:
            return
        answer = draft.answer
        draft.response_bytes = exchange.response_bytes + unsent_bytes
        draft.tokens, draft.usage_source = meter(
            draft.route, answer, draft.request_bytes, draft.response_bytes, draft.longest
        )
        if answer is not None and answer.reader is not None:
            draft.events = answer.reader.events
        elapsed_us = (perf_counter_ns() - exchange.arrived_ns) // 1000
        draft.first_byte_us = exchange.first_byte_us or (elapsed_us if unsent_bytes else 0)
        draft.settle(elapsed_us, then)

    def _record_anyway(self, exchange: Exchange, draft: Draft) -> None:
        """The same where no answer depends on it any more: a bug is told, the client gets what it gets."""
        try:
            self._record(exchange, draft)
        except Exception as bug:  # noqa: BLE001 -- see above
            self._on_bug(bug)

    def _refuse(self, exchange: Exchange, draft: Draft, refusal: Refusal, *, cut: bool = False) -> None:
        """Answer with a row of the table; when the head is out already, only breaking off is truthful."""
        row = refusal.row
        if cut:
            draft.ending = Ending.CUT
        elif draft.ending is not UPSTREAM_FAILED or not row.code.startswith("upstream"):
            draft.ending = REFUSED
        draft.code = row.code
        draft.status = 200 if exchange.head_sent else row.status
        self._record_anyway(exchange, draft)
        if exchange.head_sent:
            exchange.abort()
            return
        body = error_body(speaks(exchange.head), row, draft.request_id, refusal.field, refusal.limit)
        headers = refusal_headers(refusal, draft)
        if self.told and draft.upstream:
            headers += told_headers(self.told, draft)
        if draft.answer is not None and draft.answer.is_sent and row.code in _MAY_HAVE_RUN:
            headers += b"x-luntrex-upstream-sent: true\r\n"
        exchange.respond(row.status, headers, body)

    def _break_off(self, exchange: Exchange, draft: Draft) -> None:
        """The client left, or we cut the answer (key revoked, drain deadline passed)."""
        answer = draft.answer
        if answer is not None and not answer.is_sent:
            answer.abandon()  # before the ledger says that it may be
        draft.status = 200 if exchange.head_sent else 0
        if exchange.gone:
            draft.ending, draft.code = Ending.CLIENT_GONE, "client_gone"
            return
        code = exchange.cut_code or "draining"
        if not exchange.head_sent:
            self._refuse(exchange, draft, Refusal(code), cut=True)
            return
        draft.ending, draft.code = Ending.CUT, code
        self._record_anyway(exchange, draft)
        if answer is None or answer.reader is None or not answer.is_stream or answer.reader.mid_event:
            exchange.abort()
            return
        exchange.head.keep_alive = False
        exchange.finish(broken_end(accept(exchange.head).route, answer.reader, code, draft.request_id))

    def refuse_bytes(self, code: str, received: bytes) -> bytes:
        """A whole answer for bytes that never became a request. Counted by code; nothing of them is kept."""
        refusal = Refusal(code)
        draft = Draft(time.time(), 0, self._outside)
        draft.code, draft.status = code, refusal.row.status
        draft.settle(0)
        return whole_refusal(refusal, guess_dialect(received), draft)

    def keys_in_use(self) -> dict[str, int]:
        """The keys of all running answers: key id -> account id."""
        callers = (each.exchange.caller for each in self.connections if each.exchange is not None)
        return {caller.key_id: caller.account_id for caller in callers if caller is not None}

    def cut_keys(self, key_ids: set[str]) -> None:
        """End every running answer of these keys: they were revoked."""
        for connection in self.connections:
            exchange = connection.exchange
            if exchange is not None and exchange.caller is not None and exchange.caller.key_id in key_ids:
                exchange.cut("key_revoked")

    def cut_all(self) -> None:
        """End every running answer: the drain deadline has passed."""
        for connection in self.connections:
            if connection.exchange is not None:
                connection.exchange.cut("draining")
