/*-------------------------------------------------------------------------
 *
 * advice.h
 *	  Advice about a view, in sentences.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADVICE_H
#define ADVICE_H

#include "src/plan/plan.h"
#include "src/record/view_state.h"

extern const char *advice_unserved(void);
extern const char *advice_text(const PlanItem *item, const ViewState *known,
							   const char *skip_hint,
							   const char *window_advice,
							   const char *unserved);

#endif							/* ADVICE_H */
