"""Adds the variables of environment.py to `.venv/bin/activate` (bash, zsh and plain sh)."""

from __future__ import annotations

from pathlib import Path

from tools.setup.environment import Variable
from tools.setup.layout import SetupError

START = "# >>> trt_perception: ROS 2 variables >>>"
END = "# <<< trt_perception <<<"
HOOK = "    type _trt_perception_restore > /dev/null 2>&1 && _trt_perception_restore"
DEACTIVATE = "deactivate () {"
DISTRIBUTION_WARNING = (
    "A ROS distribution is sourced in this shell, and its Python packages come before those of .venv: use a new shell."
)


def extend(script: Path, variables: tuple[Variable, ...]) -> None:
    """Rewrites the activation script so that it exports `variables` and that `deactivate` restores the old values.

    Doing it again replaces what was added before. Raises SetupError when the script is not one that `python -m venv`
    wrote.
    """
    text = script.read_text(encoding="utf-8")
    if START in text:
        text = text[: text.index(START)]
    text = text.replace(f"{HOOK}\n", "")
    if text.count(f"{DEACTIVATE}\n") != 1:
        raise SetupError(
            f"{script} holds no line '{DEACTIVATE}', so `deactivate` cannot be made to restore the variables",
            "Run `make clean` and then `make setup`.",
        )
    text = text.replace(f"{DEACTIVATE}\n", f"{DEACTIVATE}\n{HOOK}\n")
    script.write_text(text.rstrip("\n") + "\n\n" + _block(variables), encoding="utf-8")


def _block(variables: tuple[Variable, ...]) -> str:
    lines = [
        START,
        'case "${AMENT_PREFIX_PATH:-}" in',
        f"    */opt/ros/*) echo '{DISTRIBUTION_WARNING}' >&2 ;;",
        "esac",
    ]
    for variable in variables:
        lines += _export(variable)
    lines += ["_trt_perception_restore () {"]
    for variable in variables:
        lines += _restore(variable.name)
    lines += ["    unset -f _trt_perception_restore", "}", END, ""]
    return "\n".join(lines)


def _export(variable: Variable) -> list[str]:
    name, saved = variable.name, _saved(variable.name)
    value = "'" + variable.value.replace("'", "'\\''") + "'"
    assign = f"{name}={value}"
    lines = [f'if [ -n "${{{name}+set}}" ] ; then {saved}="${name}" ; fi']
    if variable.prepends:
        lines += [
            f'case ":${{{name}:-}}:" in',
            f"    *:{value}:*) ;;",
            f'    *) {assign}"${{{name}:+:${name}}}" ;;',
            "esac",
        ]
    else:
        lines += [assign]
    return [*lines, f"export {name}"]


def _restore(name: str) -> list[str]:
    saved = _saved(name)
    return [
        f'    if [ -n "${{{saved}+set}}" ] ; then',
        f'        {name}="${saved}" ; export {name} ; unset {saved}',
        "    else",
        f"        unset {name}",
        "    fi",
    ]


def _saved(name: str) -> str:
    return f"_TRT_PERCEPTION_OLD_{name}"
