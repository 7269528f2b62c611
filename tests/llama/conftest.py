"""The llama.cpp server for the tests of this directory."""

from tests.llama.fixtures import llama_url

__all__ = ["llama_url"]
