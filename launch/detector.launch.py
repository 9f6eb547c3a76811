"""The detector, the budget monitor and a viewer, in an environment that keeps images from getting lost between them."""

from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from trt_perception.dds_environment import with_dds_variables
from trt_perception.resources import share_directory

FILES_CHOICE = "empty: as the parameter file says"

ARGUMENTS = (
    DeclareLaunchArgument(
        "image_topic",
        default_value="/camera/image_raw",
        description="the camera's image topic; a relative name goes below the namespace",
    ),
    DeclareLaunchArgument(
        "model", default_value="", description=f"model file, artifact or shipped model; {FILES_CHOICE}"
    ),
    DeclareLaunchArgument("backend", default_value="", description=f"NAME[:DEVICE][:PRECISION]; {FILES_CHOICE}"),
    DeclareLaunchArgument(
        "params_file",
        default_value=str(share_directory() / "config" / "detector.yaml"),
        description="parameters of both nodes",
    ),
    DeclareLaunchArgument(
        "control_rate_hz",
        default_value="",
        description=f"rate of the control loop; {FILES_CHOICE} (50 in the shipped one)",
    ),
    DeclareLaunchArgument(
        "camera_names",
        default_value="",
        description="several cameras on one model, as front,rear: they come in on front/image and rear/image; "
        f"{FILES_CHOICE}, one on image_topic in the shipped one",
    ),
    DeclareLaunchArgument("namespace", default_value="", description="namespace of all nodes"),
    DeclareLaunchArgument(
        "image_transport",
        default_value="",
        choices=["", "raw", "compressed"],
        description=f"how images come; {FILES_CHOICE}",
    ),
    DeclareLaunchArgument(
        "autostart",
        default_value="",
        choices=["", "true", "false"],
        description=f"false under a lifecycle manager; {FILES_CHOICE}",
    ),
    DeclareLaunchArgument(
        "use_sim_time", default_value="", choices=["", "true", "false"], description=f"use /clock; {FILES_CHOICE}"
    ),
    DeclareLaunchArgument(
        "rviz", default_value="false", choices=["true", "false"], description="start rviz2 with config/detector.rviz"
    ),
    DeclareLaunchArgument(
        "foxglove",
        default_value="false",
        choices=["true", "false"],
        description="start foxglove_bridge, for Foxglove with config/foxglove_layout.json",
    ),
)


def _nodes(context: LaunchContext) -> list[Action]:
    argument = {entry.name: LaunchConfiguration(entry.name).perform(context) for entry in ARGUMENTS}
    # What is left empty is not passed on, and so leaves the parameter file's value alone.
    given = {name: text for name, text in argument.items() if text}
    both = {"use_sim_time": given["use_sim_time"] == "true"} if "use_sim_time" in given else {}
    detector: dict[str, object] = {name: given[name] for name in ("model", "image_transport") if name in given}
    if "backend" in given:
        detector["backends"] = [given["backend"]]
    if "autostart" in given:
        detector["autostart"] = given["autostart"] == "true"
    monitor: dict[str, object] = {}
    if "control_rate_hz" in given:
        monitor["control_rate_hz"] = float(given["control_rate_hz"])
    if "camera_names" in given:
        names = [name.strip() for name in given["camera_names"].split(",")]
        detector["camera_names"] = names
        monitor["latency_topics"] = [f"{name}/inference_latency" for name in names]
    common = {
        "package": "trt_perception",
        "namespace": argument["namespace"],
        "output": "screen",
        "env": with_dds_variables(context.environment, share_directory() / "config"),
        "respawn": True,
        "respawn_delay": 0.5,
    }
    return [
        Node(
            executable="detector_node",
            name="detector",
            parameters=[argument["params_file"], {**both, **detector}],
            remappings=[("image", argument["image_topic"])],
            **common,
        ),
        Node(
            executable="budget_monitor_node",
            name="budget_monitor",
            parameters=[argument["params_file"], {**both, **monitor}],
            **common,
        ),
    ]


def _viewers(context: LaunchContext) -> list[Action]:
    argument = {entry.name: LaunchConfiguration(entry.name).perform(context) for entry in ARGUMENTS}
    config = share_directory() / "config"
    # A viewer that is closed stays closed, and one that is not installed ends the launch with its package's name.
    common = {
        "output": "screen",
        "namespace": argument["namespace"],
        "env": with_dds_variables(context.environment, config),
        "parameters": [{"use_sim_time": argument["use_sim_time"] == "true"}],
    }
    viewers = {
        "rviz": {
            "package": "rviz2",
            "executable": "rviz2",
            "arguments": ["-d", str(config / "detector.rviz")],
            # The configuration's absolute names go below the namespace.
            "remappings": [("/annotated_image", "annotated_image"), ("/camera/image_raw", argument["image_topic"])],
        },
        "foxglove": {"package": "foxglove_bridge", "executable": "foxglove_bridge"},
    }
    return [Node(**common, **viewer) for name, viewer in viewers.items() if argument[name] == "true"]


def generate_launch_description() -> LaunchDescription:
    """Called by `ros2 launch`."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=_nodes), OpaqueFunction(function=_viewers)])
