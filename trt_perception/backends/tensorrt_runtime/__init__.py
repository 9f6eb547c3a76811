"""What running an engine takes: library and versions, CUDA through pycuda, the engine's manifest and cache."""
