"""The three forms of a message: what is written is read, and what a stranger writes is refused by name."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UnreadableFrameError
from pipeline.source.messages import (
    Form,
    MessageRules,
    read_message,
    write_claim,
    write_envelope,
    write_raw,
)

RULES = MessageRules(max_bytes=100_000)
CONTENT = b"SIMPLE  =                    T" + bytes(range(256))
SHA = hashlib.sha256(CONTENT).hexdigest()
B64 = base64.b64encode(CONTENT).decode()

names = st.from_regex(r"[\w äß(){}'\"-]{1,40}\.fits", fullmatch=True).map(str.strip)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
metadata = st.dictionaries(st.from_regex(r"x-[a-z]{1,8}", fullmatch=True), texts, max_size=5)


def refusal(value: bytes | None, headers=(), rules: MessageRules = RULES) -> str:
    with pytest.raises(UnreadableFrameError) as caught:
        read_message(value, headers, rules)
    assert "\n" not in caught.value.reason
    assert len(caught.value.reason) < 400
    return caught.value.code


@given(st.binary(min_size=1, max_size=500), names, metadata)
def test_a_raw_message_comes_back_whole(content, name, declared):
    sent = write_raw(content, name, declared)
    read = read_message(sent.value, sent.headers, RULES)
    assert (read.form, read.payload) == (Form.RAW, content)
    assert (read.name, read.size, dict(read.metadata)) == (name, len(content), declared)
    assert read.frame_id == hashlib.sha256(content).hexdigest()


@given(st.binary(min_size=1, max_size=500), names, metadata)
def test_an_envelope_comes_back_whole_with_and_without_its_headers(content, name, declared):
    sent = write_envelope(content, name, declared)
    for headers in (sent.headers, ()):
        read = read_message(sent.value, headers, RULES)
        assert (read.form, read.payload, read.name) == (Form.ENVELOPE, content, name)
        assert dict(read.metadata) == declared | {"image_format": "FITS"}


@pytest.fixture
def root(tmp_path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    (made / "a b%20ä.fits").write_bytes(CONTENT)
    return made


def claim(path: Path | str, sha: str = SHA, **more: object) -> bytes:
    uri = path if isinstance(path, str) else write_uri(path)
    return json.dumps({"uri": uri, "sha256": sha, **more}).encode()


def write_uri(path: Path) -> str:
    return str(json.loads(write_claim(path, SHA, 1, "n").value)["uri"])


def test_a_claim_check_is_redeemed_below_an_allowed_root(root):
    rules = MessageRules(100_000, (root.parent / "other", root))
    sent = write_claim(root / "a b%20ä.fits", SHA, len(CONTENT), "night 1.fits", {"TELESCOP": "T1"})
    for headers in (sent.headers, ()):
        read = read_message(sent.value, headers, rules, name="n.fits")
        assert (read.form, read.payload) == (Form.CLAIM, CONTENT)
        assert (read.frame_id, read.size) == (SHA, len(CONTENT))
        assert read.name == ("night 1.fits" if headers else "n.fits")
    (root.parent / "link").symlink_to(root)
    assert read_message(claim(root.parent / "link" / "a b%20ä.fits"), (), rules).payload == CONTENT


def test_a_claim_check_outside_its_roots_is_refused(root, tmp_path):
    secret = tmp_path / "secret.fits"
    secret.write_bytes(CONTENT)
    (root / "link.fits").symlink_to(secret)
    (root / "up").symlink_to(tmp_path)
    (tmp_path / "root-of-another").mkdir()
    (tmp_path / "root-of-another" / "a.fits").write_bytes(CONTENT)
    rules = MessageRules(100_000, (root,))
    outside = [
        *(secret, root / ".." / "secret.fits", root / "link.fits", root / "up" / "secret.fits", Path("/etc/passwd")),
        *(tmp_path / "root-of-another" / "a.fits", tmp_path / "no such file", Path("/proc/self/environ")),
    ]
    for path in outside:
        assert refusal(claim("file://" + str(path).replace(" ", "%20")), (), rules) == "claim_outside", path
    assert refusal(claim(f"file://{root}/%2e%2e/secret.fits"), (), rules) == "claim_outside"
    assert refusal(claim(secret)) == "claim_refused"


def test_a_claim_check_of_what_is_no_frame_file_is_refused(root):
    rules = MessageRules(100_000, (root,))
    os.mkfifo(root / "pipe")
    (root / "directory").mkdir()
    (root / "empty").write_bytes(b"")
    (root / "large").write_bytes(bytes(100_001))
    (root / "loop").symlink_to(root / "loop")
    assert refusal(claim(root / "pipe"), (), rules) == "claim_not_a_file"
    assert refusal(claim(root / "directory"), (), rules) == "claim_not_a_file"
    assert refusal(claim(root), (), rules) == "claim_not_a_file"
    assert refusal(claim(root / "loop"), (), rules) == "claim_not_a_file"
    assert refusal(claim(root / ("n" * 300)), (), rules) in {"claim_not_a_file", "claim_missing"}
    assert refusal(claim(root / "gone.fits"), (), rules) == "claim_missing"
    assert refusal(claim(root / "a b%20ä.fits" / "below"), (), rules) == "claim_missing"
    assert refusal(claim(root / "empty"), (), rules) == "empty"
    assert refusal(claim(root / "large"), (), rules) == "too_many_bytes"
    assert refusal(claim(root / "a b%20ä.fits", "0" * 64), (), rules) == "hash_mismatch"


@pytest.mark.parametrize(
    "uri",
    [
        *("http://h/a.fits", "ftp://h/a", "//h/a", "relative/a.fits", "file:a.fits", "file://host/a.fits"),
        *("file:///a?x=1", "file:///a#x", "file:///a%00b", "file://", "", "file://[::1", "data:,x", "s3://b/k"),
    ],
)
def test_a_claim_check_that_is_no_local_file_is_refused(root, uri):
    assert refusal(claim(uri), (), MessageRules(100_000, (root,))) == "bad_claim"


@pytest.mark.parametrize("sha", ["", "0" * 63, "g" * 64, "0" * 65])
def test_a_claim_check_needs_the_hash_of_its_file(root, sha):
    rules = MessageRules(100_000, (root,))
    assert refusal(claim(root / "a b%20ä.fits", sha), (), rules) == "bad_claim"
    assert refusal(json.dumps({"uri": write_uri(root / "a b%20ä.fits")}).encode(), (), rules) == "bad_claim"


def test_a_link_put_in_the_way_after_the_path_was_resolved_is_not_followed(root, tmp_path, monkeypatch):
    (root / "night").mkdir()
    (root / "night" / "f.fits").write_bytes(CONTENT)
    (tmp_path / "f.fits").write_bytes(CONTENT)
    resolve = os.path.realpath

    def swap(path, **options):
        real = resolve(path, **options)
        if str(path).endswith("f.fits"):
            (root / "night").rename(root / "was")
            (root / "night").symlink_to(tmp_path)
        return real

    monkeypatch.setattr("os.path.realpath", swap)
    assert refusal(claim(root / "night" / "f.fits"), (), MessageRules(100_000, (root,))) in {
        "claim_missing",
        "claim_not_a_file",
    }


@pytest.mark.parametrize("begin", [b"SIMPLE  =   T", b"\x1f\x8b\x08rest", b"BZh91AY"])
def test_frames_are_known_by_their_first_bytes(begin):
    read = read_message(begin, (), RULES, name="t-0-7.fits")
    assert (read.form, read.payload, read.name) == (Form.RAW, begin, "t-0-7.fits")


@pytest.mark.parametrize(("data", "file"), [("image_data", "file"), ("data", "filename"), ("content", "name")])
def test_the_fields_of_an_envelope_have_several_names(data, file):
    value = b" \n" + json.dumps({file: "./images/m31dot.fits", data: B64, "image_width": "300", "n": 1.5}).encode()
    read = read_message(value, (), RULES)
    assert (read.name, read.payload) == ("m31dot.fits", CONTENT)
    assert dict(read.metadata) == {"image_width": "300", "n": "1.5"}
    assert read_message(b"\xef\xbb\xbf" + value.strip(), (), RULES).payload == CONTENT


def test_headers_declare_and_a_later_one_wins():
    headers = [("oddframe-name", b"a"), ("filter", b"V"), ("x", None), ("oddframe-name", b"../../b\x1b[1m.fits")]
    read = read_message(CONTENT, headers, RULES)
    assert (read.name, dict(read.metadata)) == ("b_[1m.fits", {"filter": "V"})
    assert refusal(CONTENT, [("oddframe-sha256", b"0" * 64)]) == "hash_mismatch"
    assert read_message(CONTENT, [("oddframe-sha256", SHA.upper().encode())], RULES).frame_id == SHA
    assert read_message(b"whatever", [("oddframe-form", b"raw")], RULES).payload == b"whatever"
    assert refusal(CONTENT, [("oddframe-form", b"tar")]) == "unknown_form"
    assert refusal(CONTENT, [("oddframe-form", b"\xff")]) == "unknown_form"
    assert refusal(CONTENT, [("oddframe-form", b"envelope")]) == "bad_json"


@pytest.mark.parametrize("name", ["", "/", "..", "a/..", "\x00\x01", "\\", ".", "\ud800"])
def test_a_name_that_is_none_is_replaced(name):
    read = read_message(json.dumps({"file": name, "data": B64}).encode(), (), RULES, name="t-0-1")
    assert read.name.strip("_")[:1] not in {".", "/"}
    assert read.name.encode()
    assert 0 < len(read_message(write_raw(CONTENT, "ä" * 900).value, (), RULES).name.encode()) <= 255


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b"\x89PNG\r\n", "unknown_form"),
        (b"[1]", "unknown_form"),
        (b'"text"', "unknown_form"),
        (b"{}", "unknown_form"),
        (b'{"file": "a"}', "unknown_form"),
        (b'{"uri": "file:///a", "data": "QQ=="}', "unknown_form"),
        (b"{", "bad_json"),
        (b'{"data"', "bad_json"),
        (b'{"data": "QQ=="', "bad_json"),
        (b'{"data": "QQ==",}', "bad_json"),
        (b'{"data": "QQ=="} x', "bad_json"),
        (b'{"data": "QQ=="}{"data": "QQ=="}', "bad_json"),
        (b'{"data": "QQ==", "data": "Qg=="}', "bad_json"),
        (b'{"data": "QQ==" "a": 1}', "bad_json"),
        (b'{"data": NaN}', "bad_json"),
        (b'{"data": "\xff"}', "bad_json"),
        (b'{"data": "a\nb"}', "bad_json"),
        (b'{"a": ' + b"9" * 5000 + b', "data": ""}', "bad_json"),
        (b'{"a": ' + b"[" * 15000 + b"]" * 15000 + b"}", "bad_json"),
        (b'{"a": [' + b"1," * 20000 + b"1]}", "bad_json"),
        (b"{" + b",".join(b'"%d":1' % n for n in range(300)) + b"}", "bad_json"),
        (b'{"data": 7}', "bad_envelope"),
        (b'{"data": null}', "bad_envelope"),
        (b'{"data": ["QQ=="]}', "bad_envelope"),
        (b'{"data": ""}', "empty"),
        (b'{"data": "QQ"}', "bad_base64"),
        (b'{"data": "QQ==QQ=="}', "bad_base64"),
        (b'{"data": "Q Q="}', "bad_base64"),
        (b'{"data": "QQ-_"}', "bad_base64"),
        ('{"data": "QQä="}'.encode(), "bad_base64"),
        (b'{"uri": 7, "sha256": "0"}', "bad_claim"),
        (b"SIMPLE  =" + bytes(100_000), "too_many_bytes"),
        (b'{"data": "' + b"A" * 133_344 + b'"}', "too_many_bytes"),
        (b'{"data": "' + b"A" * 300_000 + b'"}', "too_many_bytes"),
    ],
)
def test_what_is_no_message_of_ours_is_refused_by_name(value, code):
    assert refusal(value) == code


def test_an_envelope_at_the_limit_is_read_and_its_base64_may_have_lines():
    content = bytes(100_000)
    assert read_message(write_envelope(content, "n").value, (), RULES).size == 100_000
    lines = base64.encodebytes(CONTENT).decode()
    assert read_message(json.dumps({"data": lines}).encode(), (), RULES).payload == CONTENT


def test_hostile_json_takes_little_memory():
    rules = MessageRules(max_bytes=8_000_000)
    hostile = [
        b'{"a":[' + b"[]," * 2_500_000 + b"[]]}",
        b"{" + b",".join(b'"%x":1' % n for n in range(700_000)) + b"}",
        b'{"a":' * 1_500_000,
    ]
    for value in hostile:
        tracemalloc.start()
        assert refusal(value, (), rules) == "bad_json"
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4 * len(value)


def test_a_declared_claim_is_small():
    assert refusal(b'{"uri": "' + b"a" * 70_000 + b'"}', [("oddframe-form", b"claim")]) == "too_many_bytes"


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda tail: b'{"data": "' + tail))
def test_any_bytes_are_read_or_refused(value):
    try:
        read = read_message(value, (), RULES)
    except UnreadableFrameError:
        return
    assert read.frame_id == hashlib.sha256(read.payload).hexdigest()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["a", "file", "ä", "uri2", "x y"]), json_values), st.booleans(), st.booleans())
def test_any_json_beside_the_data_is_declared_metadata(fields, ascii_only, spaced):
    value = json.dumps({**fields, "data": B64}, ensure_ascii=ascii_only, indent=1 if spaced else None).encode()
    read = read_message(value, (), RULES)
    assert read.payload == CONTENT
    assert set(read.metadata) == set(fields) - {"file"}
