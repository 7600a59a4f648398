# make run    everything needed, then three regions on this machine
# make test   everything that must hold before a change lands
# The other targets are parts of these two, or take long.

SHELL := /usr/bin/env bash
.DEFAULT_GOAL := build
.PHONY: run build web test lint vet staticcheck fmt-check sql-check generated-check \
	test-go test-cockroach test-tools test-web test-e2e bench bench-presence bench-messages bench-roam bench-lose-region bench-heal bench-scale bench-idle bench-fanout bench-geo bench-opens bench-logins bench-dns \
	prove-wan prove-messages prove-writes prove-roam prove-lose-region prove-heal prove-presence prove-replay prove-map nemesis nemesis-sockets prove-nemesis prove-drain prove-failover prove-roster prove-floor prove-dns prove-interest prove-attack prove-fences prove-jobs prove-ledger prove-matching prove-outbox prove-mail prove-ratings prove-payments prove-subscriptions prove-api prove-chat-kill prove-receipts prove-media prove-calls prove-cascade bench-chat bench-jobs bench-ledger bench-turn prove-turn prove-sfu bench-sfu generate clean setup-run setup-test

export CGO_ENABLED ?= 1

run: setup-run build
	@exec bin/muster dev

setup-run:
	@tools/setup.sh run

setup-test:
	@tools/setup.sh test

# The web app is embedded into the binary: build it first.
web_sources := $(shell find web/app web/console web/sdk/src -type f -not -path '*/node_modules/*' 2>/dev/null) web/package-lock.json

web/dist/index.html: $(web_sources)
	@tools/setup.sh build
	npm --prefix web run --silent build

web: web/dist/index.html

build: web
	go build -o bin/muster ./cmd/muster

test: setup-test lint build test-go test-tools test-web test-e2e

lint: vet staticcheck fmt-check sql-check generated-check

vet:
	go vet ./...

staticcheck:
	@mkdir -p bin
	go -C tools build -o ../bin/staticcheck honnef.co/go/tools/cmd/staticcheck
	bin/staticcheck ./...

fmt-check:
	@out=$$(gofmt -l $$(git ls-files '*.go' | grep -v '\.pb\.go$$')); \
	if [ -n "$$out" ]; then echo "not gofmt'ed:"; echo "$$out"; exit 1; fi

# Every migration and every SQL statement, through CockroachDB's grammar.
sql-check:
	go -C tools/crdbcheck run . ../..

generate:
	@tools/setup.sh build
	tools/generate/generate.sh

generated-check: generate
	@git diff --exit-code --stat -- '*.pb.go' web/sdk/src/gen || \
		{ echo "generated code is not up to date: run 'make generate' and commit"; exit 1; }

# Tests of whole regions and of processes run one package after the other: what is
# promised within seconds there is not promised on a machine that has no time for it.
ALONE = internal/meshtest|cmd/muster$$|bench/scenario$$

test-go:
	go test -race -timeout 20m $$(go list ./... | grep -vE '$(ALONE)')
	go test -race -timeout 20m -p 1 $$(go list ./... | grep -E '$(ALONE)')
	go test -count=1 -tags nofencing -run TestTheCheckerFindsWhatFencesPrevent ./internal/meshtest/nemesis

# The SQL suite on CockroachDB: put cockroach on PATH, or name a server.
test-cockroach:
	@command -v cockroach >/dev/null || [ -n "$$MUSTER_DATABASE_URL" ] || \
		{ echo "put cockroach on PATH, or name a CockroachDB in MUSTER_DATABASE_URL"; exit 1; }
	go test -race -count=1 ./core/...

test-tools:
	go -C tools/crdbcheck test ./...

test-web:
	npm --prefix web run --silent check
	npm --prefix web test --silent

test-e2e: build
	npm --prefix web run --silent e2e

bench: bench-presence

# Over emulated links between regions: each a result, and a page with plots.
# WAN is for more flags, such as WAN="--jitter 5ms --loss 0.01".
WAN ?=
bench-presence bench-messages bench-roam bench-lose-region bench-heal: bench-%: build
	bin/muster bench $* --dev --json bench/baseline/$*.json --html bench/baseline/$*.html $(WAN)

# What many regions cost; docs/scale.md has the table.
bench-scale: build
	bin/muster bench scale

# The full counts behind the promises; `make test` runs about a twentieth.
prove-presence: build
	bin/muster bench presence --dev --rate 500 --duration 60s --ramp --strict --json bench/baseline/presence.json --html bench/baseline/presence.html $(WAN)

prove-messages: build
	bin/muster bench messages --dev --rate 100 --duration 60s --ramp --strict --json bench/baseline/messages.json --html bench/baseline/messages.html $(WAN)

# With the database in each of the five regions in turn: a write crosses once.
prove-writes: build
	@for region in eu-west us-east ap-south us-west ap-northeast; do \
		bin/muster bench messages --dev --database-region $$region --users 100 --room-size 10 --rate 50 --duration 20s \
			--json bench/baseline/writes-$$region.json --html bench/baseline/writes-$$region.html $(WAN) || exit 1; \
	done

prove-roam: build
	bin/muster bench roam --dev --users 300 --share 0.5 --strict --json bench/baseline/roam.json --html bench/baseline/roam.html $(WAN)

prove-lose-region: build
	bin/muster bench lose-region --dev --users 500 --fixes 250 --strict --json bench/baseline/lose-region.json --html bench/baseline/lose-region.html $(WAN)

prove-heal: build
	bin/muster bench heal --dev --cut 30s --seeds 20 --strict --json bench/baseline/heal.json --html bench/baseline/heal.html $(WAN)

prove-wan: prove-presence prove-messages prove-writes prove-roam prove-lose-region prove-heal

prove-replay: build
	MUSTER_REPLAY_SPEED=60 go test -race -count=1 -timeout 20m -run TestReplayEndsAtTheLastPoint -v ./internal/meshtest

# Random stories of a mesh against brute force: who is near, whatever breaks.
prove-map:
	go test -race -count=1 -timeout 60m -run TestMapEqualsAnOracle ./edge/nearby -map.seeds 200

# Real `muster serve` processes, started and ended by the benchmark.
prove-drain: build
	bin/muster bench drain --rounds 20 --json bench/baseline/drain.json

prove-failover: build
	bin/muster bench failover --kills 20 --pauses 5 --quiet 10m --json bench/baseline/failover.json

prove-roster: build
	bin/muster bench roster --sessions 50000 --json bench/baseline/roster.json

# The floor against a naive model, four thousand worlds of a minute; through cuts.
prove-floor:
	MUSTER_PROVE_FLOOR=4000 go test -race -count=1 -timeout 60m -v -run 'TestCallPlaces|TestFloor|TestNobodyWaits' ./regions/roster
	go test -race -count=5 -timeout 20m -run 'TestCalls|TestFloor' ./regions/cluster

# nice -n -15, if others use the machine.
bench-logins: build
	set -o pipefail; bin/muster bench logins --json bench/baseline/logins.json | tee bench/baseline/logins.txt

bench-opens: build
	bin/muster bench opens --json bench/baseline/opens.json

# Beside a Centrifugo 6 of your own, started with CENTRIFUGO_CLIENT_INSECURE=true:
# make bench-fanout PEER="--centrifugo 127.0.0.1:8000 --centrifugo-pid 1234"
bench-fanout: build
	bin/muster bench fanout $(PEER) --json bench/baseline/fanout.json

# The index alone, then a fleet of 100,000 and of a million through the network,
# beside servers of your own:
# make bench-geo PEER="--tile38 127.0.0.1:9851 --tile38-pid 1234 --redis 127.0.0.1:6379 --redis-pid 1235"
bench-geo: build
	set -o pipefail; bin/muster bench geo $(PEER) --json bench/baseline/geo.json --html bench/baseline/geo.html | tee bench/baseline/geo.txt

# The name server beside nsd and gdnsd, where these Debian packages are installed.
bench-dns: build
	bin/muster bench dns --json bench/baseline/dns.json

# What stored messages cost, in CPU of one process and PostgreSQL together.
bench-chat: build
	set -o pipefail; bin/muster bench chat --strict --json bench/baseline/chat.json | tee bench/baseline/chat.txt

# Expenses over HTTP, beside pgbench on the same database.
bench-ledger: build
	set -o pipefail; bin/muster bench ledger --strict --json bench/baseline/ledger.json | tee bench/baseline/ledger.txt

# The relay, beside a coturn of your own (Debian package coturn), started with
# turnserver -n --listening-ip=127.0.0.1 --relay-ip=127.0.0.1 --listening-port=34780 --realm=muster \
#   --use-auth-secret --static-auth-secret=SECRET --allow-loopback-peers --no-tls --no-dtls --no-cli:
# make bench-turn PEER="--peer 127.0.0.1:34780 --peer-pid 1234 --peer-secret SECRET"
bench-turn: build
	set -o pipefail; bin/muster bench turn $(PEER) --json bench/baseline/turn.json | tee bench/baseline/turn.txt

# What comes from clients, peers and streams, and credentials, all of it hostile.
prove-turn:
	go test -race -count=3 -timeout 20m ./turn/...
	go test -run '^$$' -fuzz FuzzFromClient -fuzztime 60s ./turn/allocation
	go test -run '^$$' -fuzz FuzzFromPeer -fuzztime 30s ./turn/allocation
	go test -run '^$$' -fuzz FuzzFrame -fuzztime 30s ./turn
	go test -run '^$$' -fuzz FuzzParse -fuzztime 30s ./turn/cred

bench-idle: build
	bin/muster bench idle --sessions 5000 --room-size 50 --json bench/baseline/idle.json

# Break a mesh under a fake clock and check what everybody saw; the schedule and
# the devices' scripts are the seed's. nemesis-sockets: with real sockets, disks
# and SQL, in real time.
SEED ?= 1
TIME ?= 20s
nemesis:
	MUSTER_NEMESIS_SEED=$(SEED) MUSTER_NEMESIS_SEEDS=1 MUSTER_NEMESIS_TIME=$(TIME) \
		go test -race -count=1 -timeout 30m -v -run 'TestNemesis$$' ./internal/meshtest/nemesis

nemesis-sockets:
	MUSTER_NEMESIS_SEED=$(SEED) MUSTER_NEMESIS_SOCKETS=1 MUSTER_NEMESIS_TIME=$(TIME) \
		go test -race -count=1 -timeout 30m -v -run 'TestNemesisOnSockets$$' ./internal/meshtest/nemesis

prove-nemesis:
	MUSTER_NEMESIS_SEEDS=200 MUSTER_NEMESIS_TIME=20s \
		go test -count=1 -timeout 3h -v -run 'TestNemesis$$' ./internal/meshtest/nemesis
	MUSTER_NEMESIS_SOCKETS=20 MUSTER_NEMESIS_TIME=20s \
		go test -count=1 -timeout 1h -v -run 'TestNemesisOnSockets$$' ./internal/meshtest/nemesis
	MUSTER_NEMESIS_CUTS=20 \
		go test -count=1 -timeout 1h -v -run 'TestPartition$$' ./internal/meshtest/nemesis
	go test -count=1 -v -tags nofencing -run TestTheCheckerFindsWhatFencesPrevent ./internal/meshtest/nemesis

# Calls over bad links: 6,000 packets at 5 and 20 % loss, a link of 3 Mb/s that narrows
# to 500 kb/s, 200 participants who come and go.
prove-sfu:
	MUSTER_PROVE_SFU=1 go test -count=1 -timeout 30m -v ./media/sfu
	go test -run '^$$' -fuzz FuzzPacket -fuzztime 60s ./media/sfu
	go test -run '^$$' -fuzz FuzzDatagram -fuzztime 60s ./media/sfu
	go test -run '^$$' -fuzz FuzzAnswer -fuzztime 60s ./media/sdp
	go test -run '^$$' -fuzz FuzzReceive -fuzztime 60s ./media/signal
	go test -run '^$$' -fuzz FuzzParse -fuzztime 60s ./media/ice

# Calls over regions: 20,000 worlds of SFU nodes that lose frames, links, each other;
# then real connections, 200 calls of which nothing is left, and a mesh.
prove-calls:
	MUSTER_PROVE_CALLS=20000 go test -count=1 -timeout 2h -run TestNodesAgree ./media/call
	go test -run '^$$' -fuzz FuzzPart -fuzztime 60s ./media/call
	go test -race -count=5 -timeout 30m ./media/host
	MUSTER_PROVE_CALLS=1 go test -count=1 -timeout 10m -v -run TestCallsLeaveNothing ./media/host
	go test -race -count=3 -timeout 30m -v -run TestACallOverThreeRegions ./internal/meshtest

# Beside a LiveKit of your own, whose rtc.enable_loopback_candidate is true:
# make bench-sfu PEER="--livekit ws://127.0.0.1:7880 --livekit-pid 1234 --livekit-key KEY --livekit-secret SECRET"
bench-sfu: build
	set -o pipefail; bin/muster bench sfu --serve $(PEER) --json bench/baseline/sfu.json | tee bench/baseline/sfu.txt

# What a cascade adds to the delay of a link between regions, over the links that ship.
prove-cascade:
	MUSTER_PROVE_CASCADE=1 go test -count=1 -timeout 10m -v -run TestWhatACascadeAdds ./internal/meshtest

prove-dns:
	MUSTER_DNS_HOSTILE=50000 go test -race -count=1 -timeout 10m -v -run 'TestHostilePackets|TestDigAndKdig|TestARegionDies' ./regions/steering
	go test -run '^$$' -fuzz FuzzAnswer -fuzztime 60s ./regions/steering

# 1,000 people on the move, 50 viewers who lose a fifth of their datagrams.
prove-interest:
	MUSTER_INTEREST_SEEDS=10 MUSTER_INTEREST_SECONDS=60 \
		go test -count=1 -timeout 1h -v -run TestViewersSeeWhatIsThere ./edge/interest
	go test -run '^$$' -fuzz FuzzScene -fuzztime 60s ./edge/interest
	go test -run '^$$' -fuzz FuzzApply -fuzztime 60s ./client/viewstate

# Noisy tracks with known truth, and the recorded ones, beside a naive engine; and
# what one core does with 2,000 fences.
prove-fences:
	MUSTER_FENCE_TRACKS=20000 go test -count=1 -timeout 1h -v -run '^Test' ./geo/fence
	go test -run '^$$' -bench . -cpu 1 ./geo/fence

# Attackers who collect days of coarse positions and say where somebody lives: of
# all resolutions from 10 to 4, against us and a naive snapper. Five minutes of one
# core.
prove-attack:
	MUSTER_ATTACK_DAYS=270 go test -count=1 -timeout 2h -v -run Attack ./geo/grant

# A hundred thousand random operations on groups' money at three nodes, while
# connections break in the COMMIT and others write to the same books.
prove-ledger:
	MUSTER_PROVE_LEDGER=100000 go test -count=1 -timeout 3h -v -run TestLedgerUnderFaults ./internal/node

# What media forwarding decides, against models and oracles: packets that are lost and
# overtake each other, layers, who is heard, repair between SFUs.
prove-media:
	MUSTER_PROVE_MEDIA=20 go test -race -count=1 -timeout 1h -v ./media/rtp ./media/choice ./media/cascade

# People nearby: everybody's looks against a loop over all, whose turn it is, and the
# attacker of prove-attack.
prove-matching:
	MUSTER_PROVE_MATCHING=20 go test -count=1 -timeout 1h -v -run 'TestTrilateration|TestNothingButTheViewShows|TestNobodyIsStarved|TestAtOnce' ./core/matching
	MUSTER_PROVE_MATCHING=20 go test -count=1 -timeout 1h -v -run TestMatchingAgainstAnOracle ./internal/node

# Cells, covers and the index against brute force: a million queries each.
prove-geo:
	MUSTER_GEO_QUERIES=1000000 go test -count=1 -timeout 1h -v -run '^Test' ./geo/h3 ./geo/index
	go test -run '^$$' -fuzz FuzzParseCell -fuzztime 30s ./geo
	go test -run '^$$' -fuzz FuzzCellOf -fuzztime 60s ./geo/h3

bench-geo-index:
	go test -run '^$$' -bench . -cpu 1 -count 6 -timeout 1h ./geo/h3 ./geo/index | tee bench/baseline/geo-index.txt

# Worker processes with jumping clocks are killed at random.
prove-jobs:
	MUSTER_PROVE_JOBS=50000 MUSTER_PROVE_PERIODS=100 \
		go test -count=1 -timeout 30m -v -run 'TestNothingIsLostOrDoubledByKills|TestClockJumps|TestEachDay' ./core/jobs

# Relays are killed between the commit of an event and its relay, and at other bad
# moments; then real nodes, as soon as they have answered that a group was changed.
prove-outbox:
	MUSTER_PROVE_KILLS=200 go test -count=1 -timeout 30m -v -run 'TestEveryEventReachesTheRoomWhoeverDies|TestOrderPerKey' ./core/outbox
	MUSTER_PROVE_KILLS=200 go test -count=1 -timeout 1h -v -run TestChangesAreHeardThoughTheirNodeIsKilled ./cmd/muster

# Random people who rate each other, edit, leave and see windows end: what is kept
# with each is what they got; and 200 ratings of two people at once.
prove-ratings:
	MUSTER_PROVE_RATINGS=10000 go test -race -count=1 -timeout 30m -v -run 'TestSumsEqualARecount|TestRatingsAtOnce|TestOneRatingIsSeenByNobody' ./core/ratings

# Subscriptions against an oracle that counts days, and on a real server while clocks jump,
# workers are killed and connections break at COMMIT: one charge per period.
prove-subscriptions:
	MUSTER_PROVE_SUBSCRIPTIONS=20000 go test -race -count=1 -timeout 60m -v -run 'TestAgainstOracle|TestOneChargePerPeriod' ./core/subscriptions

# Payments by a gateway that loses a tenth of its webhooks, doubles a tenth and reorders a
# tenth, while processes die between steps: each ends as the gateway says, what it was for
# was told so once, and the ledger agrees.
prove-payments:
	MUSTER_PROVE_PAYMENTS=3000 go test -race -count=1 -timeout 30m -v -run 'TestEveryPaymentEndsRight|InAnyOrder' ./core/payments
	go test -run '^$$' -fuzz FuzzWebhook -fuzztime 60s ./core/payments

# Real nodes are killed while 50 clients send 200 messages a second, edit, delete, pin,
# react and read.
prove-chat-kill:
	MUSTER_PROVE_KILLS=200 go test -count=1 -timeout 1h -v -run TestMessagesSurviveKills ./cmd/muster

# Devices that come, go, switch and are late, in random orders: receipts never go
# back, and all devices end with the same count of what is unread.
prove-receipts:
	MUSTER_RECEIPTS_SEEDS=40 go test -count=1 -timeout 1h -v -run 'TestReceiptsNeverGoBack' ./internal/meshtest
	go test -run '^$$' -fuzz FuzzTalk -fuzztime 60s ./client/roomstate

# Random requests against the OpenAPI document, and who may ask what.
prove-api:
	go test -race -count=1 -timeout 60m -run 'TestDocumentHolds|TestRights|TestContract|Key' -v ./core/httpapi -args -api.requests 20000

# Registrations beside a mail server that takes 30 s or fails, and nodes that send
# killed at random.
prove-mail:
	MUSTER_PROVE_MAIL=1 go test -count=1 -timeout 30m -v -run TestRegistrationNeverWaitsForMail ./internal/node
	MUSTER_PROVE_MAILS=3000 MUSTER_PROVE_KILLS=60 go test -count=1 -timeout 30m -v -run 'TestKilledNodesLoseNothing|TestMailsArriveOnce' ./core/notify

# Claims and completions a second, on a database with fsync.
bench-jobs:
	set -o pipefail; MUSTER_BENCH_JOBS=40000 go test -count=1 -timeout 30m -v -run TestThroughput ./core/jobs | tee bench/baseline/jobs.txt

clean:
	rm -rf bin web/dist/* .muster
