/*
 * Bench rival: LMAX Disruptor, one producer and one consumer thread of one process, busy spin.
 *
 * Records are events of eight longs that follow from the sequence, as everywhere in this benchmark.
 * Started as a source file: java -cp disruptor.jar DisruptorRing.java SECONDS ROUND_TRIPS FILE
 * Prints records a second one at a time and in batches of 64; FILE gets the round trips, ns, as
 * big-endian 64-bit words.
 */
import com.lmax.disruptor.BusySpinWaitStrategy;
import com.lmax.disruptor.RingBuffer;
import com.lmax.disruptor.Sequence;
import com.lmax.disruptor.SequenceBarrier;
import java.io.BufferedOutputStream;
import java.io.DataOutputStream;
import java.nio.file.Files;
import java.nio.file.Path;

public final class DisruptorRing {
    static final int CAPACITY = 1 << 14, BATCH = 64;
    static final long WARM_RECORDS = 5_000_000, WARM_ROUND_TRIPS = 100_000;

    static final class Record {
        long a, b, c, d, e, f, g, h;

        void fill(long first) {
            a = first; b = first + 1; c = first + 2; d = first + 3;
            e = first + 4; f = first + 5; g = first + 6; h = first + 7;
        }

        long faults(long first) {
            return (a ^ first) | (b ^ (first + 1)) | (c ^ (first + 2)) | (d ^ (first + 3))
                | (e ^ (first + 4)) | (f ^ (first + 5)) | (g ^ (first + 6)) | (h ^ (first + 7));
        }
    }

    /** One direction: a ring, and the sequence of its one reader. */
    static final class Channel {
        final RingBuffer<Record> ring =
            RingBuffer.createSingleProducer(Record::new, CAPACITY, new BusySpinWaitStrategy());
        final SequenceBarrier barrier = ring.newBarrier();
        final Sequence released = new Sequence(-1);

        Channel() {
            ring.addGatingSequences(released);
        }

        void write(long count, int batch) {
            for (long sent = 0; sent < count; sent += batch) {
                long last = ring.next(batch);
                for (long at = last - batch + 1; at <= last; at++) ring.get(at).fill(at);
                ring.publish(last - batch + 1, last);
            }
        }

        long read(long count) throws Exception {
            long next = released.get() + 1, end = next + count, faults = 0, check = 0;
            while (next < end) {
                long upto = Math.min(barrier.waitFor(next), end - 1);
                for (; next <= upto; next++) {
                    Record record = ring.get(next);
                    faults |= record.faults(next);
                    check = check * 3 + record.h;
                }
                released.set(upto);
            }
            if (faults != 0) throw new IllegalStateException("every word read must be right");
            return check;
        }
    }

    static volatile long sink;

    static double rate(Channel channel, long count, int batch) throws Exception {
        Thread reader = new Thread(() -> {
            try {
                sink = channel.read(count);
            } catch (Exception error) {
                throw new RuntimeException(error);
            }
        });
        long start = System.nanoTime();
        reader.start();
        channel.write(count, batch);
        reader.join();
        return count * 1e9 / (System.nanoTime() - start);
    }

    static long[] roundTrips(int count) throws Exception {
        Channel there = new Channel(), back = new Channel();
        Thread answerer = new Thread(() -> {
            try {
                for (long at = 0; at < count; at++) {
                    there.barrier.waitFor(at);
                    long first = there.ring.get(at).a;
                    there.released.set(at);
                    long sequence = back.ring.next();
                    back.ring.get(sequence).fill(first);
                    back.ring.publish(sequence);
                }
            } catch (Exception error) {
                throw new RuntimeException(error);
            }
        });
        answerer.start();
        long[] times = new long[count];
        long before = System.nanoTime();
        for (int at = 0; at < count; at++) {
            long sequence = there.ring.next();
            there.ring.get(sequence).fill(sequence);
            there.ring.publish(sequence);
            back.barrier.waitFor(at);
            if (back.ring.get(at).faults(sequence) != 0) throw new IllegalStateException("answer");
            back.released.set(at);
            long after = System.nanoTime();
            times[at] = after - before;
            before = after;
        }
        answerer.join();
        return times;
    }

    public static void main(String[] words) throws Exception {
        double seconds = Double.parseDouble(words[0]);
        Channel channel = new Channel();
        StringBuilder said = new StringBuilder();
        for (int batch : new int[] {1, BATCH}) {
            double warm = rate(channel, WARM_RECORDS, batch);
            long count = Math.max(1, (long) (warm * seconds) / BATCH) * BATCH;
            said.append(rate(channel, count, batch)).append(' ');
        }
        roundTrips((int) WARM_ROUND_TRIPS);
        long[] times = roundTrips(Integer.parseInt(words[1]));
        try (DataOutputStream out = new DataOutputStream(
                new BufferedOutputStream(Files.newOutputStream(Path.of(words[2]))))) {
            for (long time : times) out.writeLong(time);
        }
        System.out.println(said.toString().trim());
    }
}
