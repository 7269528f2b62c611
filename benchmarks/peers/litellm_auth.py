"""LiteLLM's hook for keys of one's own (`custom_auth`): one key in memory. Runs in LiteLLM's Python, not in ours."""

import os

from fastapi import HTTPException, Request
from litellm.proxy._types import UserAPIKeyAuth

_KEY = os.environ["BENCH_KEY"]


async def user_api_key_auth(request: Request, api_key: str) -> UserAPIKeyAuth:  # noqa: ARG001 -- LiteLLM's signature
    """Whose key it is."""
    if api_key.removeprefix("Bearer ").strip() != _KEY:
        raise HTTPException(401, "invalid key")
    return UserAPIKeyAuth(api_key=_KEY, user_id="bench")
