"""The usage explorer: what was used over time, by what, of which part. All that is chosen stands in the address."""

import contextlib
import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web

from luntrex_proxy.console.pages.charting import charted, name_of
from luntrex_proxy.console.pages.clock import now
from luntrex_proxy.console.pages.menu import ACCOUNT, Menu
from luntrex_proxy.console.pages.page import Access, Page, Route
from luntrex_proxy.console.pages.wording import as_text
from luntrex_proxy.control import keys, labels, spans, usage
from luntrex_proxy.control.usage import Asked, Group
from luntrex_proxy.core.roles import Permission

_GROUPS: Final = {
    "model": "model",
    "upstream": "upstream",
    "key": "key",
    "member": "member",
    "none": "nothing: all together",
}
_METRICS: Final = {
    "cost": "cost",
    "requests": "requests",
    "errors": "errors",
    "tokens": "tokens",
    "input": "input tokens",
    "output": "output tokens",
}
_STEPS: Final = {"hour": "hour", "day": "day", "week": "week", "month": "month"}
_LONGEST_DAYS: Final = {"hour": 2, "day": 366, "week": 1_830, "month": 3_660}
_SHOWN_GROUPS: Final = 8
_CSV_GROUPS: Final = 1_000
_WORD_CHARACTERS_MAX: Final = 200
_KEYS_MAX: Final = 200
_KEY_ID: Final = re.compile(r"[0-9A-Za-z]{12}")


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What the address says, put right where it says nothing that can be."""

    since: date
    until: date
    step: str
    group: str  # one of _GROUPS, or label:NAME
    metric: str
    model: str
    upstream: str
    key: str
    label: str  # NAME=VALUE

    def words(self, **other: str) -> str:
        """The address's query, with some of it changed."""
        given = {
            "since": self.since.isoformat(), "until": self.until.isoformat(), "step": self.step, "group": self.group,
            "metric": self.metric, "model": self.model, "upstream": self.upstream, "key": self.key, "label": self.label,
        } | other  # fmt: skip
        return urlencode({name: value for name, value in given.items() if value})

    def zone(self, page: Page) -> str:
        """In which days begin."""
        return spans.zone_for(page.account.time_zone, (self.until - self.since).days + 1)

    def asked(self, page: Page, groups_max: int) -> Asked:
        """The same, for control."""
        name, _, value = self.label.partition("=")
        is_label = self.group.startswith("label:")
        zone = self.zone(page)
        return Asked(
            account_id=page.account.account_id,
            viewer=page.caller.person_id,
            since=spans.begin_of(self.since, zone),
            until=spans.begin_of(self.until + timedelta(days=1), zone),
            zone=zone,
            step=self.step,
            group="label" if is_label else self.group,
            metric=self.metric,
            label=self.group.removeprefix("label:") if is_label else name or None,
            model=self.model or None,
            upstream=self.upstream or None,
            key_id=self.key or None,
            value=value or None,
            groups_max=groups_max,
        )


async def _explore(page: Page) -> Mapping[str, Any]:
    pool, account = page.services.pool, page.account
    declared = [each.name for each in await labels.list_declared(pool, account.account_id)]
    chosen, problems = _read(page, declared)
    asked = chosen.asked(page, _SHOWN_GROUPS)
    groups = await usage.series(pool, asked)
    models, upstreams = await usage.choices(pool, account.account_id, asked.since, asked.until)
    picture = charted(
        groups, chosen.metric, asked.since, min(asked.until, now()), chosen.step, asked.zone, _nobody(chosen)
    )
    total = sum(group.total.of(chosen.metric) for group in groups)
    return {
        "chosen": chosen,
        "problems": problems,
        "groups": [(name_of(group, _nobody(chosen)), group) for group in groups],
        "picture": picture,
        "picture_zone": asked.zone,
        "total": total,
        "group_words": _GROUPS | {f"label:{name}": f"label {name}" for name in declared},
        "metric_words": _METRICS,
        "step_words": _STEPS,
        "models": models,
        "upstreams": upstreams,
        "keys": await visible_keys(page),
        "label_values": await _label_values(page),
        "presets": _presets(chosen, spans.day_of(now(), account.time_zone)),
        "is_hiding": any(group.is_hidden for group in groups),
    }


async def _csv(page: Page) -> web.StreamResponse:
    declared = [each.name for each in await labels.list_declared(page.services.pool, page.account.account_id)]
    chosen, _ = _read(page, declared)
    groups = await usage.series(page.services.pool, chosen.asked(page, _CSV_GROUPS))
    text = io.StringIO(newline="")
    csv.writer(text).writerows(_lines(groups, chosen, chosen.zone(page)))
    name = f"usage-{page.account.name}-{chosen.since}-{chosen.until}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return web.Response(text=text.getvalue(), content_type="text/csv", charset="utf-8", headers=headers)


def _lines(groups: Sequence[Group], chosen: _Chosen, zone: str) -> Iterator[Sequence[Any]]:
    yield chosen.step, "group", "requests", "errors", "input_tokens", "output_tokens", "cost_usd"
    for group in groups:
        name = as_text(name_of(group, _nobody(chosen)))
        steps = {None: group.total} if group.is_hidden else group.steps
        for at, sums in sorted(steps.items(), key=lambda each: each[0] or datetime.min.replace(tzinfo=UTC)):
            when = "" if at is None else at.astimezone(spans.zone_of(zone)).isoformat()
            dollars = f"{sums.cost_pico // 10**12}.{sums.cost_pico % 10**12:012d}"
            yield when, name, sums.requests, sums.errors, sums.input_tokens, sums.output_tokens, dollars


def _read(page: Page, declared: Sequence[str]) -> tuple[_Chosen, list[str]]:
    """What was chosen, and sentences about what could not be."""
    problems: list[str] = []
    today = spans.day_of(now(), page.account.time_zone)
    until = _day(page.query("until"), today, problems)
    since = _day(page.query("since"), until - timedelta(days=29), problems)
    step = page.query("step") if page.query("step") in _STEPS else "day"
    if since > until:
        since, until = until, since
    if until == today:  # in the zone that days are of then
        until = spans.day_of(now(), spans.zone_for(page.account.time_zone, (until - since).days + 1))
    longest = _LONGEST_DAYS[step]
    if (until - since).days >= longest:
        since = until - timedelta(days=longest - 1)
        problems.append(f"By the {step}, {longest} days at most are shown: those from {since} on.")
    groups = [*_GROUPS, *(f"label:{name}" for name in declared)]
    key = page.query("key")
    label = page.query("label")
    chosen = _Chosen(
        since,
        until,
        step,
        page.query("group") if page.query("group") in groups else "model",
        page.query("metric") if page.query("metric") in _METRICS else "cost",
        _word(page.query("model")),
        _word(page.query("upstream")),
        key if _KEY_ID.fullmatch(key) else "",
        _word(label) if label.partition("=")[0] in declared else "",
    )
    if chosen.label and chosen.group.startswith("label:") and chosen.group[6:] != chosen.label.partition("=")[0]:
        problems.append("Of labels one at a time is looked at: the filter by label is left out.")
        return _Chosen(**{name: getattr(chosen, name) for name in _Chosen.__slots__} | {"label": ""}), problems
    return chosen, problems


def _day(text: str, otherwise: date, problems: list[str]) -> date:
    if not text:
        return otherwise
    with contextlib.suppress(ValueError):
        day = date.fromisoformat(text)
        if date(2000, 1, 1) <= day <= date(2200, 1, 1):
            return day
    problems.append("A day is written such as 2027-01-31.")
    return otherwise


def _word(text: str) -> str:
    return text if text.isprintable() and len(text) <= _WORD_CHARACTERS_MAX else ""


def _nobody(chosen: _Chosen) -> str:
    """The name of the group that has none."""
    return {"none": "all", "member": "the account's keys"}.get(chosen.group, "none")


def _presets(chosen: _Chosen, today: date) -> list[tuple[str, str, bool]]:
    found = []
    for words, days, step in (("7 days", 7, "day"), ("30 days", 30, "day"), ("12 months", 365, "month")):
        since = today - timedelta(days=days - 1)
        is_now = (chosen.since, chosen.until, chosen.step) == (since, today, step)
        found.append(
            (words, chosen.words(since=since.isoformat(), until=today.isoformat(), step=step), is_now)
        )  # fmt: skip
    return found


async def visible_keys(page: Page) -> list[tuple[str, str]]:
    """Keys whose usage may be looked at by itself: the account's and one's own."""
    caller, account_id = page.caller, page.account.account_id
    if not any(caller.may(account_id, each) for each in (Permission.KEYS_READ, Permission.KEYS_OWN)):
        return []
    found = await keys.list_page(page.services.pool, caller, account_id, None, _KEYS_MAX)
    return [(key.key_id, key.name) for key in found if key.person_id in (None, caller.person_id)]


async def _label_values(page: Page) -> list[str]:
    """Values of labels that are declared word by word, as NAME=VALUE."""
    declared = await labels.list_declared(page.services.pool, page.account.account_id)
    return [f"{each.name}={value}" for each in declared for value in sorted(each.allowed or ())]


_USAGE: Final = "/accounts/{account_id}/usage"
ROUTES: Final = (
    Route(_USAGE, "usage.html", _explore, None, Access.MEMBER, (Permission.USAGE_READ,), Menu("Usage", ACCOUNT, 10)),
    Route(f"{_USAGE}.csv", "usage.html", _csv, None, Access.MEMBER, (Permission.USAGE_READ,)),
)
