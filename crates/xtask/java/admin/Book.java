import java.time.Duration;
import java.util.*;
import java.util.concurrent.Callable;
import java.util.function.Supplier;

import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringSerializer;

/** What every part needs: the client, the broker's address, and where answers are told, as `METHOD TAB CASE TAB ANSWER`. */
final class Book {
    final Admin admin;
    final String bootstrap;

    Book(Admin admin, String bootstrap) {
        this.admin = admin;
        this.bootstrap = bootstrap;
    }

    void tell(String method, String name, Callable<?> call) {
        String answer;
        try {
            answer = Show.value(call.call());
        } catch (Exception failure) {
            answer = Show.failure(failure);
        }
        System.out.println(method + "\t" + name + "\t" + answer);
    }

    Map<String, Object> settings(String... more) {
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", bootstrap);
        for (int at = 0; at < more.length; at += 2) settings.put(more[at], more[at + 1]);
        return settings;
    }

    /** Records of one second each, from 1970 on, so that answers about time are the same everywhere. */
    void write(String topic, int partition, int count) throws Exception {
        try (var producer = new KafkaProducer<>(settings(), new StringSerializer(), new StringSerializer())) {
            for (int number = 0; number < count; number++) {
                producer.send(new ProducerRecord<>(topic, partition, 1000L * (number + 1), "k" + number, "v" + number)).get();
            }
        }
    }

    static TopicPartition at(String topic, int partition) {
        return new TopicPartition(topic, partition);
    }

    /** Until `holds`, for half a minute at most; it is no error when it does not. */
    static void await(Supplier<Boolean> holds) throws InterruptedException {
        long late = System.nanoTime() + Duration.ofSeconds(30).toNanos();
        while (!holds.get() && System.nanoTime() < late) Thread.sleep(50);
    }
}
