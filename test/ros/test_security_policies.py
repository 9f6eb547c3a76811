"""The SROS 2 policies grant what the running nodes have, no less and no more; and no node starts without the security
that it was told to have."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed", exc_type=ImportError)

from test.ros.graph import Graph
from trt_perception.resources import share_directory

POLICIES = share_directory() / "config" / "security" / "policies"
NODES = {
    "detector": ("-r", "image:=/camera/image_raw"),
    "budget_monitor": (),
    "camera": ("-r", "image_raw:=/camera/image_raw"),
}


def granted(node: str) -> dict[str, set[str]]:
    """publish, subscribe, reply → full names that the policy of a node allows."""
    (enclave,) = ElementTree.parse(POLICIES / f"{node}.policy.xml").getroot().iter("enclave")
    assert enclave.attrib["path"] == f"/trt_perception/{node}"
    (profile,) = enclave.iter("profile")
    assert profile.attrib == {"ns": "/", "node": node}
    found: dict[str, set[str]] = {"publish": set(), "subscribe": set(), "reply": set()}
    for block in profile:
        ((what, rule),) = block.attrib.items()
        assert rule == "ALLOW"
        for entry in block:
            name = str(entry.text).replace("~", f"/{node}", 1)
            assert name.startswith("/") and name not in found[what] and "*" not in name
            found[what].add(name)
    return found


def used(graph: Graph, node: str) -> dict[str, set[str]]:
    """The same, of the running node."""
    client = graph.node
    assert client.get_client_names_and_types_by_node(node, "/") == []
    return {
        "publish": {name for name, _ in client.get_publisher_names_and_types_by_node(node, "/")},
        "subscribe": {name for name, _ in client.get_subscriber_names_and_types_by_node(node, "/")},
        "reply": {name for name, _ in client.get_service_names_and_types_by_node(node, "/")},
    }


def test_every_node_has_a_policy() -> None:
    assert {path.name.partition(".")[0] for path in POLICIES.iterdir()} == set(NODES)


@pytest.mark.parametrize("node", NODES)
def test_a_policy_grants_what_its_node_has_and_nothing_else(graph: Graph, node: str) -> None:
    process = graph.start(f"{node}_node", *NODES[node])
    if node == "detector":
        graph.wait_for_state(node, "active")
    graph.wait_until(lambda: node in graph.node.get_node_names(), f"{node} on the graph")
    graph.wait_until(lambda: used(graph, node) == granted(node), f"{used(graph, node)} is {granted(node)}", 20.0)
    assert process.end() == 0


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("with_enclave", [False, True])
def test_a_node_that_cannot_have_the_security_asked_for_does_not_start(
    graph: Graph, tmp_path: Path, node: str, with_enclave: bool
) -> None:
    enclave = tmp_path / "enclaves" / "trt_perception" / node
    if with_enclave:
        # Names as sros2 writes them; their content is nothing that any participant could use.
        enclave.mkdir(parents=True)
        for name in ("identity_ca.cert", "cert", "key", "permissions_ca.cert"):
            (enclave / f"{name}.pem").write_text("nothing")
        for name in ("governance.p7s", "permissions.p7s"):
            (enclave / name).write_text("nothing")
    environment = {
        **graph.environment(),
        "ROS_SECURITY_KEYSTORE": str(tmp_path),
        "ROS_SECURITY_ENABLE": "true",
        "ROS_SECURITY_STRATEGY": "Enforce",
        "ROS_LOG_DIR": str(tmp_path / "logs"),
    }
    command = [sys.executable, "-m", f"trt_perception.ros.{node}_node", "--ros-args"]
    done = subprocess.run(
        [*command, "--enclave", f"/trt_perception/{node}"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert ("cannot start: " in done.stderr and os.fspath(tmp_path) in done.stderr) or "SECURITY" in done.stderr
