# shellcheck shell=bash
#
# Of dev/test monitoring: the dashboard for Grafana.  Its queries are asked of
# Prometheus.  What it is made of is held to the types that Grafana publishes:
# they come from the npm registry, and are kept in the cache folder.

. dev/debian.sh

DASHBOARD=monitoring/grafana-dashboard.json

# Each query of the dashboard has an answer: most of them now that a view fails,
# others below, when a cycle runs, views are skipped, or there are windows.
check_dashboard() {
	# shellcheck disable=SC2016
	jq -r '.. | objects | .expr? // empty' "$DASHBOARD" | sort -u |
		sed 's/\$datname/bigbrotr/g' | as_user tee "$SCRATCH/expressions" >/dev/null
	dashboard_answers -v -e _window_ -e '^time() .*cycle_running' \
		-e '^max .*outcome="skipped"'
}

# dashboard_answers OPTION...: those of its queries that grep finds with these.
dashboard_answers() {
	local expression

	while IFS= read -r expression; do
		seen "the dashboard's ${expression:0:60}..." "$expression"
	done < <(grep "$@" "$SCRATCH/expressions")
}

# Releases of Grafana: BigBrotr's, and a recent one.
GRAFANA=(10.4.1 13.2.3)
TYPESCRIPT=5.9.3

# The dashboard is as Grafana's own types say.
check_dashboard_types() {
	local release types folder=$SCRATCH/types

	if ! npm_packages "typescript@$TYPESCRIPT" "${GRAFANA[@]/#/@grafana/schema@}"
	then
		say "WARNING: the dashboard is not held to Grafana's types: SKIPPED"
		count 0 0 ${#GRAFANA[@]}
		return
	fi
	as_user mkdir "$folder"
	as_user tar -C "$folder" -xzf - <"$(npm_file "typescript@$TYPESCRIPT")"
	as_user mv "$folder/package" "$folder/typescript"
	for release in "${GRAFANA[@]}"; do
		types=$folder/$release
		as_user mkdir -p "$types/node_modules/@grafana"
		as_user tar -C "$types/node_modules/@grafana" -xzf - \
			<"$(npm_file "@grafana/schema@$release")"
		as_user mv "$types/node_modules/@grafana/"{package,schema}
		# Later releases have no types for the queries of Prometheus.
		jq -r --argjson prometheus "$([[ $release == 10.* ]] && echo true || echo false)" \
			-f dev/test.d/dashboard.jq "$DASHBOARD" |
			as_user tee "$types/dashboard.ts" >/dev/null
		holds "the dashboard has the types of Grafana $release" compile "$types"
	done
}

# compile FOLDER: its dashboard.ts, as far as to see whether all types agree.
compile() {
	# shellcheck disable=SC2016
	as_user sh -c 'cd "$0" && exec node ../typescript/bin/tsc --noEmit --strict \
		--skipLibCheck --target es2022 --module esnext \
		--moduleResolution bundler dashboard.ts' "$1"
}

# npm_packages NAME@VERSION...: have their archives in the cache folder.
npm_packages() {
	local name file new

	if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
		say "there is no Node.js with npm"
		return 1
	fi
	mkdir -p "$CACHE/npm"
	for name in "$@"; do
		file=$(npm_file "$name")
		[ ! -s "$file" ] || continue
		say "fetching by npm: $name"
		new=$(mktemp -d "$CACHE/npm/new.XXXXXX")
		on_exit rm -rf "$new"
		if ! npm pack --loglevel=error --fetch-retries=1 --cache "$new/cache" \
			--pack-destination "$new" "$name" >"$new/log" 2>&1
		then
			head -n 5 "$new/log" >&2
			return 1
		fi
		mv "$new"/*.tgz "$file"
		rm -rf "$new"
	done
}

npm_file() {
	echo "$CACHE/npm/${1//\//+}.tgz"
}
