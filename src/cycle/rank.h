/*-------------------------------------------------------------------------
 *
 * rank.h
 *	  In which order to start the views of a cycle, so that it ends soonest.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef RANK_H
#define RANK_H

/*
 * We compare pairs of at most this many views.  With more views, enough small
 * ones are left to fill any gap, and the search would take too long.
 */
#define RANK_MOST_LEFT		24

/* ... and at most this many, with those that are running */
#define RANK_MOST			64

/* A view to be ranked */
typedef struct RankPath
{
	int			view;			/* the caller's index */
	int			stage;
	int			nreaders;		/* the views that read it */
	const int  *readers;		/* their indexes, all greater than its own */
	int64		duration;		/* in microseconds; 0: unknown */
	int64		length;			/* with the longest chain of readers after it */
} RankPath;

/* A view that is not done, in a prediction */
typedef struct RankView
{
	int			view;			/* the caller's index */
	int			rank;
	int			stage;
	int			nwaits;			/* what it reads and is not done */
	int64		duration;		/* or what is left of it, in microseconds */
	uint64		readers;		/* a bit for each that reads it */
} RankView;

/* The rest of a cycle: first the views that have not started, by rank */
typedef struct RankRest
{
	int			nleft;
	int			nviews;			/* with those that are running */
	int			nprocesses;
	RankView	views[RANK_MOST];
} RankRest;

extern void rank_by_path(RankPath *paths, int nviews);
extern bool rank_improve(const RankRest *rest, int *order);

#endif							/* RANK_H */
