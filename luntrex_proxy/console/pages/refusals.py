"""Refusals in the words of pages: where the command line names a verb of its own, a person needs the name of a page."""

import re
from typing import Final

from luntrex_proxy.control.acts import RefusedError

_VERB: Final = "`luntrex-proxy "
_LAST_PART: Final = re.compile(r"[;:] [^;:]*`luntrex-proxy ")
# By code, as the menu and headings call the pages; "": that it is so says all that helps.
ADVICE: Final = {
    "": "",
    "account_suspended": "Whoever runs this installation lets its keys work again, in the account's settings.",
    "bad_labels": "Remove one first, under Labels in the account's settings.",
    "bad_reach": "The page What is kept, under Privacy, names all.",
    "closed_already": "",
    "key_ended": "Make a new one under Keys.",
    "key_suspended": "Let it work again first, on its page under Keys.",
    "label_in_use": "Change those first, under Keys or under Limits and budgets.",
    "last_operator": "Make another person one first, on the command line: `luntrex-proxy people operator`.",
    "no_account": "All accounts lists those that are there.",
    "no_upstream": "Upstreams lists those that are there.",
    "not_closed": "Close the month first.",
    "not_found": "",
    "not_stated": "Change the record of the incident; the contact stands in the configuration, as privacy.contact.",
    "person_suspended": "Whoever runs this installation lets the person in again, under People.",
}


def sentence_of(refused: RefusedError) -> str:
    """What a page says of a refusal."""
    sentence = str(refused)
    if _VERB not in sentence:
        return sentence
    said = _LAST_PART.split(sentence, maxsplit=1)[0].rstrip(".")
    return f"{said}. {ADVICE.get(refused.code, '')}".rstrip()
