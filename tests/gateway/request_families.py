"""Requests by family of attack (the table that a desync corpus is made of), each with what must become of it.

A case says how many requests are served from its bytes and which refusal ends it ("" when the connection goes on).
Every case of a refusal carries `CANARY`; it must neither come back nor go upstream.
"""

# ruff: noqa: E501 -- a table: one case a line

from dataclasses import dataclass

from tests.fakes import KEY
from tests.gateway.wire import LAST_CHUNK, chunk

CANARY = "CANARYcanary"
BODY = b'{"model":"m","n":1}'
LINE = "POST /v1/chat/completions HTTP/1.1"
LINE_1_0 = LINE.replace("1.1", "1.0")
HOST = "Host: gateway.test"
AUTH = f"Authorization: Bearer {KEY}"
LENGTH = f"Content-Length: {len(BODY)}"
MARK = f"X-Mark: {CANARY}"
TE = "Transfer-Encoding: chunked"
CHUNKED = chunk(BODY) + LAST_CHUNK
SMUGGLED = b"POST /v1/chat/completions HTTP/1.1\r\nHost: " + CANARY.encode() + b"\r\n\r\n"
INVALID = "invalid_http"


@dataclass(frozen=True)
class Case:
    """Bytes of a client and what becomes of them."""

    data: bytes
    code: str = INVALID  # the refusal after `served` answers; "" for none
    served: int = 0  # requests answered with 200 by the upstream
    local: int = 0  # requests answered with 200 by the gateway itself, before or without one that goes upstream
    closes: bool | None = None  # None: as the last answer says
    head_only: bool = False  # the answer has no body
    first: str = ""  # the refusal of a request before the last one


def raw(*lines: str, body: bytes = BODY, encoding: str = "latin-1") -> bytes:
    """A head of exactly these lines."""
    return "\r\n".join((*lines, "", "")).encode(encoding) + body


def good(n: int = 1) -> bytes:
    """A plain request."""
    body = b'{"model":"m","n":%d}' % n
    return raw(LINE, HOST, AUTH, f"Content-Length: {len(body)}", body=body)


def many(count: int) -> bytes:
    """So many plain requests, numbered from 1."""
    return b"".join(map(good, range(1, count + 1)))


def with_line(*lines: str) -> bytes:
    """A good chat request with more header lines."""
    return raw(LINE, HOST, AUTH, LENGTH, MARK, *lines)


def with_framing(*lines: str, body: bytes = BODY, first: str = LINE) -> bytes:
    """A chat request framed by these lines alone."""
    return raw(first, HOST, AUTH, MARK, *lines, body=body)


def with_host(*lines: str) -> bytes:
    """A chat request with these Host lines."""
    return raw(LINE, *lines, AUTH, LENGTH, MARK)


def with_start(line: str) -> bytes:
    """A request with this first line and everything else good."""
    return raw(line, HOST, AUTH, LENGTH, MARK)


def with_target(target: str) -> bytes:
    """A POST to this target."""
    return with_start(f"POST {target} HTTP/1.1")


def chunked(wire: bytes) -> bytes:
    """A chunked chat request with exactly these bytes behind its head."""
    return with_framing(TE, body=wire)


def in_bytes(line: bytes) -> bytes:
    """A good request with one more header line of any bytes."""
    return with_line("X-Here: x").replace(b"X-Here: x", line)


def refused(**cases: bytes) -> dict[str, Case]:
    """Cases that are all invalid HTTP."""
    return {name: Case(data) for name, data in cases.items()}


def each(prefix: str, cases: dict[str, bytes]) -> dict[str, Case]:
    """The same for names that are no identifiers."""
    return {f"{prefix} {name}": Case(data) for name, data in cases.items()}


BAD_CODINGS = {
    "list": "gzip, chunked", "twice": "chunked, chunked", "identity": "identity", "identity first":
    "identity, chunked", "identity last": "chunked, identity", "empty element": ",chunked", "trailing comma":
    "chunked,", "xchunked": "xchunked", "suffix": "chunkedx", "number": "chunked123", "quoted": '"chunked"',
    "single quotes": "'chunked'", "parameter": "chunked;a=b", "semicolon": "chunked;", "empty": "", "gzip": "gzip",
    "space inside": "chun ked", "vertical tab": "\x0bchunked", "vertical tab after": "chunked\x0b", "form feed":
    "chunked\x0c", "dash": "chunk-ed", "trailing tab": "chunked\t", "trailing space": "chunked ", "cow": "cow",
    "not last": "chunked, gzip", "obs-text": "\xe7hunked", "NUL": "chunked\0", "no-break space": "\xa0chunked",
    "bracket": "[chunked]", "long s": "chun\u212aed",
}  # fmt: skip
BAD_LENGTHS = {
    "empty": "", "sign": f"+{len(BODY)}", "minus": "-1", "minus zero": "-0", "hex": "0x13", "octal": "0o23",
    "underscore": "1_9", "list": "19, 19", "list without space": "19,19", "list of two": "19, 0", "leading zero":
    "019", "five digits": "00019", "inner space": "1 9", "float": "19.0", "exponent": "19e0", "word": "x",
    "trailing junk": "19;", "trailing space": "19 ", "tab": "1\t9", "trailing tab": "19\t", "vertical tab": "\x0b19",
    "2^64": str(2**64), "2^64 + 19": str(2**64 + 19), "2^63": str(2**63), "2^32 as 20 digits": "0" * 10 + "4294967296",
    "quoted": '"19"', "superscripts": "\xb2\xb7", "arabic digits": "\u0661\u0669", "many digits": "9" * 400,
    "NUL": "19\0",
}  # fmt: skip
BAD_HOSTS = {
    "none": (), "two": (HOST, HOST), "two different": (HOST, "Host: other"), "empty": ("Host:",),
    "list": ("Host: a, b",), "space": ("Host: a b",), "userinfo": ("Host: a@b",), "path": ("Host: a/b",),
    "query": ("Host: a?b",), "port junk": ("Host: a:b",), "no port": ("Host: a:",), "two ports": ("Host: a:1:2",),
    "signed port": ("Host: a:+80",), "long port": ("Host: a:123456",), "zone": ("Host: [fe80::1%25eth0]",),
    "raw zone": ("Host: [fe80::1%eth0]",), "open bracket": ("Host: [::1",), "obs-text": ("Host: \xe9vil",), "percent":
    ("Host: a%2eb",), "star": ("Host: *",), "url": ("Host: http://a",), "backslash": ("Host: a\\b",), "quoted":
    ('Host: "a"',), "comma host": ("Host: a,",), "fragment": ("Host: a#b",), "trailing space": ("Host: a ",), "dots":
    ("Host: ..",), "NUL": ("Host: a\0b",), "space before colon": ("Host : a",),
}  # fmt: skip
BAD_TARGETS = {
    "absolute": "http://evil.test/v1/chat/completions", "absolute https": "https://evil.test/", "absolute of ours":
    "http://gateway.test/v1/chat/completions", "upper-case scheme": "HTTP://evil.test/", "authority": "evil.test:443",
    "star": "*", "two slashes": "//evil.test/v1/chat/completions", "three slashes": "///evil.test", "no slash":
    "v1/chat/completions", "fragment": "/v1/chat/completions#x", "only a fragment": "#", "empty": "", "query only":
    "?x", "space inside": "/v1/chat completions", "obs-text": "/v1/\xe9", "overlong slash": "/v1\xc0\xafchat",
    "overlong dot": "/\xc0\xae\xc0\xae/admin", "delete": "/v1/\x7f", "tab inside": "/v1/chat\tcompletions", "backslash":
    "/v1\\chat\\completions", "backslash first": "\\v1", "backslash host": "/\\evil.test/", "scheme without host":
    "http:", "file": "file:///etc/passwd", "half an escape": "/v1/chat/completions?%", "bad escape": "/v1/%zz", "caret":
    "/v1/^", "pipe": "/v1/|", "brace": "/v1/{x}", "quote": '/v1/"x"', "angle": "/v1/<x>", "backtick": "/v1/`x`",
    "userinfo": "user@evil.test/", "dots first": "../v1",
}  # fmt: skip
UNKNOWN_TARGETS = {
    "dots": "/v1/../v1/chat/completions", "encoded dots": "/v1/%2e%2e/admin", "encoded letter": "/v1/ch%61t/completions",
    "encoded slash": "/v1%2fchat/completions", "encoded NUL": "/v1/chat/completions%00", "overlong UTF-8":
    "/v1/chat/completions%c0%af", "encoded CRLF": "/v1/chat%0d%0aX:%20y/completions", "trailing slash":
    "/v1/chat/completions/", "inner slashes": "/v1//chat/completions", "upper case": "/V1/CHAT/COMPLETIONS", "parameter":
    "/v1/chat/completions;x=y", "at": "/@evil.test/v1/chat/completions", "colon": "/http://evil.test/", "metrics":
    "/metrics",
}  # fmt: skip
BAD_VERSIONS = {
    "0.9": "HTTP/0.9", "2.0": "HTTP/2.0", "3.0": "HTTP/3.0", "9.9": "HTTP/9.9", "1.2": "HTTP/1.2", "1": "HTTP/1", "1.":
    "HTTP/1.", "two digits": "HTTP/1.10", "1.01": "HTTP/1.01", "01.1": "HTTP/01.1", "lower case": "http/1.1", "comma":
    "HTTP/1,1", "none": "", "word": "HTTP/x.y", "trailing space": "HTTP/1.1 ", "sip": "SIP/1.1", "ice": "ICE/1.0",
    "rtsp": "RTSP/1.0", "rtsp 1.1": "RTSP/1.1", "inner space": "HTTP/ 1.1", "junk after": "HTTP/1.1 x", "minus":
    "HTTP/-1.1",
}  # fmt: skip
BAD_NAMES = {
    "no colon": "X-NoColon", "no name": ": a", "only a colon": ":", "space in name": "X Y: a", "parenthesis": "X(Y): a",
    "bracket": "X[Y]: a", "quote": 'X"Y: a', "slash": "X/Y: a", "at": "X@Y: a", "umlaut": "X\xe4: a", "comma": "X,Y: a",
    "semicolon": "X;Y: a", "equals": "X=Y: a", "brace": "X{Y}: a", "backslash": "X\\Y: a", "angle": "X<Y>: a",
    "obs-text in a value": "X-Obs: \xe9",
}  # fmt: skip
TWICE = {
    "other Authorization": f"Authorization: Bearer {CANARY}", "same Authorization": AUTH, "lower-case authorization":
    f"authorization: Bearer {CANARY}", "x-api-key": "x-api-key: a\r\nX-API-Key: b", "Content-Type":
    "Content-Type: a\r\nContent-Type: b", "Content-Encoding": "Content-Encoding: identity\r\nContent-Encoding: gzip",
    "Expect": "Expect: 100-continue\r\nExpect: 100-continue",
}  # fmt: skip
BAD_SIZES = {
    "not hex": b"xyz\r\n", "g": b"g\r\n", "minus": b"-1\r\n", "minus zero": b"-0\r\n\r\n", "0x":
    b"0x13\r\n" + BODY + b"\r\n", "space first": b" 13\r\n" + BODY + b"\r\n", "tab first": b"\t13\r\n", "plus":
    b"+13\r\n" + BODY + b"\r\n", "underscore": b"1_3\r\n" + BODY + b"\r\n", "empty": b"\r\n" + BODY + b"\r\n",
    "overflow": b"F" * 17 + b"\r\n", "overflow by zeros": b"1" + b"0" * 16 + b"\r\n", "wraps to 13":
    b"1" + b"0" * 14 + b"13\r\n" + BODY + b"\r\n", "nine digits": b"000000013\r\n" + BODY + b"\r\n", "many zeros":
    b"0" * 5000 + b"\r\n\r\n", "LF after size": b"13\n" + BODY + b"\n", "LF after size only":
    b"13\n" + BODY + b"\r\n", "CR after size": b"13\r" + BODY + b"\r", "CR CR LF": b"13\r\r\n" + BODY + b"\r\n",
    "too long": b"12\r\n" + BODY + b"\r\n", "too short": b"14\r\n" + BODY + b"\r\n0\r\n\r\n", "LF after data":
    b"13\r\n" + BODY + b"\n", "CR after data": b"13\r\n" + BODY + b"\r", "junk after data": b"13\r\n" + BODY + b"XX",
    "space after data": b"13\r\n" + BODY + b" \r\n", "NUL after size": b"13\0\r\n" + BODY + b"\r\n", "space after size":
    b"13 \r\n" + BODY + b"\r\n", "tab after size": b"13\t\r\n" + BODY + b"\r\n", "comma": b"13,13\r\n" + BODY + b"\r\n",
    "point": b"13.0\r\n" + BODY + b"\r\n", "wide digit": "\uff11".encode() + b"\r\n", "LF for the last line":
    chunk(BODY) + b"0\n\n", "CR for the last line": chunk(BODY) + b"0\r\r", "last size with LF": chunk(BODY) + b"0\n\r\n",
}  # fmt: skip
EXTENSIONS = {  # all refused: nobody sends them, and no two readers end them at the same byte
    "plain": b"13;a=b\r\n", "no value": b"13;a\r\n", "nothing": b"13;\r\n", "quoted": b'13;a="b;c"\r\n', "space": b"13 ;a\r\n",
    "64 KiB": b"13;" + b"e" * 65536 + b"\r\n", "LF (TERM.EXT)": b"13;a\nb\r\n", "LF then size": b"13;\n13\r\n",
    "CR (EXT.TERM)": b"13;a\rb\r\n", "CR at the end": b"13;a\r\r\n", "NUL": b"13;a\0b\r\n", "quoted CRLF":
    b'13;a="\r\n0\r\n\r\n"\r\n', "obs-text": b"13;\xe9\r\n", "only LF": b"13;a\n",
}  # fmt: skip
TRAILERS = {  # field lines: dropped whatever they are called
    "Authorization": f"Authorization: Bearer {CANARY}", "Content-Length": "Content-Length: 5", "Transfer-Encoding": TE,
    "Host": f"Host: {CANARY}", "x-api-key": f"x-api-key: {CANARY}", "encoding": "Content-Encoding: gzip",
    "Connection": "Connection: close", "Expect": "Expect: 200-ok", "Upgrade": "Connection: Upgrade\r\nUpgrade: h2c",
    "many": "\r\n".join(f"X-{n}: {CANARY}" for n in range(300)), "anthropic": "anthropic-beta: " + CANARY,
}  # fmt: skip
BAD_TRAILERS = {
    "fold": b" folded\r\n", "later fold": b"X: a\r\n b\r\n", "NUL": b"X\0: a\r\n", "NUL in value": b"X: a\0\r\n", "LF":
    b"X: a\nY: b\r\n", "CR": b"X: a\rY: b\r\n", "no colon": b"X\r\n", "no name": b": a\r\n", "space before colon":
    b"X : a\r\n", "obs-text": b"X: \xe9\r\n", "endless": b"X: " + b"x" * 9000 + b"\r\n", "too many":
    b"X: y\r\n" * 3000, "a request": b"GET / HTTP/1.1\r\n",
}  # fmt: skip
CONTROLS = [byte for byte in (*range(0x20), 0x7F) if byte not in (0x09, 0x0A, 0x0D)]
INVALID_AFTER = b"BREW / HTTP/1.1\r\nX: " + CANARY.encode() + b"\r\n\r\n"
NO_BODY = raw(LINE, HOST, AUTH, MARK, body=b"")
GET_MODELS = "GET /v1/models HTTP/1.1"


def continued(*lines: str, body: bytes = BODY, first: str = LINE) -> bytes:
    """A request that asks for permission to send its body."""
    return raw(first, HOST, AUTH, MARK, LENGTH, *lines, body=body)


FAMILIES: dict[str, dict[str, Case]] = {
    "coding and length": {
        **refused(
            cl_te=with_framing(LENGTH, TE, body=CHUNKED + SMUGGLED),
            te_cl=with_framing(TE, "Content-Length: 4", body=CHUNKED + SMUGGLED),
            cl_0_te=with_framing("Content-Length: 0", TE, body=CHUNKED + SMUGGLED),
            two_codings=with_framing(TE, TE, body=CHUNKED),
            coding_and_identity=with_framing(TE, "Transfer-Encoding: identity", body=CHUNKED),
            identity_and_coding=with_framing("Transfer-Encoding: identity", TE, body=CHUNKED),
            coding_with_space=with_framing("Transfer-Encoding : chunked", body=CHUNKED),
            coding_with_tab=with_framing("Transfer-Encoding\t: chunked", body=CHUNKED),
            coding_after_space=with_framing(" Transfer-Encoding: chunked", body=CHUNKED),
            coding_after_fold=with_framing("X-A: b\r\n Transfer-Encoding: chunked", body=CHUNKED),
            coding_after_lf=with_framing("X-A: b\nTransfer-Encoding: chunked", body=CHUNKED),
            coding_after_cr=with_framing("X-A: b\rTransfer-Encoding: chunked", body=CHUNKED),
            folded_coding=with_framing("Transfer-Encoding:\r\n chunked", body=CHUNKED),
            cl_and_xchunked=with_framing(LENGTH, "Transfer-Encoding: xchunked"),
            cl_and_empty_te=with_framing(LENGTH, "Transfer-Encoding:"),
        ),
        **each("coding", {name: with_framing(f"Transfer-Encoding: {value}".encode().decode("latin-1"), body=CHUNKED)
                          for name, value in BAD_CODINGS.items()}),
        "capitals": Case(with_framing("TRANSFER-ENCODING: Chunked", body=CHUNKED), "", 1),
        "no space": Case(with_framing("Transfer-Encoding:chunked", body=CHUNKED), "", 1),
        "tab": Case(with_framing("Transfer-Encoding:\tchunked", body=CHUNKED), "", 1),
        "TE is not a coding": Case(with_framing("TE: chunked", LENGTH), "", 1),
        "chunked as content": Case(with_framing("Content-Encoding: chunked", LENGTH), "encoded_body"),
    },
    "length": {
        **each("length", {name: with_framing(f"Content-Length: {value}".encode().decode("latin-1"))
                          for name, value in BAD_LENGTHS.items()}),
        **refused(
            two=with_framing(LENGTH, "Content-Length: 0", body=BODY + SMUGGLED),
            same_twice=with_framing(LENGTH, LENGTH),
            twice_in_other_case=with_framing(LENGTH, LENGTH.lower()),
            space_before_colon=with_framing(f"Content-Length : {len(BODY)}"),
            folded=with_framing(f"Content-Length:\r\n {len(BODY)}"),
        ),
        "beyond the limit": Case(with_framing("Content-Length: 9999999999999999"), "body_too_large", closes=True),
    },
    "folding": {
        **each("fold", {"space": with_line(f"X-Fold: a\r\n {CANARY}"), "tab": with_line(f"X-Fold: a\r\n\t{CANARY}"),
                        "of nothing": with_line("X-Fold:\r\n\tchunked"), "several": with_line("X-A: a\r\n b\r\n c"),
                        "empty": with_line("X-A: a\r\n "), "with a colon": with_line("X-A: a\r\n b: c"),
                        "first line": raw(LINE, " X: y", HOST, AUTH, LENGTH), "of the host": with_host(HOST, " b"),
                        "of the target": with_start(LINE.replace(" HTTP", "\r\n HTTP")),
                        "tab first": raw(LINE, "\tHost: a", AUTH, LENGTH)}),
    },
    "bare CR and LF": {
        **refused(
            lf_request_line=with_start(LINE).replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n", 1),
            cr_request_line=with_start(LINE).replace(b" HTTP/1.1\r\n", b"\r HTTP/1.1\r\n", 1),
            cr_for_crlf=with_start(LINE).replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r", 1),
            lf_cr=with_start(LINE).replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n\r", 1),
            lf_in_method=with_start(LINE.replace("POST", "PO\nST")),
            lf_in_target=with_start(LINE.replace("/v1", "/v1\n")),
            cr_in_target=with_start(LINE.replace("/v1", "/v1\r")),
            lf_in_value=with_line(f"X-LF: a\nX-More: {CANARY}"),
            cr_in_value=with_line("X-CR: a\rb"),
            lf_in_name=with_line("X-L\nF: a"),
            cr_before_colon=with_line("X\r: a"),
            cr_cr_lf=with_line("X-CC: a\r"),
            lf_lf_end=with_start(LINE).replace(b"\r\n\r\n", b"\n\n", 1) + b"\r\n\r\n",
            lf_crlf_end=with_start(LINE).replace(b"\r\n\r\n", b"\n\r\n", 1) + b"\r\n\r\n",
            cr_first=b"\r" + good(),
            lf_first=b"\n" + good(),
        ),
        **each("chunk", {name: chunked(BAD_SIZES[name] + CHUNKED) for name in BAD_SIZES if "LF" in name or "CR" in name}),
    },
    "control bytes": {
        **each("name", {f"{byte:02x}": in_bytes(b"X-N%cN: a" % byte) for byte in CONTROLS}),
        **each("value", {f"{byte:02x}": in_bytes(b"X-V: a%cb" % byte) for byte in CONTROLS}),
        **each("value end", {f"{byte:02x}": in_bytes(b"X-V: a%c" % byte) for byte in CONTROLS}),
        **each("target", {f"{byte:02x}": with_target("/v1/\0").replace(b"\0", b"%c" % byte) for byte in (9, *CONTROLS)}),
        **each("method", {f"{byte:02x}": with_start("PO\0ST /v1 HTTP/1.1").replace(b"\0", b"%c" % byte)
                          for byte in (9, *CONTROLS)}),
        "TLS hello": Case(bytes.fromhex("1603010200010001fc0303") + b"\r\n\r\n" + SMUGGLED),
    },
    "names": each("name", {name: with_line(line) for name, line in BAD_NAMES.items()}),
    "space before the colon": each("colon", {
        "space": with_line("X-Space : a"), "tab": with_line("X-Tab\t: a"), "two": with_line("X-Two  : a"),
        "length": with_line("Content-Length : 0"), "authorization": with_line(f"Authorization : Bearer {CANARY}"),
        "before the name": with_line(" X-First: a"), "host": with_host("Host : gateway.test"),
    }),
    "chunk sizes": {
        **each("size", {name: chunked(wire + CHUNKED) for name, wire in BAD_SIZES.items()}),
        "leading zeros": Case(chunked(b"00000013\r\n" + BODY + b"\r\n00000000\r\n\r\n"), "", 1),
        "capitals": Case(chunked(b"A\r\n" + BODY[:10] + b"\r\n9\r\n" + BODY[10:] + b"\r\n0\r\n\r\n"), "", 1),
        "one-byte chunks": Case(chunked(b"".join(chunk(BODY[at : at + 1]) for at in range(len(BODY))) + LAST_CHUNK), "", 1),
        "too many chunks": Case(chunked(chunk(b" ") * 40_000 + CHUNKED), closes=True),
    },
    "chunk extensions": {
        **each("extension", {name: chunked(line + BODY + b"\r\n" + LAST_CHUNK) for name, line in EXTENSIONS.items()}),
        **each("last extension", {name: chunked(chunk(BODY) + line.replace(b"13", b"0", 1) + b"\r\n")
                                  for name, line in EXTENSIONS.items()}),
    },
    "trailers": {
        **{name: Case(chunked(chunk(BODY) + f"0\r\n{line}\r\n\r\n".encode()), "", 1) for name, line in TRAILERS.items()},
        **each("bad", {name: chunked(chunk(BODY) + b"0\r\n" + line + b"\r\n") for name, line in BAD_TRAILERS.items()}),
        "no key but in a trailer": Case(
            raw(LINE, HOST, MARK, TE, body=chunk(BODY) + f"0\r\n{AUTH}\r\n\r\n".encode()), "missing_api_key"),
    },
    "versions": {
        **each("version", {name: with_start(LINE.replace("HTTP/1.1", v)) for name, v in BAD_VERSIONS.items()}),
        "1.0": Case(with_start(LINE_1_0), "", 1, closes=True),
        "1.0 keep-alive": Case(with_start(LINE_1_0).replace(MARK.encode(), b"Connection: keep-alive"), "", 1, closes=True),
        "1.0 without a host": Case(raw(LINE_1_0, AUTH, LENGTH), "", 1, closes=True),
        "1.0 with a coding": Case(with_framing(TE, first=LINE_1_0, body=CHUNKED)),
        "1.0 with both": Case(with_framing(TE, LENGTH, first=LINE_1_0, body=CHUNKED)),
        "HTTP/2 preface": Case(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SMUGGLED),
        "0.9 simple request": Case(b"GET /v1/models\r\n\r\n"),
        "two spaces before": Case(with_start(LINE.replace(" HTTP", "  HTTP"))),
    },
    "methods": {
        **each("method", {name: with_start(f"{method} /v1/chat/completions HTTP/1.1") for name, method in {
            "lower case": "post", "mixed": "Post", "unknown": "BREW", "space first": " POST", "two spaces": "POST ",
            "empty": "", "junk": "P()ST", "long": "P" * 4000, "source": "SOURCE", "propfind": "PROPFIND"}.items()}),
        "tabs between": Case(with_start(LINE.replace(" ", "\t"))),
        "blank lines first": Case(b"\r\n" * 4 + good(), "", 1),
        "a blank line first": Case(b"\r\n" + good(), "", 1),
        **{name: Case(with_start(LINE.replace("POST", name)), "method_not_allowed")
           for name in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")},
    },
    "expectations": {
        "body already there": Case(continued("Expect: 100-continue"), "", 1),
        "in capitals": Case(continued("EXPECT: 100-Continue"), "", 1),
        "no body to come": Case(raw(GET_MODELS, HOST, AUTH, "Expect: 100-continue", body=b""), "", local=1),
        "chunked": Case(raw(LINE, HOST, AUTH, TE, "Expect: 100-continue", body=CHUNKED), "", 1),
        "1.0 has none": Case(continued("Expect: 100-continue", first=LINE_1_0), "", 1, closes=True),
        "1.0 unknown": Case(continued("Expect: x", first=LINE_1_0), "", 1, closes=True),
        "wrong key": Case(continued("Expect: 100-continue").replace(KEY.encode(), b"lx_wrong"), "invalid_api_key"),
        "wrong key, no body": Case(
            continued("Expect: 100-continue", body=b"").replace(KEY.encode(), b"lx_wrong"), "invalid_api_key", closes=True),
        "half a body": Case(continued("Expect: 100-continue", body=BODY[:5]) + BODY[5:], "", 1),
        **{f"unknown {value}": Case(continued(f"Expect: {value}"), "expectation_failed", closes=True)
           for value in ("100-continued", "200-ok", "100-continue, 200-ok", "", CANARY, "100-continue;a=b", "100")},
    },
    "bodies where none belongs": {
        "GET with a length": Case(raw(GET_MODELS, HOST, AUTH, LENGTH), "", local=1),
        "GET with chunks": Case(raw(GET_MODELS, HOST, AUTH, TE, body=CHUNKED), "", local=1),
        "GET with bad chunks": Case(raw(GET_MODELS, HOST, AUTH, TE, body=b"zz\r\n" + SMUGGLED), "", local=1, closes=True),
        "GET with half a body": Case(
            raw(GET_MODELS, HOST, AUTH, "Content-Length: 500", body=SMUGGLED), "", local=1, closes=True),
        "GET with an unstated body": Case(raw(GET_MODELS, HOST, AUTH, body=b"XX" + SMUGGLED), local=1),
        "HEAD with a length": Case(raw(GET_MODELS.replace("GET", "HEAD"), HOST, AUTH, LENGTH), "", local=1, head_only=True),
        "probe with a hidden request": Case(
            raw("GET /livez HTTP/1.1", HOST, f"Content-Length: {len(SMUGGLED)}", body=SMUGGLED), "", local=1),
        "probe with more than it has": Case(
            raw("GET /livez HTTP/1.1", HOST, "Content-Length: 900", body=SMUGGLED), "", local=1, closes=True),
        "CL.0": Case(with_framing("Content-Length: 0", body=INVALID_AFTER), first="not_json"),
        "no framing at all": Case(NO_BODY + BODY + b"\r\n\r\n", first="not_json"),
        "0.CL": Case(with_start("POST /nowhere HTTP/1.1")[:-5], "unknown_url", closes=True),
    },
    "pipelining": {
        **{str(count): Case(many(count), "", count) for count in (1, 2, 10, 100, 300)},
        "1000 probes": Case(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n" * 1000, "", local=1000),
        "1000 probes, then invalid": Case(
            b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n" * 1000 + INVALID_AFTER, INVALID, local=1000),
        "100, then invalid": Case(many(100) + INVALID_AFTER, INVALID, 100),
        "1, then invalid": Case(good() + INVALID_AFTER + good(), INVALID, 1),
        "chunked, then another": Case(chunked(CHUNKED) + good(), "", 2),
        "chunked, then invalid": Case(chunked(CHUNKED) + INVALID_AFTER, INVALID, 1),
        "close, then another": Case(with_line("Connection: close") + good(), "", 1, closes=True),
        "blank line between": Case(good() + b"\r\n" + good(), "", 2),
        "junk between": Case(good() + b"\0\r\n\r\n" + good(), INVALID, 1),
        "after a refusal": Case(INVALID_AFTER + good() * 3),
    },
    "upgrades": {
        **{name: Case(data + SMUGGLED, "upgrade_refused", closes=True) for name, data in {
            "websocket": with_line(f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: {CANARY}"),
            "websocket GET": raw(GET_MODELS, HOST, AUTH, "Connection: Upgrade", "Upgrade: websocket", body=b""),
            "h2c": with_line("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__"),
            "unknown protocol": with_line("Connection: keep-alive, upgrade\r\nUpgrade: foo"),
            "without a protocol": with_line("Connection: upgrade"),
            "two Connection lines": with_line("Connection: keep-alive\r\nConnection: Upgrade\r\nUpgrade: h2c"),
            "in capitals": with_line("CONNECTION: UPGRADE\r\nUPGRADE: H2C"),
            "chunked": with_framing(TE, "Connection: Upgrade", "Upgrade: foo", body=CHUNKED),
            "CONNECT to a host": with_start("CONNECT evil.test:443 HTTP/1.1"),
            "CONNECT to a path": with_start("CONNECT /v1/chat/completions HTTP/1.1"),
        }.items()},
        "not asked to apply": Case(with_line("Upgrade: h2c"), "", 1),
    },
    "targets": {
        **each("target", {name: with_target(target) for name, target in BAD_TARGETS.items()}),
        **{name: Case(with_target(target), "unknown_url") for name, target in UNKNOWN_TARGETS.items()},
        "query": Case(with_target(f"/v1/chat/completions?key={CANARY}&x=%00"), "", 1),
        "brackets in the query": Case(with_target("/v1/chat/completions?include[]=a"), "", 1),
        "too long": Case(with_target("/v1/" + CANARY * 800), "uri_too_long", closes=True),
    },
    "hosts": {
        **each("host", {name: with_host(*lines) for name, lines in BAD_HOSTS.items()}),
        "IPv6": Case(with_host("Host: [::1]:8080"), "", 1),
        "someone else's": Case(with_host(f"Host: {CANARY}.test"), "", 1),
        "underscore": Case(with_host("Host: my_gateway:8080"), "", 1),
    },
    "hop by hop": {  # what Connection names is dropped with all else; it removes nothing that we make ourselves
        f"names {value}": Case(with_line(f"Connection: {value}"), "", 1)
        for value in ("authorization, host", "host", "content-length", "content-type", "x-api-key, authorization",
                      "keep-alive, accept-encoding", "transfer-encoding", "a, b, c", "keep-alive", "", ",,,", CANARY)
    } | {
        "close among others": Case(with_line("Connection: authorization, close"), "", 1, closes=True),
        "proxy headers": Case(with_line(f"Proxy-Connection: close\r\nProxy-Authorization: {CANARY}"), "", 1),
        "keep-alive parameters": Case(with_line("Keep-Alive: timeout=0, max=0"), "", 1),
    },
    "spelling of names": {
        **{f"underscored {line.partition(':')[0]}": Case(with_line(line), "", 1) for line in (
            "Content_Length: 0", "Transfer_Encoding: chunked", f"X_API_Key: {CANARY}", f"Anthropic_Beta: {CANARY}")},
        "underscored key alone": Case(raw(LINE, HOST, LENGTH, f"x_api_key: {KEY}"), "missing_api_key"),
        "underscored host alone": Case(raw(LINE, "Ho_st: a", AUTH, LENGTH)),
        "two keys that differ": Case(with_line(f"x-api-key: {CANARY}"), "conflicting_api_keys"),
        "the same key in both": Case(with_line(f"x-api-key: {KEY}"), "", 1),
        "space around the key": Case(raw(LINE, HOST, f"x-api-key: \t{KEY} \t", LENGTH), "", 1),
        **each("twice", {name: with_line(line) for name, line in TWICE.items()}),
    },
    "sizes": {
        "many lines": Case(with_line(*["X-Same: a"] * 200), "header_too_large", closes=True),
        "one long line": Case(with_line("X-Long: " + CANARY * 9000), "header_too_large", closes=True),
        "endless line": Case(raw(LINE, "X: " + CANARY * 9000)[:-4], "header_too_large", closes=True),
        "empty value": Case(with_line("X-Empty:"), "", 1),
    },
}  # fmt: skip
# How many cases the family has at least (the security reference's list of attack families).
MINIMUM = {
    "coding and length": 30, "length": 20, "folding": 6, "bare CR and LF": 16, "control bytes": 20, "names": 8,
    "space before the colon": 4, "chunk sizes": 20, "chunk extensions": 20, "trailers": 8, "versions": 6, "methods": 8,
    "expectations": 8, "bodies where none belongs": 6, "pipelining": 6, "upgrades": 8, "targets": 30, "hosts": 15,
    "hop by hop": 8, "spelling of names": 8, "sizes": 3,
}  # fmt: skip
