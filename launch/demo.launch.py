"""detector.launch.py with a camera beside it that needs no driver: the built-in moving scene, files or a webcam."""

from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from trt_perception.dds_environment import with_dds_variables
from trt_perception.resources import share_directory

ARGUMENTS = (
    DeclareLaunchArgument("source", default_value="scene", description="folder, video, webcam's number, or `scene`"),
    DeclareLaunchArgument("rate_hz", default_value="30.0", description="camera rate"),
)
# Declared by detector.launch.py: the camera publishes where and as the detector listens.
SHARED = ("image_topic", "image_transport", "namespace", "use_sim_time")


def _camera(context: LaunchContext) -> list[Action]:
    names = (*SHARED, *(entry.name for entry in ARGUMENTS))
    argument = {name: LaunchConfiguration(name).perform(context) for name in names}
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
            namespace=argument["namespace"],
            output="screen",
            parameters=[parameters],
            remappings=[("image_raw", topic), ("image_raw/compressed", f"{topic}/compressed")],
            env=with_dds_variables(context.environment, share_directory() / "config"),
            respawn=True,
            respawn_delay=0.5,
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Called by `ros2 launch`."""
    # By its path rather than a substitution, so that --show-args lists the arguments of both files.
    detector = PythonLaunchDescriptionSource(str(Path(__file__).with_name("detector.launch.py")))
    return LaunchDescription([*ARGUMENTS, IncludeLaunchDescription(detector), OpaqueFunction(function=_camera)])
