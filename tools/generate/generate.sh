#!/usr/bin/env bash
# Makes the code that is generated from api/*.proto: Go (messages and fast
# marshalling) and TypeScript. Needs Go and `npm ci` in web/, nothing else.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
go -C tools build -o "$bin/" google.golang.org/protobuf/cmd/protoc-gen-go \
	github.com/planetscale/vtprotobuf/cmd/protoc-gen-go-vtproto
PATH="$bin:$PWD/web/node_modules/.bin:$PATH" buf generate
# vtprotobuf v0.6.0 names a local variable `wire`, which hides our package of
# that name in the files that import it: give the import another name.
sed -i -E 's#^(\s*)wire ("github.com/mustermesh/muster/api/wire")#\1wirepb \2#; s#\bwire\.([A-Z])#wirepb.\1#g' api/peer/*_vtproto.pb.go
gofmt -w api/peer/*_vtproto.pb.go
