"""The configuration of a standalone Milvus, made from the template in its wheel."""

from __future__ import annotations

import re
import shutil
from typing import Any

import yaml

from pipeline.stack.layout import Layout

_BLANK = re.compile(r"\{\{\s*(\w+)(?:\((\w+)\))?(?::\s*(.*?))?\s*\}\}")
_GRACE_SECONDS = 5
_TICK_MS = 20
_SEGMENT_MB = 128


def make_milvus_ready(layout: Layout) -> None:
    """Write milvus.yaml, etcd.yaml and the settings of its log."""
    etc = layout.place("milvus") / "etc"
    etc.mkdir(parents=True, exist_ok=True)
    layout.render("milvus/etcd.yaml", etc / "etcd.yaml")
    template = (layout.cache / "milvus" / "milvus.yaml.template").read_text(encoding="utf-8")
    (etc / "milvus.yaml").write_text(yaml.safe_dump(fill_template(template, layout)), encoding="utf-8")
    shutil.copy(layout.cache / "milvus" / "glog.conf", etc / "glog.conf")


def fill_template(template: str, layout: Layout) -> dict[str, Any]:
    """Ports and directories of this stack in the template's blanks; elsewhere its defaults, with four exceptions.

    The tick is what a search that must see every row waits for; the default makes it ten times as slow. The interim
    index of fresh rows is approximate. The default grace at the end is half an hour. A segment is written anew whenever
    small ones join it until it is nearly full: of 512 MB that took a core from readers time and again.
    """
    place = layout.place("milvus")
    values = {
        "etcd_port": str(layout.port("etcd")),
        "etcd_data_dir": str(place / "etcd"),
        "local_storage_dir": str(place / "data"),
        "rocksmq_data_dir": str(place / "rocksmq"),
        "system_log_path": str(place / "logs"),
        "proxy_port": str(layout.port("milvus")),
        "authorization_enabled": str(layout.password is not None).lower(),
    }
    values |= {
        f"{name}_port": str(layout.port(f"milvus_{name}"))
        for name in ("proxy_internal", "root_coord", "query_coord", "query_node", "index_coord", "index_node")
    }
    values |= {f"{name}_port": str(layout.port(f"milvus_{name}")) for name in ("data_coord", "data_node")}
    filled: dict[str, Any] = yaml.safe_load(_BLANK.sub(lambda m: values.get(m[1], m[3] or ""), template))
    filled["proxy"]["timeTickInterval"] = _TICK_MS
    filled["queryNode"]["segcore"]["interimIndex"]["enableIndex"] = False
    filled["common"]["gracefulStopTimeout"] = _GRACE_SECONDS
    filled["dataCoord"]["segment"]["maxSize"] = _SEGMENT_MB
    for section in ("rootCoord", "proxy", "queryCoord", "queryNode", "indexNode", "dataCoord", "dataNode"):
        filled[section]["ip"] = "127.0.0.1"
    return filled
