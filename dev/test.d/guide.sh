# shellcheck shell=bash
#
# Of dev/test monitoring: the commands by which the guide has BigBrotr's docker
# deployment switch over and go back, word for word, in folders that look like
# BigBrotr's.  There is no docker: a stand-in does with the server of the test
# what docker would do with its container.

GUIDE=docs/migrate-from-the-python-service.md

check_guide() {
	local deployment=$SCRATCH/guide/bigbrotr/deployments/bigbrotr

	guide_folders "$deployment"
	guide_server
	if guide_run "$deployment" >"$SCRATCH/guide/log" 2>&1; then
		passed "the guide, with docker compose"
	else
		failed "the guide, with docker compose" < <(
			tail -n 25 "$SCRATCH/guide/log"
			tail -n 10 "$SCRATCH/pg_ctl.log"
		)
	fi
	holds "it was followed to its end" guide_undone "$deployment"
	as_user cp "$SCRATCH/src/docker/docker-compose.override.yaml" "$deployment"
	equals "the service does not start without the alerts" \
		"bind source path does not exist: ./monitoring/prometheus/rules/bigbrotr_refresher.yml" \
		"$(guide_docker "$deployment" compose up -d refresher 2>&1)"
}

# guide_folders DEPLOYMENT: what the guide finds there, or beside it.
guide_folders() {
	as_user mkdir -p "$1/postgres" "$1/monitoring/prometheus/rules" \
		"$1/monitoring/grafana/provisioning/dashboards" "$SCRATCH/guide/bin"
	as_user ln -s "$SCRATCH/src" "$SCRATCH/guide/bigbrotr_refresher"
	as_user tee "$1/docker-compose.yaml" >/dev/null <<-'YAML'
		services:
		  postgres:
		    image: postgres:18-alpine@sha256:0123456789abcdef
	YAML
	as_user tee "$1/.env" >/dev/null </dev/null
	guide_stand_in | as_user tee "$SCRATCH/guide/bin/docker" >/dev/null
	as_user chmod 755 "$SCRATCH/guide/bin/docker"
}

# The stand-in: what it is not told to do is an error.
guide_stand_in() {
	cat <<-SH
		#!/bin/bash
		set -euo pipefail
		data=$SCRATCH/data bin=$BIN sockets=$SCRATCH
	SH
	cat <<-'SH'
		override=docker-compose.override.yaml

		# What is mounted must be there.
		mounts() {
			[ -e $override ] || return 0
			sed -n "/^  $1:/,/^  [a-z]/s/^ *source: //p" $override |
				while read -r file; do
					[ -e "$file" ] || {
						echo "bind source path does not exist: $file" >&2
						exit 1
					}
				done
		}

		restart() {
			local conf=$data/postgresql.conf

			mounts postgres
			if [ -e $override ]; then
				grep -qx ' *POSTGRES: postgres:18-alpine@sha256:0123456789abcdef' $override
				grep -q 'config_file=/etc/postgresql/bigbrotr_refresher.conf' $override
				conf=$PWD/postgres/bigbrotr_refresher.conf
				sed "s|'/etc/postgresql/postgresql.conf'|'$data/postgresql.conf'|" \
					"$conf" >"$conf.here"
				conf=$conf.here
			fi
			"$bin/pg_ctl" -s -w -D "$data" -l "$data/../pg_ctl.log" \
				-o "-c config_file=$conf" restart
		}

		case "$*" in
			"compose up -d --build postgres") restart ;;
			"compose up -d --build postgres refresher") restart && mounts refresher ;;
			"compose up -d refresher") mounts refresher ;;
			"compose exec -T postgres psql -U admin -d bigbrotr "*)
				"$bin/psql" -X -h "$sockets" -U postgres -d bigbrotr "${@:10}" ;;
			"compose exec -T prometheus promtool check rules /etc/prometheus/rules/"*)
				promtool check rules "monitoring/prometheus/rules/${8##*/}" ;;
			*) echo "what is: docker $*" >&2; exit 1 ;;
		esac
	SH
}

# guide_docker DEPLOYMENT ARGUMENT...
guide_docker() {
	as_user env -C "$1" "$SCRATCH/guide/bin/docker" "${@:2}"
}

# A server that does not know the extension yet, with BigBrotr's configuration.
guide_server() {
	as_user sed -i '/bigbrotr_refresher\|^log_\|^logging_/d' \
		"$SCRATCH/data/postgresql.conf"
	as_user tee "$SCRATCH/data/postgresql.auto.conf" >/dev/null </dev/null
	configure <<-CONF
		log_min_messages = warning
		shared_preload_libraries = 'pg_stat_statements'
	CONF
	control "$SCRATCH/data" start
	sql -c 'DROP EXTENSION bigbrotr_refresher'
}

# guide_run DEPLOYMENT: all its commands in one shell, which ends with the first
# that fails.  Prometheus and the exporter are at other ports here; what the
# guide asks of Prometheus is answered when it has read its files.
guide_run() {
	{
		cat <<-'SH'
			set -euo pipefail
			curl() {
				local i

				for ((i = 0; i < 300; i++)); do
					case "$*" in
						*/api/v1/rules)
							command curl --noproxy '*' "$@" |
								grep -F 'rules/bigbrotr_refresher.yml' && return ;;
						*/metrics)
							command curl --noproxy '*' "$@" |
								grep '^bigbrotr_refresher_worker_up.* 1$' && return ;;
						*) command curl --noproxy '*' "$@" && return ;;
					esac
					sleep 0.2
				done
				return 1
			}
		SH
		awk '/^```console$/ { on = 1; next } /^```/ { on = 0 } on' "$GUIDE" |
			sed "s/127.0.0.1:9090/127.0.0.1:$PROMETHEUS_PORT/
				s/127.0.0.1:8005/127.0.0.1:$EXPORTER_PORT/"
	} | as_user env -C "${1%/deployments/*}" PATH="$SCRATCH/guide/bin:$PATH" \
		bash -x
}

# guide_undone DEPLOYMENT: after the last command all is as it was.
guide_undone() {
	[ ! -e "$1/docker-compose.override.yaml" ] &&
		[ ! -e "$1/monitoring/prometheus/rules/bigbrotr_refresher.yml" ] &&
		[ -e "$1/monitoring/refresher/queries.yaml" ] &&
		[ "$(sql -c 'SHOW shared_preload_libraries')" = pg_stat_statements ] &&
		[ "$(sql -c "SELECT count(*) FROM pg_extension
			WHERE extname = 'bigbrotr_refresher'")" = 0 ]
}
