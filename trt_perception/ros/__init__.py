"""The ROS 2 side: nodes, messages, parameters, diagnostics. Nothing below this folder knows of ROS."""
