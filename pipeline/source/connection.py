"""How Kafka is reached: address, credentials, the clients made from them, and what their errors mean to a user."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from kafka import KafkaAdminClient
from kafka.errors import (
    AuthorizationError,
    InvalidTopicError,
    KafkaConfigurationError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    SaslAuthenticationFailedError,
    UnknownTopicOrPartitionError,
    UnsupportedCodecError,
    UnsupportedSaslMechanismError,
)
from kafka.net.compat import KafkaNetClient
from pydantic import SecretStr

from pipeline.errors import OddframeError, TransientError, UsageError

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")

_RECONNECT_MS = 1_000
"""Longest pause between attempts to reconnect: the library's 30 s would be added to every restart of a broker."""

_PROBE_SECONDS = 2.0
_UNTRUSTED, _NO_TLS, _HUNG_UP = "CERTIFICATE_VERIFY_FAILED", "Handshake failed", "socket disconnected"
_Client = TypeVar("_Client")


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaConnection:
    """Where a cluster is and who we are to it; no text of this object shows the password.

    Attributes:
        bootstrap: `host:port`, more of them separated by commas.
        protocol: one of `PROTOCOLS`.
        mechanism: one of `MECHANISMS`, with SASL.
        ca_file: certificates to trust instead of the system's, PEM.
        seconds: how long the first contact may take.
    """

    bootstrap: str = "127.0.0.1:9092"
    protocol: str = "PLAINTEXT"
    mechanism: str | None = None
    user: str | None = None
    password: SecretStr | None = None
    ca_file: Path | None = None
    seconds: float = 10.0

    def __post_init__(self) -> None:
        """Refuse what cannot work, before any client is made.

        Raises:
            UsageError: a part is missing or contradicts another.
        """
        if not self.bootstrap.strip():
            raise UsageError("Kafka needs the address of a broker, host:port")
        if self.protocol not in PROTOCOLS:
            raise UsageError(f"Kafka's security protocol is one of {', '.join(PROTOCOLS)}, not {self.protocol!r}")
        if self.ca_file is not None and not self.ca_file.is_file():
            raise UsageError(f"the certificates of Kafka's authority, {self.ca_file}, cannot be read")
        if not self.protocol.startswith("SASL_"):
            if self.mechanism or self.user or self.password:
                raise UsageError(f"Kafka credentials are not used with {self.protocol}; set SASL_SSL")
            return
        if self.mechanism not in MECHANISMS:
            raise UsageError(f"with {self.protocol} Kafka needs a mechanism, one of {', '.join(MECHANISMS)}")
        if not self.user or self.password is None or not self.password.get_secret_value():
            raise UsageError(f"with {self.protocol} Kafka needs a user and a password")
        if self.protocol == "SASL_PLAINTEXT" and self.mechanism == "PLAIN":
            raise UsageError("PLAIN without TLS would send the password in the clear; use SASL_SSL or SCRAM")

    def options(self) -> dict[str, Any]:
        """What every client of the library is made with."""
        options: dict[str, Any] = {
            "bootstrap_servers": [server.strip() for server in self.bootstrap.split(",")],
            "bootstrap_timeout_ms": int(self.seconds * 1000),
            "reconnect_backoff_max_ms": _RECONNECT_MS,
            "security_protocol": self.protocol,
        }
        if self.ca_file is not None:
            options["ssl_cafile"] = str(self.ca_file)
        if self.password is not None:
            options["sasl_mechanism"] = self.mechanism
            options["sasl_plain_username"] = self.user
            options["sasl_plain_password"] = _Masked(self.password.get_secret_value())
        return options


def open_client(make: Callable[..., _Client], connection: KafkaConnection, **options: Any) -> _Client:
    """Make a client of the library; this is where the first contact happens.

    Raises:
        UsageError: the cluster refuses our credentials, or its certificate is not one we trust.
        TransientError: nobody answers.
    """
    begun: list[KafkaNetClient] = []

    def begin(**configuration: Any) -> KafkaNetClient:
        begun.append(KafkaNetClient(**configuration))
        return begun[-1]

    _mute()
    with _overhear() as heard:
        try:
            return make(kafka_client=begin, **connection.options(), **options)
        except (KafkaError, OSError, ValueError) as error:
            cause = max(heard, key=_tell_worth, default=error)
            # A client whose first contact fails leaves its thread running: one more with every attempt of an outage.
            for client in begun:
                client.close()
    raise _explain_contact(connection, cause)


def open_admin(connection: KafkaConnection) -> KafkaAdminClient:
    """A client for topics and users; close it.

    Raises:
        UsageError: as in `open_client`.
        TransientError: as in `open_client`.
    """
    return open_client(KafkaAdminClient, connection)


def explain(error: Exception, doing: str) -> OddframeError:
    """What an error of the library means: wrong use where only a person can mend it, else something that passes."""
    if isinstance(error, OddframeError):
        return error
    for kinds, advice in _ADVICE:
        if isinstance(error, kinds):
            return UsageError(f"{doing}: {advice or _first_line(error)}")
    return TransientError(f"{doing}: {_first_line(error)}")


_ADVICE: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((AuthorizationError,), "this user may not; have an access list changed"),
    ((UnknownTopicOrPartitionError,), "there is no such topic; create it"),
    ((InvalidTopicError,), "a topic's name has letters, digits, '.', '_' and '-' only"),
    ((MessageSizeTooLargeError,), "the message is larger than the topic takes"),
    ((UnsupportedCodecError,), "it holds messages compressed in a way that is not installed here; install the codec"),
    ((SaslAuthenticationFailedError, UnsupportedSaslMechanismError, KafkaConfigurationError), ""),
)


class _Masked(str):
    """A password that the library can send, and that neither its logs nor its errors can show."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'**********'"

    def __str__(self) -> str:
        return "**********"

    def __format__(self, form: str) -> str:
        return "**********"


def _keep_secret(record: logging.LogRecord) -> bool:
    """Drop what the library logs of its requests at debug level: they are shown whole, passwords among them."""
    return record.levelno > logging.DEBUG


def _mute() -> None:
    # What the library says goes where logging was set up to; where it was not, not to the user's terminal.
    library = logging.getLogger("kafka")
    if not any(isinstance(handler, logging.NullHandler) for handler in library.handlers):
        library.addHandler(logging.NullHandler())
    for name in ("kafka.net.connection", "kafka.protocol.parser"):
        speaker = logging.getLogger(name)
        if _keep_secret not in speaker.filters:
            speaker.addFilter(_keep_secret)


class _Ear(logging.Handler):
    """Keeps the errors that the library logs while it tries, and forgets by the time it gives up."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[Exception] = []

    def emit(self, record: logging.LogRecord) -> None:
        arguments = record.args if isinstance(record.args, tuple) else ()
        self.heard += [argument for argument in arguments if isinstance(argument, Exception)]


@contextmanager
def _overhear() -> Iterator[list[Exception]]:
    ear, library = _Ear(), logging.getLogger("kafka")
    library.addHandler(ear)
    try:
        yield ear.heard
    finally:
        library.removeHandler(ear)


def _tell_worth(error: Exception) -> int:
    """How much an error tells of why there was no contact."""
    if isinstance(error, (SaslAuthenticationFailedError, UnsupportedSaslMechanismError)):
        return 4
    if _UNTRUSTED in str(error):
        return 3
    if _NO_TLS in str(error):
        return 2
    return 0 if isinstance(error, KafkaTimeoutError) else 1


def _explain_contact(connection: KafkaConnection, cause: Exception) -> OddframeError:
    text = _first_line(cause)
    where = f"Kafka at {connection.bootstrap}"
    # A broker that refuses says so and hangs up; where both come at once, the library sees the second alone.
    if isinstance(cause, SaslAuthenticationFailedError) or (connection.user and _HUNG_UP in text):
        return UsageError(f"{where} refuses user {connection.user}: wrong user or password, mechanism or protocol")
    if isinstance(cause, UnsupportedSaslMechanismError):
        return UsageError(f"{where} does not know {connection.mechanism}: {text}")
    if _UNTRUSTED in text:
        return UsageError(f"{where} shows a certificate that we do not trust; name its authority's file")
    if isinstance(cause, (KafkaConfigurationError, ValueError)):
        return UsageError(f"{where}: {text}")
    if any(_answers(server.strip()) for server in connection.bootstrap.split(",")):
        return UsageError(
            f"{where} answers, but not to {connection.protocol}"
            f"{' as ' + connection.user if connection.user else ''} ({text}): check protocol, port and credentials"
        )
    return TransientError(f"{where} cannot be reached within {connection.seconds:g} s; is it up, is the address right?")


def _answers(server: str) -> bool:
    host, _, port = server.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_PROBE_SECONDS):
            return True
    except (OSError, ValueError, OverflowError):
        return False


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
