#!/bin/sh
# Installs the container engine that the tests run real builds with: podman and runc from the
# distribution. Does nothing when both are installed.
set -eu

if command -v podman >/dev/null 2>&1 && command -v runc >/dev/null 2>&1; then
	exit 0
fi

if ! command -v apt-get >/dev/null 2>&1; then
	echo "install-podman: this system has no apt-get; install podman and runc with its own package manager" >&2
	exit 1
fi

as_root=
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null 2>&1; then
		echo "install-podman: run this as root, or install sudo" >&2
		exit 1
	fi
	as_root=sudo
fi

export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -q
$as_root apt-get install -q -y --no-install-recommends podman runc

command -v podman >/dev/null 2>&1 && command -v runc >/dev/null 2>&1
