# shellcheck shell=bash
#
# dev/test board [FILE]: the page of board(), in a real browser: Debian's
# chromium, without a window and without a network.
#
#     dev/test board                   the tests
#     dev/test board docs/board.png    and a picture of the page, for README.md
#
# One page is that of BigBrotr's database, of which one view fails; the other is
# of views whose names and errors are meant to harm.  The browser must read both
# as they were written, fit them to a phone, and run nothing.

BOARD_BIN=

# Narrow ones are phones.
BOARD_WIDTHS='[320, 390, 768, 1280]'

test_board() {
	need_server "$(pg_major)"
	need_packages chromium fonts-dejavu-core jq
	scratch_make
	server_tree "$(pg_major)"
	say "building for $("$PG_CONFIG" --version)"
	interruptible build_extension
	BOARD_BIN=$("$PG_CONFIG" --bindir)
	say "starting PostgreSQL, and refreshing"
	board_server
	board_bigbrotr
	board_hostile

	say "looking at the pages"
	board_measure bigbrotr light
	board_check_page 13 1
	board_check_look light
	board_measure bigbrotr dark
	board_check_look dark
	board_measure hostile light
	board_check_page 7 7
	board_check_harmless
	board_check_pictures
	[ -z "${1-}" ] || board_picture "$1"
}

# ---- what is looked at -----------------------------------------------------

board_server() {
	as_user "$BOARD_BIN/initdb" -D "$SCRATCH/data" -U postgres -A trust -N \
		--no-locale -E UTF8 >/dev/null
	cat >>"$SCRATCH/data/postgresql.conf" <<-CONF
		listen_addresses = ''
		unix_socket_directories = '$SCRATCH'
		fsync = off
		max_worker_processes = 8
		timezone = 'UTC'
		shared_preload_libraries = 'bigbrotr_refresher'
		bigbrotr_refresher.databases = 'bigbrotr, hostile'
		bigbrotr_refresher.interval = '1h'
		bigbrotr_refresher.max_workers = 2
	CONF
	as_user "$BOARD_BIN/pg_ctl" -s -w -D "$SCRATCH/data" \
		-l "$SCRATCH/server.log" start || die "the server did not start"
	board_sql postgres -c 'CREATE DATABASE bigbrotr' -c 'CREATE DATABASE hostile' \
		-c "ALTER DATABASE hostile SET bigbrotr_refresher.views = '*'"
}

# board_sql DATABASE ARGUMENT...
board_sql() {
	as_user "$BOARD_BIN/psql" -X -q -A -t -v ON_ERROR_STOP=1 -h "$SCRATCH" \
		-U "${BOARD_ROLE:-postgres}" -d "$@"
}

# board_page DATABASE: as monitoring gets it, into a file of that name.
board_page() {
	BOARD_ROLE=monitor board_sql "$1" -c 'SELECT bigbrotr_refresher.board()' |
		as_user tee "$SCRATCH/$1.html" >/dev/null
}

# A history of two days, and two cycles, in the last of which a view fails.
board_bigbrotr() {
	board_sql bigbrotr -v scale=0.5 -f "$SCRATCH/src/demo/all.sql"
	board_sql bigbrotr -c 'CREATE EXTENSION bigbrotr_refresher' \
		-c 'CREATE ROLE monitor LOGIN IN ROLE pg_monitor'
	board_sql bigbrotr -f "$SCRATCH/src/dev/test.d/board_history.sql"
	board_sql bigbrotr -c 'SELECT FROM bigbrotr_refresher.run(true)' \
		-f "$SCRATCH/src/demo/break.sql" -f "$SCRATCH/src/demo/change.sql" \
		-c 'SELECT FROM bigbrotr_refresher.run(true)'
	board_page bigbrotr
}

# Each of these views fails, with an error that is no better than its name.
board_hostile() {
	board_sql hostile <<-'SQL'
		CREATE EXTENSION bigbrotr_refresher;
		CREATE FUNCTION fail(message text) RETURNS int LANGUAGE plpgsql AS
		$$ BEGIN RAISE EXCEPTION '%', message; END $$;
		CREATE TABLE name AS SELECT * FROM unnest(ARRAY[
			'<script>hacked = 1; parent.hacked = 1</script>',
			'<img src="x" onerror="parent.hacked = 1">',
			'"><svg onload="parent.hacked = 1">',
			'</title></style>]]><!--&lt;',
			E'new\nline\ttab \x01 ''"&amp;',
			U&'\202Eright to left \05D0\05D1\2069 \+01F600',
			repeat('w', 63)]) AS name;
		SELECT format('CREATE MATERIALIZED VIEW %I AS SELECT fail(%L) AS x WITH NO DATA',
			name, name || repeat('w', 900)) FROM name
		\gexec
		SELECT FROM bigbrotr_refresher.run(true);
	SQL
	board_page hostile
}

# ---- the browser -------------------------------------------------------------

# board_browser SCHEME ARGUMENT...
board_browser() {
	local scheme=1

	[ "$1" = light ] || scheme=0
	shift
	as_user timeout 300 chromium --headless --no-sandbox --disable-gpu \
		--disable-dev-shm-usage --hide-scrollbars --no-first-run \
		--disable-background-networking --host-resolver-rules='MAP * ~NOTFOUND' \
		--blink-settings="preferredColorScheme=$scheme" \
		--user-data-dir="$SCRATCH/chromium" "$@" 2>"$SCRATCH/chromium.log" ||
		die "chromium failed: $(tail -n 5 "$SCRATCH/chromium.log")"
}

# board_run SCHEME NAME=VALUE...: run board.js with these constants; what it has
# found is in BOARD_FOUND.
board_run() {
	local scheme=$1 constant

	shift
	{
		echo '<!DOCTYPE html><meta charset="utf-8"><body><script>'
		for constant in "$@"; do
			echo "const ${constant%%=*} = ${constant#*=};"
		done
		cat "$SCRATCH/src/dev/test.d/board.js"
		echo '</script>'
	} | as_user tee "$SCRATCH/run.html" >/dev/null
	BOARD_FOUND=$(board_browser "$scheme" --virtual-time-budget=60000 \
		--window-size=1400,1000 --dump-dom "file://$SCRATCH/run.html" |
		sed -n 's/.*<pre id="found">\([A-Za-z0-9+/=]*\)<.*/\1/p' | base64 -d)
	[ -n "$BOARD_FOUND" ] || die "chromium has run nothing"
}

board_measure() {
	board_run "$2" "page=atob('$(base64 -w 0 "$SCRATCH/$1.html")')" \
		"widths=$BOARD_WIDTHS" "pictures={}"
}

# board_screenshot DATABASE SCHEME WIDTH HEIGHT FILE
board_screenshot() {
	board_browser "$2" --window-size="$3,$4" --screenshot="$SCRATCH/$5" \
		"file://$SCRATCH/$1.html" >/dev/null
}

# ---- what must hold ------------------------------------------------------------

# board_equals NAME EXPECTED JQ
board_equals() {
	local actual

	actual=$(jq -c "$3" <<<"$BOARD_FOUND" 2>&1) || true
	if [ "$2" = "$actual" ]; then
		count 1 0
		[ ${#VERBOSE[@]} = 0 ] || printf 'ok - %s\n' "$1"
	else
		count 0 1
		printf 'not ok - %s\n    expected: %s\n    actual:   %s\n' "$1" "$2" "$actual"
	fi
}

# board_check_page VIEWS FAILURES: the page that was measured last.
board_check_page() {
	board_equals "XML has no complaint" 'null' .xml_error
	board_equals "HTML's tree is that of XML" 'null' .difference
	board_equals "a row for each view" "$1" .views
	board_equals "a bar for each attempt of the cycle" "$1" .bars
	board_equals "each failure" "$2" .failures
	board_equals "it refers to nothing outside" '[]' .references
	board_equals "no handlers, nothing that could load or run" '[]' .active
	board_equals "it fits, however narrow" '[]' '[.widths[] | select(.overflow > 0)]'
	board_equals "no text is below 12 pixels" '[]' '[.widths[] | select(.smallest < 12)]'
	board_equals "text stands out from its background (WCAG AA)" '[]' '.faint'
}

# board_check_look SCHEME
board_check_look() {
	board_equals "$1: it heeds the scheme" "\"$1\"" .scheme
	board_equals "$1: text stands out from its background (WCAG AA)" '[]' .faint
	board_equals "$1: what is drawn stands out, too" '[]' .faint_shapes
}

board_check_harmless() {
	local names

	names=$(board_sql hostile -c "
		SELECT json_agg(replace(replace(replace(replace(replace(quote_ident(name),
			E'\n', '\n'), E'\t', '\t'), E'\x01', '\x01'), U&'\202E', '\u202e'), U&'\2069', '\u2069'))
		FROM name")
	board_equals "nothing of a name or an error was run" 'false' .hacked
	board_equals "the title is ours" '"hostile: materialized views"' .title
	board_equals "names are as they are" "$(jq -c 'sort' <<<"$names")" '.names | sort'
}

# Is something drawn, in the colours of the scheme?
board_check_pictures() {
	local scheme width pictures=() name

	for scheme in light dark; do
		for width in 390 1280; do
			board_screenshot bigbrotr "$scheme" "$width" 2000 "$scheme-$width.png"
			pictures+=("'$scheme-$width': 'data:image/png;base64,$(base64 -w 0 "$SCRATCH/$scheme-$width.png")'")
		done
	done
	board_run light "page=''" "widths=[]" "pictures={$(
		IFS=,
		echo "${pictures[*]}"
	)}"
	for name in light-390 light-1280 dark-390 dark-1280; do
		board_equals "$name is as wide as the window" "${name#*-}" ".pictures[\"$name\"].width"
		board_equals "$name is ${name%-*}, and not blank" 'true' ".pictures[\"$name\"] |
			.background > 0.5 and .background < 0.97 and .colours > 50 and
			(.brightness $([ "${name%-*}" = light ] && echo '> 200' || echo '< 70'))"
	done
}

# For README.md: the page as it is some time later, made smaller by a palette.
board_picture() {
	need_packages pngquant
	board_sql bigbrotr -f "$SCRATCH/src/dev/test.d/board_later.sql"
	board_page bigbrotr
	board_screenshot bigbrotr light 1120 1490 picture.png
	as_user pngquant --force --speed 1 --output "$SCRATCH/small.png" 64 "$SCRATCH/picture.png"
	cp "$SCRATCH/small.png" "$1"
	say "$1: $(stat -c %s "$1") bytes"
}
