#!/usr/bin/env bash
# Writes the man pages of a release into bin/man, compressed. They are dated by SOURCE_DATE_EPOCH. The flags are those of the
# release's binaries, so that what is compiled here is not compiled again there.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${SOURCE_DATE_EPOCH:?is the time of the commit}"
rm -rf bin/man
CGO_ENABLED=0 go run -trimpath -buildvcs=false -tags grpcnotrace,yq_nolua,yq_nohcl,yq_notoml,yq_noini,yq_noshell ./internal/docgen man bin/man
gzip -9 -n bin/man/*.1
