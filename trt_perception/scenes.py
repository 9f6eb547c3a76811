"""Pictures of handwritten digits on photographs, with their true boxes: the demo's data and its camera.

Everything is a pure function of its seed, so that a test, a benchmark and a demo see the same pictures everywhere.
"""

from __future__ import annotations

from trt_perception.heldout import heldout_data, heldout_scenes
from trt_perception.moving_scene import MovingScene
from trt_perception.scene_composer import DigitSet, Scene, SceneStyle, compose_scene

__all__ = ["DigitSet", "MovingScene", "Scene", "SceneStyle", "compose_scene", "heldout_data", "heldout_scenes"]
