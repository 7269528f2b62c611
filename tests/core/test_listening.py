"""The text of a `listen` entry, read and refused."""

import errno

import pytest

from luntrex_proxy.core.listening import HostPort, ListenError, UnixPath, listen_failure, parse_listen


@pytest.mark.parametrize(
    ("text", "place", "loopback"),
    [
        ("127.0.0.1:8080", HostPort("127.0.0.1", 8080), True),
        ("localhost:0", HostPort("localhost", 0), True),
        ("[::1]:8080", HostPort("::1", 8080), True),
        ("0.0.0.0:65535", HostPort("0.0.0.0", 65535), False),
        ("[::]:80", HostPort("::", 80), False),
        ("proxy.example.org:443", HostPort("proxy.example.org", 443), False),
        ("unix:/run/x/a b.sock", UnixPath("/run/x/a b.sock"), True),
    ],
)
def test_the_three_forms_are_read_and_written_back(text: str, place: HostPort | UnixPath, loopback: bool) -> None:
    """host:port, [ipv6]:port, unix:/path; and which of them leave the machine."""
    assert parse_listen(text) == place
    assert str(place) == text
    assert place.is_loopback is loopback


@pytest.mark.parametrize(
    "text",
    [
        "", "8080", ":8080", "localhost", "localhost:", "localhost:http", "localhost:65536", "localhost:-1",
        "localhost:8_0", "localhost:\u0661", "::1:8080", "[::1]", "[]:80", "[127.0.0.1]:80", "[x]:80", "a b:80",
        "unix:", "unix:relative.sock", "unix:/a\0b", "unix:/" + "x" * 107,
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_a_sentence(text: str) -> None:
    """The sentence says what is wrong with it."""
    with pytest.raises(ListenError, match="is not an address to listen on"):
        parse_listen(text)


@pytest.mark.parametrize("number", [errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL, errno.ENOENT, -2])
def test_the_systems_refusal_becomes_one_sentence(number: int) -> None:
    """It names the place, and ends."""
    text = str(listen_failure(HostPort("127.0.0.1", 80), OSError(number, "x")))
    assert text.startswith("Cannot listen on 127.0.0.1:80: ")
    assert text.endswith(".")
