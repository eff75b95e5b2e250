"""Whether a service does its work, asked as a client would ask; an open port is no answer."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from typing import Any

_SECONDS = 10.0
_OK = 200
_FIRST_TOKEN = "root:Milvus"  # noqa: S105 - known to everybody


class NotReadyError(Exception):
    """The service does not answer as it should yet; the text says how."""


def ask_http(url: str) -> bytes:
    """The body of an answer with status 200."""
    # A proxy of the outside world does not lead to this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_SECONDS) as answer:
            if answer.status != _OK:
                raise NotReadyError(f"{url} answers {answer.status}")
            body: bytes = answer.read()
            return body
    except (urllib.error.URLError, OSError) as error:
        raise NotReadyError(f"{url}: {getattr(error, 'reason', error)}") from error


def ask_kafka(port: int) -> None:
    """List the topics."""
    from kafka import KafkaAdminClient  # noqa: PLC0415 - the clients load slowly, and `status` needs few of them
    from kafka.errors import KafkaError  # noqa: PLC0415
    from kafka.net.compat import KafkaNetClient  # noqa: PLC0415

    begun: list[Any] = []

    def begin(**configuration: Any) -> Any:
        begun.append(KafkaNetClient(**configuration))
        return begun[-1]

    address = f"127.0.0.1:{port}"
    try:
        KafkaAdminClient(kafka_client=begin, bootstrap_servers=address, bootstrap_timeout_ms=3_000).list_topics()
    except (KafkaError, OSError, ValueError) as error:
        raise NotReadyError(f"Kafka: {error}") from error
    finally:
        # Not the client: one whose first contact fails is never had, and leaves its thread running.
        for client in begun:
            client.close()


def ask_milvus(port: int, metrics_port: int, token: str = "") -> None:
    """Be told that it is healthy, then list collections: health comes before the first answer.

    At its first start the password is the one that Milvus comes with: it is made ours.
    """
    ask_http(f"http://127.0.0.1:{metrics_port}/healthz")
    from pymilvus import MilvusClient, MilvusException  # noqa: PLC0415 - as above

    address = f"http://127.0.0.1:{port}"
    try:
        try:
            client = MilvusClient(address, token=token, timeout=_SECONDS)
        except MilvusException:
            if not token:
                raise
            client = MilvusClient(address, token=_FIRST_TOKEN, timeout=_SECONDS)
            client.update_password("root", _FIRST_TOKEN.partition(":")[2], token.partition(":")[2])
            client.close()
            client = MilvusClient(address, token=token, timeout=_SECONDS)
        try:
            client.list_collections()
        finally:
            client.close()
    except MilvusException as error:
        raise NotReadyError(f"Milvus: {error.message}") from error


def ask_presto(port: int, catalog: str) -> None:
    """Have a statement run that reaches the tables' catalogue."""
    from prestodb.dbapi import connect  # noqa: PLC0415 - as above
    from prestodb.exceptions import Error  # noqa: PLC0415

    info = json.loads(ask_http(f"http://127.0.0.1:{port}/v1/info"))
    if info.get("starting", True):
        raise NotReadyError("Presto is starting")
    connection = connect("127.0.0.1", port=port, user="probe", catalog=catalog, schema="information_schema")
    try:
        cursor = connection.cursor()
        cursor.execute("show schemas")
        cursor.fetchall()
    except (Error, OSError) as error:
        raise NotReadyError(f"Presto: {_first_line(error)}") from error
    finally:
        connection.close()


def ask_worker(api: str, pool: str, login: str = "") -> None:
    """See a worker of the pool online; `login` is user:password, where the server asks for one."""
    headers = {"Content-Type": "application/json"}
    if login:
        headers["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
    request = urllib.request.Request(  # noqa: S310 - our own address
        f"{api}/work_pools/{pool}/workers/filter", data=b"{}", headers=headers
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_SECONDS) as answer:
            workers: list[dict[str, Any]] = json.load(answer)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise NotReadyError(f"Prefect: {getattr(error, 'reason', error)}") from error
    if not any(worker.get("status") == "ONLINE" for worker in workers):
        raise NotReadyError("no worker is online")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
