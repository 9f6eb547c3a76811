"""What is asked of model files before anything in them is loaded: they are code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trt_perception.errors import ModelFileError


@dataclass(frozen=True)
class Trust:
    """require_checksum: every artifact has a sha256 in its model file. roots: folders in which models, what they
    name, and files named by settings have to lie, symbolic links followed; empty: anywhere.
    """

    require_checksum: bool = False
    roots: tuple[Path, ...] = ()

    @classmethod
    def of(cls, require_checksum: bool, roots: Sequence[str | Path]) -> Trust:
        """From what a user gives: `~` is the home folder, empty texts do not count. Raises ModelFileError."""
        folders = []
        for text in filter(None, map(str, roots)):
            folder = Path(text).expanduser()
            if not folder.is_dir():
                raise ModelFileError(f"the model root {text} is no folder; give one that exists, or none")
            folders.append(folder.resolve())
        return cls(require_checksum, tuple(folders))

    def checked(self, path: Path, what: str) -> Path:
        """The path, without symbolic links where roots are set; raises ModelFileError when it leads out of them.

        what: the path's place, for the message.
        """
        if not self.roots:
            return path
        try:
            real = path.expanduser().resolve()
        except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: symbolic links in a circle, no home
            raise ModelFileError(f"{what}: {str(path)!r} is no path ({error})") from error
        if not any(real.is_relative_to(root) for root in self.roots):
            roots = ", ".join(map(str, self.roots))
            raise ModelFileError(
                f"{what}: {path} leads to {real}, outside of {roots}; put the file there, or add its folder to "
                "model_root"
            )
        return real


ANYTHING = Trust()
