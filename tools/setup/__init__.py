"""Makes `.venv`: ROS 2 from Python wheels, generated messages and this package, on a machine without ROS.

Only the standard library is used, because it runs on the system's Python before anything is installed.
"""
