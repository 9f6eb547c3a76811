"""The command `trt-perception`: one module a subcommand, listed in main.py."""
