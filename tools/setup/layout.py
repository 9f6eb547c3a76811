"""Where everything lies in a checkout and in its virtual environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PACKAGE = "trt_perception"
EXECUTABLES = ("trt-perception", "detector_node", "camera_node", "budget_monitor_node")
MESSAGE_PACKAGES = ("vision_msgs", "pal_statistics_msgs")


class SetupError(Exception):
    """A set-up step cannot be done.

    Attributes:
        remedy: what the user can do about it, one or more whole sentences.
    """

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True)
class Checkout:
    """One checkout of this repository; every path below it is absolute."""

    root: Path

    @property
    def venv(self) -> Path:
        """The virtual environment that the set-up makes."""
        return self.root / ".venv"

    @property
    def python(self) -> Path:
        """The interpreter of the virtual environment."""
        return self.venv / "bin" / "python"

    @property
    def libraries(self) -> Path:
        """The folder of the shared libraries of ROS and of the generated messages."""
        return self.venv / "lib"

    @property
    def stamps(self) -> Path:
        """One file for each finished step (stamps.py)."""
        return self.venv / ".setup" / "stamps"

    @property
    def work(self) -> Path:
        """Intermediate files of a step that is running."""
        return self.venv / ".setup" / "work"

    @property
    def log(self) -> Path:
        """Everything that the commands of the set-up printed."""
        return self.venv / "setup.log"

    @property
    def requirements(self) -> Path:
        """The folder of the lock files."""
        return self.root / "requirements"

    @property
    def interfaces(self) -> Path:
        """The folder of the message packages that have no wheels."""
        return self.root / "interfaces"

    def site_packages(self) -> Path:
        """Returns the folder of installed Python packages; raises SetupError when there is no environment yet."""
        found = sorted(self.libraries.glob("python3.*/site-packages"))
        if len(found) != 1:
            raise SetupError(
                f"{self.libraries} holds {len(found)} python3.*/site-packages folders, expected 1",
                "Run `make clean` and then `make setup`.",
            )
        return found[0]


def this_checkout() -> Checkout:
    """Returns the checkout that this file belongs to."""
    return Checkout(Path(__file__).resolve().parents[2])
