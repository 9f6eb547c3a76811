"""What the launch files would start: executables, parameters, remappings, environment. Nothing is started here."""

from __future__ import annotations

import itertools
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

launch = pytest.importorskip("launch", reason="ROS's launch is not installed")
if not hasattr(launch, "LaunchDescription"):
    # This package's own folder of launch files passes for a package of that name where ROS's is missing.
    pytest.skip("ROS's launch is not installed", allow_module_level=True)
pytest.importorskip("launch_ros", reason="launch_ros is not installed")

from ament_index_python.packages import PackageNotFoundError, get_package_prefix  # noqa: E402
from launch.actions import ExecuteLocal  # noqa: E402
from launch.launch_description_sources import PythonLaunchDescriptionSource  # noqa: E402
from launch.utilities import perform_substitutions  # noqa: E402

from trt_perception.dds_environment import dds_variables  # noqa: E402

CHECKOUT = Path(__file__).parents[2]
SHIPPED = str(CHECKOUT / "config" / "detector.yaml")
# Launch argument → package and executable.
VIEWERS = {"rviz": "rviz2", "foxglove": "foxglove_bridge"}
CHOICES = {
    "model": ["", "digits", "7"],
    "backend": ["", "torchscript:cpu"],
    "image_transport": ["", "raw", "compressed"],
    "autostart": ["", "true", "false"],
    "use_sim_time": ["", "true", "false"],
    "control_rate_hz": ["", "100"],
    "namespace": ["", "robot1"],
}


class Started:
    """A node that would have been started, its command line taken apart."""

    def __init__(self, node: Any) -> None:
        self.name = str(node.node_name)
        words = node.process_description.final_cmd
        self.executable = Path(words[0]).name
        self.words = words
        self.environment: dict[str, str] = node.process_description.final_env
        pairs = list(itertools.pairwise(words))
        self.remappings = dict(after.split(":=", 1) for word, after in pairs if word == "-r")
        self.parameter_files = [after for word, after in pairs if word == "--params-file"]

    def own_parameters(self) -> dict[str, Any]:
        """What the launch file sets itself, over the parameter file."""
        # launch_ros writes lists with a tag that ROS's parser passes over, and only PyYAML's full loader knows.
        (of_node,) = yaml.full_load(Path(self.parameter_files[-1]).read_text(encoding="utf-8")).values()
        values: dict[str, Any] = of_node["ros__parameters"] or {}
        return values


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Visits a launch file as `ros2 launch` does, up to the point where processes would start."""
    # launch_ros leaves a file of parameters behind for every node.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    nodes: list[Any] = []

    def prepare_only(node: Any, context: Any) -> None:
        node.prepare(context)
        nodes.append(node)

    monkeypatch.setattr(ExecuteLocal, "execute", prepare_only)

    def visit(entity: Any, context: Any) -> None:
        for child in entity.visit(context) or []:
            visit(child, context)

    def run(file: str, **arguments: str) -> dict[str, Started]:
        nodes.clear()
        context = launch.LaunchContext()
        context.launch_configurations.update(arguments)
        source = PythonLaunchDescriptionSource(str(CHECKOUT / "launch" / file))
        visit(source.get_launch_description(context), context)
        started = [Started(node) for node in nodes]
        return {node.executable: node for node in started}

    return run


def declared(file: str) -> dict[str, str]:
    """Name and default of every argument, those of included files as well; as `ros2 launch --show-args` finds them."""
    context = launch.LaunchContext()
    description = PythonLaunchDescriptionSource(str(CHECKOUT / "launch" / file)).get_launch_description(context)
    return {
        argument.name: perform_substitutions(context, argument.default_value)
        for argument in description.get_launch_arguments()
    }


def test_the_arguments_and_their_defaults() -> None:
    arguments = declared("detector.launch.py")
    assert arguments == {
        "image_topic": "/camera/image_raw",
        "model": "",
        "backend": "",
        "params_file": SHIPPED,
        "control_rate_hz": "",
        "camera_names": "",
        "namespace": "",
        "image_transport": "",
        "autostart": "",
        "use_sim_time": "",
        "rviz": "false",
        "foxglove": "false",
    }
    assert declared("demo.launch.py") == {**arguments, "source": "scene", "rate_hz": "30.0"}
    # What an empty control_rate_hz leaves in force.
    shipped = yaml.safe_load(Path(SHIPPED).read_text(encoding="utf-8"))
    assert shipped["/**/budget_monitor"]["ros__parameters"]["control_rate_hz"] == 50.0


def test_without_arguments_the_parameter_file_alone_speaks(start: Any) -> None:
    nodes = start("detector.launch.py")
    assert sorted(nodes) == ["budget_monitor_node", "detector_node"]
    for node in nodes.values():
        assert node.parameter_files[0] == SHIPPED
        assert node.parameter_files[1:] == [] or node.own_parameters() == {}
    assert nodes["detector_node"].remappings["image"] == "/camera/image_raw"


@pytest.mark.parametrize("file", ["detector.launch.py", "demo.launch.py"])
def test_every_combination_of_arguments_gives_the_nodes_what_was_asked_for(start: Any, file: str) -> None:
    for chosen in itertools.product(*CHOICES.values()):
        given = dict(zip(CHOICES, chosen, strict=True))
        nodes = start(file, **given)
        detector: dict[str, Any] = {name: given[name] for name in ("model", "image_transport") if given[name]}
        monitor: dict[str, Any] = {}
        if given["backend"]:
            detector["backends"] = (given["backend"],)
        if given["autostart"]:
            detector["autostart"] = given["autostart"] == "true"
        if given["control_rate_hz"]:
            monitor["control_rate_hz"] = 100.0
        if given["use_sim_time"]:
            detector["use_sim_time"] = monitor["use_sim_time"] = given["use_sim_time"] == "true"
        assert nodes["detector_node"].own_parameters() == detector, given
        assert nodes["budget_monitor_node"].own_parameters() == monitor, given
        for node in nodes.values():
            assert node.remappings["__ns"] == f"/{given['namespace']}", given


def test_the_monitor_listens_to_every_camera_of_the_detector(start: Any) -> None:
    nodes = start("detector.launch.py", camera_names="front, rear")
    assert nodes["detector_node"].own_parameters() == {"camera_names": ("front", "rear")}
    topics = ("front/inference_latency", "rear/inference_latency")
    assert nodes["budget_monitor_node"].own_parameters() == {"latency_topics": topics}


def test_the_camera_publishes_where_and_as_the_detector_listens(start: Any) -> None:
    nodes = start("demo.launch.py", image_topic="front/image", image_transport="compressed", namespace="robot1")
    camera = nodes["camera_node"]
    assert nodes["detector_node"].remappings["image"] == "front/image"
    assert camera.remappings["image_raw"] == "front/image"
    assert camera.remappings["image_raw/compressed"] == "front/image/compressed"
    assert camera.remappings["__ns"] == "/robot1"
    assert camera.own_parameters()["publish_compressed"] is True
    assert start("demo.launch.py")["camera_node"].own_parameters()["publish_compressed"] is False


def test_a_webcams_number_stays_a_text(start: Any) -> None:
    camera = start("demo.launch.py", source="0", rate_hz="15")["camera_node"]
    assert camera.own_parameters()["source"] == "0"
    assert camera.own_parameters()["rate_hz"] == 15.0


def test_another_parameter_file_takes_the_place_of_the_shipped_one(start: Any, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("/**/detector:\n  ros__parameters: {score_threshold: 0.6}\n", encoding="utf-8")
    for name in ("detector_node", "budget_monitor_node"):
        assert start("detector.launch.py", params_file=str(own))[name].parameter_files[0] == str(own)


@pytest.mark.parametrize("argument", ["image_transport", "autostart", "use_sim_time", "rviz", "foxglove"])
def test_a_value_that_an_argument_does_not_have_is_refused(start: Any, argument: str) -> None:
    with pytest.raises(RuntimeError, match=argument):
        start("detector.launch.py", **{argument: "perhaps"})


def test_every_node_gets_the_dds_profile_and_the_allocator_settings(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = dds_variables(CHECKOUT / "config")
    for name in wanted:
        monkeypatch.delenv(name, raising=False)
    nodes = start("demo.launch.py")
    assert len(nodes) == 3
    for node in nodes.values():
        assert {name: node.environment.get(name) for name in wanted} == wanted
        assert node.environment["PATH"] == os.environ["PATH"]


def test_a_profile_of_the_users_own_is_kept(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", "/elsewhere/mine.xml")
    node = start("detector.launch.py")["detector_node"]
    assert node.environment["FASTRTPS_DEFAULT_PROFILES_FILE"] == "/elsewhere/mine.xml"


@pytest.fixture
def viewers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A prefix with executables of the viewers' names; nothing runs them."""
    for package in VIEWERS.values():
        index = tmp_path / "share" / "ament_index" / "resource_index" / "packages"
        program = tmp_path / "lib" / package / package
        for folder in (index, program.parent):
            folder.mkdir(parents=True, exist_ok=True)
        (index / package).touch()
        program.touch(mode=0o755)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{tmp_path}{os.pathsep}{os.environ.get('AMENT_PREFIX_PATH', '')}")


@pytest.mark.parametrize("file", ["detector.launch.py", "demo.launch.py"])
@pytest.mark.parametrize("argument", VIEWERS)
@pytest.mark.usefixtures("viewers")
def test_a_viewer_is_started_when_it_is_asked_for(start: Any, file: str, argument: str) -> None:
    without = start(file)
    assert not set(VIEWERS.values()) & set(without)
    nodes = start(file, **{argument: "true"})
    assert set(nodes) - set(without) == {VIEWERS[argument]}
    wanted = dds_variables(CHECKOUT / "config")
    assert wanted.items() <= nodes[VIEWERS[argument]].environment.items()


@pytest.mark.usefixtures("viewers")
def test_rviz_shows_the_topics_of_the_namespace(start: Any) -> None:
    rviz = start("detector.launch.py", rviz="true", namespace="robot1", image_topic="eye/image")["rviz2"]
    config = CHECKOUT / "config" / "detector.rviz"
    assert rviz.words[1:3] == ["-d", str(config)]
    assert rviz.remappings["__ns"] == "/robot1"
    # Every topic of the configuration is one that the remappings know.
    displays = yaml.safe_load(config.read_text(encoding="utf-8"))["Visualization Manager"]["Displays"]
    renamed = {display["Topic"]["Value"]: rviz.remappings[display["Topic"]["Value"]] for display in displays}
    assert renamed == {"/annotated_image": "annotated_image", "/camera/image_raw": "eye/image"}


@pytest.mark.parametrize("argument", VIEWERS)
def test_a_viewer_that_is_not_installed_is_named(start: Any, argument: str) -> None:
    try:
        get_package_prefix(VIEWERS[argument])
    except PackageNotFoundError:
        with pytest.raises(PackageNotFoundError, match=VIEWERS[argument]):
            start("detector.launch.py", **{argument: "true"})
    else:
        pytest.skip(f"{VIEWERS[argument]} is installed")


def test_the_namespace_goes_below_the_one_that_an_including_file_pushed(start: Any) -> None:
    pushed = {"ros_namespace": "/fleet"}
    assert start("demo.launch.py", **pushed)["detector_node"].remappings["__ns"] == "/fleet"
    nodes = start("demo.launch.py", **pushed, namespace="robot1")
    assert {node.remappings["__ns"] for node in nodes.values()} == {"/fleet/robot1"}
