#!/bin/sh
# Says in one line what this machine lacks to build gas-rt, before anything is downloaded.
set -u
python="${PYTHON:-python3}"
fail() {
    echo "gas-rt: $1" >&2
    exit 1
}
command -v "$python" >/dev/null 2>&1 ||
    fail "no '$python' found; install Python 3.11 or newer (Debian: apt install python3), or run make PYTHON=/path/to/python"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$("$python" --version) found, 3.11 or newer needed; run make PYTHON=/path/to/python3.11"
"$python" -c 'import ensurepip, venv' >/dev/null 2>&1 ||
    fail "Python's venv module is missing; install it (Debian: apt install python3-venv)"
"$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
    fail "Python.h is missing; install Python's headers (Debian: apt install python3-dev)"
# The build calls the compiler that Python was built with, unless CXX names another.
cxx="${CXX:-$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("CXX") or "c++")')}"
command -v "${cxx%% *}" >/dev/null 2>&1 ||
    fail "no C++ compiler '${cxx%% *}' found; install one (Debian: apt install g++), or set CXX"
