/*-------------------------------------------------------------------------
 *
 * hashfn.h
 *	  A stand-in for the server's hash function: see shim.c.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef HASHFN_H
#define HASHFN_H

extern uint32 hash_bytes(const unsigned char *bytes, int size);

#endif							/* HASHFN_H */
