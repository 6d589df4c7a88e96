# Sourced by run_all.sh and run_tests.sh: leaves in $PYTHON an interpreter that has requirements.txt installed.
# CAIRN_PYTHON=python3 uses that interpreter as it is instead of .venv, for environments of one's own.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" NO_ALBUMENTATIONS_UPDATE=1

prepare_environment() {
    if [ -n "${CAIRN_PYTHON:-}" ]; then
        PYTHON=$CAIRN_PYTHON
        command -v "$PYTHON" > /dev/null || { echo "CAIRN_PYTHON=$PYTHON is no command" >&2; exit 2; }
        return
    fi
    PYTHON=.venv/bin/python
    local wanted
    wanted="$(cksum < requirements.txt) $PWD"
    [ -x "$PYTHON" ] && [ "$(cat .venv/requirements.cksum 2> /dev/null)" = "$wanted" ] && return
    local base
    for base in python3.13 python3.12 python3.11 python3 none; do
        "$base" -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2> /dev/null && break
    done
    [ "$base" = none ] && { echo "Python 3.11 to 3.13 with its venv module is needed: install it and try again" >&2; exit 2; }
    echo "installing requirements.txt into .venv (once; several GB with the GPU libraries)" >&2
    [ -x "$PYTHON" ] || "$base" -m venv .venv || exit 2
    "$PYTHON" -m pip install --quiet --disable-pip-version-check -r requirements.txt 2> .venv/install.log \
        || { cat .venv/install.log >&2; echo "installation failed: the lines above say why" >&2; exit 2; }
    pwd > "$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/cairn.pth"  # python stages/10_… finds pipeline/
    echo "$wanted" > .venv/requirements.cksum
}
prepare_environment
