#!/bin/sh
# Installs this checkout and what it needs into a virtual environment: install.sh DIRECTORY. The Dockerfile runs it, and so does a test.
# Everything that is fetched has a hash in a lock file, what builds the wheel included.
set -eu
target=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1
awk '/^(hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers)==/ { wanted = 1 } wanted; !/\\$/ { wanted = 0 }' requirements-dev.lock > "$scratch/build.lock"
python3 -m venv "$scratch/build"
"$scratch/build/bin/pip" install --quiet --require-hashes --only-binary :all: --requirement "$scratch/build.lock"
"$scratch/build/bin/pip" wheel --quiet --no-deps --no-build-isolation --no-index --wheel-dir "$scratch" .
python3 -m venv "$target"
"$target/bin/pip" install --quiet --require-hashes --only-binary :all: --requirement requirements.lock
"$target/bin/pip" install --quiet --no-deps --no-index "$scratch"/sre_domain-*.whl
"$target/bin/python" -m compileall -q "$target/lib" # nothing can be written where the image runs
"$target/bin/pip" uninstall --quiet --yes pip
