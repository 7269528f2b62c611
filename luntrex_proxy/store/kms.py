"""AWS KMS as the keeper of the wrapping key. It is sent data keys to wrap, bound to this installation, and no secret.

AWS's library blocks, so each call runs in a thread. Its exceptions quote requests and go no further than this file.
"""

import asyncio
import importlib
import ssl
import threading
import uuid
from typing import Any, Final

from luntrex_proxy.settings.sealing import Kms, region_of
from luntrex_proxy.store.errors import StoreError
from luntrex_proxy.store.wrapping import UnwrapError, Wrapped, WrappingUnavailableError

PREFIX: Final = "kms:"
_CONNECT_S: Final = 3.0
_READ_S: Final = 5.0
_TRIES: Final = 2
_BUSY: Final = frozenset({
    "DependencyTimeoutException", "KMSInternalException", "KeyUnavailableException", "LimitExceededException",
    "RequestLimitExceeded", "ServiceUnavailable", "ThrottlingException",
})  # fmt: skip
_ADVICE: Final = {
    "AccessDeniedException": "give this machine's role kms:Encrypt and kms:Decrypt on the key",
    "DisabledException": "the key is disabled; enable it",
    "ExpiredTokenException": "the credentials have expired; renew them",
    "IncorrectKeyException": "the data key was wrapped by another key; restore the table data_key",
    "InvalidCiphertextException": "a data key was changed, or is of another installation; restore the table data_key",
    "InvalidSignatureException": "the secret access key is wrong",
    "KMSInvalidStateException": "the key is not in use: disabled, or to be deleted",
    "NotFoundException": "there is no such key in this region; correct sealing.kms",
    "UnrecognizedClientException": "the access key is wrong",
}
_CHANGED: Final = frozenset({"IncorrectKeyException", "InvalidCiphertextException"})


class AwsKms:
    """One configured KMS key: it wraps, and whatever KMS key wrapped is asked to unwrap."""

    def __init__(self, setting: Kms, installation_id: uuid.UUID) -> None:
        self._setting = setting
        self._context = {"luntrex-installation": str(installation_id), "luntrex-purpose": "data key"}
        self._clients: dict[str, Any] = {}  # by region
        self._making = threading.Lock()

    async def wrap(self, data_key: bytes) -> Wrapped:
        """Have a data key encrypted."""
        answer = await asyncio.to_thread(
            self._ask, self._setting.home_region, "encrypt", KeyId=self._setting.key_id, Plaintext=data_key
        )
        return Wrapped(answer["CiphertextBlob"], PREFIX + answer["KeyId"])

    async def unwrap(self, wrapped: Wrapped) -> bytes:
        """Have a data key decrypted by the very key that it says wrapped it."""
        key_id = wrapped.by.removeprefix(PREFIX)
        region = region_of(key_id) or self._setting.home_region
        answer = await asyncio.to_thread(self._ask, region, "decrypt", KeyId=key_id, CiphertextBlob=wrapped.data)
        return bytes(answer["Plaintext"])

    def _ask(self, region: str, operation: str, **arguments: object) -> Any:
        library = _library()
        try:
            with self._making:
                if region not in self._clients:
                    self._clients[region] = self._connect(library, region)
            return getattr(self._clients[region], operation)(EncryptionContext=self._context, **arguments)
        except library.exceptions.ClientError as refusal:
            raise _refused(refusal.response) from None
        except library.exceptions.SSLError:
            raise WrappingUnavailableError(
                "AWS KMS cannot be reached over TLS: its certificate is not one that sealing.kms.ca_file or the system "
                "trusts for this name."
            ) from None
        except (library.exceptions.HTTPClientError, library.exceptions.ConnectionError):
            raise WrappingUnavailableError(
                "AWS KMS, which wraps the data keys, cannot be reached; check the network and sealing.kms."
            ) from None
        except library.exceptions.BotoCoreError:
            raise StoreError(
                "There are no credentials for AWS KMS: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the "
                "machine a role; check sealing.kms as well."
            ) from None

    def _connect(self, library: Any, region: str) -> Any:
        config = library.config.Config(
            connect_timeout=_CONNECT_S,
            read_timeout=_READ_S,
            retries={"mode": "standard", "total_max_attempts": _TRIES},
            proxies={},  # not those of the environment: where we connect to, the configuration says
            ignore_configured_endpoint_urls=True,
        )
        trusted = self._setting.ca_file or ssl.get_default_verify_paths().cafile
        return library.session.get_session().create_client(
            "kms",
            region_name=region,
            endpoint_url=self._setting.endpoint,
            verify=str(trusted) if trusted else True,
            config=config,
        )


def _library() -> Any:
    try:
        for part in ("session", "config", "exceptions"):
            importlib.import_module(f"botocore.{part}")
        return importlib.import_module("botocore")
    except ModuleNotFoundError:
        raise StoreError("AWS KMS needs AWS's library: `pip install luntrex-proxy[aws]`.") from None


def _refused(response: Any) -> StoreError:
    code = str(response.get("Error", {}).get("Code", ""))
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _BUSY or status >= 500:
        return WrappingUnavailableError("AWS KMS, which wraps the data keys, is busy or has a fault; try again.")
    # Only words of ours: what the other side sent is not for logs.
    why = f"{code}: {_ADVICE[code]}" if code in _ADVICE else f"status {status}: see its own log, CloudTrail"
    return (UnwrapError if code in _CHANGED else StoreError)(f"AWS KMS refused the key of sealing.kms ({why}).")
