"""Members and invitations: owners are made by owners, the last one stays, and an invitation is for one address."""

import asyncio
import uuid
from pathlib import Path

import pytest

from luntrex_proxy.control import members, people, sessions
from luntrex_proxy.control.access import DeniedError, NotFoundError, Person
from luntrex_proxy.control.guessing import ThrottledError
from luntrex_proxy.control.links import DeadLinkError
from luntrex_proxy.control.people import AgeError, LastOwnerError
from luntrex_proxy.control.services import Services
from luntrex_proxy.control.sessions import SignedIn
from luntrex_proxy.core.roles import Role
from luntrex_proxy.store import accounts, apikeys
from luntrex_proxy.store import members as table
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.joined import joined
from tests.people import MAIL, PASSWORD, make_person, services_of

HERE = "192.0.2.0/24"
NEW = "new@example.org"


class Scene:
    """An account with one member of each kind."""

    def __init__(self, services: Services, account_id: int, ids: dict[str, uuid.UUID]) -> None:
        self.services, self.account_id, self.ids = services, account_id, ids

    def who(self, name: str) -> Person:
        roles = {} if name == "operator" else {self.account_id: Role(name)}
        return Person(str(self.ids[name]), operator=name == "operator", roles=roles)

    async def signed_in(self, person_id: uuid.UUID) -> SignedIn:
        who = await sessions.signed_in(self.services, await sessions.begin(self.services, person_id, HERE))
        assert who is not None
        return who


@pytest.fixture
async def scene(database: Pool, tmp_path: Path) -> Scene:
    services = services_of(database, tmp_path)
    ids = {role: await make_person(database, f"{role}@example.org", acme=role) for role in ("owner", "admin", "viewer")}
    ids["operator"] = await make_person(database, "operator@example.org", operator=True)
    return Scene(services, (await accounts.get(database, "acme")).account_id, ids)


async def test_only_owners_make_and_unmake_owners(scene: Scene) -> None:
    """An admin changes everybody else; the operator gives an account its first owner and no second."""
    services, account, ids = scene.services, scene.account_id, scene.ids
    admin, operator = scene.who("admin"), scene.who("operator")
    for who in (admin, operator):
        with pytest.raises(DeniedError):
            await members.set_role(services, who, account, ids["viewer"], Role.OWNER)
        with pytest.raises(DeniedError):
            await members.set_role(services, who, account, ids["owner"], Role.VIEWER)
        with pytest.raises(DeniedError):
            await members.remove(services, who, account, ids["owner"])
        with pytest.raises(DeniedError):
            await members.invite(services, who, account, NEW, Role.OWNER)
    changed = await members.set_role(services, admin, account, ids["viewer"], Role.BILLING)
    assert (changed.email, changed.role) == ("viewer@example.org", "billing")
    assert (await members.set_role(services, scene.who("owner"), account, ids["viewer"], Role.OWNER)).role == "owner"
    await services.pool.execute("DELETE FROM membership WHERE role = 'owner'")
    await members.invite(services, operator, account, NEW, Role.OWNER)


async def test_the_last_owner_stays(scene: Scene) -> None:
    """Not to be removed, to leave or to become less; with a second one all of it works."""
    services, account, owner = scene.services, scene.account_id, scene.ids["owner"]
    with pytest.raises(LastOwnerError, match="make another member its owner first"):
        await members.remove(services, scene.who("owner"), account, owner)
    with pytest.raises(LastOwnerError):
        await members.set_role(services, scene.who("owner"), account, owner, Role.ADMIN)
    assert await services.pool.fetchval("SELECT role FROM membership WHERE person_id = $1", owner) == "owner"
    await members.set_role(services, scene.who("owner"), account, scene.ids["admin"], Role.OWNER)
    await members.set_role(services, scene.who("owner"), account, owner, Role.VIEWER)
    await members.remove(services, scene.who("owner"), account, owner)
    with pytest.raises(NotFoundError):
        await members.remove(services, scene.who("owner"), account, owner)


async def test_who_leaves_takes_its_keys_along(scene: Scene) -> None:
    """Keys of the member end, those of the account and of the member elsewhere stay."""
    services, account, viewer = scene.services, scene.account_id, scene.ids["viewer"]
    await accounts.create(services.pool, "beta")
    for name, where in (("mine", "acme"), ("service", "acme"), ("elsewhere", "beta")):
        await apikeys.create(services.pool, services.lookup, where, name, bcrypt_cost=4)
    await services.pool.execute("UPDATE api_key SET person_id = $1 WHERE name <> 'service'", viewer)
    assert await members.remove(services, scene.who("viewer"), account, viewer) == 1
    rows = await services.pool.fetch("SELECT name, status FROM api_key ORDER BY name")
    assert [tuple(row) for row in rows] == [("elsewhere", "active"), ("mine", "revoked"), ("service", "active")]


async def test_members_and_invitations_are_listed_in_pages(scene: Scene) -> None:
    """Of this account only."""
    services, account = scene.services, scene.account_id
    await make_person(services.pool, "other@example.org", beta="owner")
    everybody = await members.list_page(services.pool, account)
    assert {one.role for one in everybody} == {"owner", "admin", "viewer"}
    rest = await members.list_page(services.pool, account, everybody[0].person_id, 1)
    assert rest == everybody[1:2]
    for number in range(3):
        await members.invite(services, scene.who("admin"), account, f"{number}@example.org", Role.VIEWER)
    invited = await members.invitations(services.pool, account)
    assert await members.invitations(services.pool, account, invited[0].invitation_id, 1) == invited[1:2]
    assert await members.invitations(services.pool, account + 1) == []


async def test_invitations_fill_nobodys_mailbox(database: Pool, tmp_path: Path, scene: Scene) -> None:
    """Whoever has an account can have no more letters written to somebody than a stranger; the operator may."""
    mailing, account, admin = services_of(database, tmp_path, **MAIL), scene.account_id, scene.who("admin")
    refused = 0
    for _ in range(9):
        try:
            await members.invite(mailing, admin, account, NEW, Role.VIEWER)
        except ThrottledError:
            refused += 1
    assert refused >= 2
    assert await database.fetchval("SELECT count(*) FROM mail") == 9 - refused
    await members.invite(mailing, admin, account, "other@example.org", Role.VIEWER)
    await members.invite(mailing, scene.who("operator"), account, NEW, Role.VIEWER)


async def test_an_invitation_brings_somebody_new_in(scene: Scene) -> None:
    """Once, with a password, 16 or older; asked again, the link of before is dead."""
    services, account = scene.services, scene.account_id
    _, old = await members.invite(services, scene.who("admin"), account, "New@Example.org", Role.DEVELOPER)
    invitation, made = await members.invite(services, scene.who("admin"), account, NEW, Role.VIEWER)
    assert (made.email, invitation.role, invitation.account) == (NEW, "viewer", "acme")
    assert old.link
    assert made.link
    token = made.link.partition("token=")[2]
    with pytest.raises(DeadLinkError):
        await people.come_invited(services, old.link.partition("token=")[2], "", PASSWORD, HERE, affirmed_16=True)
    with pytest.raises(AgeError):
        await people.come_invited(services, token, "", PASSWORD, HERE, affirmed_16=False)
    begun = await people.come_invited(services, token, "New", PASSWORD, HERE, affirmed_16=True)
    who = await sessions.signed_in(services, begun.cookie)
    assert who is not None
    assert (who.email, who.role_in("acme")) == (NEW, Role.VIEWER)
    with pytest.raises(DeadLinkError):
        await people.come_invited(services, token, "", PASSWORD, HERE, affirmed_16=True)
    assert await members.invitations(services.pool, account) == []
    with pytest.raises(RefusedError, match="member already"):
        await members.invite(services, scene.who("admin"), account, NEW, Role.VIEWER)


async def test_who_is_here_takes_it_up_signed_in(scene: Scene) -> None:
    """Nobody else can, and nobody by the link alone; it can be turned down, withdrawn, or be over."""
    services, account = scene.services, scene.account_id
    eve = await make_person(services.pool, "eve@example.org")
    mallory = await make_person(services.pool, "mallory@example.org")
    invitation, made = await members.invite(services, scene.who("owner"), account, "eve@example.org", Role.OWNER)
    assert made.link
    with pytest.raises(RefusedError, match="address already"):
        await people.come_invited(services, made.link.partition("token=")[2], "", PASSWORD, HERE, affirmed_16=True)
    with pytest.raises(NotFoundError):
        await members.turn_down(services, "mallory@example.org", invitation.invitation_id)
    who = await scene.signed_in(eve)
    assert await members.invitations_for(services, "eve@example.org") == [invitation]
    token = made.link.partition("token=")[2]
    with pytest.raises(RefusedError, match="Open the link that you were given"):
        await members.accept(services, eve, invitation.invitation_id)
    with pytest.raises(RefusedError, match="is over"):
        await members.accept_by_link(services, await scene.signed_in(mallory), token)
    await members.accept_by_link(services, who, token)
    with pytest.raises(DeadLinkError):
        await members.accept_by_link(services, who, token)
    assert (await scene.signed_in(eve)).role_in("acme") is Role.OWNER
    again, _ = await members.invite(services, scene.who("owner"), account, "mallory@example.org", Role.ADMIN)
    await members.turn_down(services, "mallory@example.org", again.invitation_id)
    third, _ = await members.invite(services, scene.who("owner"), account, "mallory@example.org", Role.ADMIN)
    with pytest.raises(NotFoundError):
        await members.withdraw(services, account + 1, third.invitation_id)
    await members.withdraw(services, account, third.invitation_id)
    _, fourth = await members.invite(services, scene.who("owner"), account, "mallory@example.org", Role.ADMIN)
    assert fourth.link
    await services.pool.execute("UPDATE invitation SET expires_at = now()")
    with pytest.raises(RefusedError, match="is over"):
        await members.accept_by_link(services, await scene.signed_in(mallory), fourth.link.partition("token=")[2])


async def test_with_mail_the_letter_takes_it(database: Pool, tmp_path: Path) -> None:
    """The one who invites sees no link; a closed installation invites those who are here only."""
    services = services_of(database, tmp_path, **MAIL)
    owner = await make_person(database, "owner@example.org", acme="owner")
    account = (await accounts.get(database, "acme")).account_id
    who = Person(str(owner), roles={account: Role.OWNER})
    _, made = await members.invite(services, who, account, NEW, Role.VIEWER)
    assert made.link is None
    row = await database.fetchrow("SELECT kind, address, person_id FROM mail")
    assert tuple(row) == ("invitation", NEW, None)
    friend = await make_person(database, "friend@example.org")
    invitation, _ = await members.invite(services, who, account, "friend@example.org", Role.VIEWER)
    with pytest.raises(RefusedError, match="Prove first that this address is yours"):
        await members.accept(services, friend, invitation.invitation_id)
    await database.execute("UPDATE person SET email_verified_at = now()")
    await members.accept(services, friend, invitation.invitation_id)
    closed = services_of(database, tmp_path, console={"sign_up": "closed"})
    with pytest.raises(RefusedError, match="Only the operator adds"):
        await members.invite(closed, who, account, "stranger@example.org", Role.VIEWER)
    await make_person(database, "other@example.org")
    await members.invite(closed, who, account, "other@example.org", Role.VIEWER)


async def test_who_may_is_looked_at_in_the_transaction_of_the_change(scene: Scene) -> None:
    """Somebody becomes an owner while an admin changes or removes them: by then the admin may not any more."""
    services, account, viewer = scene.services, scene.account_id, scene.ids["viewer"]
    for act in (
        lambda: members.set_role(services, scene.who("admin"), account, viewer, Role.BILLING),
        lambda: members.remove(services, scene.who("admin"), account, viewer),
    ):
        await services.pool.execute("UPDATE membership SET role = 'viewer' WHERE person_id = $1", viewer)
        async with services.pool.acquire() as connection, connection.transaction():
            await table.set_role(joined(connection), account, viewer, "owner")
            waiting = asyncio.ensure_future(act())
            while not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
                await asyncio.sleep(0.01)
        with pytest.raises(DeniedError):
            await waiting
        assert (await table.role_of(services.pool, account, viewer)) == "owner"
