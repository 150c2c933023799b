/*-------------------------------------------------------------------------
 *
 * target_explain.c
 *	  Why a target cannot be refreshed, in words.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "commands/defrem.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"

#include "src/common/log.h"
#include "src/plan/depend.h"
#include "src/plan/target_explain.h"

static const char *target_merge_setting(void);
static const char *target_function_name(const RefreshTarget *target);
static const char *target_display_function(const char *schema,
										   const char *name);

/*
 * If the name is not valid in the encoding of this database, say so and
 * return true.  (One list serves databases of several encodings.)
 */
bool
target_explain_encoding(RefreshTarget *target)
{
	const char *name = target->name;

	if (target->schema != NULL &&
		!pg_verifymbstr(target->schema, strlen(target->schema), true))
		name = target->schema;
	else if (pg_verifymbstr(name, strlen(name), true))
		return false;

	target->sqlerrcode = ERRCODE_CHARACTER_NOT_IN_REPERTOIRE;
	target->message = psprintf("name %s is not valid in the encoding \"%s\" of this database",
							   target_display(target_label(NULL, name)),
							   GetDatabaseEncodingName());
	target->detail = "Names of the list are compared byte by byte with those of each database.";
	target->hint = "Write the list in the encoding of this database, or give the view a name in ASCII.";
	return true;
}

void
target_explain_complexity(RefreshTarget *target)
{
	target->sqlerrcode = ERRCODE_STATEMENT_TOO_COMPLEX;
	target->message = psprintf("query of view %s is too complex",
							   target_display(target_label(target->schema,
														   target->name)));
	target->detail = psprintf("More than %d views are nested below it, or it refers to more than %d relations when they are expanded.",
							  DEPEND_MAX_DEPTH, DEPEND_MAX_REFERENCES);
	target->hint = "Make one of the views below it a materialized view.";
}

void
target_explain_distrust(RefreshTarget *target, Form_pg_proc proc, Oid role)
{
	const char *schema = get_namespace_name(proc->pronamespace);

	target->sqlerrcode = ERRCODE_INSUFFICIENT_PRIVILEGE;
	target->message = psprintf("refresh function %s belongs to role \"%s\", which is not trusted",
							   target_display_function(schema,
													   NameStr(proc->proname)),
							   target_role_name(proc->proowner));
	target->detail = psprintf("A refresh function must belong to a superuser or to a role that has the privileges of \"%s\".",
							  target_role_name(role));
	target->hint = "Change the owner of the function, or drop it.";
}

void
target_explain_ambiguity(RefreshTarget *target, Oid one, Oid other)
{
	Oid			namespace = get_func_namespace(target->funcid);

	target->method = REFRESH_METHOD_NONE;
	target->funcid = target->window_type = InvalidOid;
	target->sqlerrcode = ERRCODE_AMBIGUOUS_FUNCTION;
	target->message = psprintf("refresh function %s is ambiguous",
							   target_display_function(get_namespace_name(namespace),
													   target_function_name(target)));
	target->detail = psprintf("One takes a window of type %s, another one a window of type %s.",
							  format_type_be(one), format_type_be(other));
	target->hint = "Drop all but one of them.";
}

void
target_explain_missing(RefreshTarget *target)
{
	const char *name = target_display(target_label(target->schema,
												   target->name));
	const char *function =
		target_display_function(target->schema, target_function_name(target));

	if (target->schema != NULL &&
		!OidIsValid(get_namespace_oid(target->schema, true)))
	{
		target->sqlerrcode = ERRCODE_UNDEFINED_SCHEMA;
		target->message = psprintf("schema %s does not exist",
								   target_display(target_label(NULL, target->schema)));
		target->hint = "Create it, or correct the name.";
		return;
	}

	target->sqlerrcode = ERRCODE_UNDEFINED_FUNCTION;
	if (target->relkind != 0)
	{
		target->message = psprintf("refresh function %s does not exist",
								   function);
		target->detail = psprintf("%s is a %s, and only a materialized view can do without.",
								  name,
								  target_relkind_name(target->relkind));
		target->hint = "Create a function of this name that takes no arguments or a window, or correct the name.";
		return;
	}
	target->message = psprintf("materialized view or refresh function %s does not exist",
							   name);
	target->detail = psprintf("There is neither a materialized view %s nor a function %s without arguments.",
							  name, function);
	target->hint = target->schema != NULL ?
		"Create one of them, or correct the name." :
		"Create one of them in a schema of the search_path, or name the schema that has it.";
}

/*
 * If a materialized view cannot be merged, say why.  Also say what to do
 * about it, unless the next refresh ends that, or merges were turned off.
 */
void
target_explain_unmerged(RefreshTarget *target, Form_pg_class class)
{
	Oid			trigger;

	target->not_merged = target->merge_hint = NULL;
	if (!class->relispopulated)
		target->not_merged = "it is not populated";
	else if (target->merge == MERGE_OFF)
		target->not_merged = "\"" REFRESHER_NAME ".merge\" is off for it";
	else if (class->relam != HEAP_TABLE_AM_OID)
	{
		target->not_merged = psprintf("it is stored by access method %s, not heap",
									  target_am_name(class->relam));
		target->merge_hint = "Create it anew with USING heap.";
	}
	else if (OidIsValid(trigger = target_unsafe_trigger()))
	{
		target->not_merged = psprintf("an event trigger calls %s, whose library may be listed before \"" REFRESHER_NAME "\" in \"shared_preload_libraries\"",
									  format_procedure(trigger));
		target->merge_hint = "List \"" REFRESHER_NAME "\" first in \"shared_preload_libraries\", and restart the server.";
	}
}

/*
 * Say that no part of a materialized view can be refreshed, since it is not
 * merged.
 */
void
target_explain_no_part(RefreshTarget *target, Form_pg_class class)
{
	target->method = REFRESH_METHOD_NONE;
	target->sqlerrcode = ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
	target->message = psprintf("cannot refresh materialized view %s in part",
							   target_display(target_label(target->schema,
														   target->name)));
	target->detail = psprintf("It is not merged: %s.", target->not_merged);
	if (target->merge_hint != NULL)
		target->hint = target->merge_hint;
	else if (!class->relispopulated)
		target->hint = "Refresh the whole view first.";
	else
		target->hint = psprintf("Set %s to \"worker\".",
								target_merge_setting());
}

/*
 * Say what to do for readers who wait for a REFRESH that could be
 * CONCURRENTLY.  "indexed" says whether the view has the index for that.
 */
void
target_explain_blocking(RefreshTarget *target, Form_pg_class class,
						bool indexed)
{
	const char *merge = target_merge_setting();

	if (target->merge == MERGE_OFF)
		target->merge_hint = indexed ?
			psprintf("Readers wait for its refreshes: grant role \"%s\" TEMPORARY on the database, or set %s to \"worker\".",
					 target_role_name(class->relowner), merge) :
			psprintf("Readers wait for its refreshes: set %s to \"worker\", or create a unique index on columns of it, without a WHERE clause.",
					 merge);
}

/*
 * Where merges were turned off, if they were for one view.
 */
static const char *
target_merge_setting(void)
{
	return refresher_merge == MERGE_OFF ?
		"\"" REFRESHER_NAME ".merge\"" : "its own \"merge\" in the list";
}

/*
 * The name that a target's refresh function has, whether there is one or not.
 */
static const char *
target_function_name(const RefreshTarget *target)
{
	return psprintf("%s" TARGET_SUFFIX, target->name);
}

/*
 * The name of a function, for messages.
 */
static const char *
target_display_function(const char *schema, const char *name)
{
	return target_display(psprintf("%s()", target_label(schema, name)));
}

const char *
target_relkind_name(char relkind)
{
	switch (relkind)
	{
		case RELKIND_RELATION:
		case RELKIND_PARTITIONED_TABLE:
			return "table";
		case RELKIND_VIEW:
			return "view";
		case RELKIND_FOREIGN_TABLE:
			return "foreign table";
		case RELKIND_SEQUENCE:
			return "sequence";
		case RELKIND_COMPOSITE_TYPE:
			return "composite type";
		default:
			return "relation of another kind";
	}
}

/*
 * The name of an access method, which may have been dropped.
 */
const char *
target_am_name(Oid method)
{
	const char *name = get_am_name(method);

	return name != NULL ? name : "(dropped)";
}

/*
 * The name of a role, which may have been dropped.  The name may be in any
 * encoding, since all databases share the roles.
 */
const char *
target_role_name(Oid role)
{
	const char *name = GetUserNameFromId(role, true);

	return name != NULL ? log_valid(name) : "(dropped)";
}
