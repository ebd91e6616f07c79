import java.time.Duration;
import java.util.*;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;

import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Consumers that poll in threads of their own until they are told to go. */
final class Members implements AutoCloseable {
    private final AtomicBoolean going = new AtomicBoolean();
    private final List<Thread> threads = new ArrayList<>();

    /** A member of a consumer group that has its partitions when this returns. */
    void join(Map<String, Object> settings, String topic) throws InterruptedException {
        CountDownLatch assigned = new CountDownLatch(1);
        start(() -> {
            try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
                consumer.subscribe(List.of(topic));
                while (!going.get()) {
                    consumer.poll(Duration.ofMillis(100));
                    if (!consumer.assignment().isEmpty()) assigned.countDown();
                }
            }
        });
        assigned.await(30, TimeUnit.SECONDS);
    }

    /** A member of a share group that has got a record when this returns. */
    void share(Map<String, Object> settings, String topic) throws InterruptedException {
        CountDownLatch given = new CountDownLatch(1);
        start(() -> {
            try (var consumer = new KafkaShareConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
                consumer.subscribe(List.of(topic));
                while (!going.get()) {
                    if (!consumer.poll(Duration.ofMillis(100)).isEmpty()) given.countDown();
                }
            }
        });
        given.await(30, TimeUnit.SECONDS);
    }

    private void start(Runnable member) {
        Thread thread = new Thread(member);
        thread.setDaemon(true);
        thread.start();
        threads.add(thread);
    }

    @Override
    public void close() throws InterruptedException {
        going.set(true);
        for (Thread thread : threads) thread.join(TimeUnit.SECONDS.toMillis(20));
    }
}
