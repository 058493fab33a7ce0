# Nutshell. `make` alone lists what can be made.
.DEFAULT_GOAL := help
export PATH := $(CURDIR)/dist/go/bin:$(PATH):/usr/local/go/bin
export CGO_ENABLED := 0

GO      ?= go
# No build id: it would tell the paths that cgo was given, and the same sources give the same bytes.
LDFLAGS := -s -w -buildid=
# The binary tells its commit, where git can say it.
VCS     := $(shell git rev-parse HEAD >/dev/null 2>&1 && echo auto || echo false)
COMPILE  = $(GO) build -trimpath -buildvcs=$(VCS) -ldflags "$(LDFLAGS)"
LINT    := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
UI_SRC  := $(shell find embedui/src embedui/public -type f 2>/dev/null) $(wildcard embedui/*.json embedui/*.ts embedui/*.js embedui/*.html)
# Packages outside of ./... because Go skips folders called testdata.
ALL     := ./... ./testdata/apps/... ./testdata/bench/...

.PHONY: build
build: deps ui helper binary ## everything in one static file: ./nutshell

.PHONY: build-arm64
build-arm64: deps ui ## the same for 64-bit ARM (Raspberry Pi): ./nutshell-arm64. HELPER=no: without containers
	@mkdir -p dist/arm64
	@if [ "$(HELPER)" = no ]; then rm -f dist/arm64/helper; else .ci/deps arm64 && $(MAKE) -s dist/arm64/helper; fi
	@echo '{"Replace": {"$(CURDIR)/cloud/lxc/bin/helper": "$(if $(filter no,$(HELPER)),,$(CURDIR)/dist/arm64/helper)"}}' >dist/arm64/overlay.json
	GOARCH=arm64 $(COMPILE) -overlay dist/arm64/overlay.json -o nutshell-arm64 .
	@ls -lh nutshell-arm64 | awk '{print "nutshell-arm64: static, " $$5}'

# Linked with Debian's liblxc of that architecture, which is unpacked, not installed.
dist/arm64/helper: dist/arm64/sysroot/usr/lib $(wildcard cloud/lxc/helper/*.go cloud/lxc/order/*.go) go.mod
	CC=aarch64-linux-gnu-gcc PKG_CONFIG=true CGO_ENABLED=1 GOARCH=arm64 CGO_CFLAGS="-I$(CURDIR)/dist/arm64/sysroot/usr/include" \
	CGO_LDFLAGS="-L$(CURDIR)/dist/arm64/sysroot/usr/lib/aarch64-linux-gnu -llxc -Wl,--unresolved-symbols=ignore-in-shared-libs" \
	$(COMPILE) -o $@ ./cloud/lxc/helper

dist/arm64/sysroot/usr/lib:
	.ci/sysroot arm64 dist/arm64/sysroot

.PHONY: run
run: deps-run build dist/dokuwiki.tar.gz ## build, start, deploy DokuWiki; Ctrl-C stops it all
	./nutshell up --demo dist/dokuwiki.tar.gz

.PHONY: test
test: deps-test ui helper ## vet, the laws of the house, and all tests
	$(GO) vet $(ALL)
	$(GO) test -timeout 30m $(ALL)

.PHONY: lint
lint: ## formatting, the laws of the house, golangci-lint
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "run gofmt -w on:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) test -run Laws .
	$(GO) run $(LINT) run $(ALL)

.PHONY: bench
bench: build ## speed, side by side with peers; needs root. ARGS=-write keeps it in docs/bench
	$(GO) run ./testdata/bench $(ARGS)

.PHONY: chaos
chaos: deps-test ui helper ## kill every role and daemon during every kind of change; NUTSHELL_SEED=N repeats a run
	NUTSHELL_CHAOS=1 $(GO) test -count=1 -v -timeout 30m -run 'TestFaults|UnderLoad|NeverServes|TestCancelled|AtOnceInEarnest|MendedAndRetried|SecondUp|InterruptedScaling|FullDisk' .

.PHONY: e2e
e2e: build ## the UI in a real browser against a real director
	cd embedui && npm run e2e

OVA ?= dist/nutshell-ova-amd64.ova
CARD ?= $(wildcard dist/nutshell-sdcard-arm64.img.zst)
.PHONY: appliance-test
appliance-test: ## what the owner of an OVA does, in qemu: host a site, menu, addresses, upgrades, clocks; and a card (root): OVA=file (also a disk) CARD=file
	@.ci/deps machines
	@test -f $(OVA) -o -n "$(CARD)" || { echo "no $(OVA): nutshell image build ova --out dist/, or OVA=file, or CARD=file" >&2; exit 1; }
	! test -f $(OVA) || NUTSHELL_APPLIANCE=$(abspath $(OVA)) $(GO) test -count=1 -v -timeout 60m -run 'TestAppliance$$' .
	test -z "$(CARD)" || NUTSHELL_CARD=$(abspath $(CARD)) $(GO) test -count=1 -v -timeout 180m -run 'TestCard' .

.PHONY: cloud-test
cloud-test: ## start the cloud image in qemu with each form of context and let it join a director, and the lxc image up to a PHP page (root); CLOUD=file CONTAINER=…-rootfs.tar.zst
	@.ci/deps machines
	@test -f "$(CLOUD)" -o -f "$(CONTAINER)" || { echo "no CLOUD=file or CONTAINER=file: nutshell image build cloud (or lxc --kinds php) --out dist/" >&2; exit 1; }
	test -z "$(CLOUD)" || NUTSHELL_CLOUD_IMAGE=$(abspath $(CLOUD)) $(GO) test -count=1 -v -timeout 150m -run 'TestCloudImage$$' .
	test -z "$(CONTAINER)" || NUTSHELL_CONTAINER_IMAGE=$(abspath $(CONTAINER)) $(GO) test -count=1 -v -timeout 60m -run 'TestContainerImage$$' .

.PHONY: screenshots
screenshots: ui ## the pictures of the manual and the README, into docs/screenshots
	cd embedui && npm run screenshots

.PHONY: golden
golden: ## write expected outputs of tests anew; read the diff
	$(GO) test $$(git grep -l 'flag.Bool("update"' -- '*_test.go' | xargs -n1 dirname | sort -u | sed 's,^,./,') -update

.PHONY: ui
ui: embedui/dist/index.html ## the web pages, embedded by the next build

.PHONY: helper
helper: ## the small cgo program that drives LXC, embedded by the next build
	@if pkg-config --exists lxc; then \
	  CGO_ENABLED=1 $(COMPILE) -o cloud/lxc/bin/helper ./cloud/lxc/helper; \
	else echo "helper: no LXC headers (package lxc-dev), so this binary will have the process cloud only"; fi

.PHONY: binary
binary: ## ./nutshell from what is built already
	$(COMPILE) -o nutshell .
	@! ldd ./nutshell >/dev/null 2>&1 || { echo "nutshell is not static; see docs/adr/0002" >&2; exit 1; }
	@ls -lh nutshell | awk '{print "nutshell: static, " $$5}'

.PHONY: deb
deb: build build-arm64 ## Debian packages of both architectures: dist/nutshell_*.deb
	rm -f dist/nutshell_*.deb
	./nutshell image deb --out dist
	./nutshell image deb --out dist --binary nutshell-arm64

.PHONY: sbom
sbom: build ## the bill of materials: dist/nutshell.cdx.json
	@mkdir -p dist
	./nutshell sbom >dist/nutshell.cdx.json

.PHONY: reproducible
reproducible: deps ## build twice, in two directories, once without a cache: the same bytes? ARM64=yes: that binary, too
	.ci/reproducible $(if $(ARM64),arm64)

PREFIX ?= /usr/local
.PHONY: install
install: build ## copy it to $(PREFIX)/bin, with ConPaaS's command names as links
	install -D -m 755 nutshell $(DESTDIR)$(PREFIX)/bin/nutshell
	for name in tools user cloud application service director php java mysql generic helloworld; do ln -sf nutshell $(DESTDIR)$(PREFIX)/bin/cps-$$name; done

.PHONY: demo
demo: dist/dokuwiki.tar.gz ## the demo application as an archive, made of Debian's package

.PHONY: deps
deps: ## install what building needs
	@.ci/deps build

.PHONY: deps-run
deps-run: ## install what running on this machine needs
	@.ci/deps run

.PHONY: deps-test
deps-test: deps ## install what the tests need
	@.ci/deps test

.PHONY: clean
clean: ## remove what was built
	rm -rf nutshell nutshell-arm64 dist cloud/lxc/bin/helper embedui/node_modules
	find embedui/dist -mindepth 1 ! -name placeholder.html -delete

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

embedui/node_modules/.package-lock.json: embedui/package-lock.json
	cd embedui && npm ci --no-audit --no-fund --loglevel=error && touch node_modules/.package-lock.json

embedui/dist/index.html: embedui/node_modules/.package-lock.json $(UI_SRC)
	cd embedui && npm run build
	@touch $@

dist/dokuwiki.tar.gz: $(wildcard testdata/apps/dokuwiki/*.go)
	$(GO) run ./testdata/apps/pack -o $@
