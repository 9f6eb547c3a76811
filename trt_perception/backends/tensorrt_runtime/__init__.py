"""What running an engine takes: the library and its versions, the CUDA side, the engine's manifest and cache."""
