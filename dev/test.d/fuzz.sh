# shellcheck shell=bash
#
# dev/test fuzz [INPUTS]: the grammar of the list of views, given so many
# inputs that libFuzzer makes up, 200000 unless said.  It starts from the lists
# in sql/grammar.sql; fuzz/fuzz_view_list.c tells what must hold.
#
# What fails is printed, and kept as fuzz/failed-*, to be given to
# dev/test fuzz fuzz/failed-... again.

# How long one input may take, in seconds.
FUZZ_PATIENCE=10

test_fuzz() {
	need_packages clang
	scratch_make
	as_user mkdir "$SCRATCH/fuzz" "$SCRATCH/seeds" "$SCRATCH/corpus"
	fuzz_build
	if [ -e "${1-}" ]; then
		as_user tee "$SCRATCH/input" <"$1" >/dev/null
		fuzz_run "$SCRATCH/input"
		return
	fi
	fuzz_seeds
	say "fuzzing, from $(find "$SCRATCH/seeds" -type f | wc -l) lists"
	fuzz_run -runs="${1:-200000}" -max_len=2000 \
		-seed="${BIGBROTR_REFRESHER_RANDOM_SEED-0}" \
		-dict="$SCRATCH/src/fuzz/view_list.dict" -print_final_stats=1 \
		"$SCRATCH/corpus" "$SCRATCH/seeds"
}

# Clang, since gcc has no libFuzzer.
fuzz_build() {
	local flags='-g -O2 -fno-omit-frame-pointer -fno-sanitize-recover=all'

	as_user mkdir "$SCRATCH/src"
	tar -C "$PROJECT" --create --file=- fuzz src/plan/view_list.[ch] |
		as_user tar -C "$SCRATCH/src" --no-same-owner --extract --file=-
	# The shim takes the place of the server's headers.
	# shellcheck disable=SC2086
	as_user clang $flags -fsanitize=fuzzer,address,undefined \
		-Wall -Wextra -Werror -I src/fuzz/shim -I src -o fuzz/view_list \
		src/fuzz/fuzz_view_list.c src/fuzz/shim/shim.c src/src/plan/view_list.c -lm ||
		die "the fuzz target could not be built"
}

# The strings in the first column of quotes of the tests of the grammar, each
# a file.  What SQL's escapes stand for is of no matter to a seed.
fuzz_seeds() {
	sed -n "s/^	([0-9]*, \(U&\|E\)\{0,1\}'\(.*\)'),\{0,1\}\$/\2/p" \
		"$PROJECT/sql/grammar.sql" | as_user split -l 1 -a 3 -d - seeds/
}

# fuzz_run ARGUMENT...: the target, and one result.
fuzz_run() {
	local status=0 log=$SCRATCH/fuzz.log file

	interruptible fuzz_target "$@" >"$log" 2>&1 || status=$?
	if [ "$status" = 0 ]; then
		grep -E '^(Done|stat::|Executed)' "$log" || tail -n 3 "$log"
		count 1 0
		return
	fi
	tail -n 100 "$log"
	find "$SCRATCH/fuzz" -maxdepth 1 -name 'failed-*' |
		while IFS= read -r file; do
			cp "$file" "$PROJECT/fuzz/"
			say "kept as fuzz/$(basename "$file")"
		done
	count 0 1
}

fuzz_target() {
	as_user env UBSAN_OPTIONS=print_stacktrace=1 nice -n 10 fuzz/view_list \
		-timeout="$FUZZ_PATIENCE" -artifact_prefix="$SCRATCH/fuzz/failed-" "$@"
}
