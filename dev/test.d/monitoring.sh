# shellcheck shell=bash
#
# dev/test monitoring: what monitoring/ holds, and the log, with the tools that
# people have: Debian's prometheus, prometheus-postgres-exporter and pgbadger.
#
# A server with BigBrotr's database is scraped by the real parts while views
# fail, a cycle hangs and the worker goes missing; the series and the alerts
# are then looked for in Prometheus.  All of it listens on 127.0.0.1 only.

. dev/test.d/prometheus.sh
. dev/test.d/dashboard.sh
. dev/test.d/guide.sh

# How long to wait for what is to appear in Prometheus, in seconds.
MONITORING_PATIENCE=60

BIN=
EXPORTER_PID=
EXPORTER_PORT=
PROMETHEUS_PORT=

test_monitoring() {
	need_server "$(pg_major)"
	need_monitoring
	scratch_make
	check_rules
	check_dashboard_types

	server_tree "$(pg_major)"
	say "building for $("$PG_CONFIG" --version)"
	interruptible build_extension
	BIN=$("$PG_CONFIG" --bindir)
	say "starting PostgreSQL, the exporter and Prometheus"
	start_server
	EXPORTER_PORT=$(free_port)
	start_exporter
	start_prometheus

	check_good_cycle
	check_series
	check_failing_view
	check_dashboard
	check_cycle_in_hand
	check_failing_cycle
	check_recovery
	check_skipped_views
	check_windows
	check_metrics
	check_no_history
	check_disabled
	check_missing_worker
	check_logs
	check_pgbadger
	check_standby
	check_no_exporter
	check_no_server
	check_guide
}

# ---- packages ----------------------------------------------------------

# What a package brings as a service must not run, now or after a reboot.
POLICY=/usr/sbin/policy-rc.d
need_monitoring() {
	local service services=()

	for service in prometheus prometheus-postgres-exporter; do
		package_installed "$service" || services+=("$service")
	done
	[ ${#services[@]} = 0 ] || forbid_services
	need_packages prometheus prometheus-postgres-exporter pgbadger \
		libjson-xs-perl curl jq perl
	for service in "${services[@]}"; do
		as_root update-rc.d "$service" disable >/dev/null 2>&1 || true
		[ ! -d /run/systemd/system ] ||
			as_root systemctl disable --now "$service" >/dev/null 2>&1 || true
	done
	allow_services
}

# An administrator's own policy stands.
POLICY_IS_OURS=no
forbid_services() {
	[ ! -e "$POLICY" ] || return 0
	on_exit allow_services
	printf '#!/bin/sh\nexit 101\n' | as_root tee "$POLICY" >/dev/null
	as_root chmod 755 "$POLICY"
	POLICY_IS_OURS=yes
}

allow_services() {
	[ "$POLICY_IS_OURS" = yes ] || return 0
	as_root rm -f "$POLICY"
	POLICY_IS_OURS=no
}

# ---- how results are told ------------------------------------------------

passed() {
	count 1 0
	[ ${#VERBOSE[@]} = 0 ] || printf 'ok - %s\n' "$1"
}

# failed NAME: standard input says more.
failed() {
	count 0 1
	printf 'not ok - %s\n' "$1"
	sed 's/^/    /'
}

# holds NAME COMMAND...: it must succeed.
holds() {
	local name=$1 output

	shift
	if output=$("$@" 2>&1); then
		passed "$name"
	else
		failed "$name" <<<"$output"
	fi
}

# equals NAME EXPECTED ACTUAL
equals() {
	if [ "$2" = "$3" ]; then
		passed "$1"
	else
		failed "$1" < <(printf 'expected: %s\nactual:   %s\n' "$2" "$3")
	fi
}

# seen NAME PROMQL: Prometheus must come to have an answer to it.
seen() {
	if await has_result "$2" 2>/dev/null; then
		passed "$1"
	else
		failed "$1" < <(
			echo "no result of: $2"
			query "$2" 2>&1
			tail -n 5 "$SCRATCH/exporter.log"
		)
	fi
}

# alert NAME [LABELS]: it must come to fire.
alert() {
	seen "$1 fires" "ALERTS{alertname=\"$1\",alertstate=\"firing\"${2:+,$2}}"
}

# no_alert NAME [LABELS]: it must come to fire no more, nor be about to.
no_alert() {
	seen "$1 does not fire" "absent(ALERTS{alertname=\"$1\"${2:+,$2}})"
}

query() {
	http -G --data-urlencode "query=$1" \
		"http://127.0.0.1:$PROMETHEUS_PORT/api/v1/query"
}

has_result() {
	query "$1" | jq -e '.data.result | length > 0' >/dev/null
}

# gauge NAME: PromQL for a gauge of the Python service.
gauge() {
	printf 'service_gauge{service="refresher",name="%s"}' "$1"
}

# ---- the checks ------------------------------------------------------------

check_rules() {
	holds "alerts.yml is valid" promtool check rules monitoring/alerts.yml
	holds "each alert fires when it should, and only then" \
		promtool test rules monitoring/alerts_test.yml
}

# The first cycle, of all views.
check_good_cycle() {
	local name view

	seen "views_total" "$(gauge views_total) == 13"
	seen "views_refreshed" "$(gauge views_refreshed) == 13"
	seen "views_failed" "$(gauge views_failed) == 0"
	seen "a duration of each view" \
		"count($(gauge duration_.+ | sed 's/name=/name=~/') > 0) == 13"
	seen "duration_event_stats" "$(gauge duration_event_stats) < 60"
	seen "last_cycle_timestamp" \
		"time() - $(gauge last_cycle_timestamp) < 120 > 0"
	seen "consecutive_failures" "$(gauge consecutive_failures) == 0"
	seen "cycles_success" \
		'service_counter_total{service="refresher",name="cycles_success"} == 1'
	seen "the histogram counts" \
		'cycle_duration_seconds_bucket{service="refresher",le="60.0"} == 1'
	seen "the histogram's count and sum" \
		'cycle_duration_seconds_sum{service="refresher"} > 0 and cycle_duration_seconds_count == 1'

	seen "the worker is there" 'bigbrotr_refresher_worker_up{datname="bigbrotr"} == 1'
	for name in view_interval_seconds view_consecutive_failures view_degraded \
		view_last_attempt_timestamp_seconds view_last_attempt_duration_seconds \
		view_last_success_timestamp_seconds view_last_success_duration_seconds \
		view_last_success_wal_bytes view_last_merge_rows_inserted \
		view_last_merge_rows_updated view_last_merge_rows_deleted \
		view_up_to_date_timestamp_seconds \
		view_data_as_of_timestamp_seconds view_next_due_timestamp_seconds; do
		seen "bigbrotr_refresher_$name for each view" \
			"count by (datname) (bigbrotr_refresher_$name) == 13"
	done
	seen "write-ahead log was written" \
		'bigbrotr_refresher_view_last_success_wal_bytes{view="event_stats"} > 0'
	seen "next_due is an interval later" \
		'abs(bigbrotr_refresher_view_next_due_timestamp_seconds - bigbrotr_refresher_view_last_success_timestamp_seconds - 86400) < 60'
	for view in ViewNotRefreshed ViewFailing ViewDegraded WorkerMissing \
		ServerDown MetricsMissing Disabled CycleOverruns; do
		no_alert "BigbrotrRefresher$view"
	done
	no_alert RefresherViewsFailing
	answers "all is well" 0 '^OK: 13 views, data as of [-0-9]'
}

# The series of the Python service, release 6.6.9, after a first cycle of all
# views: its names and labels, and no others.  One of them is recorded by a
# rule, which runs at an interval of its own.
check_series() {
	local labels='job="refresher",instance="127.0.0.1:'$EXPORTER_PORT'",service="refresher"'

	seen "service_info" "service_info{$labels} == 1"
	equals "the series are those of the Python service" \
		"$(python_series)" "$(served_series)"
}

python_series() {
	local le name view

	{
		for name in bucket count created sum; do
			[ "$name" = bucket ] || echo "cycle_duration_seconds_$name"
		done
		for le in 1.0 5.0 10.0 30.0 60.0 120.0 300.0 600.0 1800.0 3600.0 +Inf; do
			echo "cycle_duration_seconds_bucket le=$le"
		done
		for name in total created; do
			echo "service_counter_$name name=cycles_success"
		done
		for name in views_total views_refreshed views_failed \
			last_cycle_timestamp consecutive_failures; do
			echo "service_gauge name=$name"
		done
		for view in relay_metadata_latest event_stats relay_stats kind_counts \
			kind_counts_by_relay pubkey_counts pubkey_counts_by_relay \
			network_stats event_daily_counts events_replaceable_latest \
			events_addressable_latest relay_software_counts supported_nip_counts
		do
			echo "service_gauge name=duration_$view"
		done
		echo service_info
	} | sort
}

# As Prometheus has them.  Each has the label service.
served_series() {
	query '{__name__=~"service_.*|cycle_.*"}' | jq -r '
		.data.result[].metric | select(.service == "refresher") |
		.__name__ as $name | del(.__name__, .job, .instance, .service) |
		[$name] + (to_entries | map("\(.key)=\(.value)")) | join(" ")' | sort
}

# answers NAME CODE REGEX: the check for Nagios, by the command that stands in
# its file, exits with that code and says this.
answers() {
	local code=0 command output

	command=$(sed -n 's/^-- *\(psql .*\)/\1/p' monitoring/check.sql)
	output=$(PATH=$BIN:$PATH PGHOST=${CHECK_HOST-$SCRATCH} PGUSER=reader \
		as_user sh -c "cd '$SCRATCH/src/monitoring' && $command" 2>&1) || code=$?
	if [ "$code" = "$2" ] && grep -qE "$3" <<<"$output"; then
		passed "check.sql: $1"
	else
		failed "check.sql: $1" <<<"$code: $output"
	fi
}

# A view fails that others read.  What it says has all that a log format
# might trip over.
check_failing_view() {
	sql <<-'SQL'
		CREATE OR REPLACE FUNCTION relay_metadata_latest_refresh()
		RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			RAISE EXCEPTION USING
				MESSAGE = E'broken "here", say\nwe; a=b \\ c',
				DETAIL = 'A detail.', HINT = 'A hint.', ERRCODE = '22012';
		END
		$$;
	SQL
	equals "a cycle with a failing view" '13|12|1|0' \
		"$(sql -c 'SELECT views, refreshed, failed, skipped FROM bigbrotr_refresher.run(true)')"
	seen "one view failed" "$(gauge views_failed) == 1"
	seen "the others were refreshed" "$(gauge views_refreshed) == 12"
	seen "the cycle was a success all the same" \
		'service_counter_total{service="refresher",name="cycles_success"} == 2'
	seen "its failures in a row" \
		'bigbrotr_refresher_view_consecutive_failures{view="relay_metadata_latest"} == 1'
	seen "what reads it is degraded" \
		'count(bigbrotr_refresher_view_degraded == 1) == 3'
	seen "its data is older than its last attempt" \
		'bigbrotr_refresher_view_data_as_of_timestamp_seconds{view="relay_stats"} < bigbrotr_refresher_view_last_attempt_timestamp_seconds'
	seen "the counts of the last cycle" \
		'bigbrotr_refresher_last_cycle_views{outcome="failed"} == 1'
	seen "the counts of all cycles" \
		'bigbrotr_refresher_refreshes_total{outcome="refreshed"} == 25'
	alert RefresherViewsFailing
	alert BigbrotrRefresherViewFailing 'view="relay_metadata_latest"'
	alert BigbrotrRefresherViewDegraded 'view="relay_stats"'
	no_alert BigbrotrRefresherViewFailing 'view!="relay_metadata_latest"'
	no_alert BigbrotrRefresherViewDegraded 'view="event_stats"'
	no_alert ConsecutiveFailures
	seen "the code of its error" \
		'bigbrotr_refresher_view_failed_attempts{view="relay_metadata_latest",sqlstate="22012"} == 1'
	seen "it failed in the last whole cycle" \
		'bigbrotr_refresher_whole_cycle_view_duration_seconds{view="relay_metadata_latest",outcome="failed"} > 0'
	seen "the others were refreshed in the last whole cycle" \
		'count(bigbrotr_refresher_whole_cycle_view_start_seconds{outcome="refreshed"} > 0) == 12'
	answers "a view fails" 1 \
		'^WARNING: .*relay_metadata_latest failed 1 times in a row \(broken "here", say we; a=b'
}

# Somebody else holds a view: the cycle waits, and what was known of the views
# is known on.
check_cycle_in_hand() {
	local holder

	hold_view & holder=$!
	holds "a view is held" await held
	sql -c 'SELECT FROM bigbrotr_refresher.run()'
	seen "a cycle is running" 'bigbrotr_refresher_cycle_running == 1'
	dashboard_answers '^time() .*cycle_running'
	seen "in mid-cycle a failure is known on" "$(gauge views_failed) == 1"
	seen "in mid-cycle the count is that of all views" \
		"$(gauge views_total) == 13"
	parameter interval "'1s'"
	alert BigbrotrRefresherCycleOverruns
	alert BigbrotrRefresherViewNotRefreshed 'view="event_stats"'
	parameter interval "'1d'"
	release_view
	wait "$holder" 2>/dev/null || true
	seen "the cycle has ended" 'bigbrotr_refresher_cycle_running == 0'
	no_alert BigbrotrRefresherCycleOverruns
	no_alert BigbrotrRefresherViewNotRefreshed
}

hold_view() {
	sql -c 'BEGIN; REFRESH MATERIALIZED VIEW event_stats; SELECT pg_sleep(600)' \
		>/dev/null 2>&1
}

release_view() {
	sql -c "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()" >/dev/null
}

at_rest() {
	[ "$(sql -c "SELECT state, pid IS NULL
		FROM bigbrotr_refresher.status()")" = 'resting|t' ]
}

# Terminate the worker, once it waits for the view.
terminate_worker() {
	[ "$(sql -c "SELECT pg_terminate_backend(pid)
		FROM pg_locks JOIN pg_stat_activity USING (pid)
		WHERE backend_type = 'bigbrotr_refresher' AND NOT granted
		AND relation = 'event_stats'::regclass")" = t ]
}

held() {
	[ "$(sql -c "SELECT count(*) FROM pg_locks
		WHERE relation = 'event_stats'::regclass AND granted
		AND mode = 'AccessExclusiveLock'")" = 1 ]
}

# A cycle in which all fail, and another.
check_failing_cycle() {
	parameter views relay_metadata_latest
	sql -c 'SELECT FROM bigbrotr_refresher.run(true)'
	sql -c 'SELECT FROM bigbrotr_refresher.run(true)'
	seen "cycles that failed are counted" \
		'service_counter_total{service="refresher",name="cycles_failed"} == 2'
	seen "cycles that failed in a row" "$(gauge consecutive_failures) == 2"
	seen "last_cycle_timestamp is that of the last successful cycle" \
		"$(gauge last_cycle_timestamp) < on () bigbrotr_refresher_last_cycle_start_timestamp_seconds"
	seen "the list is the new one" "$(gauge views_total) == 1"
	alert ConsecutiveFailures
	sql -c 'ALTER SYSTEM RESET bigbrotr_refresher.views' \
		-c 'SELECT pg_reload_conf()' >/dev/null
}

check_recovery() {
	sql <<-'SQL'
		CREATE OR REPLACE FUNCTION relay_metadata_latest_refresh()
		RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			REFRESH MATERIALIZED VIEW CONCURRENTLY relay_metadata_latest;
		END
		$$;
	SQL
	equals "a cycle with none failing" '13|13|0|0' \
		"$(sql -c 'SELECT views, refreshed, failed, skipped FROM bigbrotr_refresher.run(true)')"
	seen "none fails any more" "$(gauge views_failed) == 0"
	seen "the row of failed cycles has ended" "$(gauge consecutive_failures) == 0"
	no_alert RefresherViewsFailing
	no_alert ConsecutiveFailures
	no_alert BigbrotrRefresherViewFailing
	no_alert BigbrotrRefresherViewDegraded
}

# Nobody asks for these cycles: one that is asked for skips nothing.
check_skipped_views() {
	parameter skip_unchanged on
	parameter interval "'1s'"
	seen "views are skipped" \
		'bigbrotr_refresher_refreshes_total{outcome="skipped"} > 0'
	seen "a skipped view is up to date" \
		'bigbrotr_refresher_view_up_to_date_timestamp_seconds > bigbrotr_refresher_view_last_success_timestamp_seconds'
	dashboard_answers '^max .*outcome="skipped"'
	seen "a skipped view keeps its duration" \
		"count($(gauge duration_.+ | sed 's/name=/name=~/') > 0) == 13"
	parameter interval "'1d'"
	parameter skip_unchanged off
}

# A table that is filled by windows, while a transaction holds it back.
check_windows() {
	local holder

	sql <<-'SQL'
		CREATE TABLE source (x xid8 DEFAULT pg_current_xact_id());
		CREATE TABLE target (n bigint);
		INSERT INTO source DEFAULT VALUES;
		CREATE FUNCTION target_refresh(after xid8, until xid8) RETURNS bigint
		LANGUAGE sql AS $$
			WITH w AS (INSERT INTO public.target SELECT count(*)
				FROM public.source WHERE x >= after AND x < until RETURNING n)
			SELECT n FROM w
		$$;
		GRANT SELECT ON source TO refresher;
		GRANT INSERT, SELECT ON target TO refresher;
	SQL
	parameter views target
	sql -c 'SELECT FROM bigbrotr_refresher.run(true)'
	sql -c 'BEGIN; INSERT INTO source DEFAULT VALUES; SELECT pg_sleep(600)' \
		>/dev/null 2>&1 & holder=$!
	seen "a transaction holds the windows back" \
		'bigbrotr_refresher_window_held_back_seconds{view="target"} > 0'
	seen "a window in the last whole cycle" \
		'bigbrotr_refresher_whole_cycle_view_start_seconds{view="target"} >= 0'
	dashboard_answers _window_
	release_view
	wait "$holder" 2>/dev/null || true
	seen "nothing holds them back" \
		'absent(bigbrotr_refresher_window_held_back_seconds)'
	sql -c 'ALTER SYSTEM RESET bigbrotr_refresher.views' \
		-c 'SELECT pg_reload_conf()' >/dev/null
	seen "the list is the old one" 'bigbrotr_refresher_list_views == 13'
	sql -c 'SELECT FROM bigbrotr_refresher.run(true)'
}

# The names of the old service cannot be changed, ours can.
check_metrics() {
	http "http://127.0.0.1:$EXPORTER_PORT/metrics" |
		as_user tee "$SCRATCH/metrics" >/dev/null
	equals "promtool has no complaint about our names" '' \
		"$(promtool check metrics <"$SCRATCH/metrics" 2>&1 | grep '^bigbrotr_')"
	equals "nothing is served that is not a number" '' \
		"$(grep -i ' nan$' "$SCRATCH/metrics")"
	equals "no label is named job" '' "$(grep '[{,]job=' "$SCRATCH/metrics")"
	holds "the exporter has no error" \
		grep -qx 'pg_exporter_last_scrape_error 0' "$SCRATCH/metrics"
	say "a scrape takes $(awk '$1 == "pg_exporter_last_scrape_duration_seconds" \
		{ printf "%.0f", $2 * 1000 }' "$SCRATCH/metrics") ms," \
		"and has $(grep -c '^[^#]' "$SCRATCH/metrics") series"
}

# Without a history the counts are those of the last cycle.
check_no_history() {
	parameter history_retention 0
	seen "without history, no view is told of" \
		'absent(bigbrotr_refresher_view_last_success_timestamp_seconds)'
	seen "without history, views_total" "$(gauge views_total) == 13"
	seen "without history, last_cycle_timestamp" "$(gauge last_cycle_timestamp) > 0"
	seen "without history, the intervals" \
		'count(bigbrotr_refresher_view_interval_seconds) == 13'
	parameter history_retention "'30d'"
	seen "the history is there again" \
		'count(bigbrotr_refresher_view_last_success_timestamp_seconds) == 13'
}

check_disabled() {
	parameter enabled off
	alert BigbrotrRefresherDisabled
	no_alert BigbrotrRefresherWorkerMissing
	answers "it is disabled" 1 '^WARNING: bigbrotr_refresher.enabled is off$'
	parameter enabled on
	no_alert BigbrotrRefresherDisabled
}

# A worker that is killed in a cycle: another one is to start only after an hour.
check_missing_worker() {
	local holder

	holds "at rest there is no process" await at_rest
	seen "which is all right" 'bigbrotr_refresher_worker_up == 1'
	hold_view & holder=$!
	holds "a view is held" await held
	sql -c 'SELECT FROM bigbrotr_refresher.run()'
	holds "a worker waits for it" await terminate_worker
	release_view
	wait "$holder" 2>/dev/null || true
	seen "the worker is missing" 'bigbrotr_refresher_worker_up == 0'
	alert BigbrotrRefresherWorkerMissing
	answers "the worker is missing" 2 \
		'^CRITICAL: no worker refreshes the views of bigbrotr'
	seen "what it did is still known" "$(gauge views_total) == 13"
}

# The formats that quote keep the message as the plain one begins it.  More keys
# may follow those that are named here.
check_logs() {
	local message

	message='bigbrotr_refresher: view_refresh_failed view=relay_metadata_latest duration=[0-9.]+ sqlstate=22012 error="broken \\"here\\", say\\nwe; a=b \\\\ c"( [a-z_]+=[^ ]+)*'
	holds "the plain log" grep -qE "WARNING:  $message\$" \
		"$SCRATCH/log/server.log"
	# shellcheck disable=SC2016
	holds "jsonlog keeps a message whole, and all its lines are JSON" \
		jq -s -e --arg re "^$message\$" '
			map(select(.message // "" | test($re))) | length > 0 and
			all(.error_severity == "WARNING" and .state_code == "22012" and
				.detail == "A detail." and .hint == "A hint.")' \
		"$SCRATCH/log/server.json"
	sql <<-SQL
		CREATE TABLE log (
			log_time timestamptz, user_name text, database_name text,
			process_id integer, connection_from text, session_id text,
			session_line_num bigint, command_tag text,
			session_start_time timestamptz, virtual_transaction_id text,
			transaction_id bigint, error_severity text, sql_state_code text,
			message text, detail text, hint text, internal_query text,
			internal_query_pos integer, context text, query text,
			query_pos integer, location text, application_name text,
			backend_type text, leader_pid integer, query_id bigint);
		COPY log FROM '$SCRATCH/log/server.csv' (FORMAT csv);
	SQL
	equals "csvlog keeps all our messages whole, just as jsonlog does" \
		"$(jq -r '.message // "" | select(startswith("bigbrotr_refresher: "))' \
			"$SCRATCH/log/server.json" | sort)" \
		"$(sql -c "SELECT message FROM log
			WHERE message LIKE 'bigbrotr_refresher: %'" | sort)"
}

check_pgbadger() {
	local format file

	for format in stderr csv jsonlog; do
		case $format in
			csv) file=server.csv ;;
			jsonlog) file=server.json ;;
			*) file=server.log ;;
		esac
		if as_user pgbadger --quiet --disable-hourly --format "$format" \
			--prefix '%m [%p] %q%u@%d ' --extension json \
			--outfile "$SCRATCH/pgbadger.$format.json" "$SCRATCH/log/$file" \
			>"$SCRATCH/pgbadger.log" 2>&1 && [ ! -s "$SCRATCH/pgbadger.log" ]
		then
			passed "pgbadger reads $format"
		else
			failed "pgbadger reads $format" <"$SCRATCH/pgbadger.log"
		fi
		holds "pgbadger has found our lines in $format" \
			grep -q 'bigbrotr_refresher: view_refresh_failed' \
			"$SCRATCH/pgbadger.$format.json"
	done
}

# A standby has no worker, and none is missing there.
check_standby() {
	local port standby

	as_user "$BIN/pg_basebackup" -h "$SCRATCH" -U postgres -c fast \
		-D "$SCRATCH/standby" -R
	as_user mkdir "$SCRATCH/s"
	cat >>"$SCRATCH/standby/postgresql.conf" <<-CONF
		unix_socket_directories = '$SCRATCH/s'
		log_directory = '$SCRATCH/s'
	CONF
	control "$SCRATCH/standby" start
	port=$(free_port)
	exporter "$SCRATCH/s" "$port"
	standby=$STARTED
	await_http "http://127.0.0.1:$port/metrics" "$SCRATCH/exporter.log"
	http "http://127.0.0.1:$port/metrics" |
		as_user tee "$SCRATCH/metrics" >/dev/null
	holds "a standby is scraped without error" \
		grep -qx 'pg_exporter_last_scrape_error 0' "$SCRATCH/metrics"
	equals "a standby serves none of the series" '' \
		"$(grep -E '^(service|cycle|bigbrotr)' "$SCRATCH/metrics")"
	CHECK_HOST=$SCRATCH/s answers "a standby" 0 '^OK: '
	stop "$standby"
}

check_no_exporter() {
	stop "$EXPORTER_PID"
	alert BigbrotrRefresherMetricsMissing
	no_alert BigbrotrRefresherWorkerMissing
}

# Prometheus waits for a second here, and the exporter needs more to see that
# there is no server.
check_no_server() {
	start_exporter
	no_alert BigbrotrRefresherMetricsMissing
	seen "the server is up" 'pg_up == 1'
	control "$SCRATCH/data" stop
	holds "the exporter says that it is not" await server_is_down
	alert BigbrotrRefresherMetricsMissing
	answers "there is no server" 2 'connection .* failed'
}

server_is_down() {
	http "http://127.0.0.1:$EXPORTER_PORT/metrics" | grep -qx 'pg_up 0'
}
