"""What an account has of its own in routing: its words, what cannot be, and what names mean to it."""

import pytest

from luntrex_proxy.core.accountroutes import (
    AccountCatalogue,
    AccountRoutes,
    BadRoutesError,
    OwnTarget,
    check,
    read_target,
)
from luntrex_proxy.core.call import Dialect
from luntrex_proxy.core.catalogue import Candidate, Catalogue, Entry, Target
from luntrex_proxy.core.pricing import fill_rates

OPENAI, ANTHROPIC = Dialect.OPENAI, Dialect.ANTHROPIC
DIALECTS = {"a": OPENAI, "b": OPENAI, "c": ANTHROPIC}
RATES = fill_rates({"input": 2})
SHARED = Catalogue(
    [
        Entry("m", (Target("a", OPENAI, "m"),), RATES),
        Entry("n", (Target("a", OPENAI, "n"), Target("c", ANTHROPIC, "n"))),
        Entry("gpt-*", (Target("a", OPENAI, "gpt-*"),)),
    ]
)


@pytest.mark.parametrize(
    ("model", "words", "target"),
    [
        ("m", "a", OwnTarget("a", "m")),
        ("m", "3*a/x/y:z", OwnTarget("a", "x/y:z", 3)),
        ("m", "0*a", OwnTarget("a", "m", 0)),
        ("gpt-*", "a", OwnTarget("a", "*")),
        ("gpt-*", "a/openai/*", OwnTarget("a", "openai/*")),
    ],
)
def test_targets_are_read(model: str, words: str, target: OwnTarget) -> None:
    """Weight and name there may be left out."""
    assert read_target(model, words) == target


@pytest.mark.parametrize("words", ["", "*a", "a/", "-1*a", "1.5*a", "a b", "9999999999*a", "/m"])
def test_what_is_no_target(words: str) -> None:
    """One sentence that shows the form."""
    with pytest.raises(BadRoutesError, match="write \\[WEIGHT\\*\\]UPSTREAM"):
        read_target("m", words)


@pytest.mark.parametrize(
    ("routes", "sentence"),
    [
        (AccountRoutes(models=()), "limited to 1 to 64 models"),
        (AccountRoutes(models=("a b",)), "'a b' is no model name"),
        (AccountRoutes(models=tuple(f"m{n}" for n in range(65))), "limited to 1 to 64 models"),
        (AccountRoutes(targets={"m": ()}), "A model has 1 to 16 targets"),
        (AccountRoutes(targets={"m": (OwnTarget("a", "m"), OwnTarget("a", "m", 2))}), "A target of m is named twice"),
        (AccountRoutes(targets={"m": (OwnTarget("a", "m", 0),)}), "one at least is above 0"),
        (AccountRoutes(targets={"m": (OwnTarget("a", "m", -1),)}), "whole numbers from 0"),
        (AccountRoutes(targets={"m": (OwnTarget("a", f"lx_{'k' * 12}_{'s' * 49}"),)}), "an API key in it; revoke"),
        (AccountRoutes(targets={"m": (OwnTarget("a", "x*"),)}), "has nothing that it could stand for"),
        (AccountRoutes(targets={"x*y": (OwnTarget("a", "m"),)}), "is no model name"),
        (AccountRoutes(("n",), {"m": (OwnTarget("a", "m"),)}), "The account may not use m"),
    ],
)
def test_what_cannot_be(routes: AccountRoutes, sentence: str) -> None:
    """Too many, contradictory, meaningless."""
    with pytest.raises(BadRoutesError, match=sentence):
        check(routes)


def of(routes: AccountRoutes, name: str, dialect: Dialect = OPENAI) -> tuple[Candidate, ...] | None:
    """Who could serve a name."""
    check(routes)
    found = AccountCatalogue(SHARED, routes, DIALECTS).resolve(name, dialect)
    return None if found is None else found.candidates


def test_own_targets_come_before_the_configurations() -> None:
    """Of the name, of its beginning; other names and dialects are as the configuration has them."""
    own = AccountRoutes(
        targets={"m": (OwnTarget("b", "mine", 3),), "n": (OwnTarget("b", "n"),), "x/*": (OwnTarget("b", "*"),)}
    )
    assert of(own, "m") == (Candidate("b", "mine", 3),)
    assert of(own, "x/y") == (Candidate("b", "y", 1),)
    assert of(own, "gpt-5") == (Candidate("a", None, 1),)
    assert of(own, "n", ANTHROPIC) == (Candidate("c", None, 1),)
    assert of(own, "unknown") is None
    catalogue = AccountCatalogue(SHARED, own, DIALECTS)
    found = catalogue.resolve("m", OPENAI)
    assert found is not None
    assert (found.name, found.rates) == ("m", RATES), "the configuration's price of the model is the account's too"
    assert catalogue.resolve("m", OPENAI) is found, "or its targets would be made anew for each request"
    assert catalogue.list_models(OPENAI) == ("m", "n")


def test_prices_of_the_configuration_stay_where_a_beginning_has_own_targets() -> None:
    """A model keeps its name and price, a name that a wildcard covers its price: who serves it changes neither."""
    shared = Catalogue(
        [
            Entry("gpt-4o", (Target("a", OPENAI, "gpt-4o"),), RATES),
            Entry("gpt-4*", (Target("a", OPENAI, "*"),), (dearer := fill_rates({"input": 9}))),
            Entry("gpt-5", (Target("a", OPENAI, "gpt-5"),)),
        ]
    )
    own = AccountRoutes(targets={"gpt-*": (OwnTarget("b", "eu/gpt-*", 3),), "gpt-5": (OwnTarget("b", "five"),)})
    catalogue = AccountCatalogue(shared, own, DIALECTS)
    found = {name: catalogue.resolve(name, OPENAI) for name in ("gpt-4o", "gpt-41", "gpt-5", "gpt-6")}
    assert {name: each and (each.name, each.rates, each.candidates) for name, each in found.items()} == {
        "gpt-4o": ("gpt-4o", RATES, (Candidate("b", "eu/gpt-4o", 3),)),
        "gpt-41": (None, dearer, (Candidate("b", "eu/gpt-41", 3),)),
        "gpt-5": ("gpt-5", None, (Candidate("b", "five", 1),)),
        "gpt-6": (None, None, (Candidate("b", "eu/gpt-6", 3),)),
    }
    assert catalogue.resolve("gpt-4o", OPENAI) is found["gpt-4o"], "or its targets would be made anew"


def test_an_account_may_use_what_is_allowed() -> None:
    """Names and beginnings; names that only a wildcard knows are listed when they were allowed by name."""
    own = AccountRoutes(models=("m", "gpt-4o", "zz"))
    assert of(own, "m") is not None
    assert of(own, "gpt-4o") is not None
    assert of(own, "gpt-5") is of(own, "n") is None
    assert AccountCatalogue(SHARED, own, DIALECTS).list_models(OPENAI) == ("m", "gpt-4o")
    assert of(AccountRoutes(models=("gpt-*",)), "gpt-5") is not None


def test_targets_that_are_gone_are_not_replaced_unasked() -> None:
    """What is left of them serves; when nobody is, nobody does: the configuration's targets are others."""
    own = AccountRoutes(targets={"m": (OwnTarget("gone", "m"), OwnTarget("b", "m"))})
    assert of(own, "m") == (Candidate("b", None, 1),)
    assert of(AccountRoutes(targets={"m": (OwnTarget("gone", "m"),)}), "m") == ()
    assert of(AccountRoutes(targets={"gpt-*": (OwnTarget("gone", "*"),)}), "gpt-5") == ()
