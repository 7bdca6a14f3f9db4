#!/usr/bin/env bash
# The book as a site: guides, API and command line as pages that need no network. Fails for broken links and for
# public names without docstrings.
# Usage: scripts/build_docs.sh [--out DIR]      (default: build-docs)
# PYTHON names the interpreter to use; it needs pip install '.[docs]'.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
python=$(find_python) || die "Python 3.10 or newer is needed"
"$python" -c 'import pdoc, tvmconv' 2>/dev/null || die "$python lacks tvmconv or pdoc: pip install '.[docs]'"
exec "$python" "$(dirname "${BASH_SOURCE[0]}")/book/build.py" "$@"
