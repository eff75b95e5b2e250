"""Secrets that are planted in the settings are in nothing that oddframe writes or says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lake_tools import oddframe

SAMPLES = Path(__file__).parents[2] / "sample_fits" / "night"
PLANTED = {
    "ODDFRAME_KAFKA__PASSWORD": "planted-kafka-9d1c",
    "ODDFRAME_MILVUS__TOKEN": "root:planted-milvus-77aa",
    "ODDFRAME_STACK__PASSWORD": "planted-stack-51fe",
    "ODDFRAME_ARCHIVE__S3_ACCESS_KEY": "planted-key-0b3d",
    "ODDFRAME_ARCHIVE__S3_SECRET_KEY": "planted-s3-e8c2",
}
SASL = {
    "ODDFRAME_KAFKA__PROTOCOL": "SASL_SSL",
    "ODDFRAME_KAFKA__MECHANISM": "PLAIN",
    "ODDFRAME_KAFKA__USER": "somebody",
    "ODDFRAME_KAFKA__BOOTSTRAP": "127.0.0.1:9",
}
# Nobody listens there: every error text of a client that was given a secret is made.
NOBODY = {
    "ODDFRAME_MILVUS__URI": "http://127.0.0.1:9",
    "ODDFRAME_CATALOG__URI": "http://127.0.0.1:9",
    "ODDFRAME_ARCHIVE__S3_URI": "s3://bucket/prefix",
    "ODDFRAME_ARCHIVE__S3_ENDPOINT": "http://127.0.0.1:9",
}
COMMANDS = [
    (("ingest", SAMPLES, "--json"), {}),
    (("doctor",), NOBODY),
    (("archive",), {"ODDFRAME_ARCHIVE__AFTER_DAYS": "0"} | NOBODY),
    (("watch", "--topic", "t", "--once"), {"ODDFRAME_PROFILE": "full"} | NOBODY),
    (("produce", SAMPLES, "--topic", "t"), {}),
    (("verify",), {"ODDFRAME_STORES__VECTORS": "server"} | NOBODY),
    (("sql", "select count(*) from frames"), {}),
]


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> tuple[Path, list[str]]:
    home = tmp_path_factory.mktemp("secrets") / "home"
    said = []
    for arguments, more in COMMANDS:
        # A cluster that is away is waited for; these settings are wrong before that.
        given = PLANTED | (SASL if arguments[0] in ("watch", "produce") else {}) | more
        if arguments[0] == "watch":
            given["ODDFRAME_KAFKA__CA_FILE"] = str(home / "nowhere.pem")
        done = oddframe(*arguments, home=home, **given)
        said.append(done.stdout + done.stderr)
    return home, said


@pytest.mark.parametrize("secret", PLANTED.values())
def test_a_planted_secret_is_nowhere(told, secret):
    home, said = told
    secret = secret.removeprefix("root:")
    assert not any(secret in text for text in said)
    files = [path for path in home.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert not [path for path in files if secret.encode() in path.read_bytes()]


def test_the_commands_did_what_they_could(told):
    _, said = told
    assert '"status"' in said[0]
    assert "127.0.0.1:9" in said[2]
    assert "certificates" in said[3]
