"""detector.launch.py with a camera beside it that needs no driver: the built-in moving scene, files or a webcam."""

import os

from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, ThisLaunchFileDir
from launch_ros.actions import Node

from trt_perception.dds_environment import with_dds_variables
from trt_perception.resources import share_directory

ARGUMENTS = (
    DeclareLaunchArgument("source", default_value="scene", description="folder, video, webcam's number, or `scene`"),
    DeclareLaunchArgument("rate_hz", default_value="30.0", description="camera rate"),
    # The same argument as detector.launch.py has: the camera publishes where the detector listens.
    DeclareLaunchArgument("image_topic", default_value="/camera/image_raw", description="the camera's image topic"),
    DeclareLaunchArgument("image_transport", default_value="", choices=["", "raw", "compressed"]),
    DeclareLaunchArgument("use_sim_time", default_value="false", choices=["true", "false"]),
)


def _camera(context: LaunchContext) -> list[Action]:
    argument = {entry.name: LaunchConfiguration(entry.name).perform(context) for entry in ARGUMENTS}
    topic = argument["image_topic"]
    parameters = {
        "source": argument["source"],
        "rate_hz": float(argument["rate_hz"]),
        "publish_compressed": argument["image_transport"] == "compressed",
        "use_sim_time": argument["use_sim_time"] == "true",
    }
    return [
        Node(
            package="trt_perception",
            executable="camera_node",
            name="camera",
            output="screen",
            parameters=[parameters],
            remappings=[("image_raw", topic), ("image_raw/compressed", f"{topic}/compressed")],
            env=with_dds_variables(os.environ, share_directory() / "config"),
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Called by `ros2 launch`."""
    detector = IncludeLaunchDescription(PythonLaunchDescriptionSource([ThisLaunchFileDir(), "/detector.launch.py"]))
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=_camera), detector])
