"""The llama.cpp server for the tests of this directory; SDK clients are closed at the end."""

from tests.llama.fixtures import llama_url
from tests.whole.closing import close_clients

__all__ = ["close_clients", "llama_url"]
