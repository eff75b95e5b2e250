"""Which concrete store or source each setting means, opened: what `wiring` puts together."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from stamina.instrumentation import set_on_retry_hooks

from pipeline.errors import TransientError, UsageError
from pipeline.settings import Settings
from pipeline.stack.layout import Layout, find_cache
from pipeline.store.originals import LocalOriginals, TieredOriginals

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from pipeline.ports import VectorStore
    from pipeline.source.connection import KafkaConnection
    from pipeline.source.kafka_log import KafkaLog
    from pipeline.store.sql_catalog import SqlCatalog
    from pipeline.store.sql_engine import SqlEngine
    from pipeline.store.sql_presto import PrestoSql
    from pipeline.store.tables_iceberg import IcebergTables


_LARGEST_MESSAGE = 48 * 2**20
"""What a topic takes that is made here; larger frames travel as claim checks."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What is in use: what was chosen for each part, else what the profile says."""

    frames: str
    tables: str
    vectors: str
    sql: str

    @property
    def is_shared(self) -> bool:
        """Whether several processes may write at once."""
        return self.tables == "rest" and self.vectors == "server"


def choose(settings: Settings) -> Choice:
    """The stores in use.

    Raises:
        UsageError: what was chosen does not go together.
    """
    chosen, full = settings.stores, settings.profile == "full"
    choice = Choice(
        frames=chosen.frames or ("kafka" if full else "spool"),
        tables=chosen.tables or ("rest" if full else "sqlite"),
        vectors=chosen.vectors or ("server" if full else "lite"),
        sql=chosen.sql or ("presto" if full else "duckdb"),
    )
    if choice.sql == "presto" and choice.tables != "rest":
        raise UsageError(
            "Presto reads tables of a REST catalogue alone; set stores.tables to rest, or stores.sql to duckdb"
        )
    return choice


def find_layout(settings: Settings) -> Layout:
    """Where the local stack lies and listens."""
    chosen = settings.stack
    data, cache = chosen.data or settings.home / "stack", chosen.cache or find_cache()
    return Layout(data, cache, chosen.first_port, chosen.password)


def open_tables(settings: Settings) -> IcebergTables:
    """The tables alone: reading them needs no lock."""
    # A retry that helps is nobody's business, one that does not ends in an error that says all.
    set_on_retry_hooks([])
    tables = _open_rest_tables(settings) if choose(settings).tables == "rest" else _open_sqlite_tables(settings)
    tables.create_missing()
    return tables


def _open_rest_tables(settings: Settings) -> IcebergTables:
    # The catalogue's libraries take seconds to load: help and wrong use must not wait for them.
    from pipeline.store.catalog_rest import open_rest_catalog  # noqa: PLC0415
    from pipeline.store.tables_iceberg import IcebergTables  # noqa: PLC0415

    layout, endpoint = find_layout(settings), settings.catalog.s3_endpoint
    catalog = open_rest_catalog(
        settings.catalog.uri or f"http://127.0.0.1:{layout.port('catalog')}",
        settings.catalog.warehouse or f"file://{layout.warehouse.absolute()}",
        # Without a region pyiceberg asks Amazon for the bucket's, wherever the bucket is.
        {"s3.endpoint": endpoint, "s3.region": settings.catalog.s3_region} if endpoint else {},
    )
    return IcebergTables(catalog, settings.stores.namespace)


def _open_sqlite_tables(settings: Settings) -> IcebergTables:
    from pipeline.store.catalog_sqlite import open_sqlite_catalog  # noqa: PLC0415 - as above
    from pipeline.store.tables_iceberg import IcebergTables  # noqa: PLC0415 - as above

    home = settings.home
    try:
        return IcebergTables(open_sqlite_catalog(home / "catalog.db", home / "warehouse"), settings.stores.namespace)
    except OSError as error:
        raise TransientError(
            f"cannot open the tables in {home}: {error.strerror or error}; set ODDFRAME_HOME to a directory"
        ) from error


def open_vectors(settings: Settings) -> VectorStore:
    """The vectors of the reference set in use."""
    reference_set = settings.search.reference_set
    if choose(settings).vectors == "server":
        # Commands that only read tables must not wait for the vector client to load.
        from pipeline.store.milvus_server import open_server  # noqa: PLC0415

        milvus, layout = settings.milvus, find_layout(settings)
        token = milvus.token.get_secret_value() or ("" if milvus.uri else layout.milvus_token)
        uri = milvus.uri or f"http://127.0.0.1:{layout.port('milvus')}"
        return open_server(uri, token, reference_set, settings.stores.namespace)
    from pipeline.store.milvus_lite import open_lite  # noqa: PLC0415

    return open_lite(settings.home / "vectors.db", reference_set)


def open_models(settings: Settings) -> LocalOriginals:
    """Models of fields, by content."""
    return LocalOriginals(settings.embed.model_root or settings.home / "models")


def open_originals(settings: Settings) -> TieredOriginals:
    """Hot copies under the home, old ones in the archive: a directory, or a bucket that nobody is asked of yet."""
    chosen, hot = settings.archive, LocalOriginals(settings.home / "originals")
    if chosen.s3_uri is None:
        return TieredOriginals(hot, LocalOriginals(chosen.root or settings.home / "archive"))
    from pipeline.store.originals_s3 import S3Connection, S3Originals  # noqa: PLC0415 - most homes have no bucket

    connection = S3Connection(
        uri=chosen.s3_uri,
        endpoint=chosen.s3_endpoint,
        region=chosen.s3_region,
        access_key=chosen.s3_access_key,
        secret_key=chosen.s3_secret_key,
    )
    return TieredOriginals(hot, S3Originals(connection, settings.home / "fetched", chosen.s3_cache_bytes))


def open_sql(settings: Settings) -> tuple[SqlEngine, SqlCatalog]:
    """The SQL engine over the tables, and the named views and queries."""
    choice, catalog = choose(settings), load_queries()
    tables = open_tables(settings)
    if choice.sql == "presto":
        return _open_presto(settings, tables, catalog), catalog
    # The engine is loaded by those who ask questions alone.
    from pipeline.store.sql_duckdb import DuckDbSql  # noqa: PLC0415
    from pipeline.store.sql_history import TableHistory  # noqa: PLC0415

    def scan(table: str, columns: tuple[str, ...] | None, as_of: int | None) -> pa.Table:
        return tables.scan(table, columns, as_of=as_of)

    return DuckDbSql(scan, catalog, history=TableHistory(tables.raw)), catalog


def _open_presto(settings: Settings, tables: IcebergTables, catalog: SqlCatalog) -> PrestoSql:
    from pipeline.store.sql_history import TableHistory  # noqa: PLC0415 - as for the other engine
    from pipeline.store.sql_presto import PrestoSql  # noqa: PLC0415
    from pipeline.store.sql_presto_client import PrestoServer  # noqa: PLC0415

    presto = settings.presto
    place = urlsplit(presto.uri or f"http://127.0.0.1:{find_layout(settings).port('presto')}")
    server = PrestoServer(
        host=place.hostname or "",
        port=place.port or (443 if place.scheme == "https" else 8080),
        user=presto.user,
        catalog=presto.catalog,
        schema=settings.stores.namespace,
        scheme=place.scheme,
    )
    return PrestoSql(server, catalog, history=TableHistory(tables.raw), seconds=presto.seconds)


def load_queries() -> SqlCatalog:
    """The named views and queries of this installation."""
    from pipeline.store.sql_catalog import SqlCatalog, find_sql_directory  # noqa: PLC0415 - as for the engine

    return SqlCatalog.load(find_sql_directory())


def find_kafka(settings: Settings) -> KafkaConnection:
    """Where Kafka is and who we are to it.

    Raises:
        UsageError: the settings contradict each other.
    """
    from pipeline.source.connection import KafkaConnection  # noqa: PLC0415 - the client loads slowly

    kafka = settings.kafka
    return KafkaConnection(
        bootstrap=kafka.bootstrap or f"127.0.0.1:{find_layout(settings).port('kafka')}",
        protocol=kafka.protocol,
        mechanism=kafka.mechanism,
        user=kafka.user,
        password=kafka.password,
        ca_file=kafka.ca_file,
    )


def ensure_topic(connection: KafkaConnection, topic: str, partitions: int) -> None:
    """Make a topic for frames where it is not there.

    Raises:
        UsageError: the name cannot be one, or we may not.
        TransientError: the cluster does not answer.
    """
    from pipeline.source.topics import LIMIT, create_topic  # noqa: PLC0415 - as above

    create_topic(connection, topic, partitions, {LIMIT: str(_LARGEST_MESSAGE)})


@contextmanager
def open_log(settings: Settings, topic: str) -> Iterator[KafkaLog | None]:
    """A topic to be read beside its group; None where there is none of this name (any more).

    Raises:
        UsageError: credentials are refused.
        TransientError: the cluster does not answer.
    """
    from pipeline.source.kafka_log import KafkaLog  # noqa: PLC0415 - as above
    from pipeline.source.topics import NoTopicError  # noqa: PLC0415

    try:
        log = KafkaLog(find_kafka(settings), topic)
    except NoTopicError:
        yield None
        return
    with closing(log):
        yield log


def name_dead_letters(topic: str) -> str:
    """The topic that the messages of another one go to where they gave no frame."""
    return f"{topic}-dead"


def find_claim_directory(settings: Settings) -> Path:
    """Where files are kept that are sent as claim checks."""
    return settings.kafka.claim_directory or settings.home / "claims"


def find_claim_roots(settings: Settings) -> tuple[Path, ...]:
    """Where claim checks may point to."""
    return settings.kafka.claim_roots or (find_claim_directory(settings),)
