"""What the console does, programs can do: a page has its operations, a form one that changes, a filter a field.

A page that has none names the reason. A new page fails here until it is in the table.
"""

import re
from pathlib import Path

import pytest

from luntrex_proxy.console import pages
from luntrex_proxy.console.api.resources import OPERATIONS
from luntrex_proxy.console.application import PAGES
from luntrex_proxy.console.pages.page import Route

TEMPLATES = Path(pages.__file__).parents[1] / "templates"
BY_NAME = {operation.name: operation for operation in OPERATIONS}
SIGNING_IN = "how one signs in is changed by the person alone, with the password or a letter"
PUBLIC = "a form for people without an account, who prove by a letter that they are who asks"
LOOKS = "how the console looks"
A = "/accounts/{account_id}"
# By path: operations that show or do the same, or why there are none.
PAIRS: dict[str, tuple[str, ...] | str] = {
    **dict.fromkeys(
        ("/sign-in", "/sign-in/code", "/sign-out", "/confirm", "/sign-up", "/reset", "/link", "/profile/address",
         "/profile/password", "/second-factor", "/second-factor/begin", "/second-factor/confirm",
         "/second-factor/codes", "/second-factor/remove"), SIGNING_IN,
    ),
    **dict.fromkeys(("/rights", "/rights/confirm", "/report-child"), PUBLIC),
    "/theme": LOOKS,
    "/": ("me.get",),
    "/accounts": ("me.get", "invitations.list_own"),
    "/invitations/accept": ("invitations.accept",),
    "/invitations/turn-down": ("invitations.turn_down",),
    "/sessions": ("sessions.list",),
    "/sessions/end": ("sessions.end",),
    "/sessions/end-others": ("sessions.end_others",),
    "/profile": ("me.get",),
    "/profile/name": ("rights.correct_name",),
    "/notices": ("notices.list",),
    "/notices/read": ("notices.read",),
    "/tokens": ("tokens.list",),
    "/tokens/new": ("tokens.create",),
    "/tokens/{token_id}/revoke": ("tokens.revoke",),
    "/your-data": ("rights.list_own", "work.list_own", "consents.list"),
    "/your-data/copies": ("work.list_own",),
    "/your-data/withdraw": ("rights.withdraw",),
    "/your-data/access": ("rights.access",),
    "/your-data/export": ("rights.export",),
    "/your-data/name": ("rights.correct_name",),
    "/your-data/note": ("rights.annotate",),
    "/your-data/restrict": ("rights.restrict", "rights.unrestrict"),
    "/your-data/object": ("rights.object", "rights.end_objection"),
    "/your-data/erase": ("rights.erase",),
    "/rights/status": ("rights.status",),
    "/rights/download": ("rights.export",),
    "/privacy": ("privacy.policy",),
    "/privacy/inventory": ("privacy.inventory", "privacy.retention"),
    "/subprocessors": ("subprocessors.list",),
    A: ("usage.overview", "usage.series"),
    f"{A}/start": ("keys.create",),
    f"{A}/first-call": ("usage.requests",),
    f"{A}/usage": ("usage.series",),
    f"{A}/usage.csv": ("usage.series",),
    f"{A}/requests": ("usage.requests",),
    f"{A}/requests.csv": ("usage.requests",),
    f"{A}/requests/{{request_id}}": ("usage.request",),
    f"{A}/keys": ("keys.list",),
    f"{A}/keys/new": ("keys.create",),
    f"{A}/keys/{{key_id}}": ("keys.get", "limits.list", "labels.list"),
    f"{A}/keys/{{key_id}}/rotate": ("keys.rotate",),
    f"{A}/keys/{{key_id}}/scope": ("keys.limit",),
    f"{A}/keys/{{key_id}}/limits": ("limits.set_of_key",),
    f"{A}/keys/{{key_id}}/labels": ("keys.label",),
    f"{A}/keys/{{key_id}}/suspend": ("keys.suspend",),
    f"{A}/keys/{{key_id}}/resume": ("keys.resume",),
    f"{A}/keys/{{key_id}}/revoke": ("keys.revoke",),
    f"{A}/models": ("models.list_of_account",),
    f"{A}/limits": ("limits.list", "budgets.list"),
    f"{A}/limits/edit": ("limits.set_of_account", "limits.set_of_key"),
    f"{A}/limits/budgets": (
        "budgets.set_of_account", "budgets.set_of_key", "budgets.set_of_member", "budgets.set_of_label",
    ),
    f"{A}/limits/time-zone": ("budgets.set_time_zone",),
    f"{A}/billing": ("statements.list", "invoices.list"),
    f"{A}/billing/{{month}}": ("statements.get",),
    f"{A}/billing/{{month}}/lines.csv": ("statements.get",),
    f"{A}/billing/{{month}}/close": ("statements.close",),
    f"{A}/members": ("members.list", "invitations.list"),
    f"{A}/members/{{person_id}}": ("members.list",),
    f"{A}/members/{{person_id}}/role": ("members.set_role",),
    f"{A}/members/{{person_id}}/remove": ("members.remove",),
    f"{A}/invitations/new": ("invitations.create",),
    f"{A}/invitations/{{invitation_id}}/withdraw": ("invitations.withdraw",),
    f"{A}/attempts": ("attempts.list_of_account",),
    f"{A}/audit": ("audit.list_of_account",),
    f"{A}/incidents": ("incidents.list_of_account",),
    f"{A}/privacy": ("consents.list", "objections.list", "subprocessors.list"),
    f"{A}/privacy/consents/{{purpose}}": ("consents.give",),
    f"{A}/privacy/consents/{{purpose}}/withdraw": ("consents.withdraw",),
    f"{A}/privacy/objections": ("objections.make", "objections.withdraw"),
    f"{A}/captures": ("debug_captures.list",),
    f"{A}/captures/new": ("debug_captures.start",),
    f"{A}/captures/{{capture_id}}/stop": ("debug_captures.stop",),
    f"{A}/labels": ("labels.list",),
    f"{A}/labels/edit": ("labels.declare",),
    f"{A}/labels/remove": ("labels.remove",),
    f"{A}/settings": ("accounts.get", "routes.get"),
    f"{A}/settings/policy": ("accounts.change",),
    f"{A}/settings/models": ("routes.set",),
    f"{A}/settings/explain": ("routes.explain",),
    "/installation/accounts": ("accounts.list", "accounts.create"),
    "/installation/accounts/{account_id}/suspend": ("accounts.suspend",),
    "/installation/accounts/{account_id}/resume": ("accounts.resume",),
    "/people": ("people.list",),
    "/people/new": ("people.create",),
    "/people/{person_id}": ("people.get",),
    "/people/{person_id}/suspend": ("people.suspend",),
    "/people/{person_id}/resume": ("people.resume",),
    "/people/{person_id}/reset": ("people.reset",),
    "/upstreams": ("upstreams.list",),
    "/upstreams/{upstream}/begin-maintenance": ("upstreams.begin_maintenance",),
    "/upstreams/{upstream}/end-maintenance": ("upstreams.end_maintenance",),
    "/incidents": ("incidents.list",),
    "/incidents/new": ("incidents.open",),
    "/incidents/exercise": ("incidents.drill",),
    "/incidents/{incident_id}": ("incidents.get", "incidents.notices", "incidents.addresses"),
    "/incidents/{incident_id}/edit": ("incidents.change",),
    "/incidents/{incident_id}/reach": ("incidents.change",),
    "/incidents/{incident_id}/close": ("incidents.close",),
    "/incidents/{incident_id}/affected": (
        "incidents.affected", "incidents.affected_accounts", "incidents.affected_people",
    ),
    "/incidents/{incident_id}/drafts": ("incidents.drafts",),
    "/incidents/{incident_id}/notify": ("incidents.notify",),
    "/incidents/{incident_id}/notices": ("incidents.notices",),
    "/child-reports": ("child_reports.list",),
    "/child-reports/{report_id}": ("child_reports.get", "child_reports.confirm", "child_reports.dismiss"),
    "/child-reports/{report_id}/take-back": ("child_reports.take_back",),
    "/rights-requests": ("rights.list", "rights.clocks"),
    "/rights-requests/{reference}": ("rights.get",),
    "/rights-requests/{reference}/answer": ("rights.answer",),
    "/rights-requests/{reference}/refuse": ("rights.refuse",),
    "/rights-requests/{reference}/extend": ("rights.extend",),
    "/registry": ("registry.list",),
    "/registry/new": ("registry.add",),
    "/registry/entries/{subprocessor}": ("registry.versions",),
    "/registry/entries/{subprocessor}/change": ("registry.set",),
    "/registry/entries/{subprocessor}/retire": ("registry.retire",),
    "/retention": ("retention.get", "privacy.retention"),
    "/attempts": ("attempts.list",),
    "/audit": ("audit.list",),
    "/work": ("work.list",),
    "/work/close": ("work.close_month",),
    "/work/reprice": ("work.preview_prices",),
    "/work/{work_id}": ("work.get",),
    "/work/{work_id}/apply": ("work.apply_prices",),
}  # fmt: skip
# Operations that show more than a page does, or a page's data in another way.
BESIDE = {
    "debug_captures.get", "debug_captures.records", "invoices.get", "models.list", "repricing.preview", "tokens.get",
    "usage.totals",
}  # fmt: skip
# What filters call otherwise than operations do.
CALLED = {
    "key": "key_id", "outcome": "failed",
    ("/people", "state"): "status", ("/installation/accounts", "state"): "status",
    **{(f"{A}/settings/explain", name): name for name in ("model", "endpoint", "region", "policy")},
}  # fmt: skip


def test_every_page_has_its_operations() -> None:
    """None is missing, none is gone, and every form is paired with an operation that changes something."""
    assert sorted(PAIRS) == sorted({route.path for route in PAGES})
    paired = {name for names in PAIRS.values() if not isinstance(names, str) for name in names}
    assert paired | BESIDE == BY_NAME.keys(), "operations that no page has are BESIDE"
    assert not paired & BESIDE
    for route in PAGES:
        names = PAIRS[route.path]
        if route.submit is not None and not isinstance(names, str):
            assert any(BY_NAME[name].changes or name == "rights.access" for name in names), route.path


def _filters(route: Route) -> set[str]:
    """Names of the fields by which a page is filtered."""
    text = (TEMPLATES / route.template).read_text(encoding="utf-8")
    forms = re.findall(r'<form class="filters".*?</form>', text, re.DOTALL)
    return {name for form in forms for name in re.findall(r'(?:name="|filter\(")(\w+)"', form)}


# A form that shows its page again is filtered as the page is; `whose` leads to the form that sets somebody's limits.
FILTERED = [route for route in PAGES if route.menu and not isinstance(PAIRS[route.path], str) and _filters(route)]


@pytest.mark.parametrize("route", FILTERED, ids=lambda route: route.path)
def test_every_filter_is_a_field(route: Route) -> None:
    """Of the query, or the body, of one of the page's operations."""
    known: set[str] = set()
    for name in PAIRS[route.path]:
        operation = BY_NAME[name]
        for model in filter(None, (operation.query, operation.body)):
            known |= set(model.model_fields)
    wanted = {CALLED.get((route.path, name), CALLED.get(name, name)) for name in _filters(route)} - {"whose"}
    assert wanted <= known, route.path
