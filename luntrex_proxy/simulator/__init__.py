"""A pretend provider for `serve --demo` and the tests: both dialects, paced tokens, real-looking usage, canned text.

May live here: what a provider would answer. Nothing of a request is kept, and no failure can be triggered from outside:
failures belong to the scripted servers under `tests/upstreams/`.
"""

from luntrex_proxy.simulator.server import ANTHROPIC_MODELS, OPENAI_MODELS, Simulator, start_simulator

__all__ = ["ANTHROPIC_MODELS", "OPENAI_MODELS", "Simulator", "start_simulator"]
