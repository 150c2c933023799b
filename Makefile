# bigbrotr_refresher: keeps materialized views fresh from inside the server
MODULE_big = bigbrotr_refresher
OBJS = \
	bigbrotr_refresher.o \
	src/change.o \
	src/cycle.o \
	src/depend.o \
	src/history.o \
	src/log.o \
	src/memory.o \
	src/plan.o \
	src/queue.o \
	src/rank.o \
	src/refresh.o \
	src/schedule.o \
	src/sql.o \
	src/status.o \
	src/target.o \
	src/view_list.o \
	src/work.o \
	src/worker.o

EXTENSION = bigbrotr_refresher
DATA = bigbrotr_refresher--1.0.sql
PGFILEDESC = "bigbrotr_refresher - keeps materialized views fresh"

# Each kind of test has a server of its own, preloaded with the extension.
REGRESS = grammar parameters plan trust ordering privileges hostile objects timeline skippable
REGRESS_OPTS = --temp-instance=./tmp_check \
	--temp-config=$(srcdir)/sql/regress.conf --encoding=UTF8 --no-locale
ISOLATION = plan_waits_for_none plan_while_dropped
ISOLATION_OPTS = --temp-instance=./tmp_check_iso \
	--temp-config=$(srcdir)/specs/isolation.conf --encoding=UTF8 --no-locale
TAP_TESTS = 1

PG_CONFIG = pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# PGXS knows nothing of headers.
$(OBJS): $(wildcard $(srcdir)/src/*.h)
