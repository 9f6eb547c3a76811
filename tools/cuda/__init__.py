"""Tools for the CUDA kernels that come with the package."""
