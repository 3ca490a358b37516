/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The GMEM residency protocol for one virtual page, two devices and a CPU.
 *
 * Every proctype and inline names the C function it stands for.  What is
 * modelled, what is left out and how to read a counterexample is described in
 * Documentation/gmem/model.rst; scripts/model.sh runs the configurations
 * (-DWITH_*) and the deliberately broken variants (-DBUG_*).
 *
 * Properties, numbered as in Documentation/gmem/model.rst:
 *   I1  CPU PTE is a marker <=> the vm_object says that a device has the page
 *   I2  a device reaches only what it owns alone, or a host page as far as the
 *       CPU's mapping of it goes
 *   I3  a page with a foreign reference does not move
 *   I4  memory goes back to its allocator only when no device can reach it
 *   I5  every reader sees the newest bytes; a failed copy loses nothing
 * plus: no deadlock, nothing leaked when everything has come to rest, and with
 * -DPROGRESS no retry loop that never ends.
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
byte pte = NONE;		/* NONE, MARKER or a host frame */
bit ptew;			/* pte_write() */
bit ptl;			/* held by a section of several steps */
byte ctlb;
bit ctlbw;
byte ref[NR_HOST + 1];

/* struct vm_object: the slot of this page and the gm_block in it. */
bit blk, busy, valid;
byte brun;			/* gm_block::loc */

/* Runs that are handed out; those of them on gm_as::dead. */
byte used, dead;
byte deferred;			/* gm_as::deferred */
bit closing[2];			/* gm_hnode::closing */

/* struct gm_context of each device, with its page table and TLB. */
byte dpte[2], dtlb[2];
bit dptew[2], dtlbw[2];
bit map_lock[2];
bit ctx_dead[2];		/* gm_context::dead */
byte inval_active[2];
bit defer[2];			/* nr_deferred != 0, inval_work is queued */

/*
 * The interval notifier of struct gm_window, as mm/mmu_notifier.c has it.  A
 * sequence number matters only to who remembered it, so "unchanged since
 * mmu_interval_read_begin()" is a bit that mmu_interval_set_seq() clears.
 */
byte itree_active;		/* active_invalidate_ranges */
bit win[2];			/* the window exists */
bit win_hit[2];			/* its sequence number is the current odd one */
bit seq_same[2];

/*
 * Data.  Versions are compared with the newest only, so that one bit per frame
 * is exact: it holds the newest bytes or it does not.  zero_ok: the newest
 * bytes are zeros (never touched, or zapped since the last write).
 */
byte fresh;
bit zero_ok = 1;

bit unstable;			/* MMF_UNSTABLE: the OOM reaper was here */
byte gupf;			/* folio held by get_user_pages() */
bit gup_mapped;			/* and not zapped since */
byte childf;			/* folio mapped by a forked child */

/* mmap_lock */
byte readers;
bit writer;

/* Never set: they name the property in the message of a failed assertion. */
bit broken_I1, broken_I2, broken_I3, broken_I4, broken_I5, leaked;

bit stop;			/* no new operation starts: drain */
byte nact;			/* operations under way */

#ifdef WITH_FORK
#define MMAP_READABLE	(!writer)
#define mmap_read_lock()	readers++
#define mmap_read_unlock()	readers--
#else
#define MMAP_READABLE	(true)
#define mmap_read_lock()	skip
#define mmap_read_unlock()	skip
#endif

#define DEV_HOLDS(f) \
	(dpte[0] == (f) || dtlb[0] == (f) || dpte[1] == (f) || dtlb[1] == (f))

/* I1, whenever the PTL is released. */
#define check_marker() \
	assert((pte == MARKER) == (blk && valid) || broken_I1)

/*
 * I2 for one translation of device d.  Between the OOM reaper's zap and the
 * deferred flush the device may still use a run that nobody else can see: it
 * is on the dead list, or on its way there with the owner of a BUSY block.
 */
#define MAY_REACH(d, f) \
	(IS_HOST(f) -> pte == (f) : \
	 (DEV_OF(f) == (d) && ((blk && brun == (f) && valid) || \
			       (unstable && (used & BIT(f))))))
#define MAY_WRITE(d, f) \
	(MAY_REACH(d, f) && (!IS_HOST(f) || ptew))

/* gm_run_free() */
inline free_run(f)
{
	assert((used & BIT(f)) || broken_I4);
	assert(!DEV_HOLDS(f) || broken_I4);
	used = used & ~BIT(f);
	dead = dead & ~BIT(f);
	fresh = fresh & ~BIT(f)
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
		used = used | BIT(f)
	:: else
	fi
}

inline free_folio(f)
{
	/* I4 for host memory; the CPU's TLB is a TLB as well */
	assert(!DEV_HOLDS(f) && ctlb != f && pte != f || broken_I4);
	ref[f] = 0;
	fresh = fresh & ~BIT(f)
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

inline store(f)
{
	assert(f != childf || broken_I5);	/* the child's copy stays */
	fresh = BIT(f);
	zero_ok = 0
}

inline copy_data(to, from)
{
	if
	:: fresh & BIT(from) -> fresh = fresh | BIT(to)
	:: else -> fresh = fresh & ~BIT(to)
	fi
}

inline zero_data(f)
{
	if
	:: zero_ok -> fresh = fresh | BIT(f)
	:: else -> fresh = fresh & ~BIT(f)
	fi
}

#define OWNERS(f)	((pte == (f)) + (childf == (f)) + (gupf == (f)))

/* Nothing is under way: everything allocated has exactly one known owner. */
inline check_rest()
{
	if
	:: nact == 0 && deferred == 0 ->
		assert(!itree_active && !inval_active[0] && !inval_active[1]);
		assert(!ptl && !map_lock[0] && !map_lock[1]);
		assert(!busy && (!blk || valid) && !dead || leaked);
		assert(used == (blk -> BIT(brun) : 0) || leaked);
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
 * struct gm_mmu operations.  peer_unmap changes the table, tlb_invl makes the
 * device forget: between the two the device still uses the old translation.
 */
inline peer_map(d, f, w)
{
	assert(dpte[d] == NONE || dpte[d] == f || broken_I2);
	assert(IS_HOST(f) || (used & BIT(f)) || broken_I4);
	dpte[d] = f;
	dptew[d] = w
}

inline peer_unmap(d)
{
	dpte[d] = NONE;
	dptew[d] = 0
}

inline tlb_invl(d)
{
	dtlb[d] = NONE;
	dtlbw[d] = 0
}

/* --- invalidation: mm/mmu_notifier.c, invalidate.c, remote.c -------------- */

/* gm_ctx_unmap(), called with the map lock to be taken. */
inline gm_ctx_unmap(d)
{
	atomic { !map_lock[d] -> map_lock[d] = 1; peer_unmap(d) };
	atomic {
#ifndef BUG_INVAL_NO_TLB_INVL
		tlb_invl(d);
#endif
		map_lock[d] = 0
	}
}

/* gm_window_invalidate(), blockable */
inline gm_window_invalidate(d)
{
	if
	:: win[d] ->
		atomic { !map_lock[d] -> map_lock[d] = 1;
			seq_same[d] = 0;
			win_hit[d] = 1;
			if
			:: IS_HOST(dpte[d]) -> peer_unmap(d)
			:: else
			fi
		};
		atomic {
			if
			:: IS_HOST(dtlb[d]) -> tlb_invl(d)
			:: else
			fi;
			map_lock[d] = 0
		}
	:: else
	fi
}

/* mn_itree_invalidate(): all windows, whoever caused the event. */
inline itree_start()
{
	itree_active++;
#ifdef WITH_REMOTE
	gm_window_invalidate(0);
#ifdef WITH_DEV1
	gm_window_invalidate(1)
#endif
#endif
}

inline itree_end()
{
	itree_active--;
	if
	:: itree_active == 0 -> win_hit[0] = 0; win_hit[1] = 0
	:: else
	fi
}

/* gm_inval_start() of one context: mark, then remove what is there. */
inline gm_inval_start(d)
{
	inval_active[d]++;
	gm_ctx_unmap(d)
}

/* mmu_notifier_invalidate_range_start(), an event that is not GMEM's own. */
inline inval_start()
{
	itree_start();
	gm_inval_start(0);
#ifdef WITH_DEV1
	gm_inval_start(1)
#endif
}

/* mmu_notifier_invalidate_range_end() with gm_inval_end() of each context. */
inline inval_end()
{
	itree_end();
	inval_active[0]--;
#ifdef WITH_DEV1
	inval_active[1]--;
#endif
}

/* gm_inval_start() when it must not block: gm_inval_defer(). */
inline gm_inval_defer(d)
{
	inval_active[d]++;
	if
	:: !defer[d] -> defer[d] = 1; deferred++
	:: else
	fi
}

inline gm_free_dead_runs()
{
	if
	:: dead & BIT(4) -> free_run(4)
	:: else
	fi;
	if
	:: dead & BIT(5) -> free_run(5)
	:: else
	fi;
	if
	:: dead & BIT(6) -> free_run(6)
	:: else
	fi;
	if
	:: dead & BIT(7) -> free_run(7)
	:: else
	fi
}

/* gm_run_retire() */
inline gm_run_retire(f)
{
#ifdef BUG_RETIRE_IGNORES_DEFERRED
	free_run(f)
#else
	if
	:: deferred -> dead = dead | BIT(f)
	:: else -> free_run(f)
	fi
#endif
}

/* --- vm_object.c ---------------------------------------------------------- */

/*
 * vm_object_claim(), or gm_block_wait() when it is somebody else's: then, and
 * when there is no block, ok = 0 and the caller looks again.
 */
inline vm_object_claim()
{
	if
	:: atomic { blk && !busy -> busy = 1; ok = 1 }
	:: blk && busy -> !busy
	:: !blk -> skip
	fi
}

/*
 * vm_object_release() and gm_run_retire(): clear BUSY and wake the waiters; an
 * empty block goes.  The test and the clearing are one xa_lock hold.
 */
inline gm_block_done()
{
	atomic {
		if
#ifdef BUG_NO_DOOM_CHECK
		:: true -> skip
#else
		:: valid -> skip
#endif
		:: !valid ->
			blk = 0;
			r = brun;
			brun = NONE
		fi;
		busy = 0
	};
	if
#ifdef BUG_OWNER_IGNORES_DEFERRED
	:: atomic { r != NONE -> free_run(r); r = NONE }
#else
	:: atomic { r != NONE -> gm_run_retire(r); r = NONE }
#endif
	:: r == NONE
	fi
}

/*
 * zap_pte_range() with gm_zap_pte(), one PTL hold, which never waits: a block
 * that is nobody's goes with its page, the owner of a BUSY one finds the valid
 * bit gone.  Unless the process is dying, readers see zeros from then on.
 */
inline zap_data(dying)
{
	if
	:: !(dying) -> fresh = 0; zero_ok = 1
	:: else
	fi
}

inline zap_pte(dying)
{
	if
	:: atomic { !ptl && pte == MARKER -> ptl = 1; zap_data(dying) };
#ifdef BUG_ZAP_WAITS_BUSY
		!busy;
#endif
		/* vm_object_zap() */
		atomic {
			valid = 0;
			if
			:: !busy -> blk = 0; r = brun; brun = NONE
			:: else
			fi;
			pte = NONE
		};
		atomic {
			if
			:: r != NONE -> gm_run_retire(r); r = NONE
			:: else
			fi;
			ptl = 0;
			check_marker()
		}
	:: atomic { !ptl && IS_HOST(pte) ->
			zap_data(dying);
			if
			:: gupf == pte -> gup_mapped = 0
			:: else
			fi;
			ctlb = NONE;
			ctlbw = 0;
			r = pte;
			pte = NONE;
			ptew = 0;
			put_folio(r);
			r = NONE
		}
	:: atomic { !ptl && pte == NONE -> zap_data(dying) }
	fi
}

/* --- mapping for a device ------------------------------------------------- */

#ifdef BUG_NO_INVAL_CHECK
#define INVALIDATING(d)	false
#else
#define INVALIDATING(d)	(inval_active[d] != 0)
#endif
#ifdef BUG_DEAD_CONTEXT_MAPS
#define CTX_DEAD(d)	false
#else
#define CTX_DEAD(d)	ctx_dead[d]
#endif

/*
 * gm_ctx_map_block() by the BUSY owner.  The page's bit is read under the map
 * lock only, so that a zap of the OOM reaper can come between it and peer_map.
 */
inline gm_ctx_map_block(d)
{
	if
	:: atomic { !map_lock[d] && !CTX_DEAD(d) && !INVALIDATING(d) ->
#ifndef BUG_COMMIT_NO_LOCK
			map_lock[d] = 1;
#endif
#ifdef BUG_COMMIT_NO_VALID
			w = 1
#else
			w = valid
#endif
		};
		atomic {
			if
			:: w -> peer_map(d, brun, 1); mapped = 1
			:: else
			fi;
			w = 0;
#ifndef BUG_COMMIT_NO_LOCK
			map_lock[d] = 0
#endif
		}
	:: !map_lock[d] && CTX_DEAD(d)
	:: !map_lock[d] && !CTX_DEAD(d) && INVALIDATING(d) -> again = 1
	fi
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
		/* gm_as_unmap(): the block is BUSY, nobody maps it again. */
		atomic { !map_lock[DEV_OF(brun)] ->
			map_lock[DEV_OF(brun)] = 1;
			peer_unmap(DEV_OF(brun))
		};
		atomic {
#ifndef BUG_RECALL_NO_TLB_INVL
			tlb_invl(DEV_OF(brun));
#endif
			map_lock[DEV_OF(brun)] = 0
		};
		/* gm_move_copy(); the folio was there before the claim. */
		if
		:: atomic {
			alloc_folio(h);
			if
			:: h -> ref[h] = 1; copy_data(h, brun)
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
			-> atomic { !ptl -> pte = NONE; valid = 0 }
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

/* One PTL hold: the page may have been zapped, or the process be dying. */
inline gm_home_set_ptes()
{
	atomic {
		!ptl ->
		if
#ifdef BUG_RECALL_NO_RECHECK
		:: !unstable ->
#else
		:: !unstable && pte == MARKER ->
#endif
			pte = h;
			ptew = 1;
			valid = 0
		:: else -> put_folio(h); ok = 0
		fi;
		h = NONE;
		check_marker()
	}
}

/* --- migrate.c ------------------------------------------------------------ */

/*
 * gm_migrate(): the page, or the page that does not exist yet, to device d.
 * The block is BUSY from gm_migrate_new() to gm_block_done().
 */
inline gm_migrate(d)
{
	/* vm_object_insert(), or the wait for whose block is there */
	if
	:: atomic { !blk ->
			alloc_run(d, r);
			if
			:: r -> blk = 1; busy = 1; brun = r; ok = 1; r = NONE
			:: else
			fi
		}
	:: blk && busy -> !busy
	:: blk && !busy
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
			atomic { MMAP_READABLE -> mmap_read_lock() };
#endif
#ifdef BUG_MAP_LATER
			skip		/* the device faults once more */
#else
			gm_ctx_map_block(d)
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
inline gm_freeze()
{
#ifndef BUG_WINDOW_IGNORES_OWN
	itree_start();
#endif
	if
	:: atomic { !ptl && pte == MARKER -> ok = 0 }
#ifndef BUG_NO_UNSTABLE_CHECK
	:: atomic { !ptl && unstable -> ok = 0 }
	:: atomic { !ptl && pte == NONE && !unstable ->
#else
	:: atomic { !ptl && pte == NONE ->
#endif
			pte = MARKER;
			valid = 1;
			check_marker()
		}
	:: atomic { !ptl && IS_HOST(pte) && !unstable ->
			ptl = 1;
			h = pte;
			pte = NONE	/* gm_clear_ptes() */
		};
#ifndef BUG_NO_CPU_FLUSH
		atomic { ctlb = NONE; ctlbw = 0 };
#endif
		atomic {
			if
#ifdef BUG_NO_FREEZE
			:: true ->
#else
			:: ref[h] == 1 ->
#endif
				ref[h] = FROZEN;	/* gm_freeze_folios() */
				ptew = 0;
#ifndef BUG_MARKER_WITHOUT_ENTRY
				valid = 1;
#endif
				pte = MARKER
			:: else ->
				pte = h;
				h = NONE;
				ok = 0
			fi;
			ptl = 0;
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
	:: atomic { h != NONE -> copy_data(brun, h) }
	:: atomic { h == NONE ->
#ifndef BUG_NO_ZERO
			zero_data(brun)
#endif
		}
#ifdef WITH_COPY_ERRORS
	:: ok = 0
#endif
	fi;
	atomic {
		(ok || !ptl) ->
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
			:: h && pte == MARKER ->
#endif
				pte = h;
				ptew = 1
			:: h && pte != MARKER -> put_folio(h)
			:: !h && pte == MARKER -> pte = NONE
			:: else
			fi;
			valid = 0;
			check_marker()
		fi;
		h = NONE
	}
}

/* --- remote.c ------------------------------------------------------------- */

/*
 * gm_remote_map(): map the host page where it is.  The look at the CPU page
 * table and gm_window_map() are apart, the sequence number covers the gap.
 */
inline gm_remote_map(d)
{
	/* gm_remote_prepare(): mmu_interval_notifier_insert() */
	atomic {
		if
		:: !win[d] -> win[d] = 1; win_hit[d] = (itree_active != 0)
		:: else
		fi
	};
	/* mmu_interval_read_begin() */
#ifdef BUG_READ_BEGIN_NO_WAIT
	atomic { seq_same[d] = 1 };
#else
	atomic { !win_hit[d] -> seq_same[d] = 1 };
#endif
	if
	:: atomic { !ptl && IS_HOST(pte) -> h = pte; w = ptew };
		if
#ifdef BUG_NO_SEQ_CHECK
		:: atomic { !map_lock[d] && !CTX_DEAD(d) ->
#else
		:: atomic { !map_lock[d] && !CTX_DEAD(d) && seq_same[d] ->
#endif
				map_lock[d] = 1 };
			atomic {
				peer_map(d, h, w);
				mapped = 1;
				map_lock[d] = 0
			}
		:: !map_lock[d] && (CTX_DEAD(d) || !seq_same[d])
		fi
	:: !ptl && !IS_HOST(pte)
	fi;
	atomic { seq_same[d] = 0; h = NONE; w = 0 }
}

/* --- who does it ---------------------------------------------------------- */

/*
 * gm_dev_fault(), and hmadvise(HMADV_PREFETCH) to the device, which comes
 * unasked.  One attempt, gm_fault_try(), is one operation; gm_fault_wait()
 * follows it.
 */
proctype gm_dev_fault(bit d)
{
	byte h, r;
	bit ok, mapped, again, w;

end:	do
	:: atomic { !stop && MMAP_READABLE -> op_begin(); mmap_read_lock() };
		/* gm_make_resident() */
		if
		:: blk && valid && DEV_OF(brun) == d ->
			/* gm_fault_resident() */
#ifdef BUG_MAP_WITHOUT_BUSY
			gm_ctx_map_block(d)
#else
			vm_object_claim();
			if
			:: ok && DEV_OF(brun) == d ->
				gm_ctx_map_block(d);
				gm_block_done()
			:: ok && DEV_OF(brun) != d -> gm_block_done()
			:: !ok
			fi
#endif
		:: blk && valid && DEV_OF(brun) != d ->
			gm_recall()
		:: !blk || !valid ->
			gm_migrate(d)
#ifdef WITH_REMOTE
		:: IS_HOST(pte) -> gm_remote_map(d)
#endif
		fi;
#ifdef PROGRESS
		if
		:: mapped -> progress_mapped: skip
		:: else
		fi;
#endif
		atomic { mmap_read_unlock(); ok = 0; mapped = 0; op_end() };
		/* gm_ctx_inval_wait() */
		if
		:: atomic { again && !inval_active[d] -> again = 0 }
		:: !again
		fi
	od
}

/* Replace the mapped host folio by a copy of it: COW and compaction. */
inline move_folio(cond)
{
	if
	:: IS_HOST(pte) && (cond) ->
		alloc_folio(h);
		if
		:: h ->
			ref[h] = 1;
			copy_data(h, pte);
			ctlb = NONE;
			ctlbw = 0;
			old = pte;
			pte = h;
			ptew = 1;
			put_folio(old);
			h = NONE;
			old = NONE
		:: else
		fi
	:: else
	fi;
	check_marker()
}

#ifdef WITH_CPU
/*
 * A CPU thread that faults: do_anonymous_page(), gm_host_fault() and
 * do_wp_page().  Its loads and stores are in proctype hardware.
 */
proctype cpu_fault()
{
	byte h, r, old;
	bit ok;

end:	do
	:: atomic { !stop && MMAP_READABLE && !ptl && pte == NONE && !unstable ->
			alloc_folio(h);
			if
			:: h ->
				ref[h] = 1;
				zero_data(h);
				pte = h;
				ptew = 1;
				h = NONE
			:: else
			fi;
			check_marker()
		}
#ifdef PROGRESS
		;
progress_anon:	skip
#endif
	:: atomic { !stop && MMAP_READABLE && pte == MARKER ->
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
	:: atomic { !stop && MMAP_READABLE && !ptl && IS_HOST(pte) && !ptew &&
		    ref[pte] == 1 ->
			ptew = 1		/* wp_page_reuse() */
		}
	:: atomic { !stop && MMAP_READABLE && IS_HOST(pte) && !ptew &&
		    ref[pte] > 1 ->
			op_begin(); mmap_read_lock() };
		/* wp_page_copy() */
		inval_start();
		atomic { !ptl -> move_folio(!ptew) };
		atomic { inval_end(); mmap_read_unlock(); op_end() }
#endif
	od
}
#endif

#ifdef WITH_EVICT
/*
 * gm_evict_run() of the hnode's thread, or hmadvise(HMADV_PREFETCH) to the
 * host: the same recall, but what starts it is the run, not a fault.
 */
proctype gm_evict()
{
	byte h, r;
	bit ok;

end:	do
	:: atomic { !stop && MMAP_READABLE && blk ->
			op_begin(); mmap_read_lock() };
		gm_recall();
#ifdef PROGRESS
		if
		:: ok -> progress_evicted: skip
		:: else
		fi;
#endif
		atomic { mmap_read_unlock(); ok = 0; op_end() }
	od
}
#endif

#ifdef WITH_ZAP
/* munmap() after its downgrade, MADV_DONTNEED: zap_page_range_single(). */
proctype zap()
{
	byte r;

end:	do
	:: atomic { !stop && MMAP_READABLE -> op_begin(); mmap_read_lock() };
		inval_start();
		zap_pte(false);
#ifdef PROGRESS
progress_zapped:
#endif
		atomic { inval_end(); mmap_read_unlock(); op_end() }
	od
}
#endif

#ifdef WITH_OOM
/*
 * __oom_reap_task_mm(): the same zap, but the notifiers may not block.  A
 * window makes the reaper skip the range; the contexts defer their unmap.  The
 * process dies, and neither it nor a device may see zeros instead of its data.
 */
proctype oom_reaper()
{
	byte r;

end:	do
#ifdef BUG_OOM_NO_SKIP
	:: atomic { !stop && MMAP_READABLE ->
#else
	:: atomic { !stop && MMAP_READABLE && !win[0] && !win[1] ->
#endif
			op_begin(); mmap_read_lock();
			unstable = 1;
			itree_active++
		};
		atomic { gm_inval_defer(0) };
#ifdef WITH_DEV1
		atomic { gm_inval_defer(1) };
#endif
		zap_pte(true);
		atomic { inval_end(); mmap_read_unlock(); op_end() }
	od
}

/* gm_inval_work() of one context: the deferred unmap, then the dead list. */
proctype gm_inval_work(bit d)
{
end:	do
	:: atomic { defer[d] && !map_lock[d] ->
			map_lock[d] = 1;
			defer[d] = 0;
			peer_unmap(d)
		};
#ifdef BUG_FREE_BEFORE_FLUSH
		atomic {
			if
			:: deferred == 1 -> gm_free_dead_runs()
			:: else
			fi
		};
#endif
		atomic { tlb_invl(d); map_lock[d] = 0 };
		atomic {
			deferred--;
			if
#ifdef BUG_WORKER_FREES_ALL
			:: true -> gm_free_dead_runs()
#else
			:: deferred == 0 -> gm_free_dead_runs()
#endif
			:: else
			fi;
			check_rest()
		}
	od
}
#endif

#ifdef WITH_FORK
/* dup_mmap() with gm_fork() and copy_page_range(); the exit of the child. */
proctype fork()
{
	byte h, r;
	bit ok;

end:	do
	:: atomic { !stop && !writer && childf == NONE ->
			op_begin(); writer = 1 };
		readers == 0;
#ifndef BUG_FORK_NO_RECALL
		/* gm_recall_range() */
		do
		:: pte == MARKER ->
			gm_recall();
			if
			:: !ok && blk && !busy -> break	/* -EIO, no child */
			:: else -> ok = 0
			fi
		:: else -> break
		od;
		ok = 0;
#endif
		if
#ifndef BUG_FORK_NO_RECALL
		:: pte == MARKER
#endif
		:: else ->
			/* MMU_NOTIFY_PROTECTION_PAGE: windows and pmap_protect */
#ifdef BUG_FORK_NO_UNMAP
			skip;
#else
			itree_start();
#endif
			atomic {
				!ptl ->
				/* copy_pte_marker(): the child loses it */
				assert(pte != MARKER || broken_I5);
				if
				:: IS_HOST(pte) ->
					ref[pte]++;
					childf = pte;
					ptew = 0;
					ctlbw = 0
				:: else
				fi
			};
#ifndef BUG_FORK_NO_UNMAP
			atomic { itree_end() }
#endif
		fi;
		atomic { writer = 0; op_end() }
	:: atomic { childf != NONE -> h = childf; childf = NONE; put_folio(h);
			h = NONE; check_rest() }
	od
}
#endif

#ifdef WITH_GUP
/* I3; the PTE is none for a moment while a migration finds the reference. */
inline assert_not_moved()
{
	assert(!gup_mapped || pte == gupf || (ptl && pte == NONE) || broken_I3)
}

/*
 * get_user_pages_fast(), a DMA write, put_page().  Takes no lock: the count is
 * raised unless it is frozen, then the PTE must still be the same.
 */
proctype gup()
{
	byte h;

end:	do
	:: atomic { !stop && IS_HOST(pte) && ptew -> op_begin(); h = pte };
		if
		:: atomic { ref[h] != 0 && ref[h] != FROZEN -> ref[h]++ };
			if
			:: atomic { pte == h -> gupf = h; gup_mapped = 1 };
				do
				:: atomic { gup_mapped && fresh != BIT(gupf) ->
						assert_not_moved();
						store(gupf) }
				:: break
				od;
				atomic { assert_not_moved(); gupf = NONE;
					gup_mapped = 0 }
			:: pte != h -> skip
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

end:	do
	:: atomic { !stop && IS_HOST(pte) -> op_begin() };
		inval_start();
		atomic { !ptl -> move_folio(ref[pte] == 1) };
		atomic { inval_end(); op_end() }
	od
}
#endif

#ifdef WITH_UNBIND
/*
 * Unbind of the driver of device 1: gm_as_detach() (gm_inval_release(), then
 * pmap_destroy), then gm_hnode_evacuate().  Prefetches to it may go on.
 */
proctype unbind()
{
	byte h, r;
	bit ok;

end_bound:
	atomic { !stop -> op_begin() };
	/* gm_remote_destroy() */
	atomic { !map_lock[1] -> map_lock[1] = 1; win[1] = 0;
		seq_same[1] = 0; peer_unmap(1) };
	atomic { tlb_invl(1); map_lock[1] = 0 };
	/* gm_inval_release() */
	atomic { !map_lock[1] -> map_lock[1] = 1; peer_unmap(1) };
	atomic { tlb_invl(1); ctx_dead[1] = 1; map_lock[1] = 0 };

	/* gm_hnode_evacuate() */
#ifndef BUG_UNBIND_NOT_CLOSING
	closing[1] = 1;
#endif
	do
	:: used & RUNS_OF(1) ->
		if
		:: atomic { MMAP_READABLE && blk && DEV_OF(brun) == 1 ->
				mmap_read_lock() };
			gm_recall();
			atomic { mmap_read_unlock(); ok = 0 }
		:: !(used & RUNS_OF(1)) || (blk && DEV_OF(brun) != 1) || !blk
		fi
	:: !(used & RUNS_OF(1)) -> break
	od;
	atomic { op_end() };
	/* gm_hnode_destroy() */
end_unbound:
	do
	:: used & RUNS_OF(1) -> assert(broken_I4)
	od
}
#endif

/*
 * Loads and stores.  A translation is taken into the TLB at any time and used
 * until it is invalidated, whatever the tables say by then.  Loads have no
 * effect, so they show up only when they go wrong.
 */
active proctype hardware()
{
end:	do
	/* CPU */
	:: atomic { ctlb == NONE && IS_HOST(pte) -> ctlb = pte; ctlbw = ptew }
	:: atomic { ctlb != NONE && ctlb == pte && ptew && !ctlbw -> ctlbw = 1 }
	:: atomic { ctlbw && fresh != BIT(ctlb) -> store(ctlb) }
	:: atomic { ctlb != NONE && !(fresh & BIT(ctlb)) ->
			assert(broken_I5) }		/* a CPU load */
	/* devices */
	:: atomic { dtlb[0] == NONE && dpte[0] != NONE ->
			dtlb[0] = dpte[0]; dtlbw[0] = dptew[0] }
	:: atomic { dtlbw[0] && fresh != BIT(dtlb[0]) -> store(dtlb[0]) }
	:: atomic { dtlb[0] != NONE && !(fresh & BIT(dtlb[0])) ->
			assert(broken_I5) }		/* a device load */
	:: atomic { dtlb[0] != NONE && !MAY_REACH(0, dtlb[0]) ->
			assert(broken_I2) }
	:: atomic { dtlbw[0] && !MAY_WRITE(0, dtlb[0]) ->
			assert(broken_I2) }
#ifdef WITH_DEV1
	:: atomic { dtlb[1] == NONE && dpte[1] != NONE ->
			dtlb[1] = dpte[1]; dtlbw[1] = dptew[1] }
	:: atomic { dtlbw[1] && fresh != BIT(dtlb[1]) -> store(dtlb[1]) }
	:: atomic { dtlb[1] != NONE && !(fresh & BIT(dtlb[1])) ->
			assert(broken_I5) }		/* a device load */
	:: atomic { dtlb[1] != NONE && !MAY_REACH(1, dtlb[1]) ->
			assert(broken_I2) }
	:: atomic { dtlbw[1] && !MAY_WRITE(1, dtlb[1]) ->
			assert(broken_I2) }
	/* pmap_destroy comes next */
	:: atomic { ctx_dead[1] && (dpte[1] != NONE || dtlb[1] != NONE) ->
			assert(broken_I4) }
#endif
#ifndef PROGRESS
	:: atomic { !stop -> stop = 1 }
#endif
	od
}

init {
	atomic {
		run gm_dev_fault(0);
#if defined(WITH_DEV1) && !defined(WITH_IDLE1)
		run gm_dev_fault(1);
#endif
#ifdef WITH_CPU
		run cpu_fault();
#endif
#ifdef WITH_EVICT
		run gm_evict();
#endif
#ifdef WITH_ZAP
		run zap();
#endif
#ifdef WITH_OOM
		run oom_reaper();
		run gm_inval_work(0);
#ifdef WITH_DEV1
		run gm_inval_work(1);
#endif
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
