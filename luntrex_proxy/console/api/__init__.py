"""The JSON API under /api/v1: thin. What is decided stands in `control`; no table is known here.

How a request goes: routing.py (path, method) -> callers.py (who) -> Operation.access (may they) -> reading.py (body,
query) -> the operation's handler -> answers.py. What goes wrong is one row of problems.py.

To add a resource: a file here named after it, beside accounts.py, which is the pattern.
1. Models of what comes in (`Body`, `Query`) and goes out (`Shown`). Patterns and bounds stand in their fields: they
   validate and are in the OpenAPI document.
2. One async handler per operation. It gets a `Call` and returns a `Shown`, a `Made` (201), a `Page`, or None (204).
3. `OPERATIONS`: one `Operation` each, and a line in resources.py. Routing, validation, the OpenAPI document and the
   authorisation matrix follow from it. tests/console/matrix.py wants a row per operation: who may, and what to send;
   with it tests prove that whoever may not is refused, and that nonsense is, and that neither changes anything.
What makes a credential or cannot be undone is `proven`: a session must have proved itself within ten minutes. What
would let a token become more than its scopes say is `no_token`.
A new path parameter goes into operations.py's `PARAMETERS`; a refusal with a code of its own into problems.py.
"""
