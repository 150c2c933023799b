# shellcheck shell=bash
#
# Of dev/test monitoring: the server, the exporter and Prometheus that it starts,
# and how it waits for them.

start_server() {
	as_user "$BIN/initdb" -D "$SCRATCH/data" -U postgres -A trust -N \
		--no-locale -E UTF8 >/dev/null
	configure <<-CONF
		listen_addresses = ''
		unix_socket_directories = '$SCRATCH'
		fsync = off
		max_worker_processes = 4
		log_min_messages = warning
		log_line_prefix = '%m [%p] %q%u@%d '
		log_destination = 'stderr,csvlog,jsonlog'
		logging_collector = on
		log_directory = '$SCRATCH/log'
		log_filename = 'server.log'
		timezone = 'UTC'
		log_timezone = 'UTC'
		shared_preload_libraries = 'bigbrotr_refresher'
		bigbrotr_refresher.role = 'refresher'
		bigbrotr_refresher.databases = ''
		bigbrotr_refresher.restart_interval = '1h'
		bigbrotr_refresher.retry_interval = 0
	CONF
	control "$SCRATCH/data" start
	sql -d postgres -c 'CREATE DATABASE bigbrotr'
	sql -v scale=0.01 -f "$SCRATCH/src/demo/all.sql"
	sql -c 'CREATE EXTENSION bigbrotr_refresher' \
		-c 'GRANT pg_monitor TO reader'

	# The worker is let in when all it needs is there.
	configure <<-CONF
		bigbrotr_refresher.databases = 'bigbrotr'
	CONF
	control "$SCRATCH/data" restart
}

# Add standard input to postgresql.conf.
configure() {
	cat >>"$SCRATCH/data/postgresql.conf"
}

# control FOLDER ACTION
control() {
	as_user "$BIN/pg_ctl" -s -w -D "$1" -l "$SCRATCH/pg_ctl.log" "$2" ||
		die "the server did not $2: $(tail -n 20 "$SCRATCH/pg_ctl.log")"
}

sql() {
	as_user "$BIN/psql" -X -q -A -t -v ON_ERROR_STOP=1 -h "$SCRATCH" \
		-U postgres -d bigbrotr "$@"
}

# parameter NAME VALUE: set it, and have the server read it.
parameter() {
	sql -c "ALTER SYSTEM SET bigbrotr_refresher.$1 = $2" \
		-c 'SELECT pg_reload_conf()' >/dev/null
}

start_exporter() {
	exporter "$SCRATCH" "$EXPORTER_PORT"
	EXPORTER_PID=$STARTED
	await_http "http://127.0.0.1:$EXPORTER_PORT/metrics" "$SCRATCH/exporter.log"
}

# exporter SOCKETS PORT: start one that serves nothing but our queries, for
# the server whose sockets are in that folder.
exporter() {
	local collector options=()

	# Which collectors there are, and how they are named, differs by version.
	for collector in $(prometheus-postgres-exporter --help 2>&1 |
		grep -o -e '--\(\[no-\]\)\?collector\.[a-z_]*\( \|$\)' | sed 's/.*\.//'); do
		options+=("--no-collector.$collector")
	done
	DATA_SOURCE_NAME="host=$1 user=reader dbname=bigbrotr sslmode=disable" \
		start exporter prometheus-postgres-exporter \
		--web.listen-address="127.0.0.1:$2" \
		--extend.query-path="$SCRATCH/src/monitoring/queries.yaml" \
		--disable-default-metrics --disable-settings-metrics "${options[@]}"
}

# Alerts are to fire at once here.  Beside them, those of BigBrotr itself.
start_prometheus() {
	PROMETHEUS_PORT=$(free_port)
	sed -e 's/for: .*/for: 1s/' -e 's/, 60)/, 1)/' monitoring/alerts.yml |
		as_user tee "$SCRATCH/alerts.yml" >/dev/null
	as_user tee "$SCRATCH/prometheus.yml" >/dev/null <<-YAML
		global:
		  scrape_interval: 1s
		  evaluation_interval: 1s
		rule_files:
		  - $SCRATCH/alerts.yml
		  - $SCRATCH/bigbrotr.yml
		  - $SCRATCH/guide/bigbrotr/deployments/bigbrotr/monitoring/prometheus/rules/*.yml
		scrape_configs:
		  - job_name: refresher
		    static_configs:
		      - targets: ["127.0.0.1:$EXPORTER_PORT"]
		    metric_relabel_configs:
		      - action: labeldrop
		        regex: server
	YAML
	as_user tee "$SCRATCH/bigbrotr.yml" >/dev/null <<-'YAML'
		groups:
		  - name: bigbrotr
		    rules:
		      - alert: RefresherViewsFailing
		        expr: service_gauge{service="refresher",name="views_failed"} > 0
		        for: 1s
		      - alert: ConsecutiveFailures
		        expr: service_gauge{name="consecutive_failures"} >= 2
	YAML
	start prometheus prometheus --config.file="$SCRATCH/prometheus.yml" \
		--storage.tsdb.path="$SCRATCH/prometheus" --web.enable-lifecycle \
		--web.listen-address="127.0.0.1:$PROMETHEUS_PORT"
	await_http "http://127.0.0.1:$PROMETHEUS_PORT/-/ready" \
		"$SCRATCH/prometheus.log"
}

# start NAME COMMAND...: start it as the unprivileged user, in STARTED put its
# process id, and end it when the script ends.
STARTED=
start() {
	local pid=$SCRATCH/$1.pid

	rm -f "$pid"
	# $! may be the shell that starts it.
	# shellcheck disable=SC2016
	as_user sh -c 'echo $$ >"$0.new" && mv "$0.new" "$0" && exec "$@"' \
		"$pid" "${@:2}" >"$SCRATCH/$1.log" 2>&1 </dev/null &
	await test -e "$pid" || die "$1 did not start"
	STARTED=$(cat "$pid")
	on_exit stop "$STARTED"
}

# stop PID: end what `start` has started, if it still runs.
STOPPED=' '
stop() {
	local i

	[[ $STOPPED != *" $1 "* ]] || return 0
	STOPPED+="$1 "
	kill "$1" 2>/dev/null || return 0
	for ((i = 0; i < 100; i++)); do
		kill -0 "$1" 2>/dev/null || break
		sleep 0.1
	done
	kill -KILL "$1" 2>/dev/null || true
}

free_port() {
	perl -MIO::Socket::INET -e '
		print IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1")->sockport'
}

http() {
	curl -s -S -f --noproxy '*' --max-time 10 "$@"
}

# await_http URL LOG
await_http() {
	await http -o "$SCRATCH/answer" "$1" 2>/dev/null ||
		die "nothing answers at $1: $(tail -n 20 "$2")"
}

# await COMMAND...: run it until it succeeds.
await() {
	local deadline=$((SECONDS + MONITORING_PATIENCE))

	until "$@"; do
		[ "$SECONDS" -lt "$deadline" ] || return 1
		sleep 0.2
	done
}
