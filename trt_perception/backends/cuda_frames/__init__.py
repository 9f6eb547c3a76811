"""Frames from camera bytes to boxes by kernels of ours, around the network of any library on an NVIDIA GPU."""
