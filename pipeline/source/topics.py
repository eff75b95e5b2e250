"""Topics: made, looked up, asked what they take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn
from uuid import UUID

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import AuthorizationError, KafkaError, TopicAlreadyExistsError

from pipeline.errors import UsageError
from pipeline.source.connection import KafkaConnection, explain, open_admin

LIMIT = "max.message.bytes"
"""The setting that says how large a message a topic takes."""

_NO_LIMIT = 1 << 31


class NoTopicError(UsageError):
    """There is no such topic, or none that this user may see."""


def create_topic(
    connection: KafkaConnection, topic: str, partitions: int = 1, settings: Mapping[str, str] | None = None
) -> bool:
    """Make a topic; returns False where it is there already: then we need not have the right to make one.

    Raises:
        UsageError: the name cannot be one, or we may not.
        TransientError: the cluster does not answer.
    """
    admin = open_admin(connection)
    wanted = {topic: {"num_partitions": partitions, "configs": dict(settings or {})}}
    try:
        if topic in admin.list_topics():
            return False
        admin.create_topics(wanted, wait_for_metadata=True)
    except TopicAlreadyExistsError:
        return False
    except KafkaError as error:
        raise explain(error, f"cannot create topic {topic}") from error
    finally:
        admin.close()
    return True


def ask_limit(connection: KafkaConnection, topic: str) -> int:
    """How many bytes of a message the topic takes; where we may not ask, as many as there can be.

    Raises:
        UsageError: there is no such topic.
        TransientError: the cluster does not answer.
    """
    resource = ConfigResource(ConfigResourceType.TOPIC, topic)
    admin = open_admin(connection)
    try:
        if topic not in admin.list_topics():
            _refuse(topic)
        settings = admin.describe_configs([resource], config_filter="all")["topic"][topic]
        return int(settings[LIMIT]["value"])
    except (AuthorizationError, KeyError):
        return _NO_LIMIT
    except KafkaError as error:
        raise explain(error, f"cannot look up topic {topic}") from error
    finally:
        admin.close()


def require_topic(consumer: KafkaConsumer, topic: str) -> list[TopicPartition]:
    """Every partition of a topic.

    Raises:
        UsageError: there is no such topic that we may see.
        TransientError: the cluster does not answer.
    """
    try:
        numbers = consumer.partitions_for_topic(topic)
    except KafkaError as error:
        raise explain(error, f"cannot look up topic {topic}") from error
    return [TopicPartition(topic, number) for number in sorted(numbers or _refuse(topic))]


def identify_topic(consumer: KafkaConsumer, topic: str) -> UUID | None:
    """What tells a topic from another one of its name, as the consumer heard last; None where nothing does."""
    found: UUID | None = consumer._cluster.topic_id(topic)  # noqa: SLF001 - there is no other way to ask
    return found


def _refuse(topic: str) -> NoReturn:
    raise NoTopicError(f"there is no topic {topic} that this user may use; create it or correct its name")
