"""The detector and the budget monitor, in an environment that keeps images from getting lost between processes."""

import os

from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from trt_perception.dds_environment import with_dds_variables
from trt_perception.resources import share_directory

ARGUMENTS = (
    DeclareLaunchArgument("image_topic", default_value="/camera/image_raw", description="the camera's image topic"),
    DeclareLaunchArgument("model", default_value="", description="overrides `model` of the parameter file"),
    DeclareLaunchArgument(
        "backend", default_value="", description="NAME[:DEVICE][:PRECISION], put first in `backends`"
    ),
    DeclareLaunchArgument(
        "params_file",
        default_value=str(share_directory() / "config" / "detector.yaml"),
        description="parameters of both nodes",
    ),
    DeclareLaunchArgument("control_rate_hz", default_value="50.0", description="rate of the control loop"),
    DeclareLaunchArgument("namespace", default_value="", description="namespace of both nodes"),
    DeclareLaunchArgument(
        "image_transport", default_value="", choices=["", "raw", "compressed"], description="how images come"
    ),
    DeclareLaunchArgument(
        "autostart", default_value="", choices=["", "true", "false"], description="false under a lifecycle manager"
    ),
    DeclareLaunchArgument("use_sim_time", default_value="false", choices=["true", "false"], description="use /clock"),
)


def _nodes(context: LaunchContext) -> list[Action]:
    argument = {entry.name: LaunchConfiguration(entry.name).perform(context) for entry in ARGUMENTS}
    sim_time = {"use_sim_time": argument["use_sim_time"] == "true"}
    # An argument that is left empty leaves the parameter file's value alone.
    given: dict[str, object] = {name: argument[name] for name in ("model", "image_transport") if argument[name]}
    if argument["backend"]:
        given["backends"] = [argument["backend"]]
    if argument["autostart"]:
        given["autostart"] = argument["autostart"] == "true"
    common = {
        "package": "trt_perception",
        "namespace": argument["namespace"],
        "output": "screen",
        "env": with_dds_variables(os.environ, share_directory() / "config"),
        "respawn": True,
        "respawn_delay": 1.0,
    }
    return [
        Node(
            executable="detector_node",
            name="detector",
            parameters=[argument["params_file"], given, sim_time],
            remappings=[("image", argument["image_topic"])],
            **common,
        ),
        Node(
            executable="budget_monitor_node",
            name="budget_monitor",
            parameters=[argument["params_file"], {"control_rate_hz": float(argument["control_rate_hz"])}, sim_time],
            **common,
        ),
    ]


def generate_launch_description() -> LaunchDescription:
    """Called by `ros2 launch`."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=_nodes)])
