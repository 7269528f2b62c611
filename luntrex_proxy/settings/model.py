"""`Settings`: every section and key of the configuration with its type, default and description, and nothing else.

    Settings
      gateway   control      the two listeners and their bounds
      console   mail         how people come in, and how they are written to (people.py)
      state     database     where things are kept
      keys      ledger       how they behave
      alerts                 who is told of attacks on keys (alerts.py)
      security               whether what falls short of the privacy policy is refused (security.py)
      sealing                who keeps the key to the secrets in the database (sealing.py)
      retention              how long data is kept (retention.py)
      privacy                whom people ask about their data (privacy.py)
      logging
      upstreams models       what is served (upstreams.py, catalogue.py)

Descriptions go to the JSON Schema; `config/luntrex-proxy.yaml` says the why of each default. Rules that span
several keys are in `contradictions.py`.
"""

from collections.abc import Iterator
from typing import Final, Literal

from pydantic import Field, field_validator

from luntrex_proxy.settings.alerts import Alerts
from luntrex_proxy.settings.catalogue import Model
from luntrex_proxy.settings.listeners import Listens, Mode, Network, Tls
from luntrex_proxy.settings.people import Console, Mail
from luntrex_proxy.settings.policy import Policy
from luntrex_proxy.settings.pricing import Prices
from luntrex_proxy.settings.privacy import Privacy
from luntrex_proxy.settings.retention import RetentionPeriods
from luntrex_proxy.settings.sealing import Sealing
from luntrex_proxy.settings.secrets import Secret
from luntrex_proxy.settings.section import Count, Flag, Pause, Seconds, Section, fault
from luntrex_proxy.settings.security import Security
from luntrex_proxy.settings.upstreams import AbsolutePath, Percent, Upstream
from luntrex_proxy.settings.urls import HttpUrl, check_database_url

_LISTEN = "Addresses: host:port, [IPv6]:port, unix:/path, systemd or systemd:NAME (sockets of a socket unit)."
_TLS = (
    "{cert_file, key_file, client_ca_file}: TLS here. terminated_by_proxy: a TLS proxy stands in front, so plain HTTP "
    "beyond loopback is wanted. null: loopback only."
)
_KEYS_READ_ANEW_S: Final = 60  # thrice what a million keys take
_MODE = "Permissions of Unix sockets made here, as octal text."


class GatewayLimits(Section):
    """What one client, and all of them together, may take."""

    header_bytes: Count = Field(65_536, description="Bytes of a request's head.")
    header_count: Count = Field(100, description="Header lines of a request.")
    body_bytes: Count = Field(33_554_432, description="Bytes of one request body.")
    bodies_held_bytes: Count = Field(
        1_073_741_824, description="Bytes of all request bodies held at once, as they arrive; beyond it they get 503."
    )
    pipelined_bytes: Count = Field(
        65_536, description="Bytes a client may send ahead while its answer is pending; more closes the connection."
    )
    connections: Count = Field(20_000, description="Client connections at the same time.")
    connections_per_address: Count | None = Field(
        5_000, description="Of these from one address (IPv6: one /64); more are closed at once. null: no such limit."
    )
    requests: Count = Field(10_000, description="Requests at the same time; beyond it new ones get 503.")
    requests_per_address: Count | None = Field(
        5_000, description="Of these from one client address; beyond it new ones get 429. null: no such limit."
    )
    key_failures_per_minute: Count | None = Field(
        20,
        description="Requests with a wrong key, or none, from one network (IPv4 /24, IPv6 /48); beyond it wrong keys "
        "from there get 429 for a minute. null: no such limit.",
    )
    body_bytes_per_s: Count = Field(
        1_024, description="Bytes per second a request's body must reach on average once 20 seconds have passed."
    )
    memory_bytes: Count | None = Field(
        None, description="Resident memory the overload stages are measured by. null: the cgroup's limit, if any."
    )


class GatewayTimeouts(Section):
    """How long to wait for a client."""

    tls_handshake_s: Seconds = Field(10, description="Seconds for a TLS handshake, and for a PROXY protocol header.")
    header_s: Seconds = Field(10, description="Seconds for a request's head to arrive.")
    body_idle_s: Seconds = Field(20, description="Seconds of silence while a request's body arrives.")
    keep_alive_s: Seconds = Field(75, description="Seconds an idle connection stays open.")
    write_stall_s: Seconds = Field(60, description="Seconds a client may take nothing of its answer.")
    sse_keep_alive_s: Pause | None = Field(
        15, description="Seconds of silence in a stream before a comment keeps its connection alive. 0 or null: never."
    )
    ready_grace_s: Pause = Field(
        0, description="Seconds between not being ready and closing the listeners, for load balancers to notice."
    )
    drain_s: Seconds = Field(30, description="Seconds running answers get at shutdown before they are cut.")


class GatewayRetries(Section):
    """When a model's next target may have a request. Never once an upstream may have begun to work on it."""

    tries: Count = Field(3, description="Upstreams asked for one request at most.")
    budget_percent: Percent = Field(
        20, description="Of all requests, how many in a hundred may go on to another target after a refusal."
    )
    budget_floor: Count = Field(10, description="Such retries in ten seconds that are allowed whatever the share.")


class Gateway(Section):
    """The inference API."""

    listen: Listens = Field(("127.0.0.1:8080",), description=_LISTEN)
    tls: Tls = Field(None, description=_TLS)
    unix_mode: Mode = Field("0660", description=_MODE)
    backlog: Count = Field(4_096, description="Connections that may wait in the kernel to be accepted.")
    reuse_port: Flag = Field(False, description="Whether several processes may listen on the same port.")
    trusted_proxies: tuple[Network, ...] = Field(
        (), description="Addresses and networks of proxies in front; unix: whoever may open the Unix socket."
    )
    client_address: Literal["peer", "x_forwarded_for", "proxy_protocol"] = Field(
        "peer", description="Where a client's address is taken from. It is used for limits only."
    )
    public_url: HttpUrl | None = Field(
        None, description="The URL clients reach the gateway at, printed with new keys. null: the first listener."
    )
    response_headers: tuple[Literal["upstream", "overhead", "cost"], ...] = Field(
        (),
        description="What answers tell in headers: x-luntrex-upstream, x-luntrex-overhead-us, and x-luntrex-cost-usd "
        "where they are no stream and came whole.",
    )
    limits: GatewayLimits = Field(GatewayLimits(), description="What clients may take.")
    timeouts: GatewayTimeouts = Field(GatewayTimeouts(), description="How long to wait for clients.")
    retries: GatewayRetries = Field(GatewayRetries(), description="When the next target is asked.")


class Control(Section):
    """Health, metrics, and later the console and the admin API."""

    listen: Listens = Field(("127.0.0.1:8081",), description=_LISTEN)
    tls: Tls = Field(None, description=_TLS)
    unix_mode: Mode = Field("0660", description=_MODE)


class State(Section):
    """What the daemon keeps on disk."""

    directory: AbsolutePath | None = Field(
        None,
        description="The state directory. null: /var/lib/luntrex-proxy, or $XDG_STATE_HOME/luntrex-proxy when that "
        "cannot be written.",
    )


class Database(Section):
    """PostgreSQL."""

    url: Secret | None = Field(None, description="postgresql://... null: an embedded server in the state directory.")
    direct_url: Secret | None = Field(
        None,
        description="When url goes through a connection pooler: a URL around it, for revocations, migrations and the "
        "command line. null: url leads to PostgreSQL itself.",
    )
    pool_size: Count = Field(4, description="Connections of one process.")

    @field_validator("url", "direct_url")
    @classmethod
    def _is_postgres(cls, url: Secret | None) -> Secret | None:
        if url and url.sealed_name:
            raise fault("cannot be sealed in the database that it leads to")
        if url and url.is_readable():
            check_database_url(url.reveal())
        return url


class Keys(Section):
    """API keys in memory."""

    max_staleness_s: Seconds = Field(
        3_600, description="Seconds that known keys keep working while the database is away."
    )

    def warnings(self) -> Iterator[str]:
        """What `config check`, `serve` and `doctor` say of it."""
        if self.max_staleness_s < _KEYS_READ_ANEW_S:
            yield (
                f"keys.max_staleness_s is {self.max_staleness_s:g}: to read all keys anew, as after a restore, takes "
                "20 seconds for a million of them, and what takes longer than this lets every key be refused meanwhile;"
                f" {_KEYS_READ_ANEW_S} or more is safe."
            )


class Ledger(Section):
    """The spool of request records on disk."""

    segment_bytes: Count = Field(16_777_216, description="Bytes of one spool file.")
    max_bytes: Count = Field(
        4_294_967_296,
        description="Bytes of all spool files; beyond it new requests get 503, so that none is lost.",
    )


class Logging(Section):
    """One JSON object per line on stderr; never anything that was said."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="The lowest level to write.")
    requests: Flag = Field(True, description="Whether each request gets a line.")


class Settings(Section):
    """The whole configuration."""

    gateway: Gateway = Field(Gateway(), description="The inference API.")
    control: Control = Field(Control(), description="Health, metrics, console.")
    console: Console = Field(Console(), description="Who may come in, and by which address.")
    mail: Mail = Field(Mail(), description="How mail is sent.")
    state: State = Field(State(), description="What is kept on disk.")
    database: Database = Field(Database(), description="PostgreSQL.")
    keys: Keys = Field(Keys(), description="API keys in memory.")
    alerts: Alerts = Field(Alerts(), description="When people are told of attempts with wrong keys.")
    security: Security = Field(Security(), description="How strictly the privacy policy is taken.")
    sealing: Sealing = Field(Sealing(), description="Secrets in the database.")
    ledger: Ledger = Field(Ledger(), description="The spool of request records.")
    retention: RetentionPeriods = Field(RetentionPeriods(), description="How long data is kept.")
    privacy: Privacy = Field(Privacy(), description="Rights of people.")
    logging: Logging = Field(Logging(), description="What is logged.")
    policy: Policy = Field(Policy(), description="The privacy policy of accounts without one of their own.")
    prices: Prices = Field(Prices(), description="What requests cost.")
    upstreams: tuple[Upstream, ...] = Field((), description="Where requests can go.")
    models: tuple[Model, ...] = Field((), description="What clients may ask for.")
