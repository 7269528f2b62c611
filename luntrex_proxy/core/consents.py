"""What an account's owner can agree to, in words that have a version: nothing of it holds before somebody says yes.

A text that was shown never changes; another wording is another version at the end of its list.
"""

import enum
from collections.abc import Iterable
from typing import Final


class Purpose(enum.StrEnum):
    """What data may be used for beyond serving requests."""

    TRAINING = "training"
    BENCHMARKING = "benchmarking"
    PROVIDER_RETENTION = "provider_retention"
    DEBUG_CAPTURE = "debug_capture"
    PRODUCT_MAIL = "product_mail"
    MEMBER_REQUESTS = "member_requests"


TEXTS: Final = {
    Purpose.TRAINING: (
        "Requests of this account may go to providers that train models on what they are sent, as far as the account's "
        "policy then allows it. Without this consent they never do, whatever the policy says.",
    ),
    Purpose.BENCHMARKING: (
        "Prompts and responses of this account may be used to compare models. This program has no function that does "
        "so; the consent is for one that might come.",
    ),
    Purpose.PROVIDER_RETENTION: (
        "Requests of this account may go to providers that keep them longer than the installation's default allows, as "
        "far as the account's policy then allows it.",
    ),
    Purpose.DEBUG_CAPTURE: (
        "Requests and answers of this account's service keys may be captured for debugging: at most 100 requests "
        "in at most 60 minutes, encrypted for the member who starts it, gone after 24 hours.",
    ),
    Purpose.PRODUCT_MAIL: (
        "The account's owners may get letters about the product. Letters about sign-in, security, incidents and "
        "statements, and about changes that concern the account, come without this consent.",
    ),
    Purpose.MEMBER_REQUESTS: (
        "The account's owners, and who runs the installation at its command line, may see single requests that members "
        "make with their own keys from now on: when, model, tokens, cost and outcome, never what was said. All members "
        "are told of it, and each look is in the audit log. Without it others see sums of a member only.",
    ),
}


def text_of(purpose: Purpose, version: int | None = None) -> str:
    """The words of a version; None: the present one."""
    texts = TEXTS[purpose]
    return texts[(version or len(texts)) - 1]


def version_of(purpose: Purpose) -> int:
    """The version of the present words."""
    return len(TEXTS[purpose])


# What routing has to know, as bits of a caller.
TRAINING_BIT: Final = 1
PROVIDER_RETENTION_BIT: Final = 2
_BITS: Final = {Purpose.TRAINING: TRAINING_BIT, Purpose.PROVIDER_RETENTION: PROVIDER_RETENTION_BIT}


def routing_bits(purposes: Iterable[str]) -> int:
    """The consents among these that routing asks for."""
    return sum(bit for purpose, bit in _BITS.items() if purpose in purposes)
