# bigbrotr_refresher: keeps materialized views fresh from inside the server
MODULE_big = bigbrotr_refresher
OBJS = \
	bigbrotr_refresher.o \
	src/advice.o \
	src/sql.o \
	src/sql_board.o \
	src/sql_refresh.o \
	src/worker/clock.o \
	src/worker/decide.o \
	src/worker/launch.o \
	src/worker/launcher.o \
	src/worker/overrides.o \
	src/worker/roster.o \
	src/worker/schedule.o \
	src/worker/worker.o \
	src/cycle/cycle.o \
	src/cycle/participant.o \
	src/cycle/queue.o \
	src/cycle/rank.o \
	src/record/admit.o \
	src/record/claim.o \
	src/record/deadlock.o \
	src/record/history.o \
	src/record/notify.o \
	src/record/request.o \
	src/record/slots.o \
	src/record/status.o \
	src/record/told.o \
	src/record/watch.o \
	src/refresh/change.o \
	src/refresh/condition.o \
	src/refresh/checkpoint.o \
	src/refresh/counted.o \
	src/refresh/elsewhere.o \
	src/refresh/execute.o \
	src/refresh/hook.o \
	src/refresh/merge.o \
	src/refresh/merge_command.o \
	src/refresh/merge_diff.o \
	src/refresh/merge_query.o \
	src/refresh/merge_rows.o \
	src/refresh/merge_table.o \
	src/refresh/merge_write.o \
	src/refresh/part.o \
	src/refresh/query.o \
	src/refresh/query_object.o \
	src/refresh/refresh.o \
	src/refresh/state.o \
	src/refresh/window.o \
	src/refresh/window_look.o \
	src/plan/depend.o \
	src/plan/plan.o \
	src/plan/target.o \
	src/plan/target_explain.o \
	src/plan/view_list.o \
	src/plan/view_settings.o \
	src/common/attempt.o \
	src/common/guarded.o \
	src/common/log.o \
	src/common/process.o \
	src/common/settings.o

EXTENSION = bigbrotr_refresher
DATA_built = bigbrotr_refresher--1.0.sql
PGFILEDESC = "bigbrotr_refresher - keeps materialized views fresh"

# Each kind of test has a server of its own, preloaded with the extension.
REGRESS = grammar parameters plan advice trust ordering privileges hostile objects cycles timeline board skippable bodies nested merging part settings windows
REGRESS_OPTS = --temp-instance=./tmp_check \
	--temp-config=$(srcdir)/sql/regress.conf --encoding=UTF8 --no-locale
ISOLATION = plan_waits_for_none plan_while_dropped dropped_meanwhile
ISOLATION_OPTS = --temp-instance=./tmp_check_iso \
	--temp-config=$(srcdir)/specs/isolation.conf --encoding=UTF8 --no-locale
TAP_TESTS = 1

PG_CONFIG = pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# The order is that of what needs what.
SCRIPT = begin tables functions views board privileges
bigbrotr_refresher--1.0.sql: $(SCRIPT:%=$(srcdir)/script/%.sql)
	awk 'FNR == 1 && NR > 1 { print "" } { print }' $^ > $@

# PGXS knows nothing of headers.
$(OBJS): $(wildcard $(srcdir)/src/*.h $(srcdir)/src/*/*.h)
