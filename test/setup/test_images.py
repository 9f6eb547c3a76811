from __future__ import annotations

import textwrap

import pytest

from test.setup.processes import private_domain, result, started

IMAGES = 90
RATE_HZ = 30

CAMERA = textwrap.dedent(
    """
    import array
    import sys
    import time
    import rclpy
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image

    count, rate_hz = int(sys.argv[1]), float(sys.argv[2])
    rclpy.init()
    node = rclpy.create_node("camera")
    qos = QoSProfile(depth=30, reliability=ReliabilityPolicy.BEST_EFFORT)
    publisher = node.create_publisher(Image, "image", qos)
    image = Image(width=640, height=480, encoding="bgr8", step=3 * 640, data=array.array("B", bytes(3 * 640 * 480)))
    while publisher.get_subscription_count() == 0:
        time.sleep(0.05)
    time.sleep(0.5)
    start_s = time.monotonic()
    for index in range(count):
        image.header.frame_id = str(index)
        publisher.publish(image)
        time.sleep(max(0.0, start_s + (index + 1) / rate_hz - time.monotonic()))
    time.sleep(5.0)
    """
)

VIEWER = textwrap.dedent(
    """
    import json
    import sys
    import time
    import rclpy
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image

    count = int(sys.argv[1])
    rclpy.init()
    node = rclpy.create_node("viewer")
    received = []

    def keep(image):
        received.append((image.header.frame_id, len(image.data)))

    qos = QoSProfile(depth=30, reliability=ReliabilityPolicy.BEST_EFFORT)
    node.create_subscription(Image, "image", keep, qos)
    deadline = time.monotonic() + 40
    quiet_since = time.monotonic()
    seen = 0
    while len(received) < count and time.monotonic() < deadline:
        rclpy.spin_once(node, timeout_sec=0.1)
        if len(received) != seen:
            seen, quiet_since = len(received), time.monotonic()
        if seen and time.monotonic() - quiet_since > 2:
            break
    print(json.dumps(received))
    node.destroy_node()
    rclpy.shutdown()
    """
)


# One second of images may wait, so that a busy machine that lets the viewer sleep does not count as loss on the way.
@pytest.mark.slow
def test_no_best_effort_image_gets_lost_between_processes() -> None:
    variables = private_domain()
    with (
        started(VIEWER, str(IMAGES), variables=variables) as viewer,
        started(CAMERA, str(IMAGES), str(RATE_HZ), variables=variables),
    ):
        received = result(viewer)
    assert received == [[str(index), 3 * 640 * 480] for index in range(IMAGES)]
