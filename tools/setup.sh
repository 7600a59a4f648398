#!/usr/bin/env bash
# Installs what the project needs beside Go and Node, where it can (Debian as
# root), and says what to install where it cannot.
#
#   setup.sh build   a C compiler, npm packages
#   setup.sh run     the same, and a database to run on
#   setup.sh test    the same, and Chromium, dig, kdig and redis-server
set -euo pipefail
cd "$(dirname "$0")/.."
want=${1:-run}
missing=() why=()

need() { # need PACKAGE "what for"
	missing+=("$1")
	why+=("  $1: $2")
}

command -v go >/dev/null || { echo "muster: Go 1.26 or newer is needed: https://go.dev/dl" >&2; exit 1; }
command -v npm >/dev/null || { echo "muster: Node.js 20 or newer with npm is needed: https://nodejs.org" >&2; exit 1; }

cc=$(go env CC)
command -v "${cc%% *}" >/dev/null || need gcc "a C compiler, for H3 and for the race detector"
if [ "$want" != build ] && [ -z "${MUSTER_DATABASE_URL:-}" ] && ! command -v cockroach >/dev/null &&
	! command -v initdb >/dev/null && ! compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; then
	need postgresql "the database (or set MUSTER_DATABASE_URL, or put cockroach on PATH)"
fi
if [ "$want" = test ] && ! command -v chromium >/dev/null && [ -z "${MUSTER_CHROMIUM:-}" ]; then
	need chromium "the browser that the end-to-end tests drive (or set MUSTER_CHROMIUM to one)"
fi
if [ "$want" = test ]; then
	command -v dig >/dev/null || need bind9-dnsutils "dig, which the tests of the name server ask with"
	command -v kdig >/dev/null || need knot-dnsutils "kdig, likewise"
	command -v redis-server >/dev/null || need redis-server "which the benchmark of moving points is tested beside"
fi

if [ ${#missing[@]} -gt 0 ]; then
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
		echo "muster: installing ${missing[*]}" >&2
		export DEBIAN_FRONTEND=noninteractive
		apt-get update -qq
		apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
	else
		printf 'muster: please install first:\n' >&2
		printf '%s\n' "${why[@]}" >&2
		echo "on Debian or Ubuntu: sudo apt-get install ${missing[*]}" >&2
		exit 1
	fi
fi

# npm ci only when the lock file has changed since the last one.
stamp=web/node_modules/.muster-lock
if ! cmp -s web/package-lock.json "$stamp"; then
	echo "muster: installing the web packages" >&2
	npm --prefix web ci --no-audit --no-fund --loglevel=error >/dev/null
	cp web/package-lock.json "$stamp"
fi
