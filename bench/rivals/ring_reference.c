/* Bench rival: the ring of shm/ring.py in C, for the loops of bench/support/ring_loops.py.
 *
 * Same protocol, same memory layout, same memory order, same records, so either end of a run may be
 * ours or C's:
 *
 *     word          field        writer
 *     0             cursor       producer, release; readers load it with acquire
 *     16            claimed      producer: for observing readers, ahead of need
 *     34            parkable     creator: whether a publish must look for sleeping readers
 *     48 + 16 r     released     reader r, release; the producer loads it with acquire
 *     49 + 16 r     parked       reader r: whether it sleeps
 *     rows          capacity records of 8 words, word 0 the sequence
 *
 * What C can do better than a library is done here: what only this process writes stays in registers
 * (cursor, claimed, slowest gating sequence), and the number of gating readers is an argument.
 *
 * A port is {control, rows, capacity, reader}, as Handle.port of shm/ring.py answers it.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

typedef int64_t word;

enum { CURSOR = 0, CLAIMED = 16, PARKABLE = 34, RELEASED = 48, PARKED = 49 };
enum { READER_WORDS = 16, READERS_MAX = 16, ROW_WORDS = 8, PORT_WORDS = 4 };
enum { AHEAD_SHIFT = 8, SAMPLE_MASK = 15, DUE = 1, FUTEX_WAKE_ALL = 1 };

typedef struct {
    word *control, *rows, mask, capacity, reader;
} ring;

static inline ring bind(const word *ports, int index) {
    const word *port = ports + PORT_WORDS * index;
    ring bound = {(word *)port[0], (word *)port[1], port[2] - 1, port[2], port[3]};
    return bound;
}

static inline word acquire(const word *place) { return __atomic_load_n(place, __ATOMIC_ACQUIRE); }

static inline void release(word *place, word value) {
    __atomic_store_n(place, value, __ATOMIC_RELEASE);
}

static inline void pause_cpu(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static inline word now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (word)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline word *row_at(const ring *r, word sequence) {
    return r->rows + ROW_WORDS * (sequence & r->mask);
}

static inline void fill(const ring *r, word sequence, word first_word) {
    word *row = row_at(r, sequence);
    for (int at = 0; at < ROW_WORDS; at++) row[at] = first_word + at;
}

static inline word faults_of(const ring *r, word sequence, word first_word) {
    const word *row = row_at(r, sequence);
    word faults = 0;
    for (int at = 0; at < ROW_WORDS; at++) faults |= row[at] ^ (first_word + at);
    return faults;
}

static inline word *released_word(const ring *r, word reader) {
    return r->control + RELEASED + READER_WORDS * reader;
}

/* The writing end: what the producer alone writes, held in registers. */
typedef struct {
    ring r;
    word cursor, claimed, readers;
} producer;

static inline producer take_over(ring r, word readers) {
    producer p = {r, r.control[CURSOR], r.control[CURSOR], readers};
    return p;
}

static inline word slowest_gating(const producer *p) {
    if (p->readers == 0) return p->cursor;
    word slowest = acquire(released_word(&p->r, 0));
    for (word reader = 1; reader < p->readers; reader++) {
        word one = acquire(released_word(&p->r, reader));
        if (one < slowest) slowest = one;
    }
    return slowest;
}

/* Waits until `last` may be written, and announces it and a little more, as `grant` does. */
static inline void claim(producer *p, word last) {
    while (last > p->claimed) {
        word room = slowest_gating(p) + p->r.capacity;
        if (last > room) {
            pause_cpu();
            continue;
        }
        word ahead = last + (p->r.capacity >> AHEAD_SHIFT);
        p->claimed = ahead < room ? ahead : room;
        p->r.control[CLAIMED] = p->claimed;
        __atomic_thread_fence(__ATOMIC_RELEASE);
    }
}

static __attribute__((noinline)) void wake(const word *control) {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    for (word reader = 0; reader < READERS_MAX; reader++) {
        if (control[PARKED + READER_WORDS * reader]) {
            syscall(SYS_futex, control, FUTEX_WAKE_ALL, INT_MAX, 0, 0, 0);
            return;
        }
    }
}

static inline void publish(producer *p, word sequence) {
    p->cursor = sequence;
    release(p->r.control + CURSOR, sequence);
    if (__builtin_expect(p->r.control[PARKABLE] != 0, 0)) wake(p->r.control);
}

static inline __attribute__((always_inline)) void write_in(producer p, word count, word batch) {
    word end = p.cursor + count;
    while (p.cursor < end) {
        word size = batch < end - p.cursor ? batch : end - p.cursor;
        word last = p.cursor + size;
        claim(&p, last);
        for (word place = p.cursor + 1; place <= last; place++) fill(&p.r, place, place);
        publish(&p, last);
    }
}

/* Writes `count` records, one at a time or `batch` at a time, for `readers` gating readers. */
void ring_write(const word *ports, word count, word batch, word readers) {
    producer p = take_over(bind(ports, 0), readers);
    if (batch == 1)
        write_in(p, count, 1);
    else
        write_in(p, count, batch);
}

/* Reads `count` records, all there are at each poll; leaves faults and checksum in `out`. */
void ring_read(const word *ports, word count, word *out) {
    ring r = bind(ports, 0);
    word *released = released_word(&r, r.reader);
    word sequence = *released, last = sequence + count, faults = 0;
    uint64_t check = 0;
    while (sequence < last) {
        word upto = acquire(r.control + CURSOR);
        if (upto > last) upto = last;
        if (upto == sequence) {
            pause_cpu();
            continue;
        }
        for (word place = sequence + 1; place <= upto; place++) {
            faults |= faults_of(&r, place, place);
            check = check * 3 + (uint64_t)row_at(&r, place)[ROW_WORDS - 1];
        }
        sequence = upto;
        release(released, sequence);
    }
    out[0] = faults;
    out[1] = (word)check;
}

/* Sends on ring 0 and waits for the answer on ring 1, `count` times; ns of each into `out`. */
word ring_ping(const word *ports, word count, word *out) {
    producer there = take_over(bind(ports, 0), 1);
    ring back = bind(ports, 1);
    word *released = released_word(&back, back.reader);
    word seen = *released, faults = 0, before = now_ns();
    for (word index = 0; index < count; index++) {
        word sequence = there.cursor + 1, upto;
        claim(&there, sequence);
        fill(&there.r, sequence, sequence);
        publish(&there, sequence);
        while ((upto = acquire(back.control + CURSOR)) == seen) pause_cpu();
        seen = upto;
        faults |= faults_of(&back, seen, sequence);
        release(released, seen);
        word after = now_ns();
        out[index] = after - before;
        before = after;
    }
    return faults != 0;
}

/* Answers each record of ring 0 with the same on ring 1, `count` times. */
word ring_pong(const word *ports, word count) {
    ring there = bind(ports, 0);
    producer back = take_over(bind(ports, 1), 1);
    word *released = released_word(&there, there.reader);
    word seen = *released, faults = 0;
    for (word index = 0; index < count; index++) {
        word sequence = back.cursor + 1, upto;
        while ((upto = acquire(there.control + CURSOR)) == seen) pause_cpu();
        seen = upto;
        faults |= faults_of(&there, seen, seen);
        claim(&back, sequence);
        fill(&back.r, sequence, seen);
        publish(&back, sequence);
        release(released, seen);
    }
    return faults != 0;
}

/* Publishes `count` records, each `gap_ps` picoseconds after the one before was due. */
void ring_write_paced(const word *ports, word count, word gap_ps) {
    producer p = take_over(bind(ports, 0), 1);
    word start = now_ns(), clock = start;
    for (word sent = 0; sent < count;) {
        word due = start + sent * gap_ps / 1000;
        if (due > clock) {
            clock = now_ns();
            continue;
        }
        word sequence = p.cursor + 1;
        claim(&p, sequence);
        fill(&p.r, sequence, sequence);
        row_at(&p.r, sequence)[DUE] = due;
        publish(&p, sequence);
        sent++;
    }
}

/* Reads `count` records; of each that is sampled, ns from when it was due to now. */
void ring_read_paced(const word *ports, word count, word *out, word out_count) {
    ring r = bind(ports, 0);
    word *released = released_word(&r, r.reader);
    word sequence = *released, last = sequence + count, sampled = 0;
    while (sequence < last) {
        word upto = acquire(r.control + CURSOR);
        if (upto > last) upto = last;
        if (upto == sequence) {
            pause_cpu();
            continue;
        }
        for (word place = sequence + 1; place <= upto; place++) {
            if ((place & SAMPLE_MASK) == 0 && sampled < out_count)
                out[sampled++] = now_ns() - row_at(&r, place)[DUE];
        }
        sequence = upto;
        release(released, sequence);
    }
}
