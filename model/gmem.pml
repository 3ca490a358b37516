/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The GMEM residency protocol for one virtual page of a process and, after a
 * fork, of its child, with two devices and a CPU.
 *
 * Every proctype and inline names the C function it stands for.  What is
 * modelled, what is left out and how to read a counterexample is described in
 * Documentation/gmem/model.rst; scripts/model.sh runs the configurations
 * (-DWITH_*) and the deliberately broken variants (-DBUG_*).
 *
 * Properties, numbered as in Documentation/gmem/model.rst:
 *   I1  CPU PTE is a marker <=> the vm_object says that a device has the page
 *   I2  a device reaches only what its process has a view of, and writes only
 *       to what nobody else has one of; or a host page as far as the CPU's
 *       mapping of it goes
 *   I3  a page with a foreign reference does not move
 *   I4  memory goes back to its allocator only when no device can reach it
 *   I5  every reader sees the newest bytes of its process, and never what
 *       another one wrote after fork; a failed copy loses nothing
 * plus: no deadlock, nothing leaked when everything has come to rest, and with
 * -DPROGRESS no retry loop that never ends.
 *
 * Names used alike everywhere: a is the address space, 0 the parent and 1 the
 * child; d a device; c a context, 2 * a + d.
 */

/* Frames: 1..3 host folios, 4..5 runs of device 0, 6..7 runs of device 1. */
#define NONE		0
#define MARKER		15
#define NR_HOST		3
#define IS_HOST(p)	((p) >= 1 && (p) <= NR_HOST)
#define DEV_OF(r)	(((r) - 4) / 2)
#define BIT(f)		(1 << (f))
#define RUNS_OF(d)	(BIT(4 + 2 * (d)) | BIT(5 + 2 * (d)))

/* folio_ref_count(): 0 is a free folio, FROZEN one that migration froze. */
#define FROZEN		9

/* CPU side: the page table entry, its lock, the CPU's TLB, host folios. */
byte pte[2] = NONE;		/* NONE, MARKER or a host frame */
bit ptew[2];			/* pte_write() */
bit ptl[2];			/* held by a section of several steps */
byte ctlb[2];
bit ctlbw[2];
byte ref[NR_HOST + 1];

/* struct vm_object: the slot of this page and the gm_block in it. */
bit blk[2], busy[2], valid[2];
bit sib[2];			/* the block has another page */
byte brun[2];			/* gm_block::loc */

/* Runs that are handed out; those of them on gm_dev::dead. */
byte used, dead;
byte views[4];			/* gm_run::views, of runs 4 to 7 */
byte stale;			/* gm_run::stale */
byte deferred[2];		/* gm_dev::deferred */
bit closing[2];			/* gm_hnode::closing */

/* struct gm_context, with its page table and the device's TLB. */
byte dpte[4], dtlb[4];
bit dptew[4], dtlbw[4];
bit map_lock[4];
bit ctx_dead[4];		/* gm_context::dead */
byte inval_active[4];
bit defer[4];			/* nr_deferred != 0, inval_work is queued */

/*
 * The interval notifier of struct gm_window, as mm/mmu_notifier.c has it.  A
 * sequence number matters only to who remembered it, so "unchanged since
 * mmu_interval_read_begin()" is a bit that mmu_interval_set_seq() clears.
 */
byte itree_active[2];		/* active_invalidate_ranges */
bit win[4];			/* the window exists */
bit win_hit[4];			/* its sequence number is the current odd one */
bit seq_same[4];

/*
 * Data.  Versions are compared with the newest only, so that one bit per frame
 * is exact: it holds the newest bytes of that process or it does not.  zero_ok:
 * the newest bytes are zeros (never touched, or zapped since the last write).
 */
byte fresh[2];
bit zero_ok[2];

bit unstable[2];		/* MMF_UNSTABLE: the OOM reaper was here */
byte gupf;			/* folio held by get_user_pages() */
bit gup_mapped;			/* and not zapped since */

/* The process has users; its page tables are there. */
bit alive[2], exists[2];
bit forking;			/* the child has views, writes go on */
bit forked;			/* no more forks, to have fewer states */
bit unbound;			/* no new context of the device that leaves */

/* mmap_lock */
byte readers[2];
bit writer[2];

/* Never set: they name the property in the message of a failed assertion. */
bit broken_I1, broken_I2, broken_I3, broken_I4, broken_I5, leaked;

bit stop;			/* no new operation starts: drain */
byte nact;			/* operations under way */

#ifdef WITH_FORK
#define MMAP_READABLE(a)	(alive[a] && !writer[a])
#define mmap_read_lock()	readers[a]++
#define mmap_read_unlock()	readers[a]--
#else
#define MMAP_READABLE(a)	(true)
#define mmap_read_lock()	skip
#define mmap_read_unlock()	skip
#endif

#ifdef WITH_DEV1
#define UNBIND_DEV	1
#else
#define UNBIND_DEV	0
#endif

#define CTX_HOLDS(c, f)	(dpte[c] == (f) || dtlb[c] == (f))
#define DEV_HOLDS(f) \
	(CTX_HOLDS(0, f) || CTX_HOLDS(1, f) || CTX_HOLDS(2, f))
#define CPU_HOLDS(a, f)	(ctlb[a] == (f) || pte[a] == (f))

/* I1, whenever the PTL is released. */
#define check_marker() \
	assert((pte[a] == MARKER) == (blk[a] && valid[a]) || broken_I1)

/* gm_run_shared(): nobody may write */
#define VIEWS(f)	views[(f) - 4]
#define IS_SHARED(f)	(VIEWS(f) > 1 || (stale & BIT(f)))
#ifdef BUG_UNSHARE_NOT_LAST_TWO
#define gm_run_shared(f)	(VIEWS(f) > 2)
#else
#define gm_run_shared(f)	IS_SHARED(f)
#endif

/*
 * I2 for one translation of a context.  Between the OOM reaper's zap and the
 * deferred flush the device may still use a run that its process has given up:
 * it is on the dead list, or on its way there with the owner of a BUSY block,
 * or others have views of it, but cannot write.  In fork the parent's devices
 * may write until the notifier range.
 */
#define MAY_REACH(a, d, f) \
	(IS_HOST(f) -> pte[a] == (f) : \
	 (DEV_OF(f) == (d) && ((blk[a] && brun[a] == (f) && valid[a]) || \
			       (unstable[a] && (used & BIT(f))))))
#define MAY_WRITE(a, d, f) \
	(MAY_REACH(a, d, f) && \
	 (IS_HOST(f) -> ptew[a] : (!IS_SHARED(f) || forking)))

inline forget_data(f)
{
	fresh[0] = fresh[0] & ~BIT(f);
	fresh[1] = fresh[1] & ~BIT(f)
}

/* gm_run_free() */
inline free_run(f)
{
	assert((used & BIT(f)) && VIEWS(f) == 0 || broken_I4);
	assert(!DEV_HOLDS(f) || broken_I4);
	used = used & ~BIT(f);
	dead = dead & ~BIT(f);
	stale = stale & ~BIT(f);
	forget_data(f)
}

/* gm_run_alloc(); f = NONE as on -ENOSPC */
inline alloc_run(d, f)
{
	if
	:: closing[d] -> f = NONE
	:: !closing[d] && !(used & BIT(4 + 2 * d)) -> f = 4 + 2 * d
	:: !closing[d] && (used & BIT(4 + 2 * d)) &&
	   !(used & BIT(5 + 2 * d)) -> f = 5 + 2 * d
	:: else -> f = NONE
	fi;
	if
	:: f ->
		assert(!DEV_HOLDS(f) || broken_I4);
		used = used | BIT(f);
		VIEWS(f) = 1
	:: else
	fi
}

inline free_folio(f)
{
	/* I4 for host memory; the CPU's TLB is a TLB as well */
	assert(!DEV_HOLDS(f) && !CPU_HOLDS(0, f) && !CPU_HOLDS(1, f) ||
	       broken_I4);
	ref[f] = 0;
	forget_data(f)
}

inline put_folio(f)
{
	assert(ref[f] != 0 && ref[f] != FROZEN || broken_I3);
	ref[f]--;
	if
	:: ref[f] == 0 -> free_folio(f)
	:: else
	fi
}

/* f = NONE when all are in use: the caller fails as on -ENOMEM. */
inline alloc_folio(f)
{
	if
	:: ref[1] == 0 -> f = 1
	:: ref[1] != 0 && ref[2] == 0 -> f = 2
	:: ref[1] != 0 && ref[2] != 0 && ref[3] == 0 -> f = 3
	:: else -> f = NONE
	fi
}

/* Newer bytes for one process are wrong ones for the other. */
inline store(a, f)
{
	fresh[1 - (a)] = fresh[1 - (a)] & ~BIT(f);
	fresh[a] = BIT(f);
	zero_ok[a] = 0
}

inline copy_one(a, to, from)
{
	if
	:: fresh[a] & BIT(from) -> fresh[a] = fresh[a] | BIT(to)
	:: else -> fresh[a] = fresh[a] & ~BIT(to)
	fi
}

inline copy_data(to, from)
{
	copy_one(0, to, from);
	copy_one(1, to, from)
}

inline zero_one(a, f)
{
	if
	:: zero_ok[a] -> fresh[a] = fresh[a] | BIT(f)
	:: else -> fresh[a] = fresh[a] & ~BIT(f)
	fi
}

inline zero_data(f)
{
	zero_one(0, f);
	zero_one(1, f)
}

#define OWNERS(f)	((pte[0] == (f)) + (pte[1] == (f)) + (gupf == (f)))
#define VIEWERS(f) \
	((blk[0] && brun[0] == (f)) + (blk[1] && brun[1] == (f)))
#define AT_REST(a) \
	(!busy[a] && (!blk[a] || valid[a] || sib[a]) && !itree_active[a] && \
	 !ptl[a])

inline check_run(f)
{
	assert(VIEWS(f) == VIEWERS(f) || leaked);
	assert((VIEWS(f) != 0) == ((used & BIT(f)) != 0) || leaked)
}

/* Nothing is under way: everything allocated has exactly one known owner. */
inline check_rest()
{
	if
	:: nact == 0 && deferred[0] == 0 && deferred[1] == 0 ->
		assert(!inval_active[0] && !inval_active[1] &&
		       !inval_active[2]);
		assert(!map_lock[0] && !map_lock[1] && !map_lock[2]);
		assert(AT_REST(0) && AT_REST(1) && !dead || leaked);
		check_run(4);
		check_run(5);
		check_run(6);
		check_run(7);
		assert(ref[1] == OWNERS(1) || leaked);
		assert(ref[2] == OWNERS(2) || leaked);
		assert(ref[3] == OWNERS(3) || leaked)
	:: else
	fi
}

#define op_begin()	nact++
inline op_end()
{
	nact--;
	check_rest()
}

/*
 * struct gm_mmu operations.  peer_unmap and pmap_protect change the table,
 * tlb_invl makes the device forget: between the two the device still uses the
 * old translation.
 */
inline peer_map(c, f, w)
{
	assert(dpte[c] == NONE || dpte[c] == f || broken_I2);
	assert(IS_HOST(f) || (used & BIT(f)) || broken_I4);
	dpte[c] = f;
	dptew[c] = w
}

inline peer_unmap(c)
{
	dpte[c] = NONE;
	dptew[c] = 0
}

inline pmap_protect(c)
{
	dptew[c] = 0
}

inline tlb_invl(c)
{
	dtlb[c] = NONE;
	dtlbw[c] = 0
}

/* --- invalidation: mm/mmu_notifier.c, invalidate.c, remote.c -------------- */

/*
 * gm_ctx_change() with peer_unmap: the map lock is held for the table, and not
 * while the device forgets.
 */
inline gm_ctx_unmap(c)
{
	atomic { !map_lock[c] -> peer_unmap(c) };
#ifndef BUG_INVAL_NO_TLB_INVL
	atomic { tlb_invl(c) }
#endif
}

/* gm_window_invalidate(), blockable */
inline gm_window_invalidate(c)
{
	if
	:: win[c] ->
		atomic { !map_lock[c] -> map_lock[c] = 1;
			seq_same[c] = 0;
			win_hit[c] = 1;
			if
			:: IS_HOST(dpte[c]) -> peer_unmap(c)
			:: else
			fi
		};
		atomic {
			if
			:: IS_HOST(dtlb[c]) -> tlb_invl(c)
			:: else
			fi;
			map_lock[c] = 0
		}
	:: else
	fi
}

/* mn_itree_invalidate(): all windows, whoever caused the event. */
inline itree_start()
{
	itree_active[a]++;
#ifdef WITH_REMOTE
	gm_window_invalidate(2 * a);
#ifdef WITH_DEV1
	gm_window_invalidate(1)
#endif
#endif
}

inline itree_end()
{
	itree_active[a]--;
	if
	:: itree_active[a] == 0 -> win_hit[2 * a] = 0; win_hit[2 * a + 1] = 0
	:: else
	fi
}

/* gm_inval_start() of one context: mark, then remove what is there. */
inline gm_inval_start(c)
{
	inval_active[c]++;
	gm_ctx_unmap(c)
}

/* The same for MMU_NOTIFY_PROTECTION_PAGE: only the right to write goes. */
inline gm_inval_protect(c)
{
	inval_active[c]++;
	atomic { !map_lock[c] -> pmap_protect(c) };
	atomic { tlb_invl(c) }
}

/* mmu_notifier_invalidate_range_start(), an event that is not GMEM's own. */
inline inval_start()
{
	itree_start();
	gm_inval_start(2 * a);
#ifdef WITH_DEV1
	gm_inval_start(1)
#endif
}

/* mmu_notifier_invalidate_range_end() with gm_inval_end() of each context. */
inline inval_end()
{
	itree_end();
	inval_active[2 * a]--;
#ifdef WITH_DEV1
	inval_active[1]--;
#endif
}

/* gm_inval_start() when it must not block: gm_inval_defer(). */
inline gm_inval_defer(c)
{
	inval_active[c]++;
	if
	:: !defer[c] -> defer[c] = 1; deferred[(c) % 2]++
	:: else
	fi
}

inline free_if_dead(d, f)
{
	if
	:: (dead & BIT(f)) && DEV_OF(f) == (d) -> free_run(f)
	:: else
	fi
}

/* gm_run_free_list(), of the dead of a device */
inline gm_run_free_list(d)
{
	free_if_dead(d, 4);
	free_if_dead(d, 5);
	free_if_dead(d, 6);
	free_if_dead(d, 7)
}

/*
 * gm_run_put() with gm_run_bury().  Who still has a view of a run that somebody
 * else's device may have a translation of must not write to it any more.
 */
#if defined(BUG_PUT_IGNORES_DEFERRED)
#define DEFERRED(f)	false
#elif defined(BUG_DEAD_PER_PROCESS)
#define DEFERRED(f)	(defer[2 * a + DEV_OF(f)])
#else
#define DEFERRED(f)	(deferred[DEV_OF(f)] != 0)
#endif

inline gm_run_put(f)
{
	assert(VIEWS(f) != 0 || broken_I4);
	VIEWS(f)--;
	if
	:: VIEWS(f) == 0 && DEFERRED(f) -> dead = dead | BIT(f)
	:: VIEWS(f) == 0 && !DEFERRED(f) -> free_run(f)
#ifdef BUG_NO_STALE
	:: VIEWS(f) != 0
#else
	:: VIEWS(f) != 0 && DEFERRED(f) -> stale = stale | BIT(f)
	:: VIEWS(f) != 0 && !DEFERRED(f)
#endif
	fi
}

/* --- vm_object.c ---------------------------------------------------------- */

/*
 * vm_object_claim(), or gm_block_wait() when it is somebody else's: then, and
 * when there is no block, ok = 0 and the caller looks again.
 */
inline vm_object_claim()
{
	if
	:: atomic { blk[a] && !busy[a] -> busy[a] = 1; ok = 1 }
	:: blk[a] && busy[a] -> !busy[a]
	:: !blk[a] -> skip
	fi
}

/*
 * vm_object_release() and gm_run_put(): clear BUSY and wake the waiters; an
 * empty block goes.  The test and the clearing are one xa_lock hold.
 */
inline gm_block_done()
{
	atomic {
		if
#ifdef BUG_NO_DOOM_CHECK
		:: true -> skip
#else
		:: valid[a] || sib[a] -> skip
#endif
		:: !valid[a] && !sib[a] ->
			blk[a] = 0;
			r = brun[a];
			brun[a] = NONE
		fi;
		busy[a] = 0
	};
	if
#ifdef BUG_OWNER_IGNORES_DEFERRED
	:: atomic { r != NONE -> VIEWS(r) = 0; free_run(r); r = NONE }
#else
	:: atomic { r != NONE -> gm_run_put(r); r = NONE }
#endif
	:: r == NONE
	fi
}

/*
 * zap_pte_range() with gm_zap_ptes(), one PTL hold, which never waits: a block
 * that is nobody's goes with its last page, the owner of a BUSY one finds the
 * valid bit gone.  Unless the process is dying, readers see zeros from then on.
 */
inline zap_data(dying)
{
	if
	:: !(dying) -> fresh[a] = 0; zero_ok[a] = 1
	:: else
	fi
}

inline zap_pte(dying)
{
	if
	:: atomic { !ptl[a] && pte[a] == MARKER -> ptl[a] = 1; zap_data(dying) };
#ifdef BUG_ZAP_WAITS_BUSY
		!busy[a];
#endif
		/* vm_object_zap() */
		atomic {
			valid[a] = 0;
			if
			:: !busy[a] && !sib[a] ->
				blk[a] = 0; r = brun[a]; brun[a] = NONE
			:: else
			fi;
			pte[a] = NONE
		};
		atomic {
			if
			:: r != NONE -> gm_run_put(r); r = NONE
			:: else
			fi;
			ptl[a] = 0;
			check_marker()
		}
	:: atomic { !ptl[a] && IS_HOST(pte[a]) ->
			zap_data(dying);
			if
			:: gupf == pte[a] -> gup_mapped = 0
			:: else
			fi;
			ctlb[a] = NONE;
			ctlbw[a] = 0;
			r = pte[a];
			pte[a] = NONE;
			ptew[a] = 0;
			put_folio(r);
			r = NONE
		}
	:: atomic { !ptl[a] && pte[a] == NONE -> zap_data(dying) }
	fi
}

#ifdef WITH_SIB
/* The same for the other page of the block. */
inline zap_sibling()
{
	atomic {
		sib[a] = 0;
		if
		:: blk[a] && !busy[a] && !valid[a] ->
			blk[a] = 0;
			r = brun[a];
			brun[a] = NONE;
			gm_run_put(r);
			r = NONE
		:: else
		fi
	}
}
#endif

/* --- mapping for a device ------------------------------------------------- */

#ifdef BUG_NO_INVAL_CHECK
#define INVALIDATING(c)	false
#else
#define INVALIDATING(c)	(inval_active[c] != 0)
#endif
#ifdef WITH_FORK
#define MAP_WRITE	wm
#else
#define MAP_WRITE	1
#endif
#ifdef BUG_DEAD_CONTEXT_MAPS
#define CTX_DEAD(c)	false
#else
#define CTX_DEAD(c)	ctx_dead[c]
#endif

/*
 * gm_ctx_map_block() by the BUSY owner.  The page's bit is read under the map
 * lock only, so that a zap of the OOM reaper can come between it and peer_map.
 * Whether the run is shared is asked before; wm says that it may be written to.
 */
inline gm_ctx_map_block(c)
{
#ifdef WITH_FORK
	atomic { wm = !gm_run_shared(brun[a]) };
#endif
	if
	:: atomic { !map_lock[c] && !CTX_DEAD(c) && !INVALIDATING(c) ->
#ifndef BUG_COMMIT_NO_LOCK
			map_lock[c] = 1;
#endif
#ifdef BUG_COMMIT_NO_VALID
			w = 1
#else
			w = valid[a]
#endif
		};
		atomic {
			if
			:: w ->
				peer_map(c, brun[a], MAP_WRITE);
				mapped = MAP_WRITE || !write
			:: else
			fi;
			w = 0;
			wm = 0;
#ifndef BUG_COMMIT_NO_LOCK
			map_lock[c] = 0
#endif
		}
	:: atomic { !map_lock[c] && CTX_DEAD(c) -> wm = 0 }
	:: atomic { !map_lock[c] && !CTX_DEAD(c) && INVALIDATING(c) ->
			again = 1; wm = 0 }
	fi
}

/* gm_as_unmap(): the block is BUSY, nobody maps it again. */
inline gm_as_unmap(c)
{
	atomic { !map_lock[c] -> peer_unmap(c) };
#ifndef BUG_RECALL_NO_TLB_INVL
	atomic { tlb_invl(c) }
#endif
}

/* --- recall.c ------------------------------------------------------------- */

/*
 * gm_recall(), by somebody who holds the mmap lock or the VMA lock.  ok = 0
 * when the page was not on a device or stays there: the copy failed (-EIO),
 * host memory is short (-ENOMEM) or the OOM reaper is at work (-EFAULT).
 */
inline gm_recall()
{
	vm_object_claim();
	if
	:: ok ->
		gm_as_unmap(2 * a + DEV_OF(brun[a]));
		/* gm_move_copy(); the folio was there before the claim. */
		if
		:: atomic {
			alloc_folio(h);
			if
			:: h -> ref[h] = 1; copy_data(h, brun[a])
			:: else -> ok = 0
			fi
		}
#ifdef WITH_COPY_ERRORS
		:: ok = 0
#endif
		fi;
		if
		:: ok -> gm_home_set_ptes()
		:: else
#ifdef BUG_RECALL_ERROR_FREES
			/* as if the copy had succeeded */
			-> atomic { !ptl[a] -> pte[a] = NONE; valid[a] = 0 }
#endif
		fi;
#ifdef BUG_ERROR_KEEPS_BUSY
		if
		:: ok -> gm_block_done()
		:: else
		fi
#else
		gm_block_done()
#endif
	:: else
	fi
}

/*
 * One PTL hold: the page may have been zapped, or the process be dying.  The
 * other page of the block comes home as well.
 */
inline gm_home_set_ptes()
{
	atomic {
		!ptl[a] ->
		if
		:: !unstable[a] -> sib[a] = 0
		:: else
		fi;
		if
#ifdef BUG_RECALL_NO_RECHECK
		:: !unstable[a] ->
#else
		:: !unstable[a] && pte[a] == MARKER ->
#endif
			pte[a] = h;
			ptew[a] = 1;
			valid[a] = 0
		:: else -> put_folio(h); ok = 0
		fi;
		h = NONE;
		check_marker()
	}
}

/* --- migrate.c ------------------------------------------------------------ */

/* gm_run_takes(): nobody else has what is missing here. */
#ifdef BUG_FILL_SHARED
#define gm_run_takes(f)	true
#else
#define gm_run_takes(f)	(!IS_SHARED(f))
#endif

/*
 * gm_migrate(): the page, or the page that does not exist yet, to device d.
 * The block is BUSY from gm_migrate_new() to gm_block_done().
 */
inline gm_migrate(c, d)
{
	/* vm_object_insert(), or the wait for whose block is there */
	if
	:: atomic { !blk[a] ->
			alloc_run(d, r);
			if
			:: r ->
				blk[a] = 1;
				busy[a] = 1;
				brun[a] = r;
				ok = 1;
				r = NONE
			:: else
			fi
		}
	:: blk[a] && busy[a] -> !busy[a]
#ifdef WITH_SIB
	/* gm_migrate_fill(): vm_object_claim_around() */
	:: atomic { blk[a] && !busy[a] && !valid[a] && DEV_OF(brun[a]) == d &&
		    gm_run_takes(brun[a]) -> busy[a] = 1; ok = 1; fill = 1 }
	/* gm_clear_away() */
	:: blk[a] && !busy[a] && !valid[a] &&
	   (DEV_OF(brun[a]) != d || !gm_run_takes(brun[a])) ->
		gm_recall();
		ok = 0
	:: blk[a] && !busy[a] && valid[a]
#else
	:: blk[a] && !busy[a]
#endif
	fi;
	if
	:: ok ->
		gm_freeze();
		if
		:: ok -> gm_move_in()
		:: else
		fi;
		if
		:: ok ->
#ifdef BUG_BUSY_TAKES_MMAP
			mmap_read_unlock();
			atomic { MMAP_READABLE(a) -> mmap_read_lock() };
#endif
#ifdef BUG_MAP_LATER
			skip		/* the device faults once more */
#else
			gm_ctx_map_block(c)
#endif
		:: else
		fi;
		gm_block_done()
	:: else
	fi
}

/*
 * gm_freeze(): one PTL hold between the start and the end of GMEM's own event
 * (MMU_NOTIFY_MIGRATE), which concerns the windows of all contexts but not
 * gm_inval_start().  The CPU and GUP-fast see each step of it.
 */
#ifdef WITH_SIB
#define add_sibling()	sib[a] = sib[a] || !fill
#else
#define add_sibling()	skip
#endif

inline gm_freeze()
{
#ifndef BUG_WINDOW_IGNORES_OWN
	itree_start();
#endif
	if
	:: atomic { !ptl[a] && pte[a] == MARKER -> ok = 0 }
#ifndef BUG_NO_UNSTABLE_CHECK
	:: atomic { !ptl[a] && unstable[a] -> ok = 0 }
	:: atomic { !ptl[a] && pte[a] == NONE && !unstable[a] ->
#else
	:: atomic { !ptl[a] && pte[a] == NONE ->
#endif
			pte[a] = MARKER;
			valid[a] = 1;
			add_sibling();
			check_marker()
		}
	:: atomic { !ptl[a] && IS_HOST(pte[a]) && !unstable[a] ->
			ptl[a] = 1;
			h = pte[a];
			pte[a] = NONE	/* gm_clear_ptes() */
		};
#ifndef BUG_NO_CPU_FLUSH
		atomic { ctlb[a] = NONE; ctlbw[a] = 0 };
#endif
		atomic {
			if
#ifdef BUG_NO_FREEZE
			:: true ->
#else
			:: ref[h] == 1 ->
#endif
				ref[h] = FROZEN;	/* gm_freeze_folios() */
				ptew[a] = 0;
#ifndef BUG_MARKER_WITHOUT_ENTRY
				valid[a] = 1;
#endif
				pte[a] = MARKER;
				add_sibling()
			:: else ->
				pte[a] = h;
				h = NONE;
				ok = 0
			fi;
			ptl[a] = 0;
			check_marker()
		}
	fi;
#ifndef BUG_WINDOW_IGNORES_OWN
	atomic { itree_end() }
#endif
}

/*
 * gm_move_in(): zero or copy; then the host's page is given up, or, when the
 * device failed, comes back where the marker still is: gm_thaw().
 */
inline gm_move_in()
{
	if
	:: atomic { h != NONE -> copy_data(brun[a], h) }
	:: atomic { h == NONE ->
#ifndef BUG_NO_ZERO
			zero_data(brun[a])
#endif
		}
#ifdef WITH_COPY_ERRORS
	:: ok = 0
#endif
	fi;
	atomic {
		(ok || !ptl[a]) ->
		if
		:: h -> ref[h] = 1
		:: else
		fi;
		if
		:: ok ->		/* gm_free_folios() */
			if
			:: h -> put_folio(h)
			:: else
			fi
		:: !ok ->		/* gm_thaw() */
			if
#ifdef BUG_THAW_NO_RECHECK
			:: h ->
#else
			:: h && pte[a] == MARKER ->
#endif
				pte[a] = h;
				ptew[a] = 1
			:: h && pte[a] != MARKER -> put_folio(h)
			:: !h && pte[a] == MARKER -> pte[a] = NONE
			:: else
			fi;
			valid[a] = 0;
#ifdef WITH_SIB
			sib[a] = sib[a] && fill;
#endif
			check_marker()
		fi;
		h = NONE
	}
}

/* --- share.c -------------------------------------------------------------- */

/*
 * gm_unshare() by the BUSY owner: a copy on the device, in fr, which then is
 * the block's.  ok = 0 when the device fails (-EIO), and the block keeps its run.
 */
inline unshare_unmap(c)
{
#ifdef BUG_UNSHARE_NO_TLB_INVL
	atomic { !map_lock[c] -> peer_unmap(c) }
#else
	gm_as_unmap(c)
#endif
}

inline gm_unshare(c)
{
#ifndef BUG_UNSHARE_PUT_FIRST
	unshare_unmap(c);
#endif
	/* gm_move_local() */
	if
	:: atomic {
		if
		:: valid[a] -> copy_data(fr, brun[a])
		:: else
		fi
	}
#ifdef WITH_COPY_ERRORS
	:: ok = 0
#endif
	fi;
	if
	:: ok ->
		/* vm_object_set_loc() */
		atomic { r = brun[a]; brun[a] = fr; fr = NONE };
		atomic { gm_run_put(r); r = NONE };
#ifdef BUG_UNSHARE_PUT_FIRST
		unshare_unmap(c)
#endif
	:: else
	fi
}

/* --- remote.c ------------------------------------------------------------- */

/*
 * gm_remote_map(): map the host page where it is.  The look at the CPU page
 * table and gm_window_map() are apart, the sequence number covers the gap.
 */
inline gm_remote_map(c)
{
	/* gm_remote_prepare(): mmu_interval_notifier_insert() */
	atomic {
		if
		:: !win[c] -> win[c] = 1; win_hit[c] = (itree_active[a] != 0)
		:: else
		fi
	};
	/* mmu_interval_read_begin() */
#ifdef BUG_READ_BEGIN_NO_WAIT
	atomic { seq_same[c] = 1 };
#else
	atomic { !win_hit[c] -> seq_same[c] = 1 };
#endif
	if
	:: atomic { !ptl[a] && IS_HOST(pte[a]) -> h = pte[a]; w = ptew[a] };
		if
#ifdef BUG_NO_SEQ_CHECK
		:: atomic { !map_lock[c] && !CTX_DEAD(c) ->
#else
		:: atomic { !map_lock[c] && !CTX_DEAD(c) && seq_same[c] ->
#endif
				map_lock[c] = 1 };
			atomic {
				peer_map(c, h, w);
				mapped = 1;
				map_lock[c] = 0
			}
		:: !map_lock[c] && (CTX_DEAD(c) || !seq_same[c])
		fi
	:: !ptl[a] && !IS_HOST(pte[a])
	fi;
	atomic { seq_same[c] = 0; h = NONE; w = 0 }
}

/* --- who does it ---------------------------------------------------------- */

/*
 * gm_fault_resident(): the device has the page and lacks the translation, or
 * the right to write.  fr is gm_resident::fresh.
 */
inline gm_fault_resident(c, d)
{
#ifdef WITH_FORK
	/* gm_resident_prepare() */
	if
	:: atomic { write && blk[a] && gm_run_shared(brun[a]) ->
			alloc_run(d, fr) }
	:: else
	fi;
#endif
	vm_object_claim();
	/* gm_resident_map() */
	if
#ifdef WITH_FORK
	:: ok && DEV_OF(brun[a]) == d && write && gm_run_shared(brun[a]) ->
		if
		:: fr != NONE ->
			gm_unshare(c);
			if
			:: ok -> gm_ctx_map_block(c)
			:: else
			fi
		:: else
		fi;
		gm_block_done()
	:: ok && DEV_OF(brun[a]) == d &&
	   !(write && gm_run_shared(brun[a])) ->
#else
	:: ok && DEV_OF(brun[a]) == d ->
#endif
		gm_ctx_map_block(c);
		gm_block_done()
	:: ok && DEV_OF(brun[a]) != d -> gm_block_done()
	:: !ok
	fi
#ifdef WITH_FORK
	;
	/* gm_resident_finish() */
	if
	:: atomic { fr != NONE -> gm_run_put(fr); fr = NONE }
	:: fr == NONE
	fi;
	/* A cached read-only translation must not be found again. */
	if
	:: atomic { mapped && write -> tlb_invl(c) }
	:: !(mapped && write)
	fi
#endif
}

/*
 * gm_dev_fault(), and hmadvise(HMADV_PREFETCH) to the device, which comes
 * unasked.  One attempt, gm_fault_try(), is one operation; gm_fault_wait()
 * follows it.  Only where there is a child does it matter whether the fault is
 * for reading: otherwise the device may write whenever it may read.
 */
proctype gm_dev_fault(byte c)
{
	byte h, r, fr;
	bit a = c / 2, d = c % 2;
	bit ok, mapped, again, w, wm, write, fill;

end:	do
	:: atomic { !stop && MMAP_READABLE(a) -> op_begin(); mmap_read_lock() };
#ifdef WITH_FORK
#ifdef WITH_ONCE
		write = !a;
#else
		if
		:: write = 1
		:: skip
		fi;
#endif
#endif
		/* gm_make_resident() */
		if
		:: blk[a] && valid[a] && DEV_OF(brun[a]) == d ->
#ifdef BUG_MAP_WITHOUT_BUSY
			gm_ctx_map_block(c)
#else
			gm_fault_resident(c, d)
#endif
		:: blk[a] && valid[a] && DEV_OF(brun[a]) != d ->
			gm_recall()
		:: !blk[a] || !valid[a] ->
			gm_migrate(c, d)
#ifdef WITH_REMOTE
		:: IS_HOST(pte[a]) -> gm_remote_map(c)
#endif
		fi;
#ifdef PROGRESS
		if
		:: mapped -> progress_mapped: skip
		:: else
		fi;
#endif
		atomic { mmap_read_unlock(); ok = 0; mapped = 0; write = 0;
			fill = 0; op_end() };
		/* gm_ctx_inval_wait() */
		if
		:: atomic { again && !inval_active[c] -> again = 0 }
		:: !again
		fi
	od
}

/* Replace the mapped host folio by a copy of it: COW and compaction. */
inline move_folio(cond)
{
	if
	:: IS_HOST(pte[a]) && (cond) ->
		alloc_folio(h);
		if
		:: h ->
			ref[h] = 1;
			copy_data(h, pte[a]);
			ctlb[a] = NONE;
			ctlbw[a] = 0;
			old = pte[a];
			pte[a] = h;
			ptew[a] = 1;
			put_folio(old);
			h = NONE;
			old = NONE
		:: else
		fi
	:: else
	fi;
	check_marker()
}

#if defined(WITH_CPU) || defined(WITH_CHILD_CPU)
/*
 * A CPU thread that faults: do_anonymous_page(), gm_host_fault() and
 * do_wp_page().  Its loads and stores are in proctype hardware.
 */
proctype cpu_fault(bit a)
{
	byte h, r, old;
	bit ok;

end:	do
	:: atomic { !stop && MMAP_READABLE(a) && !ptl[a] && pte[a] == NONE &&
		    !unstable[a] ->
			alloc_folio(h);
			if
			:: h ->
				ref[h] = 1;
				zero_data(h);
				pte[a] = h;
				ptew[a] = 1;
				h = NONE
			:: else
			fi;
			check_marker()
		}
#ifdef PROGRESS
		;
progress_anon:	skip
#endif
	:: atomic { !stop && MMAP_READABLE(a) && pte[a] == MARKER ->
			op_begin(); mmap_read_lock() };
		gm_recall();
#ifdef PROGRESS
		if
		:: ok -> progress_recalled: skip
		:: else
		fi;
#endif
		atomic { mmap_read_unlock(); ok = 0; op_end() }
#ifdef WITH_FORK
	:: atomic { !stop && MMAP_READABLE(a) && !ptl[a] && IS_HOST(pte[a]) &&
		    !ptew[a] && ref[pte[a]] == 1 ->
			ptew[a] = 1		/* wp_page_reuse() */
		}
	:: atomic { !stop && MMAP_READABLE(a) && IS_HOST(pte[a]) && !ptew[a] &&
		    ref[pte[a]] > 1 ->
			op_begin(); mmap_read_lock() };
		/* wp_page_copy() */
		inval_start();
		atomic { !ptl[a] -> move_folio(!ptew[a]) };
		atomic { inval_end(); mmap_read_unlock(); op_end() }
#endif
	od
}
#endif

#ifdef WITH_EVICT
/*
 * gm_evict_sharer() for one process after the other, by the hnode's thread, or
 * hmadvise(HMADV_PREFETCH) to the host: the same recall, but what starts it is
 * the run, not a fault.
 */
proctype gm_evict()
{
	byte h, r;
	bit a, ok;

end:	do
	:: atomic {
			if
			:: !stop && MMAP_READABLE(0) && blk[0] -> a = 0
#ifdef WITH_FORK
			:: !stop && MMAP_READABLE(1) && blk[1] -> a = 1
#endif
			fi;
			op_begin(); mmap_read_lock()
		};
		gm_recall();
#ifdef PROGRESS
		if
		:: ok -> progress_evicted: skip
		:: else
		fi;
#endif
		atomic { mmap_read_unlock(); ok = 0; a = 0; op_end() }
	od
}
#endif

#if defined(WITH_ZAP) || defined(WITH_CHILD_ZAP)
/* munmap() after its downgrade, MADV_DONTNEED: zap_page_range_single(). */
proctype zap(bit a)
{
	byte r;

end:	do
	:: atomic { !stop && MMAP_READABLE(a) -> op_begin(); mmap_read_lock() };
		inval_start();
		zap_pte(false);
#ifdef PROGRESS
progress_zapped:
#endif
		atomic { inval_end(); mmap_read_unlock(); op_end() }
#ifdef WITH_SIB
	:: atomic { !stop && MMAP_READABLE(a) && sib[a] -> zap_sibling() }
#endif
	od
}
#endif

#if defined(WITH_OOM) || defined(WITH_CHILD_OOM)
/*
 * __oom_reap_task_mm(): the same zap, but the notifiers may not block.  A
 * window makes the reaper skip the range; the contexts defer their unmap.  The
 * process dies, and neither it nor a device may see zeros instead of its data.
 * It may be at its exit, or before it.
 */
#ifdef WITH_ONCE
#define WAS_REAPED	unstable[a]
#else
#define WAS_REAPED	false
#endif

proctype oom_reaper(bit a)
{
	byte r;

end:	do
#ifdef BUG_OOM_NO_SKIP
	:: atomic { !stop && exists[a] && !writer[a] ->
#else
	:: atomic { !stop && exists[a] && !writer[a] && !WAS_REAPED &&
		    !win[2 * a] && !win[2 * a + 1] ->
#endif
			op_begin(); mmap_read_lock();
			unstable[a] = 1;
			itree_active[a]++
		};
		atomic { gm_inval_defer(2 * a) };
#ifdef WITH_DEV1
		atomic { gm_inval_defer(1) };
#endif
		zap_pte(true);
#ifdef WITH_SIB
		zap_sibling();
#endif
		atomic { inval_end(); mmap_read_unlock(); op_end() }
	od
}

/* gm_inval_work() of one context: the deferred unmap, then the dead list. */
proctype gm_inval_work(byte c)
{
	bit d = c % 2;

end:	do
	:: atomic { defer[c] && !map_lock[c] ->
			map_lock[c] = 1;
			defer[c] = 0;
			if
			:: ctx_dead[c]
			:: !ctx_dead[c] -> peer_unmap(c)
			fi
		};
#ifdef BUG_FREE_BEFORE_FLUSH
		atomic {
			if
			:: deferred[d] == 1 -> gm_run_free_list(d)
			:: else
			fi
		};
#endif
		/* Dead: the device has forgotten it all. */
		atomic {
			if
			:: ctx_dead[c]
			:: !ctx_dead[c] -> tlb_invl(c)
			fi;
			map_lock[c] = 0
		};
		atomic {
			deferred[d]--;
			if
#ifdef BUG_WORKER_FREES_ALL
			:: true -> gm_run_free_list(d)
#else
			:: deferred[d] == 0 -> gm_run_free_list(d)
#endif
			:: else
			fi;
			check_rest()
		}
	od
}
#endif

/* gm_inval_release() */
inline gm_inval_release(c)
{
#ifdef BUG_DEAD_BEFORE_FLUSH
	atomic { !map_lock[c] -> peer_unmap(c); ctx_dead[c] = 1 };
	atomic { tlb_invl(c) }
#else
	atomic { !map_lock[c] -> map_lock[c] = 1; peer_unmap(c) };
	atomic { tlb_invl(c); ctx_dead[c] = 1; map_lock[c] = 0 }
#endif
}

#ifdef WITH_FORK
/*
 * __gm_fork() with vm_object_share(): the child gets a view.  Nothing is BUSY,
 * and nobody looks at the child before the fork is through.
 */
inline gm_fork()
{
	atomic {
		assert(!busy[0] && !blk[1] || broken_I1);
		if
		:: blk[0] ->
			blk[1] = 1;
			brun[1] = brun[0];
			valid[1] = valid[0];
			sib[1] = sib[0];
#ifndef BUG_FORK_NO_VIEW
			VIEWS(brun[0])++;
#endif
			forking = 1
		:: else
		fi
	}
}

/* __gm_fork_failed() with vm_object_destroy() */
inline gm_fork_failed()
{
	atomic {
		if
		:: blk[1] ->
			blk[1] = 0;
			valid[1] = 0;
			sib[1] = 0;
			r = brun[1];
			brun[1] = NONE;
#ifndef BUG_FORK_FAILED_KEEPS
			gm_run_put(r);
#endif
			r = NONE
		:: else
		fi;
		forking = 0
	}
}

/* copy_page_range() under the page table locks: what the child starts with. */
inline copy_pte()
{
	atomic {
		!ptl[0] ->
		pte[1] = pte[0];
		fresh[1] = fresh[0];
		zero_ok[1] = zero_ok[0];
		if
		:: IS_HOST(pte[0]) ->
			ref[pte[0]]++;
			ptew[0] = 0;
			ctlbw[0] = 0
		:: else
		fi;
		ptew[1] = 0;
		forking = 0;
		check_marker();
		assert((pte[1] == MARKER) == (blk[1] && valid[1]) || broken_I1)
	}
}

/*
 * exit_mmap(), of a process that has no users any more: mmu_notifier_release(),
 * then the zap.  The OOM reaper may be at work too.
 */
inline exit_mmap()
{
#ifdef WITH_REMOTE
	gm_window_invalidate(2 * a);
#endif
	gm_inval_release(2 * a);
	zap_pte(false);
#ifdef WITH_SIB
	zap_sibling();
#endif
	atomic {
		readers[a] == 0 ->
		exists[a] = 0;
		assert(!blk[a] && pte[a] == NONE || leaked);
		assert(dpte[2 * a] == NONE && dtlb[2 * a] == NONE || broken_I4);
		win[2 * a] = 0;
		seq_same[2 * a] = 0;
		unstable[a] = 0;
		fresh[a] = 0;
		zero_ok[a] = 0;
		op_end()
	}
}

/*
 * dup_mmap() with gm_fork() and copy_page_range().  The notifier range,
 * MMU_NOTIFY_PROTECTION_PAGE, is for windows and for pmap_protect.  And the
 * exit of the parent or of the child, after which there may be another child.
 */
proctype fork()
{
	byte h, r;
	bit a;

end:	do
	:: atomic { !stop && alive[0] && !writer[0] && !unstable[0] &&
		    !exists[1] && deferred[0] == 0 && !defer[2] && !forked ->
			op_begin(); writer[0] = 1;
#ifdef WITH_ONCE
			forked = 1
#endif
		};
		readers[0] == 0;
		gm_fork();
		if
#ifndef WITH_ONCE
		:: gm_fork_failed()
#endif
		:: skip;
#ifndef BUG_FORK_NO_PROTECT
			itree_start();
			gm_inval_protect(0);
#endif
			copy_pte();
			atomic {
#ifndef BUG_FORK_NO_PROTECT
				itree_end();
				inval_active[0]--;
#endif
				alive[1] = 1;
				exists[1] = 1;
				ctx_dead[2] = unbound
			}
		fi;
		atomic { writer[0] = 0; op_end() }
	:: atomic { !stop && alive[1] && readers[1] == 0 ->
			alive[1] = 0; a = 1; op_begin() };
		exit_mmap();
		a = 0
#ifdef WITH_EXIT
	:: atomic { !stop && alive[0] && readers[0] == 0 && !writer[0] ->
			alive[0] = 0; op_begin() };
		exit_mmap()
#endif
	od
}
#endif

#ifdef WITH_GUP
/* I3; the PTE is none for a moment while a migration finds the reference. */
inline assert_not_moved()
{
	assert(!gup_mapped || pte[0] == gupf || (ptl[0] && pte[0] == NONE) ||
	       broken_I3)
}

/*
 * get_user_pages_fast(), a DMA write, put_page().  Takes no lock: the count is
 * raised unless it is frozen, then the PTE must still be the same.
 */
proctype gup()
{
	byte h;

end:	do
	:: atomic { !stop && IS_HOST(pte[0]) && ptew[0] ->
			op_begin(); h = pte[0] };
		if
		:: atomic { ref[h] != 0 && ref[h] != FROZEN -> ref[h]++ };
			if
			:: atomic { pte[0] == h -> gupf = h; gup_mapped = 1 };
				do
				:: atomic { gup_mapped && fresh[0] != BIT(gupf) ->
						assert_not_moved();
						store(0, gupf) }
				:: break
				od;
				atomic { assert_not_moved(); gupf = NONE;
					gup_mapped = 0 }
			:: pte[0] != h -> skip
			fi;
			atomic { put_folio(h) }
		:: ref[h] == 0 || ref[h] == FROZEN -> skip
		fi;
		atomic { h = NONE; op_end() }
	od
}
#endif

#ifdef WITH_COMPACT
/*
 * Compaction, NUMA balancing, swap: core MM moves a host page without
 * mmap_lock.  try_to_migrate() and remove_migration_ptes() as one PTL hold.
 */
proctype compact()
{
	byte h, old;
	bit a;

end:	do
	:: atomic { !stop && IS_HOST(pte[a]) -> op_begin() };
		inval_start();
		atomic { !ptl[a] -> move_folio(ref[pte[a]] == 1) };
		atomic { inval_end(); op_end() }
	od
}
#endif

#ifdef WITH_UNBIND
/*
 * Unbind of the driver of a device: gm_as_detach() of each context
 * (gm_inval_release(), then pmap_destroy), then gm_hnode_evacuate().
 * Prefetches to it may go on.
 */
proctype unbind()
{
	byte h, r;
	bit a, ok;

end_bound:
	atomic { !stop -> op_begin(); unbound = 1 };
	/* gm_remote_destroy() */
	atomic { !map_lock[UNBIND_DEV] -> map_lock[UNBIND_DEV] = 1;
		win[UNBIND_DEV] = 0; seq_same[UNBIND_DEV] = 0;
		peer_unmap(UNBIND_DEV) };
	atomic { tlb_invl(UNBIND_DEV); map_lock[UNBIND_DEV] = 0 };
	gm_inval_release(UNBIND_DEV);
#ifdef WITH_CHILD_DEV
	gm_inval_release(2);
#endif

	/* gm_hnode_evacuate() */
#ifndef BUG_UNBIND_NOT_CLOSING
	closing[UNBIND_DEV] = 1;
#endif
	do
	:: atomic { MMAP_READABLE(0) && blk[0] && DEV_OF(brun[0]) == UNBIND_DEV ->
			a = 0; mmap_read_lock() };
		gm_recall();
		atomic { mmap_read_unlock(); ok = 0 }
#if defined(WITH_FORK) && !defined(BUG_EVICT_ONE_VIEW)
	:: atomic { MMAP_READABLE(1) && blk[1] && DEV_OF(brun[1]) == UNBIND_DEV ->
			a = 1; mmap_read_lock() };
		gm_recall();
		atomic { mmap_read_unlock(); ok = 0; a = 0 }
#endif
	:: !(used & RUNS_OF(UNBIND_DEV)) -> break
	od;
	atomic { op_end() };
	/* gm_hnode_destroy() */
end_unbound:
	do
	:: used & RUNS_OF(UNBIND_DEV) -> assert(broken_I4)
	od
}
#endif

/*
 * Loads and stores.  A translation is taken into the TLB at any time and used
 * until it is invalidated, whatever the tables say by then.  Loads have no
 * effect, so they show up only when they go wrong; a store is seen only when
 * it makes a difference.
 */
#define STORE_MATTERS(a, f) \
	(fresh[a] != BIT(f) || (fresh[1 - (a)] & BIT(f)))

#define CPU_HARDWARE(a) \
	:: atomic { ctlb[a] == NONE && IS_HOST(pte[a]) -> \
			ctlb[a] = pte[a]; ctlbw[a] = ptew[a] } \
	:: atomic { ctlb[a] != NONE && ctlb[a] == pte[a] && ptew[a] && \
		    !ctlbw[a] -> ctlbw[a] = 1 } \
	:: atomic { ctlbw[a] && STORE_MATTERS(a, ctlb[a]) -> \
			store(a, ctlb[a]) } \
	:: atomic { ctlb[a] != NONE && !(fresh[a] & BIT(ctlb[a])) -> \
			assert(broken_I5) }

#define DEVICE_HARDWARE(c, a, d) \
	:: atomic { dtlb[c] == NONE && dpte[c] != NONE -> \
			dtlb[c] = dpte[c]; dtlbw[c] = dptew[c] } \
	:: atomic { dtlbw[c] && STORE_MATTERS(a, dtlb[c]) -> \
			store(a, dtlb[c]) } \
	:: atomic { dtlb[c] != NONE && !(fresh[a] & BIT(dtlb[c])) -> \
			assert(broken_I5) } \
	:: atomic { dtlb[c] != NONE && !MAY_REACH(a, d, dtlb[c]) -> \
			assert(broken_I2) } \
	:: atomic { dtlbw[c] && !MAY_WRITE(a, d, dtlb[c]) -> \
			assert(broken_I2) } \
	/* pmap_destroy comes next */ \
	:: atomic { ctx_dead[c] && (dpte[c] != NONE || dtlb[c] != NONE) -> \
			assert(broken_I4) }

active proctype hardware()
{
end:	do
	CPU_HARDWARE(0)
	DEVICE_HARDWARE(0, 0, 0)
#ifdef WITH_DEV1
	DEVICE_HARDWARE(1, 0, 1)
#endif
#ifdef WITH_CHILD_CPU
	CPU_HARDWARE(1)
#endif
#ifdef WITH_CHILD_DEV
	DEVICE_HARDWARE(2, 1, 0)
#endif
#ifndef PROGRESS
	:: atomic { !stop -> stop = 1 }
#endif
	od
}

init {
	atomic {
		alive[0] = 1;
		exists[0] = 1;
		zero_ok[0] = 1;
		run gm_dev_fault(0);
#if defined(WITH_DEV1) && !defined(WITH_IDLE1)
		run gm_dev_fault(1);
#endif
#if defined(WITH_CHILD_DEV) && !defined(WITH_CHILD_IDLE)
		run gm_dev_fault(2);
#endif
#ifdef WITH_CPU
		run cpu_fault(0);
#endif
#ifdef WITH_CHILD_CPU
		run cpu_fault(1);
#endif
#ifdef WITH_EVICT
		run gm_evict();
#endif
#ifdef WITH_ZAP
		run zap(0);
#endif
#ifdef WITH_CHILD_ZAP
		run zap(1);
#endif
#ifdef WITH_OOM
		run oom_reaper(0);
		run gm_inval_work(0);
#ifdef WITH_DEV1
		run gm_inval_work(1);
#endif
#endif
#ifdef WITH_CHILD_OOM
		run oom_reaper(1);
		run gm_inval_work(2);
#endif
#ifdef WITH_FORK
		run fork();
#endif
#ifdef WITH_GUP
		run gup();
#endif
#ifdef WITH_COMPACT
		run compact();
#endif
#ifdef WITH_UNBIND
		run unbind();
#endif
	}
}
