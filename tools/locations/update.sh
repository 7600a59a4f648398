#!/usr/bin/env bash
# Makes regions/steering/locate/countries.bin.gz anew. Needs npm, Go, and the
# time zone database's zone.tab (Debian's tzdata has it).
set -euo pipefail
cd "$(dirname "$0")/../.."
version=${1:-2.3.2026061719}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for package in geo-whois-asn-country asn-country; do
	tgz=$(cd "$dir" && npm pack --silent "@ip-location-db/$package@$version")
	tar -C "$dir" -xzf "$dir/$tgz"
done
go -C tools run ./locations -v4 "$dir/package/geo-whois-asn-country-ipv4.csv" -v6 "$dir/package/asn-country-ipv6.csv" \
	-out "$PWD/regions/steering/locate/countries.bin.gz"
